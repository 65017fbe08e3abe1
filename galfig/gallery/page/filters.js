// Filters: classes by boxes, numbers by a histogram with a range, text by its parts.
"use strict";

const filters = {
  /** Columns that have a filter from the beginning, and those of them that are open. */
  FIRST: ["correct", "true", "predicted", "p", "loss", "redshift", "split"],
  OPEN: ["correct", "true", "predicted", "p", "redshift"],
  N_BINS: 40,
  _shown: new Map(),

  start() {
    for (const id of this.FIRST) {
      if (this._tellsApart(id)) this.add(id, this.OPEN.includes(id));
    }
    this._offer();
    dom.find("add-filter").addEventListener("change", async (event) => {
      const id = event.target.value;
      event.target.value = "";
      if (!id) return;
      await galfigGallery.load(id);
      this.add(id, true);
      this._shown.get(id).element.querySelector("summary").focus();
    });
    dom.find("reset").addEventListener("click", () => state.clear());
  },

  /** Show the filter of a column that is loaded. */
  add(id, isOpen) {
    if (this._shown.has(id) || this._shown.size >= state.MOST) return;
    const column = galfigGallery.columns.get(id);
    const make = { number: makeRange, class: makeBoxes, text: makeSearch }[column.kind];
    const body = make(id, column);
    const summary = dom.make("summary", {}, column.label, dom.make("span", { className: "on" }));
    const element = dom.make("details", { open: isOpen }, summary, body.element);
    element.addEventListener("toggle", () => body.update());
    dom.find("filter-list").append(element);
    this._shown.set(id, { element, body, on: summary.lastChild });
    body.update();
    this._offer();
  },

  /** Show what is filtered, and the counts of what is left. */
  update() {
    for (const id of state.filters.keys()) this.add(id, true);
    for (const [id, { element, body, on }] of this._shown) {
      on.textContent = state.filters.has(id) ? " (on)" : "";
      if (element.open) body.update();
    }
  },

  /** Offer the columns that have no filter yet. */
  _offer() {
    const left = (columns) =>
      columns
        .filter(({ id, label }) => label && !this._shown.has(id) && this._tellsApart(id))
        .map(({ id, label }) => [id, label]);
    dom.fillSelect(dom.find("add-filter"), [
      ["", [["", "column …"]]],
      ["Network and maps", left(galfigGallery.meta.columns)],
      ["Catalog", left(galfigGallery.meta.catalog)],
    ]);
  },

  /** Return whether a column has different values, as far as it is loaded. */
  _tellsApart(id) {
    const { values, kind } = galfigGallery.columns.get(id);
    if (!values) return true;
    const first = values.findIndex((value) => kind !== "number" || !Number.isNaN(value));
    return first >= 0 && values.some((value) => value !== values[first] && value === value);
  },
};

/** Make boxes for the classes of a column. */
function makeBoxes(id, column) {
  const codes = column.categories.map((_, code) => code);
  if (column.values.includes(-1)) codes.push(-1);
  const boxes = codes.map((code) => {
    const box = dom.make("input", { type: "checkbox" });
    const count = dom.make("span", { className: "n" });
    const name = code < 0 ? null : column.categories[code];
    const mark = id === "correct" ? { right: "✓ ", wrong: "✗ " }[name] ?? "" : "";
    const label = dom.make("label", {}, box, ` ${mark}${name ?? "unknown"} `, count);
    return { code, box, count, name, label };
  });
  const element = dom.make(
    "fieldset",
    { className: "boxes" },
    dom.make("legend", { className: "unseen" }, column.label),
    ...boxes.map(({ label }) => label),
  );
  element.addEventListener("change", () => {
    const chosen = boxes.filter(({ box }) => box.checked).map(({ name }) => name);
    state.setFilter(id, chosen.length ? chosen : null);
  });
  const update = () => {
    const counts = new Map(codes.map((code) => [code, 0]));
    for (let galaxy = 0; galaxy < column.values.length; galaxy += 1) {
      if (state.passes(galaxy, id)) {
        const code = column.values[galaxy];
        counts.set(code, counts.get(code) + 1);
      }
    }
    const chosen = state.filters.get(id) ?? [];
    for (const { code, box, count, name } of boxes) {
      box.checked = chosen.includes(name);
      count.textContent = numbers.count(counts.get(code));
    }
  };
  return { element, update };
}

/** Make a search for parts of a text. */
function makeSearch(id, column) {
  const input = dom.make("input", { type: "search", placeholder: "contains …" });
  input.setAttribute("aria-label", `${column.label} contains`);
  input.addEventListener("input", () => state.setFilter(id, input.value.trim() || null));
  return {
    element: dom.make("div", { className: "search" }, input),
    update() {
      const filter = state.filters.get(id) ?? "";
      if (input.value.trim() !== filter) input.value = filter;
    },
  };
}

/** Make a histogram on which a range is drawn, and fields for its ends. */
function makeRange(id, column) {
  const bins = binColumn(column.values, filters.N_BINS);
  const canvas = dom.make("canvas", { width: 480, height: 112, className: "histogram" });
  canvas.setAttribute("aria-hidden", "true");
  const fields = ["from", "to"].map((words) => {
    const field = dom.make("input", { type: "number", step: "any" });
    field.setAttribute("aria-label", `${column.label} ${words}`);
    return field;
  });
  fields[0].placeholder = numbers.brief(bins.least);
  fields[1].placeholder = numbers.brief(bins.most);
  const set = (low, high) => {
    state.setFilter(id, low === null && high === null ? null : [low, high]);
  };
  const read = (field) => (field.value === "" ? null : Number(field.value));
  for (const field of fields) {
    field.addEventListener("change", () => set(read(fields[0]), read(fields[1])));
  }
  dragRange(canvas, bins, set);
  const note = bins.nUnknown ? `${numbers.count(bins.nUnknown)} unknown` : "";
  const element = dom.make(
    "div",
    { className: "range" },
    canvas,
    dom.make("div", { className: "ends" }, fields[0], "to", fields[1]),
    dom.make("p", { className: "note" }, note),
  );
  const update = () => {
    const [low, high] = state.filters.get(id) ?? [null, null];
    const ends = [low, high];
    fields.forEach((field, k) => {
      const words = ends[k] === null ? "" : String(ends[k]);
      if (field.value !== words && document.activeElement !== field) field.value = words;
    });
    const all = new Uint32Array(bins.n);
    const left = new Uint32Array(bins.n);
    for (let galaxy = 0; galaxy < column.values.length; galaxy += 1) {
      const bin = bins.of[galaxy];
      if (bin === bins.NONE) continue;
      all[bin] += 1;
      if (state.passes(galaxy, id)) left[bin] += 1;
    }
    drawHistogram(canvas, bins, all, left, ends);
  };
  return { element, update };
}

/** Sort values into bins. What lies far out, beyond 0.5 % of them, goes to the outermost bins. */
function binColumn(values, n) {
  const known = Float64Array.from(values.filter((value) => Number.isFinite(value))).sort();
  let [low, high] = [known[0], known[known.length - 1]];
  const [least, most] = [low, high];
  const find = (share) => known[Math.floor(share * (known.length - 1))];
  const [inner, outer] = [find(0.005), find(0.995)];
  if (outer > inner && high - low > 4 * (outer - inner)) [low, high] = [inner, outer];
  const NONE = 255;
  const of = new Uint8Array(values.length).fill(NONE);
  const width = (high - low) / n || 1;
  for (let galaxy = 0; galaxy < values.length; galaxy += 1) {
    const value = values[galaxy];
    if (Number.isNaN(value)) continue;
    of[galaxy] = Math.min(n - 1, Math.max(0, Math.floor((value - low) / width)));
  }
  return { n, low, high, width, least, most, of, NONE, nUnknown: values.length - known.length };
}

/** Have a pointer draw a range on a histogram; a click without a drag removes it. */
function dragRange(canvas, bins, set) {
  let from = null;
  const locate = (event) => {
    const box = canvas.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return Math.round(share * bins.n);
  };
  // What lies outside of the bins belongs to the outermost, so that a range ends there nowhere.
  const edge = (bin) =>
    bin <= 0 || bin >= bins.n ? null : Number((bins.low + bin * bins.width).toPrecision(6));
  canvas.addEventListener("pointerdown", (event) => {
    from = locate(event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = locate(event);
    if (to !== from) set(edge(Math.min(from, to)), edge(Math.max(from, to)));
  });
  canvas.addEventListener("pointerup", (event) => {
    if (from !== null && locate(event) === from) set(null, null);
    from = null;
  });
  canvas.addEventListener("pointercancel", () => (from = null));
}

/** Draw all galaxies in grey, those that pass the other filters in colour, and the range. */
function drawHistogram(canvas, bins, all, left, [low, high]) {
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  const most = Math.max(1, ...all);
  // By the root of the count, or a few galaxies among thousands would not be seen.
  const tall = (count) => (count ? Math.max(3, height * Math.sqrt(count / most)) : 0);
  const place = (value) => ((value - bins.low) / bins.width / bins.n) * width;
  const step = width / bins.n;
  for (const [counts, name] of [[all, "--bar-all"], [left, "--bar"]]) {
    context.fillStyle = color(name);
    for (let bin = 0; bin < bins.n; bin += 1) {
      const top = tall(counts[bin]);
      context.fillRect(bin * step + 1, height - top, step - 2, top);
    }
  }
  if (low === null && high === null) return;
  context.fillStyle = color("--veil");
  const from = low === null ? 0 : place(low);
  const to = high === null ? width : place(high);
  context.fillRect(0, 0, from, height);
  context.fillRect(to, 0, width - to, height);
  context.fillStyle = color("--accent");
  for (const x of [low === null ? null : from, high === null ? null : to - 3]) {
    if (x !== null) context.fillRect(Math.min(width - 3, Math.max(0, x)), 0, 3, height);
  }
}
