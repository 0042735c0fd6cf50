// Image viewer: the server renders the region on the screen, this file moves it, reads it out and draws overlays.

const groups = new Map(); // name of a group -> viewers that share region and cursor

function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "n/a";
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(digits - 2) : value.toPrecision(digits);
}

function niceLength(limit) {
  const power = 10 ** Math.floor(Math.log10(limit));
  return Math.max(...[1, 2, 5].map((step) => step * power).filter((each) => each <= limit * (1 + 1e-9)));
}

function lengthText(metres) {
  const units = [[1e-3, "mm"], [1e-6, "µm"], [1e-9, "nm"], [1e-12, "pm"]];
  const [unit, name] = units.find(([each]) => metres >= each * (1 - 1e-9)) ?? units[units.length - 1];
  return `${Number((metres / unit).toPrecision(3))} ${name}`;
}

export default {
  template: `
    <div class="dv" ref="root">
      <div class="dv-bar">
        <strong class="dv-title" :title="heading">{{ heading }}</strong>
        <label class="dv-field">Show
          <select v-model="shown" @change="quantityChanged(true)" aria-label="Quantity">
            <option v-for="q in about.quantities" :key="q.name" :value="q.name">{{ q.label }}</option>
          </select>
        </label>
        <span class="dv-buttons" role="group" aria-label="Zoom">
          <button type="button" @click="zoomBy(1.4)" aria-label="Zoom in" title="Zoom in (+)">+</button>
          <button type="button" @click="zoomBy(1 / 1.4)" aria-label="Zoom out" title="Zoom out (-)">−</button>
          <button type="button" @click="fit()" title="Scanned area (0)">Fit</button>
          <button type="button" @click="fitAll()" title="Whole image (A)">All</button>
          <button type="button" @click="oneToOne()" title="One screen pixel per pixel (1)">1:1</button>
        </span>
        <button type="button" @click="toggleProfile()" :aria-pressed="String(measuring)"
          title="Line profile (L): drag on the image">Profile</button>
        <button type="button" @click="histogramOpen = !histogramOpen" :aria-expanded="String(histogramOpen)"
          title="Colour range (H)">Colours</button>
        <button v-if="keys.length > 1" type="button" @click="nextImage()" title="Next image (B)">Next</button>
        <label v-if="about.masked" class="dv-field"><input type="checkbox" v-model="unlit" @change="refresh()">
          unlit values</label>
      </div>
      <div class="dv-frame" :style="{ height: height }" ref="frame">
        <canvas ref="canvas" tabindex="0" role="application" :aria-label="described"
          @wheel.prevent="wheel" @pointerdown="down" @pointermove="move" @pointerup="up" @pointercancel="up"
          @pointerleave="leave" @keydown="key" @dblclick="doubled"></canvas>
        <div v-if="message" class="dv-message" role="alert">{{ message }}</div>
        <div v-else-if="waiting" class="dv-message" role="status">Loading...</div>
      </div>
      <div class="dv-values" aria-live="off">
        <template v-if="readout && readout.inside">
          <span>y {{ readout.y }}, x {{ readout.x }}</span>
          <span v-for="v in readout.values" :key="v.name">{{ v.label }} <b>{{ format(v.value) }}</b> {{ v.unit }}</span>
          <span v-if="readout.lit === false">not illuminated</span>
        </template>
        <span v-else>Wheel or pinch zooms, drag moves; arrows, + and - do so by keyboard.</span>
      </div>
      <div v-if="histogramOpen && details" class="dv-panel">
        <svg class="dv-histogram" :viewBox="'0 0 ' + HW + ' ' + HH" preserveAspectRatio="none" ref="histogram"
          role="group" aria-label="Histogram of the lit pixels" @pointermove="dragRange" @pointerup="endRange"
          @pointercancel="endRange">
          <defs><linearGradient :id="gradient">
            <stop v-for="(c, i) in colourList" :key="i" :offset="i / (colourList.length - 1)" :stop-color="c" />
          </linearGradient></defs>
          <path :d="bars" class="dv-bars" />
          <rect :x="Math.max(at(low), 0)" :y="HH - 10" :width="Math.max(at(high) - Math.max(at(low), 0), 0)" height="10"
            :fill="'url(#' + gradient + ')'" />
          <g v-for="end in ['low', 'high']" :key="end">
            <line :x1="clampX(at(range[end]))" :x2="clampX(at(range[end]))" y1="0" :y2="HH" class="dv-handle" />
            <rect :x="clampX(at(range[end])) - 7" y="0" width="14" :height="HH" class="dv-grip" tabindex="0"
              role="slider" :aria-label="end === 'low' ? 'Lower end of the colour range' : 'Upper end of the colour range'"
              :aria-valuenow="range[end]" :aria-valuemin="details.histogram.low" :aria-valuemax="details.histogram.high"
              @pointerdown.prevent="startRange($event, end)" @keydown="keyRange($event, end)" />
          </g>
        </svg>
        <div class="dv-bar">
          <label class="dv-field">from <input type="number" step="any" :value="round(low)"
            @change="typeRange('low', $event)"></label>
          <label class="dv-field">to <input type="number" step="any" :value="round(high)"
            @change="typeRange('high', $event)"></label>
          <span>{{ details.unit }}</span>
          <button type="button" @click="autoRange()">Automatic</button>
          <label class="dv-field">Map
            <select v-model="map" @change="refresh(); shareColours()" aria-label="Colour map">
              <option v-for="(_, name) in details.maps" :key="name" :value="name">{{ name }}</option>
            </select>
          </label>
        </div>
      </div>
      <div v-if="measuring" class="dv-panel">
        <template v-if="line && line.data">
          <svg class="dv-profile" viewBox="0 0 400 100" preserveAspectRatio="none" role="img"
            :aria-label="'Profile of ' + line.data.label"><path :d="profilePath" class="dv-line" /></svg>
          <div class="dv-values">
            <span>{{ line.data.label }}: {{ format(line.low) }} to {{ format(line.high) }} {{ line.data.unit }}</span>
            <span>length {{ lineLength }}</span>
          </div>
        </template>
        <span v-else>Drag on the image to draw a line (by keyboard: Enter sets its ends at the cross).</span>
      </div>
    </div>`,
  props: { base: String, keys: Array, title: String, group: String, quantity: String, height: String },
  data() {
    return {
      about: { quantities: [], extent: [0, 1, 0, 1], focus: [0, 1, 0, 1], pixel_m: null, masked: false, name: "" },
      shown: this.quantity, active: 0, details: null, low: 0, high: 1, manual: false, map: "", unlit: false,
      readout: null, message: "", waiting: true, histogramOpen: false, measuring: false, line: null,
      HW: 400, HH: 80, gradient: "dv" + Math.random().toString(36).slice(2),
    };
  },
  computed: {
    heading() { return this.keys.length > 1 ? `${this.about.name} (${this.active + 1} of ${this.keys.length})` : this.title || this.about.name; },
    described() {
      return `${this.heading}. Arrow keys move, plus and minus zoom, 0 shows the scanned area, L a line profile, H colours.`;
    },
    range() { return { low: this.low, high: this.high }; },
    colourList() { return this.details?.maps[this.map] ?? ["#000000", "#ffffff"]; },
    bars() {
      const counts = this.details.histogram.counts;
      const top = Math.max(...counts, 1), step = this.HW / counts.length;
      const points = counts.map((n, i) => `L${i * step} ${this.HH - 10 - (this.HH - 14) * Math.sqrt(n / top)}H${(i + 1) * step}`);
      return `M0 ${this.HH - 10}${points.join("")}V${this.HH - 10}Z`;
    },
    profilePath() {
      const { distance, value } = this.line.data, span = this.line.high - this.line.low || 1;
      const end = distance[distance.length - 1] || 1;
      let path = "", pen = "M";
      value.forEach((v, i) => {
        if (v === null) { pen = "M"; return; }
        path += `${pen}${(400 * distance[i]) / end} ${96 - (92 * (v - this.line.low)) / span}`;
        pen = "L";
      });
      return path;
    },
    lineLength() {
      const all = this.line.data.distance, end = all[all.length - 1];
      return this.line.data.length_unit === "m" ? lengthText(end) : `${number(end)} px`;
    },
  },
  watch: {
    keys(now, before) { if (JSON.stringify(now) !== JSON.stringify(before)) this.open(); },
    quantity(name) { this.shown = name; this.quantityChanged(false); },
  },
  created() {
    // Not reactive: they change with every move of the pointer.
    this.view = null; this.pictures = new Map(); this.busy = new Map(); this.pointers = new Map();
    this.cross = null; this.timer = null; this.known = new Map();
    this.drawn = ""; // The quantity whose colours and range are known.
  },
  async mounted() {
    await this.$nextTick(); // window.path_prefix is set when the app is mounted
    if (this.group) {
      if (!groups.has(this.group)) groups.set(this.group, new Set());
      groups.get(this.group).add(this);
    }
    this.observer = new ResizeObserver(() => { this.resize(); });
    this.observer.observe(this.$refs.frame);
    await this.open();
  },
  beforeUnmount() {
    clearInterval(this.timer);
    this.observer?.disconnect();
    groups.get(this.group)?.delete(this);
  },
  methods: {
    format(value) { return number(value); },
    round(value) { return Number(value.toPrecision(5)); },
    address(key, what, query = {}) {
      const known = Object.entries(query).filter(([, value]) => value !== null && value !== "");
      return `${window.path_prefix ?? ""}${this.base}/${key}/${what}?${new URLSearchParams(known)}`;
    },
    async ask(key, what, query) {
      const answer = await fetch(this.address(key, what, query));
      if (!answer.ok) {
        const text = await answer.json().then((body) => body.error, () => "");
        throw new Error(text || `the server answered ${answer.status}`);
      }
      return answer;
    },
    async open() {
      this.waiting = true; this.message = ""; this.active = 0; this.pictures.clear();
      try {
        const found = await Promise.all(this.keys.map(async (key) => (await this.ask(key, "about")).json()));
        this.known = new Map(this.keys.map((key, i) => [key, found[i]]));
        this.about = found[0];
        if (!this.about.quantities.some((q) => q.name === this.shown)) this.shown = this.about.quantities[0].name;
        this.resize();
        await this.quantityChanged(false);
      } catch (error) { this.fail(error); }
    },
    fail(error) { this.waiting = false; this.message = `The image cannot be shown: ${error.message}`; },
    async quantityChanged(share) {
      const chosen = this.shown;
      try {
        const found = await (await this.ask(this.keys[0], "quantity", { quantity: chosen })).json();
        if (chosen !== this.shown) return; // Another one was chosen meanwhile.
        this.details = found;
        this.drawn = chosen;
        [this.low, this.high] = this.details.range;
        this.manual = false;
        this.map = this.details.map;
        if (this.line) this.measure();
        this.refresh();
        if (share) for (const other of this.others()) {
          if (other.about.quantities.some((q) => q.name === this.shown) && other.shown !== this.shown) {
            other.shown = this.shown;
            other.quantityChanged(false);
          }
        }
      } catch (error) { if (chosen === this.shown) this.fail(error); }
    },
    others() { return [...(groups.get(this.group) ?? [])].filter((each) => each !== this); },
    // Screen pixels per pixel along y and x; pixels that are not square in metres are not square on the screen.
    ratio() { const p = this.about.pixel_m; return p ? p[0] / p[1] : 1; },
    size() { const box = this.$refs.frame.getBoundingClientRect(); return [Math.max(box.height, 1), Math.max(box.width, 1)]; },
    resize() {
      const canvas = this.$refs.canvas;
      if (!canvas || !this.known.size) return;
      const [height, width] = this.size(), dense = window.devicePixelRatio || 1;
      canvas.width = Math.round(width * dense); canvas.height = Math.round(height * dense);
      if (!this.view) {
        const shared = this.others().find((each) => each.view)?.view;
        this.view = shared ? { ...shared } : this.fitting(this.about.focus);
        this.refresh();
      } else { this.changed(false); }
    },
    fitting([y0, y1, x0, x1]) {
      const [height, width] = this.size();
      const scale = 0.96 * Math.min(height / ((y1 - y0) * this.ratio()), width / (x1 - x0));
      return { y: (y0 + y1) / 2, x: (x0 + x1) / 2, scale };
    },
    fit() { this.view = this.fitting(this.about.focus); this.changed(true); },
    fitAll() { this.view = this.fitting(this.about.extent); this.changed(true); },
    oneToOne() { this.view.scale = 1 / (window.devicePixelRatio || 1); this.changed(true); },
    bounded() {
      const [y0, y1, x0, x1] = this.about.extent, [height, width] = this.size(), v = this.view;
      const least = 0.2 * Math.min(height / ((y1 - y0) * this.ratio()), width / (x1 - x0));
      v.scale = Math.min(Math.max(v.scale, least), 64);
      v.y = Math.min(Math.max(v.y, y0), y1); v.x = Math.min(Math.max(v.x, x0), x1);
    },
    changed(share) {
      this.bounded();
      this.draw();
      this.refresh();
      if (share) for (const other of this.others()) { other.view = { ...this.view }; other.changed(false); }
    },
    zoomBy(factor, at = null) {
      const [height, width] = this.size(), [py, px] = at ?? [height / 2, width / 2], before = this.place(py, px);
      this.view.scale *= factor;
      this.bounded();
      const after = this.place(py, px);
      this.view.y += before[0] - after[0]; this.view.x += before[1] - after[1];
      this.changed(true);
    },
    place(py, px) {
      const [height, width] = this.size(), v = this.view;
      return [v.y + (py - height / 2) / (v.scale * this.ratio()), v.x + (px - width / 2) / v.scale];
    },
    screen(y, x) {
      const [height, width] = this.size(), v = this.view;
      return [(y - v.y) * v.scale * this.ratio() + height / 2, (x - v.x) * v.scale + width / 2];
    },
    // Ask for the region on the screen and a margin, so that a small move shows no gap. One request at a time.
    refresh() { if (this.view && this.map) for (const key of this.keys) this.fetchPicture(key); },
    wanted() {
      const [height, width] = this.size(), dense = Math.min(window.devicePixelRatio || 1, 2);
      const [top, left] = this.place(-0.1 * height, -0.1 * width), [bottom, right] = this.place(1.1 * height, 1.1 * width);
      return {
        quantity: this.drawn, y0: top, y1: bottom, x0: left, x1: right,
        height: Math.ceil(1.2 * height * dense), width: Math.ceil(1.2 * width * dense), colours: this.map,
        low: this.manual ? this.low : null, high: this.manual ? this.high : null, unlit: this.unlit || null,
      };
    },
    async fetchPicture(key) {
      if (this.busy.get(key)) { this.busy.set(key, "again"); return; }
      this.busy.set(key, "now");
      this.publish();
      const asked = this.wanted(), began = performance.now();
      // Flicker compares like with like: all images take the range of the first.
      if (this.keys.length > 1) { asked.low = this.low; asked.high = this.high; }
      try {
        const answer = await this.ask(key, "picture", asked);
        if (answer.status === 204) { this.pictures.delete(key); } else {
          const image = await createImageBitmap(await answer.blob());
          this.pictures.get(key)?.image.close();
          this.pictures.set(key, {
            image, box: answer.headers.get("x-box").split(",").map(Number), level: Number(answer.headers.get("x-level")),
          });
        }
        this.latency = performance.now() - began;
        this.message = ""; this.waiting = false;
        this.draw();
      } catch (error) { this.fail(error); }
      const again = this.busy.get(key) === "again";
      this.busy.delete(key);
      this.publish();
      if (again) this.fetchPicture(key);
    },
    draw() {
      const canvas = this.$refs.canvas;
      if (!canvas || !this.view) return; // not yet, or no longer on the page
      const pen = canvas.getContext("2d"), dense = window.devicePixelRatio || 1, [height, width] = this.size();
      pen.setTransform(dense, 0, 0, dense, 0, 0);
      pen.clearRect(0, 0, width, height);
      const picture = this.pictures.get(this.keys[this.active]);
      if (picture) {
        const [y0, y1, x0, x1] = picture.box, [top, left] = this.screen(y0, x0), [bottom, right] = this.screen(y1, x1);
        pen.imageSmoothingEnabled = this.view.scale < 1 || picture.level > 0;
        pen.drawImage(picture.image, left, top, right - left, bottom - top);
      }
      this.drawBar(pen, height, width);
      if (this.line) this.drawLine(pen);
      if (this.cross) this.drawCross(pen);
      this.publish();
    },
    // What is shown, for tests and for tools that read the page.
    publish() { if (this.$refs.canvas) this.$refs.canvas.dataset.state = JSON.stringify(this.state()); },
    drawBar(pen, height, width) {
      const pixel = this.about.pixel_m ? this.about.pixel_m[1] : null;
      const room = (0.25 * width) / this.view.scale; // pixels of the image
      const nice = niceLength(pixel ? room * pixel : Math.max(room, 1));
      const long = (pixel ? nice / pixel : nice) * this.view.scale, text = pixel ? lengthText(nice) : `${nice} px`;
      pen.font = "12px sans-serif";
      const wide = Math.max(long, pen.measureText(text).width) + 16;
      pen.fillStyle = "rgba(0, 0, 0, 0.65)";
      pen.fillRect(8, height - 40, wide, 32);
      pen.fillStyle = "#fff";
      pen.fillText(text, 16, height - 22);
      pen.fillRect(16, height - 16, long, 3);
      this.scaleText = text; this.scalePixels = long;
    },
    drawLine(pen) {
      const a = this.screen(...this.line.start), b = this.screen(...this.line.stop);
      for (const [colour, thick] of [["#000", 4], ["#fff", 2]]) {
        pen.strokeStyle = colour; pen.lineWidth = thick;
        pen.beginPath(); pen.moveTo(a[1], a[0]); pen.lineTo(b[1], b[0]); pen.stroke();
      }
    },
    drawCross(pen) {
      const [y, x] = this.screen(...this.cross);
      for (const [colour, thick] of [["#000", 3], ["#fff", 1]]) {
        pen.strokeStyle = colour; pen.lineWidth = thick;
        pen.beginPath(); pen.moveTo(x - 9, y); pen.lineTo(x + 9, y); pen.moveTo(x, y - 9); pen.lineTo(x, y + 9); pen.stroke();
      }
    },
    point(event) { const box = this.$refs.canvas.getBoundingClientRect(); return [event.clientY - box.top, event.clientX - box.left]; },
    wheel(event) { this.zoomBy(Math.exp(-Math.max(-300, Math.min(300, event.deltaY * (event.deltaMode ? 30 : 1))) / 400), this.point(event)); },
    doubled(event) { if (!this.measuring) this.zoomBy(2, this.point(event)); },
    down(event) {
      if (event.button > 0 || !this.view) return;
      this.$refs.canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, this.point(event));
      if (this.measuring && this.pointers.size === 1) {
        const at = this.place(...this.point(event));
        this.line = { start: at, stop: at, data: null };
      }
    },
    move(event) {
      if (!this.view) return;
      const now = this.point(event), before = this.pointers.get(event.pointerId);
      if (!before) { this.pointAt(this.place(...now)); return; }
      if (this.pointers.size === 2) { this.pinch(event.pointerId, now); return; }
      this.pointers.set(event.pointerId, now);
      if (this.measuring) { this.line.stop = this.place(...now); this.draw(); return; }
      this.view.y -= (now[0] - before[0]) / (this.view.scale * this.ratio());
      this.view.x -= (now[1] - before[1]) / this.view.scale;
      this.changed(true);
    },
    pinch(id, now) {
      const fixed = [...this.pointers.entries()].find(([each]) => each !== id)[1], before = this.pointers.get(id);
      const apart = (a) => Math.hypot(a[0] - fixed[0], a[1] - fixed[1]);
      this.pointers.set(id, now);
      if (apart(before) > 1) this.zoomBy(apart(now) / apart(before), fixed);
    },
    up(event) {
      if (!this.pointers.delete(event.pointerId)) return;
      if (this.measuring && this.line && !this.line.data) this.measure();
    },
    leave() { if (!this.pointers.size) this.pointAt(null); },
    key(event) {
      if (event.ctrlKey || event.altKey || event.metaKey || !this.view) return;
      const [height, width] = this.size(), far = event.shiftKey ? 0.02 : 0.1;
      const pan = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      const does = {
        "+": () => this.zoomBy(1.4), "=": () => this.zoomBy(1.4), "-": () => this.zoomBy(1 / 1.4), 0: () => this.fit(),
        1: () => this.oneToOne(), a: () => this.fitAll(), l: () => this.toggleProfile(), b: () => this.nextImage(),
        h: () => { this.histogramOpen = !this.histogramOpen; }, Enter: () => this.endpoint(),
      }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (pan) {
        this.view.y += (pan[0] * far * height) / (this.view.scale * this.ratio());
        this.view.x += (pan[1] * far * width) / this.view.scale;
        this.changed(true);
        this.pointAt([this.view.y, this.view.x]);
      } else if (does) { does(); } else { return; }
      event.preventDefault();
      event.stopPropagation();
    },
    endpoint() {
      const at = [this.view.y, this.view.x];
      if (!this.measuring) this.measuring = true;
      if (!this.line || this.line.data) { this.line = { start: at, stop: at, data: null }; } else { this.line.stop = at; this.measure(); }
      this.pointAt(at);
      this.draw();
    },
    toggleProfile() { this.measuring = !this.measuring; if (!this.measuring) { this.line = null; this.draw(); } },
    async measure() {
      const { start, stop } = this.line, line = this.line;
      if (Math.hypot(stop[0] - start[0], stop[1] - start[1]) < 0.5) { return; }
      try {
        const query = { quantity: this.shown, y0: start[0], x0: start[1], y1: stop[0], x1: stop[1] };
        const data = await (await this.ask(this.keys[this.active], "profile", query)).json();
        const known = data.value.filter((v) => v !== null);
        if (this.line === line) this.line = { start, stop, data, low: Math.min(...known), high: Math.max(...known) };
      } catch (error) { this.fail(error); }
    },
    // The cursor: all viewers of the group show the values at the same coordinate.
    pointAt(at) {
      this.readAt(at, false);
      for (const other of this.others()) other.readAt(at, true);
    },
    readAt(at, mark) {
      this.cross = mark ? at : null;
      if (mark) this.draw();
      this.pending = at;
      if (!at) { this.readout = null; return; }
      if (!this.reading) this.readNow();
    },
    async readNow() {
      this.reading = true;
      while (this.pending) {
        const at = this.pending;
        this.pending = null;
        try { this.readout = await (await this.ask(this.keys[this.active], "values", { y: at[0], x: at[1] })).json(); } catch { this.readout = null; }
      }
      this.reading = false;
    },
    at(value) { const h = this.details.histogram; return (this.HW * (value - h.low)) / (h.high - h.low); },
    clampX(x) { return Math.min(Math.max(x, 2), this.HW - 2); },
    startRange(event, end) { this.dragging = end; event.target.focus(); this.$refs.histogram.setPointerCapture(event.pointerId); },
    dragRange(event) {
      if (!this.dragging) return;
      const box = this.$refs.histogram.getBoundingClientRect(), h = this.details.histogram;
      this.setRange(this.dragging, h.low + ((event.clientX - box.left) / box.width) * (h.high - h.low));
    },
    endRange() { this.dragging = null; },
    keyRange(event, end) {
      const h = this.details.histogram, step = ((h.high - h.low) / 100) * { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (!Number.isFinite(step)) return;
      event.preventDefault();
      this.setRange(end, this[end] + step);
    },
    typeRange(end, event) {
      const value = Number(event.target.value);
      if (event.target.value !== "" && Number.isFinite(value)) this.setRange(end, value);
      event.target.value = this.round(this[end]);
    },
    setRange(end, value) {
      const h = this.details.histogram, least = (h.high - h.low) / 1000;
      if (end === "low") this.low = Math.min(value, this.high - least); else this.high = Math.max(value, this.low + least);
      this.manual = true;
      this.refresh();
      this.shareColours();
    },
    autoRange() { this.manual = false; [this.low, this.high] = this.details.range; this.refresh(); },
    // A range that was chosen by hand holds for all linked viewers that show the same quantity.
    shareColours() {
      for (const other of this.others()) {
        if (other.shown !== this.shown || !(this.map in (other.details?.maps ?? {}))) continue;
        other.map = this.map;
        if (this.manual) { other.low = this.low; other.high = this.high; other.manual = true; }
        other.refresh();
      }
    },
    nextImage() {
      this.active = (this.active + 1) % this.keys.length;
      this.about = this.known.get(this.keys[this.active]) ?? this.about;
      this.draw();
    },
    setFlicker(milliseconds) {
      clearInterval(this.timer);
      this.timer = milliseconds > 0 && this.keys.length > 1 ? setInterval(() => this.nextImage(), milliseconds) : null;
    },
    state() {
      const picture = this.pictures.get(this.keys[this.active]);
      return {
        ...this.view, quantity: this.shown, active: this.active, level: picture?.level ?? null, box: picture?.box ?? null,
        latency: this.latency ?? null, low: this.low, high: this.high, bar: this.scaleText ?? "", busy: this.busy.size > 0,
      };
    },
  },
};
