// The columns of the gallery. Those of the catalog are scripts that are loaded when they are asked
// for: a page on a disk may load scripts, but not fetch files.
"use strict";

const galfigGallery = {
  meta: null,
  columns: new Map(),
  _waiting: new Map(),

  /** Take over what data/core.js holds. */
  open(meta, values) {
    this.meta = meta;
    for (const column of [...meta.columns, ...meta.catalog]) {
      this.columns.set(column.id, { ...column, values: null });
    }
    this.receive(values);
  },

  /** Take over the values of some columns. */
  receive(values) {
    for (const [id, encoded] of Object.entries(values)) {
      const column = this.columns.get(id);
      column.values = Array.isArray(encoded) ? encoded : this._decode(encoded);
      column.isSingle = encoded.type === "Float32Array";
    }
  },

  /** Return the values of a column that is loaded. */
  values(id) {
    return this.columns.get(id).values;
  },

  /** Load a column; the promise is fulfilled when its values are there. */
  load(id) {
    const column = this.columns.get(id);
    if (column.values) return Promise.resolve(column);
    if (!this._waiting.has(id)) {
      this._waiting.set(
        id,
        new Promise((resolve, reject) => {
          const script = document.createElement("script");
          script.src = this._policy.createScriptURL(column.file);
          script.onload = () => resolve(column);
          script.onerror = () => reject(new Error(`${column.file} cannot be loaded`));
          document.head.append(script);
        }),
      );
    }
    return this._waiting.get(id);
  },

  /** Return how a column shows the value of a galaxy, as text. */
  write(column, galaxy) {
    const value = column.values[galaxy];
    if (column.kind === "class") return column.categories[value] ?? "";
    return column.kind === "number" ? numbers.value(value, column.isSingle) : value;
  },

  _decode({ type, data }) {
    const text = atob(data);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return new this._types[type](bytes.buffer);
  },

  _types: { Int8Array, Int16Array, Int32Array, Float32Array, Float64Array },

  /** Only files that galfig wrote beside the page become scripts. */
  _policy: (() => {
    const rules = {
      createScriptURL(file) {
        if (!/^data\/catalog-\d+\.js$/.test(file)) throw new TypeError("no file of this gallery");
        return file;
      },
    };
    return window.trustedTypes ? window.trustedTypes.createPolicy("galfig", rules) : rules;
  })(),
};
