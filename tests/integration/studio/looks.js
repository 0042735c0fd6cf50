// Checks of a page, for test_looks.py: contrast of all text, names of all controls, controls by keyboard, width.
() => {
  const found = [];
  const shown = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && e.getClientRects().length > 0;
  const say = (e) => (e.outerHTML || "").replace(/<([a-z-]+)[^>]*?(class="[^"]{0,80})?[^>]*>/, "<$1 $2> ").slice(0, 160);
  const colour = (() => { // any CSS colour as [r, g, b, a]
    const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    return (text) => {
      const parts = /^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/.exec(text);
      if (parts) return [+parts[1], +parts[2], +parts[3], parts[4] === undefined ? 1 : +parts[4]];
      pen.clearRect(0, 0, 1, 1); pen.fillStyle = text; pen.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
      return [r, g, b, a / 255];
    };
  })();
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  // The colour behind an element, and how opaque what it draws is. Backgrounds of ancestors are drawn first.
  const behind = (element) => {
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(e);
    let ground = [255, 255, 255, 1], opacity = 1;
    for (const e of chain) {
      const style = getComputedStyle(e), own = colour(style.backgroundColor);
      opacity *= +style.opacity;
      ground = over([own[0], own[1], own[2], own[3] * opacity], ground);
    }
    return [ground, opacity];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.textContent.trim() || seen.has(e) || !shown(e)) continue;
    seen.add(e);
    if (e.closest("script, style, noscript, svg, [disabled], [aria-disabled=true], .disabled, #popup, .q-icon")) continue;
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue; // for screen readers only
    const [ground, opacity] = behind(e), ink = colour(style.color);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    const value = ratio(over([ink[0], ink[1], ink[2], ink[3] * opacity], ground), ground);
    if (value < (large ? 3 : 4.5)) found.push(`contrast ${value.toFixed(2)}: ${node.textContent.trim().slice(0, 60)} | ${say(e)}`);
  }
  const controls = "button, a[href], input, select, textarea, [role=button], [role=slider], [role=switch], [role=checkbox], [role=tab], [role=radio], [role=combobox], canvas[tabindex]";
  const byIds = (ids) => (ids || "").split(/\s+/).map((id) => document.getElementById(id)?.textContent ?? "").join(" ");
  const name = (e) => [
    e.getAttribute("aria-label"), byIds(e.getAttribute("aria-labelledby")), e.labels && [...e.labels].map((l) => l.textContent).join(" "),
    e.closest("label")?.textContent, e.matches("input, select, textarea") ? "" : e.textContent, e.title,
    [...e.querySelectorAll("img[alt]")].map((i) => i.alt).join(" "), e.closest(".q-field")?.querySelector(".q-field__label")?.textContent,
  ].some((text) => text && text.replace(/[\ue000-\uf8ff]/g, "").trim());
  for (const e of document.querySelectorAll(controls)) {
    if (!shown(e) || e.type === "hidden" || e.type === "file") continue;
    if (!name(e)) found.push(`no name: ${say(e)}`);
  }
  for (const e of document.querySelectorAll("img, [role=img], canvas")) {
    if (shown(e) && !e.closest("[aria-hidden=true], .q-img__container") && !e.hasAttribute("alt") && !e.getAttribute("aria-label") &&
      !e.closest("[role=img][aria-label]")) found.push(`picture without a description: ${say(e)}`);
  }
  // What can be clicked can be reached by keyboard.
  const focusable = "button, a[href], input, select, textarea, summary, label, [tabindex]:not([tabindex='-1'])";
  for (const e of document.querySelectorAll("body *")) {
    if (!shown(e) || getComputedStyle(e).cursor !== "pointer" || e.closest("[disabled], .disabled, .nicegui-error-popup")) continue;
    if (e.closest(focusable) || e.querySelector(focusable) || e.closest("[role=radiogroup], [role=tablist], .q-field, .stage-tile, .q-slider, .q-toggle, .q-checkbox, .q-radio")) continue;
    found.push(`not by keyboard: ${say(e)}`);
  }
  const ids = [...document.querySelectorAll("main h1, [role=heading][aria-level='1'], h1")].filter(shown);
  if (ids.length !== 1) found.push(`${ids.length} first headings`);
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) {
    const out = [...document.querySelectorAll("body *")].find((e) => shown(e) && e.getBoundingClientRect().right > innerWidth + 1);
    found.push(`the page is ${wide} wide, the window ${innerWidth}: ${out ? say(out) : ""}`);
  }
  return [...new Set(found)];
}
