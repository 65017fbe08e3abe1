// What is shown: filters, order and kind of map. It stands in the address, so that a link keeps it.
"use strict";

const state = {
  /** Filters at a time: each has a bit of a number. */
  MOST: 30,
  filters: new Map(),
  sort: { id: "", isDescending: false },
  show: "predicted",
  visible: new Uint32Array(0),
  _failed: new Uint32Array(0),
  _bits: new Map(),
  _orders: new Map(),
  _listeners: [],

  /** Prepare for n galaxies. */
  start(n) {
    this._failed = new Uint32Array(n);
    this.visible = Uint32Array.from({ length: n }, (_, galaxy) => galaxy);
    this._orders.set("", this.visible);
  },

  /** Have a function called when something has changed, with what. */
  listen(listener) {
    this._listeners.push(listener);
  },

  /** Set a filter of a column, or remove it (null); its column must be loaded. */
  setFilter(id, filter) {
    if (filter === null) this.filters.delete(id);
    else this.filters.set(id, filter);
    this._mark(id, filter);
    this._update();
  },

  /** Remove all filters. */
  clear() {
    this.filters.clear();
    this._bits.clear();
    this._failed.fill(0);
    this._update();
  },

  /** Order galaxies by a column; "" is the order of the gallery. */
  setSort(id, isDescending) {
    this.sort = { id, isDescending };
    this._update();
  },

  setShow(show) {
    this.show = show;
    this._tell("show");
  },

  /** Return whether a galaxy passes all filters, or all but that of one column. */
  passes(galaxy, except = null) {
    const bit = this._bits.get(except);
    return (this._failed[galaxy] & ~(bit ?? 0)) === 0;
  },

  /** Write the state as the fragment of an address. */
  write() {
    const parts = [["show", this.show]];
    if (this.sort.id) parts.push(["sort", (this.sort.isDescending ? "-" : "") + this.sort.id]);
    for (const [id, filter] of this.filters) parts.push([`f:${id}`, JSON.stringify(filter)]);
    return parts.map((pair) => pair.map(encodeURIComponent).join("=")).join("&");
  },

  /** Take over the state of a fragment; what is not known is left out. */
  async read(fragment) {
    const wanted = new Map();
    let [sort, show] = ["", null];
    for (const part of fragment.split("&")) {
      const [key, value] = part.split("=").map(decodeSafely);
      if (key === "show") show = value;
      else if (key === "sort") sort = value;
      else if (key.startsWith("f:")) wanted.set(key.slice(2), value);
    }
    const [isDescending, id] = [sort.startsWith("-"), sort.replace(/^-/, "")];
    const filters = [...wanted]
      .map(([name, text]) => [name, readFilter(galfigGallery.columns.get(name), text)])
      .filter(([, filter]) => filter)
      .slice(0, this.MOST);
    const isKnown = galfigGallery.columns.has(id);
    await Promise.all(
      [...filters.map(([name]) => name), ...(isKnown ? [id] : [])].map((name) =>
        galfigGallery.load(name),
      ),
    );
    this.filters.clear();
    this._bits.clear();
    this._failed.fill(0);
    for (const [name, filter] of filters) {
      this.filters.set(name, filter);
      this._mark(name, filter);
    }
    this.sort = { id: isKnown ? id : "", isDescending: isKnown && isDescending };
    if (sheets.isKnown(show)) this.show = show;
    this._update();
    this._tell("show");
  },

  /** Note which galaxies fail a filter, in a bit of their own. */
  _mark(id, filter) {
    const failed = this._failed;
    if (!this._bits.has(id)) {
      if (filter === null) return;
      const taken = new Set(this._bits.values());
      this._bits.set(id, [...Array(32).keys()].map((k) => 1 << k).find((bit) => !taken.has(bit)));
    }
    const bit = this._bits.get(id);
    if (filter === null) {
      this._bits.delete(id);
      for (let galaxy = 0; galaxy < failed.length; galaxy += 1) failed[galaxy] &= ~bit;
      return;
    }
    const test = makeTest(id, filter);
    for (let galaxy = 0; galaxy < failed.length; galaxy += 1) {
      if (test(galaxy)) failed[galaxy] &= ~bit;
      else failed[galaxy] |= bit;
    }
  },

  _update() {
    const order = this._order();
    const failed = this._failed;
    const visible = new Uint32Array(order.length);
    let n = 0;
    for (let place = 0; place < order.length; place += 1) {
      if (failed[order[place]] === 0) visible[n++] = order[place];
    }
    this.visible = visible.subarray(0, n);
    this._tell("galaxies");
  },

  /** Return all galaxies in the order that is asked for; unknown values come last. */
  _order() {
    const { id, isDescending } = this.sort;
    const key = `${isDescending}${id}`;
    if (!id) return this._orders.get("");
    if (!this._orders.has(key)) {
      const { values, kind } = galfigGallery.columns.get(id);
      const isKnown = {
        number: (galaxy) => !Number.isNaN(values[galaxy]),
        class: (galaxy) => values[galaxy] >= 0,
        text: (galaxy) => values[galaxy] !== "",
      }[kind];
      const all = [...this._orders.get("")];
      const known = all.filter(isKnown);
      const unknown = all.filter((galaxy) => !isKnown(galaxy));
      const sign = isDescending ? -1 : 1;
      const compare = (a, b) =>
        values[a] < values[b] ? -sign : values[a] > values[b] ? sign : a - b;
      known.sort(compare);
      this._orders.set(key, Uint32Array.from([...known, ...unknown]));
    }
    return this._orders.get(key);
  },

  _tell(what) {
    for (const listener of this._listeners) listener(what);
  },
};

function decodeSafely(text = "") {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

/** Return a filter that stands in an address, if it is one for the column; null otherwise. */
function readFilter(column, text) {
  if (!column) return null;
  let filter;
  try {
    filter = JSON.parse(text);
  } catch {
    return null;
  }
  const isBound = (end) => end === null || Number.isFinite(end);
  if (column.kind === "number") {
    const isRange = Array.isArray(filter) && filter.length === 2 && filter.every(isBound);
    return isRange ? filter : null;
  }
  if (column.kind === "class") {
    const names = Array.isArray(filter) ? filter : [];
    const known = names.filter((name) => name === null || column.categories.includes(name));
    return known.length ? known : null;
  }
  return typeof filter === "string" && filter ? filter : null;
}

/** Return a function that says whether a galaxy passes a filter. */
function makeTest(id, filter) {
  const { values, kind, categories } = galfigGallery.columns.get(id);
  if (kind === "number") {
    const [low, high] = [filter[0] ?? -Infinity, filter[1] ?? Infinity];
    return (galaxy) => values[galaxy] >= low && values[galaxy] <= high;
  }
  if (kind === "class") {
    const codes = new Set(filter.map((name) => (name === null ? -1 : categories.indexOf(name))));
    return (galaxy) => codes.has(values[galaxy]);
  }
  const words = filter.toLowerCase().split(/[\s,]+/).filter(Boolean);
  return (galaxy) => {
    const text = values[galaxy].toLowerCase();
    return words.some((word) => text.includes(word));
  };
}
