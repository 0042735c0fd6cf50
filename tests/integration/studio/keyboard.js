// Which controls of a page the key Tab reaches, for test_looks.py; once per page, as window.keyboard.
() => {
  const KINDS = "a[href], button, input, select, textarea, summary, [tabindex], [contenteditable=true]";
  const NEAR = ".q-field__control, .q-toggle, .q-checkbox, .q-slider, .q-item, label";
  const others = new Set(); // what takes the focus and is none of these kinds, e.g. an area that scrolls
  const plain = new WeakMap(); // what an element looks like without the focus
  const reached = new WeakSet(), unseen = new WeakSet();
  const about = (e) => {
    const style = getComputedStyle(e), before = getComputedStyle(e, "::before");
    return [style.outlineStyle, style.outlineWidth, style.boxShadow, style.backgroundColor, style.borderColor,
      before.opacity, before.borderColor, before.borderWidth].join();
  };
  const look = (e) => [e, e.parentElement, e.closest(NEAR)].filter(Boolean).map(about).join(";");
  const shown = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length > 0;
  const focused = () => (document.activeElement === document.body ? null : document.activeElement);
  // A dialog keeps the keyboard to itself, the topmost one where there are several.
  const scope = () => [...document.querySelectorAll("[role=dialog]")].filter(shown).pop() ?? document.body;
  const wanted = () => {
    const inside = scope(), known = [...inside.querySelectorAll(KINDS)];
    const further = [...others].filter((e) => e.isConnected && inside.contains(e));
    return [...known, ...further].filter((e) => shown(e) && !e.matches(":disabled") && !e.closest("[inert]") &&
      (e.tabIndex >= 0 || others.has(e)));
  };
  window.keyboard = {
    // Elements still to reach; the looks of those without the focus are noted.
    left: () => {
      const all = wanted();
      for (const e of all) if (e !== focused()) plain.set(e, look(e));
      return all.filter((e) => !reached.has(e)).length;
    },
    // After Tab: whether the focus can be seen by now, which is known of elements whose plain look was noted.
    told: () => {
      const e = focused();
      if (!e) return true;
      if (!plain.has(e)) return others.add(e), true; // new here: counts when it is reached again
      reached.add(e);
      return plain.get(e) !== look(e);
    },
    blame: () => unseen.add(focused()),
    outside: () => !!focused() && !scope().contains(focused()),
    // The end: what was never reached, and what did not show the focus.
    faults: () => wanted().flatMap((e) => [
      ...(reached.has(e) ? [] : [`never reached: ${e.outerHTML.slice(0, 140)}`]),
      ...(unseen.has(e) ? [`does not show the focus: ${e.outerHTML.slice(0, 140)}`] : []),
    ]),
  };
}
