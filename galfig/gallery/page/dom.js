// Elements and numbers. All text of a store reaches the page as text, here and nowhere else.
"use strict";

const dom = {
  /** Return the element with an id. */
  find(id) {
    return document.getElementById(id);
  },

  /** Make an element with properties, and with children that are elements or text. */
  make(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in made && name !== "list") made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  },

  /** Fill a select with pairs of value and text, in groups by name. */
  fillSelect(select, groups) {
    select.replaceChildren();
    for (const [label, options] of groups) {
      if (!options.length) continue;
      const made = options.map(([value, text]) => new Option(text, value));
      select.append(...(label ? [dom.make("optgroup", { label }, ...made)] : made));
    }
  },

  /** Give a dialog a heading and a button that closes it. */
  headDialog(dialog, id, title, ...buttons) {
    const close = dom.make("button", { type: "button", className: "close" }, "Close");
    close.addEventListener("click", () => dialog.close());
    return dom.make(
      "div",
      { className: "dialog-head" },
      dom.make("h2", { id }, title),
      ...buttons,
      close,
    );
  },

  /** Show a dialog, and close it when its backdrop is clicked. */
  openDialog(dialog) {
    if (!dialog.dataset.isReady) {
      dialog.dataset.isReady = "yes";
      dialog.addEventListener("click", (event) => {
        if (event.target === dialog) dialog.close();
      });
    }
    if (!dialog.open) dialog.showModal();
  },
};

const numbers = {
  /** Write a probability as captions do. */
  probability(p) {
    const words = p.toFixed(3);
    return { "1.000": "> 0.999", "0.000": "< 0.001" }[words] ?? words;
  },

  /** Write a number of a column; a float32 has no more than nine digits. */
  value(number, isSingle = false) {
    if (!Number.isFinite(number)) return "";
    return String(isSingle ? Number(number.toPrecision(9)) : number);
  },

  /** Write a number for the eye. */
  brief(number) {
    if (!Number.isFinite(number)) return "";
    const size = Math.abs(number);
    if (Number.isInteger(number) && size < 1e7) return String(number);
    return size !== 0 && (size < 1e-3 || size >= 1e7)
      ? number.toExponential(2)
      : String(Number(number.toPrecision(4)));
  },

  /** Group the digits of a count. */
  count(n) {
    return String(n).replace(/\B(?=(\d{3})+$)/g, " ");
  },
};
