// The pictures to judge. The browser is ahead of the server: the next pictures are loaded before they are needed, and
// shown as soon as an answer was sent. An answer names the pictures that were drawn, by token and hash.
const DOUBLE_CLICK = 300; // ms in which the second click of a double click cannot hit the next picture

export default {
  template: `
<section class="stage" :class="['stage-' + mode, 'stage-columns-' + columns]" aria-label="Pictures to judge" :data-sent="sent" :data-acknowledged="acknowledged" :data-rows="rows">
  <div v-if="view.problem" role="alert" class="stage-problem">
    <span>{{ view.problem }}</span>
    <button type="button" @click="$emit('retry')">Try again</button>
  </div>
  <div class="stage-grid" :style="{ '--columns': columns }">
    <figure v-for="(tile, index) in tiles" :key="tile.token" class="stage-tile"
        :class="{ chosen: index === focus && tiles.length > 1, marked: !!markOf(tile) }" @click="focus = index">
      <img v-if="ready" :ref="'picture-' + tile.token" :src="source(tile)" :alt="alternative(tile, index)" decoding="sync"
        draggable="false" :width="tile.width" :height="tile.height" @click="pictureClicked(index, $event)" />
      <div class="stage-line">
      <figcaption>
        <span>{{ tile.caption }}</span>
        <strong v-if="markOf(tile)" class="stage-mark">{{ markOf(tile) }}</strong>
        <small v-if="tile.note">{{ tile.note }}</small>
      </figcaption>
      <div class="stage-buttons" role="group" :aria-label="'Answers for picture ' + (index + 1)">
        <template v-if="mode === 'pair'">
          <button type="button" @click="judge('best', index, index, $event)">{{ index ? 'Right' : 'Left' }} is better ({{ index + 1 }})</button>
        </template>
        <template v-else-if="mode === 'batch' && answers === 'best'">
          <button type="button" :aria-pressed="markOf(tile) === 'best'" @click="judge('best', index, index, $event)">Best ({{ index + 1 }})</button>
        </template>
        <template v-else-if="answers === 'stars'">
          <button v-for="n in 5" type="button" :aria-label="n + ' of 5 stars'" @click="judge('stars', n, index, $event)">{{ n }}★</button>
        </template>
        <template v-else>
          <button type="button" class="good" :aria-pressed="markOf(tile) === 'good'" @click="judge('good', 0, index, $event)">{{ mode === 'queue' ? 'Accept' : 'Good' }} (G)</button>
          <button type="button" class="bad" :aria-pressed="markOf(tile) === 'bad'" @click="judge('bad', 0, index, $event)">{{ mode === 'queue' ? 'Reject' : 'Bad' }} (B)</button>
        </template>
      </div>
      </div>
    </figure>
    <div v-if="!tiles.length" class="stage-empty" role="status">{{ empty }}</div>
  </div>
  <div class="stage-bar" role="group" aria-label="Actions">
    <button v-if="mode === 'pair'" type="button" @click="judge('tie', 0, 0, $event)">Tie (T)</button>
    <button type="button" @click="judge('skip', 0, focus, $event)">Skip (Space)</button>
    <button type="button" @click="undo">Undo (U)</button>
    <button v-if="mode === 'batch'" type="button" @click="$emit('renew')">New batch</button>
    <button type="button" :aria-expanded="help" @click="help = !help">Keys (?)</button>
    <span class="stage-hint" role="status">{{ hint }}</span>
  </div>
  <ul v-if="help" class="stage-keys"><li v-for="line in lines" :key="line">{{ line }}</li></ul>
</section>`,
  props: { view: Object, keys: Array, lines: Array, active: Boolean },
  emits: ["answer", "undo", "retry", "renew"],
  data() {
    return {
      ready: false, desk: "", mode: "batch", answers: "rate", epoch: -1, number: 0, screens: {}, focus: 0,
      pending: {}, sent: 0, acknowledged: 0, rows: 0, help: false, hint: "", since: 0, loaded: {},
      client: Math.random().toString(36).slice(2) + Date.now().toString(36),
    };
  },
  computed: {
    tiles() { return this.screens[this.number] || []; },
    columns() {
      const count = Math.max(this.tiles.length, 1);
      return count <= 3 ? count : count === 4 ? 2 : count <= 9 ? 3 : Math.min(5, Math.ceil(Math.sqrt(count)));
    },
    empty() {
      if (this.view.problem) return "No picture.";
      return this.mode === "upload" ? "No picture yet. Upload one above, or match one; it is shown here to be judged." : "decoding…";
    },
  },
  watch: {
    view: { handler(view) { this.adopt(view); } },
  },
  mounted() {
    setTimeout(() => { this.ready = true; this.adopt(this.view); }, 0); // window.path_prefix is set by then
    window.addEventListener("keydown", this.pressed);
  },
  unmounted() { window.removeEventListener("keydown", this.pressed); },
  methods: {
    source(tile) { return `${window.path_prefix || ""}/prefer/picture/${this.desk}/${tile.hash}.png`; },
    alternative(tile, index) { return `Picture ${index + 1}` + (tile.note ? `: ${tile.note}` : ""); },
    markOf(tile) { return tile.mark || (this.pending[tile.token] ? "saving…" : ""); },
    adopt(view) {
      if (!view || !view.desk || !this.ready) return;
      const before = this.tiles.map((tile) => tile.token).join();
      const fresh = view.desk !== this.desk || view.epoch !== this.epoch || view.mode !== this.mode;
      if (fresh) { this.pending = {}; this.screens = {}; }
      const screens = fresh || view.number >= this.number ? {} : { ...this.screens };
      this.desk = view.desk; this.mode = view.mode; this.answers = view.answers; this.epoch = view.epoch;
      if (fresh || view.number > this.number) this.number = view.number;
      if (view.tiles.length && view.number >= this.number) screens[view.number] = view.tiles;
      view.ahead.forEach((tiles, index) => { if (view.number + 1 + index >= this.number) screens[view.number + 1 + index] = tiles; });
      this.screens = screens;
      if (this.tiles.map((tile) => tile.token).join() !== before) this.changed();
      this.preload();
    },
    changed() {
      this.since = performance.now();
      this.focus = Math.max(this.tiles.findIndex((tile) => !this.markOf(tile)), 0);
      this.hint = "";
    },
    preload() {
      const kept = {};
      for (const tile of Object.values(this.screens).flat()) {
        kept[tile.hash] = this.loaded[tile.hash] || Object.assign(new Image(), { src: this.source(tile) });
        if (kept[tile.hash].decode && !this.loaded[tile.hash]) kept[tile.hash].decode().catch(() => {});
      }
      this.loaded = kept;
    },
    drawn(tile) { // the hash of the picture that is drawn, or null while it is not
      const found = this.$refs["picture-" + tile.token];
      const image = Array.isArray(found) ? found[0] : found;
      if (!image || !image.complete || !image.naturalWidth) return null;
      return image.currentSrc.split("/").pop().replace(".png", "");
    },
    judge(act, value, index, event) {
      if (event) {
        if (event.detail > 1 && performance.now() - this.since < DOUBLE_CLICK) return;
        if (event.detail > 0 && event.currentTarget && event.currentTarget.blur) event.currentTarget.blur();
      }
      const tiles = this.tiles;
      if (!tiles.length || !tiles[index]) { this.hint = tiles.length ? "There is no such picture." : this.empty; return; }
      const whole = act === "tie" || (act === "skip" && this.mode === "pair");
      const judged = act === "best" ? [tiles[value], ...tiles.filter((_, i) => i !== value)] : whole ? tiles : [tiles[index]];
      if (judged.some((tile) => !tile)) { this.hint = "There is no such picture."; return; }
      const pictures = judged.map((tile) => ({ token: tile.token, hash: this.drawn(tile) }));
      if (pictures.some((picture) => picture.hash === null)) { this.hint = "The picture is still loading."; return; }
      this.sent += 1;
      this.hint = "";
      this.$emit("answer", { serial: `${this.client}-${this.sent}`, act, value, pictures });
      if (this.mode === "batch") {
        for (const tile of judged) if (!tile.mark) this.pending[tile.token] = true;
        const open = tiles.findIndex((tile, i) => i > index && !this.markOf(tile));
        this.focus = open >= 0 ? open : Math.max(tiles.findIndex((tile) => !this.markOf(tile)), 0);
      } else {
        this.number += 1;
        this.changed();
      }
    },
    pictureClicked(index, event) {
      if (this.mode === "pair" || (this.mode === "batch" && this.answers === "best")) this.judge("best", index, index, event);
    },
    undo(event) {
      if (event && event.detail > 0 && event.currentTarget) event.currentTarget.blur();
      this.$emit("undo");
    },
    acknowledge(serial, rows, text, error) {
      this.acknowledged += 1;
      this.rows += rows;
      this.hint = error ? text : "";
    },
    move(step) {
      const across = Math.abs(step) === 2 ? Math.sign(step) * this.columns : step;
      const next = this.focus + across;
      if (next >= 0 && next < this.tiles.length) this.focus = next;
    },
    pressed(event) {
      if (!this.active || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      const target = event.target;
      if (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) return;
      if (document.querySelector(".q-dialog, .q-menu")) return;
      const own = "button, a, [role=button], [role=slider], [role=tab], [role=radio], [role=switch], [role=checkbox]";
      if ((event.key === " " || event.key.startsWith("Arrow")) && target.closest && target.closest(own)) return;
      const key = this.keys.find((one) => one.key === event.key.toLowerCase());
      if (!key) return;
      event.preventDefault();
      if (key.act === "move") this.move(key.value);
      else if (event.repeat) return;
      else if (key.act === "undo") this.undo();
      else if (key.act === "help") this.help = !this.help;
      else this.judge(key.act, key.value, this.focus);
    },
  },
};
