// Picked galaxies: kept by the browser for this store, copied and saved as galfig reads them.
"use strict";

const picks = {
  _ids: new Set(),
  _numbers: new Map(),

  start() {
    const { meta } = galfigGallery;
    this._key = `galfig-picks:${meta.digest}`;
    for (const objid of this._recall()) this._ids.add(objid);
    galfigGallery.values("objid").forEach((objid, galaxy) => this._numbers.set(objid, galaxy));
    const values = new Int8Array(meta.n);
    const column = { id: "picked", label: "picked", kind: "class", values };
    galfigGallery.columns.set("picked", { ...column, categories: ["no", "yes"] });
    for (const objid of this._ids) {
      if (this._numbers.has(objid)) values[this._numbers.get(objid)] = 1;
    }
    dom.find("show-picks").addEventListener("click", () => this.open());
    this._count();
  },

  has(galaxy) {
    return this._ids.has(galfigGallery.values("objid")[galaxy]);
  },

  toggle(galaxy) {
    const objid = galfigGallery.values("objid")[galaxy];
    const isPicked = !this._ids.has(objid);
    if (isPicked) this._ids.add(objid);
    else this._ids.delete(objid);
    galfigGallery.values("picked")[galaxy] = Number(isPicked);
    this._keep();
    say(`galaxy ${objid} ${isPicked ? "picked" : "no longer picked"}`);
  },

  clear() {
    this._ids.clear();
    galfigGallery.values("picked").fill(0);
    this._keep();
    say("no galaxy is picked");
  },

  /** Return the identifiers of the picks, in the order in which they were picked. */
  list() {
    return [...this._ids];
  },

  /** Return picks.txt: one identifier in a line. */
  writeFile() {
    return this.list().map((objid) => `${objid}\n`).join("");
  },

  /** Return the command that draws the picks; the caption beside picked.pdf is picked.txt. */
  writeCommand() {
    const store = quoteForShell(galfigGallery.meta.store);
    return `galfig render ${store} --objid @picks.txt --out picked.pdf`;
  },

  /** Return the selection of a figure in a manuscript. */
  writeSelection() {
    const objids = this.list().map((objid) => JSON.stringify(objid));
    return `selection = { objids = [${objids.join(", ")}] }`;
  },

  open() {
    const dialog = dom.find("picks");
    dialog.replaceChildren(...this._describe(dialog));
    dom.openDialog(dialog);
  },

  _describe(dialog) {
    const n = this._ids.size;
    const head = dom.headDialog(dialog, "picks-name", `Picks: ${n}`);
    if (!n) {
      return [head, dom.make("p", {}, "Press p on a galaxy, or click it with Ctrl, to pick it.")];
    }
    const text = dom.make("textarea", { readOnly: true, rows: 8, value: this.writeFile() });
    text.setAttribute("aria-label", "Identifiers of the picks");
    const button = (words, act) => {
      const made = dom.make("button", { type: "button" }, words);
      made.addEventListener("click", act);
      return made;
    };
    const command = dom.make("code", {}, this.writeCommand());
    const isOnly = state.filters.has("picked");
    return [
      head,
      dom.make("p", {}, "Save picks.txt beside the store, then draw them with ", command),
      dom.make(
        "p",
        { className: "actions" },
        button("Save picks.txt", () => saveFile("picks.txt", this.writeFile())),
        button("Copy the command", () => copy(this.writeCommand(), text)),
        button("Copy the identifiers", () => copy(this.writeFile(), text)),
        button("Copy for a manuscript", () => copy(this.writeSelection(), text)),
        button(isOnly ? "Show all galaxies" : "Show only the picks", () => {
          state.setFilter("picked", isOnly ? null : ["yes"]);
          dialog.close();
        }),
        button("Forget all picks", () => {
          this.clear();
          dialog.close();
        }),
      ),
      text,
      dom.make("p", { className: "note", role: "status" }),
      dom.make("p", { className: "note" }, "This browser keeps them, by the digest of the store."),
    ];
  },

  _keep() {
    try {
      localStorage.setItem(this._key, JSON.stringify(this.list()));
    } catch {
      // A browser that keeps nothing still has them until the page is closed.
    }
    if (state.filters.has("picked")) state.setFilter("picked", state.filters.get("picked"));
    else grid.mark();
    this._count();
  },

  _recall() {
    try {
      const kept = JSON.parse(localStorage.getItem(this._key) ?? "[]");
      return kept.filter((objid) => typeof objid === "string");
    } catch {
      return [];
    }
  },

  _count() {
    dom.find("n-picks").textContent = numbers.count(this._ids.size);
  },
};

/** Put a text on the clipboard; where that is not permitted, select it to be copied by hand. */
async function copy(words, text) {
  text.value = words;
  try {
    await navigator.clipboard.writeText(words);
    say("copied");
  } catch {
    text.focus();
    text.select();
    say(document.execCommand("copy") ? "copied" : "selected: copy it with Ctrl-C");
  }
}

function saveFile(name, words) {
  const address = URL.createObjectURL(new Blob([words], { type: "text/plain" }));
  const link = dom.make("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function quoteForShell(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** Have a reader of the screen say something. */
function say(words) {
  const place = document.querySelector("dialog[open] [role=status]") ?? dom.find("live");
  // What stands in a dialog that was just filled is not said, but what changes there later is.
  setTimeout(() => {
    place.textContent = words;
  }, 60);
}
