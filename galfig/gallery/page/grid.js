// The galaxies as a grid, of which only the rows that are seen are in the page.
"use strict";

const grid = {
  element: dom.find("grid"),
  size: 120,
  /** Place of the galaxy that has, or would get, the focus, among those that are shown. */
  active: 0,
  _rows: new Map(),
  _spacer: dom.make("div", { className: "spacer", role: "presentation" }),
  _hovered: null,
  GAP: 6,
  /** Rows above and below those that are seen. */
  BEYOND: 2,

  start() {
    const element = this.element;
    element.append(this._spacer);
    element.addEventListener("scroll", () => this._schedule(), { passive: true });
    element.addEventListener("click", (event) => this._click(event));
    element.addEventListener("keydown", (event) => this._press(event));
    element.addEventListener("pointermove", (event) => this._hover(event));
    element.addEventListener("pointerleave", () => this._leave());
    element.addEventListener("focusin", (event) => {
      const cell = event.target.closest("[data-place]");
      if (cell) this._activate(Number(cell.dataset.place), false);
    });
    new ResizeObserver(() => this.layout()).observe(element);
    this.layout();
  },

  /** Begin again with other galaxies, from the top. */
  refill() {
    this.active = 0;
    this.element.scrollTop = 0;
    this.layout();
  },

  /** Arrange the galaxies for the width of the page. */
  layout() {
    const style = getComputedStyle(document.documentElement);
    const rem = parseFloat(style.fontSize);
    const width = this.element.clientWidth - 2 * this.GAP;
    this.nAcross = Math.max(1, Math.floor((width + this.GAP) / (this.size + this.GAP)));
    // Galaxies grow by what the last of a row would leave empty.
    this.side = Math.floor((width + this.GAP) / this.nAcross) - this.GAP;
    this.height = this.side + Math.round(1.6 * rem) + this.GAP;
    const nRows = Math.ceil(state.visible.length / this.nAcross);
    this._spacer.style.height = `${nRows * this.height + this.GAP}px`;
    // Without rows it would be no grid.
    const { nAcross } = this;
    const asGrid = { rowcount: nRows, colcount: nAcross, multiselectable: true };
    this.element.setAttribute("role", nRows ? "grid" : "group");
    for (const [name, value] of Object.entries(asGrid)) {
      if (nRows) this.element.setAttribute(`aria-${name}`, value);
      else this.element.removeAttribute(`aria-${name}`);
    }
    const hadFocus = this.element.contains(document.activeElement);
    for (const row of this._rows.values()) row.remove();
    this._rows.clear();
    this._render();
    if (hadFocus) this._activate(this.active, true);
  },

  /** Draw what is shown of each galaxy again. */
  redraw() {
    for (const row of this._rows.values()) {
      for (const cell of row.children) this._draw(cell);
    }
  },

  /** Move the focus to the galaxy at a place. */
  focus(place) {
    const n = state.visible.length;
    if (!n) return;
    const to = Math.min(Math.max(place, 0), n - 1);
    const top = Math.floor(to / this.nAcross) * this.height;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + this.height > scrollTop + clientHeight) {
      this.element.scrollTop = top + this.height + this.GAP - clientHeight;
    }
    this._activate(to, true);
  },

  /** Mark the picks again. */
  mark() {
    for (const row of this._rows.values()) {
      for (const cell of row.children) this._name(cell);
    }
  },

  _activate(place, withFocus) {
    this.active = place;
    this._render();
    for (const row of this._rows.values()) {
      for (const cell of row.children) {
        const isActive = Number(cell.dataset.place) === place;
        cell.tabIndex = isActive ? 0 : -1;
        if (isActive && withFocus) cell.focus({ preventScroll: true });
      }
    }
  },

  _schedule() {
    if (this._isDue) return;
    this._isDue = true;
    requestAnimationFrame(() => {
      this._isDue = false;
      this._render();
    });
  },

  _render() {
    const nRows = Math.ceil(state.visible.length / this.nAcross);
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / this.height) - this.BEYOND);
    const last = Math.min(nRows, Math.ceil((scrollTop + clientHeight) / this.height) + this.BEYOND);
    const wanted = new Set();
    for (let row = first; row < last; row += 1) wanted.add(row);
    // The focus would be lost with the cell that has it.
    if (nRows) wanted.add(Math.floor(this.active / this.nAcross));
    for (const [number, row] of this._rows) {
      if (wanted.has(number)) continue;
      row.remove();
      this._rows.delete(number);
    }
    for (const number of [...wanted].sort((a, b) => a - b)) {
      if (!this._rows.has(number)) this._addRow(number);
    }
  },

  _addRow(number) {
    const row = dom.make("div", { className: "row", role: "row" });
    row.setAttribute("aria-rowindex", number + 1);
    row.style.transform = `translateY(${number * this.height + this.GAP}px)`;
    row.style.gap = `${this.GAP}px`;
    const from = number * this.nAcross;
    const to = Math.min(from + this.nAcross, state.visible.length);
    for (let place = from; place < to; place += 1) row.append(this._makeCell(place, place - from));
    // Readers of the screen go through rows in the order of the page.
    const next = [...this._rows.keys()].filter((other) => other > number).sort((a, b) => a - b)[0];
    this.element.insertBefore(row, next === undefined ? null : this._rows.get(next));
    this._rows.set(number, row);
  },

  _makeCell(place, column) {
    const galaxy = state.visible[place];
    const cell = dom.make("div", { className: "cell", role: "gridcell" });
    cell.dataset.place = place;
    cell.dataset.galaxy = galaxy;
    cell.setAttribute("aria-colindex", column + 1);
    cell.tabIndex = place === this.active ? 0 : -1;
    cell.style.width = `${this.side}px`;
    const canvas = dom.make("canvas", { width: 1, height: 1 });
    canvas.setAttribute("aria-hidden", "true");
    canvas.style.width = canvas.style.height = `${this.side}px`;
    const star = dom.make("span", { className: "star" }, "★");
    star.setAttribute("aria-hidden", "true");
    const tag = dom.make("span", { className: "tag", hidden: true });
    cell.append(canvas, tag, star, describe.caption(galaxy));
    this._draw(cell);
    this._name(cell);
    return cell;
  },

  _draw(cell, found = null) {
    const galaxy = Number(cell.dataset.galaxy);
    const place = found ?? sheets.choose(galaxy, state.show);
    const [canvas, tag] = cell.children;
    if (place) sheets.draw(canvas, galaxy, place.slot);
    else sheets.clear(canvas);
    const words = found ? place.words : place ? "" : "not shown";
    tag.textContent = words;
    tag.hidden = !words;
  },

  _name(cell) {
    const galaxy = Number(cell.dataset.galaxy);
    const isPicked = picks.has(galaxy);
    cell.setAttribute("aria-label", describe.galaxy(galaxy));
    cell.setAttribute("aria-selected", String(isPicked));
    cell.classList.toggle("picked", isPicked);
  },

  _click(event) {
    const cell = event.target.closest("[data-place]");
    if (!cell) return;
    this._activate(Number(cell.dataset.place), true);
    if (event.ctrlKey || event.metaKey || event.shiftKey) picks.toggle(Number(cell.dataset.galaxy));
    else galaxyView.open(Number(cell.dataset.place));
  },

  _press(event) {
    if (event.altKey) return;
    const { nAcross, active } = this;
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.height)) * nAcross;
    const start = active - (active % nAcross);
    const isFar = event.ctrlKey || event.metaKey;
    const moves = {
      ArrowRight: active + 1,
      ArrowLeft: active - 1,
      ArrowDown: active + nAcross,
      ArrowUp: active - nAcross,
      PageDown: active + page,
      PageUp: active - page,
      Home: isFar ? 0 : start,
      End: isFar ? state.visible.length - 1 : start + nAcross - 1,
    };
    const n = state.visible.length;
    if (event.key in moves) {
      const to = moves[event.key];
      if (to >= 0 && to < n) this.focus(to);
      else if (event.key.startsWith("Page") || event.key === "End") this.focus(to);
    } else if ((event.key === "Enter" || event.key === " ") && n) galaxyView.open(active);
    else if (event.key === "p" && !isFar && n) picks.toggle(state.visible[active]);
    else return;
    event.preventDefault();
  },

  /** Show one slot after the other as the pointer crosses a galaxy. */
  _hover(event) {
    if (event.pointerType === "touch") return;
    const cell = event.target.closest("[data-place]");
    if (this._hovered && this._hovered !== cell) this._leave();
    if (!cell || event.target.tagName !== "CANVAS") return;
    const places = sheets.list(Number(cell.dataset.galaxy));
    const box = cell.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    const number = Math.min(places.length - 1, Math.max(0, Math.floor(share * places.length)));
    this._hovered = cell;
    this._draw(cell, places[number]);
  },

  _leave() {
    if (this._hovered?.isConnected) this._draw(this._hovered);
    this._hovered = null;
  },
};

/** What is said of a galaxy, in words. */
const describe = {
  /** Return the mark of a right or wrong prediction: "✓", "✗", or "" where it is unknown. */
  mark(galaxy) {
    return ["✗", "✓"][galfigGallery.values("correct")[galaxy]] ?? "";
  },

  galaxy(galaxy) {
    const write = (id) => galfigGallery.write(galfigGallery.columns.get(id), galaxy);
    const isRight = write("correct");
    return [
      `galaxy ${write("objid")}`,
      `true class ${write("true") || "unknown"}`,
      `predicted ${write("predicted")}`,
      `p ${numbers.probability(galfigGallery.values("p")[galaxy])}`,
      ...(isRight ? [isRight] : []),
      ...(picks.has(galaxy) ? ["picked"] : []),
    ].join(", ");
  },

  caption(galaxy) {
    const { classes } = galfigGallery.meta;
    const predicted = galfigGallery.values("predicted")[galaxy];
    const p = numbers.probability(galfigGallery.values("p")[galaxy]);
    const mark = this.mark(galaxy);
    const kind = { "✓": "right", "✗": "wrong" }[mark] ?? "unknown";
    return dom.make(
      "div",
      { className: "caption" },
      dom.make("span", { className: `mark ${kind}` }, mark),
      dom.make("span", { className: "class", title: classes[predicted] }, classes[predicted]),
      dom.make("span", { className: "p" }, p),
    );
  },
};
