// One galaxy: its cutout and maps larger, its numbers, and where it is on the sky.
"use strict";

const galaxyView = {
  place: 0,
  dialog: dom.find("galaxy"),
  _status: dom.make("p", { className: "unseen", role: "status" }),

  start() {
    this.dialog.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) this.move(step);
      else if (event.key === "p") this._pick();
      else return;
      event.preventDefault();
    });
    this.dialog.addEventListener("close", () => grid.focus(this.place));
  },

  open(place) {
    this.place = place;
    this._fill();
    dom.openDialog(this.dialog);
  },

  /** Go to the next galaxy in the order of the grid, or to the one before. */
  move(step) {
    const to = this.place + step;
    if (to < 0 || to >= state.visible.length) return;
    const focused = document.activeElement?.dataset.does;
    this.place = to;
    this._fill();
    const again = this.dialog.querySelector(`[data-does="${focused}"]:enabled`);
    (again ?? this.dialog.querySelector("button:enabled")).focus();
    say(describe.galaxy(state.visible[to]));
  },

  _pick() {
    const galaxy = state.visible[this.place];
    if (galaxy === undefined) return;
    picks.toggle(galaxy);
    const button = this.dialog.querySelector('[data-does="pick"]');
    button.textContent = picks.has(galaxy) ? "★ Picked" : "☆ Pick";
    button.setAttribute("aria-pressed", String(picks.has(galaxy)));
  },

  _fill() {
    const galaxy = state.visible[this.place];
    const objid = galfigGallery.values("objid")[galaxy];
    const button = (does, words, act) => {
      const made = dom.make("button", { type: "button" }, words);
      made.dataset.does = does;
      made.addEventListener("click", act);
      return made;
    };
    const pick = button("pick", picks.has(galaxy) ? "★ Picked" : "☆ Pick", () => this._pick());
    pick.setAttribute("aria-pressed", String(picks.has(galaxy)));
    const before = button("before", "← Previous", () => this.move(-1));
    const after = button("after", "Next →", () => this.move(1));
    before.disabled = this.place === 0;
    after.disabled = this.place === state.visible.length - 1;
    const where = `${numbers.count(this.place + 1)} of ${numbers.count(state.visible.length)}`;
    this.dialog.replaceChildren(
      dom.headDialog(this.dialog, "galaxy-name", objid, before, after, pick),
      dom.make("p", { className: "note" }, `${where}. ${this._judge(galaxy)}`),
      dom.make("div", { className: "panels" }, ...this._panels(galaxy)),
      this._scales(galaxy),
      this._links(galaxy),
      this._tables(galaxy),
      this._status,
    );
  },

  /** Say what the network makes of a galaxy, and whether that is right. */
  _judge(galaxy) {
    const write = (id) => galfigGallery.write(galfigGallery.columns.get(id), galaxy);
    const p = numbers.probability(galfigGallery.values("p")[galaxy]);
    const words = `Predicted ${write("predicted")} with p ${/^[<>]/.test(p) ? p : `= ${p}`}`;
    const mark = describe.mark(galaxy);
    if (!mark) return `${words}; the true class is unknown.`;
    return `${mark} ${words}, which is ${write("correct")}: it is ${write("true")}.`;
  },

  _panels(galaxy) {
    const { meta } = galfigGallery;
    const [predicted, truth] = ["predicted", "true"].map((id) => galfigGallery.values(id)[galaxy]);
    return sheets.list(galaxy).map((place) => {
      const canvas = dom.make("canvas", { width: meta.sheets.side, height: meta.sheets.side });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${place.words}, ${describe.galaxy(galaxy)}`);
      sheets.draw(canvas, galaxy, place.slot);
      const lines = [dom.make("strong", {}, place.words)];
      if (place.class !== null) {
        const name = meta.classes[place.class];
        const p = galfigGallery.values(`p.${name}`)[galaxy];
        const sum = galfigGallery.values(`total.${name}`)[galaxy];
        lines.push(dom.make("span", {}, `p ${numbers.probability(p)}, Σ ${numbers.brief(sum)}`));
        const roles = [];
        if (place.class === predicted) roles.push("predicted");
        if (place.class === truth) roles.push("true");
        lines.push(dom.make("span", { className: "roles" }, roles.join(" and ")));
      }
      const isPredicted = place.class !== null && place.class === predicted;
      return dom.make(
        "figure",
        { className: isPredicted ? "predicted" : "" },
        canvas,
        dom.make("figcaption", {}, ...lines),
      );
    });
  },

  /** Say what the ends of the colour scales of a galaxy are. */
  _scales(galaxy) {
    const { meta } = galfigGallery;
    const bar = (file, low, high) =>
      dom.make(
        "span",
        { className: "scale" },
        low,
        dom.make("img", { src: file, alt: "colour scale", width: 160, height: 12 }),
        high,
      );
    const peak = numbers.brief(galfigGallery.values("peak")[galaxy]);
    const scales = [bar("scale.png", "0", `${peak} [${meta.unit}]`)];
    if (galfigGallery.columns.has("evidence")) {
      const end = numbers.brief(galfigGallery.values("evidence")[galaxy]);
      scales.push(bar("signed-scale.png", `evidence: −${end}`, `+${end} [log-odds]`));
    }
    return dom.make(
      "p",
      { className: "scales" },
      ...scales,
      " The brightness of a map is not p. Σ is the sum of a map, negative values included.",
    );
  },

  /** Link to the sky, where the catalog says where that is; nothing is loaded from there. */
  _links(galaxy) {
    const { sky, isSimulated } = galfigGallery.meta;
    const place = dom.make("p", { className: "links" });
    if (isSimulated) {
      place.append("A simulated galaxy, which is nowhere on the sky.");
      return place;
    }
    if (!sky) {
      place.append("The catalog has no ra and dec, so there are no links to the sky.");
      return place;
    }
    Promise.all(sky.map((id) => galfigGallery.load(id))).then((columns) => {
      const [ra, dec] = columns.map(({ values }) => Number(values[galaxy]));
      if (!(Number.isFinite(ra) && Math.abs(dec) <= 90)) {
        place.append("Its position is not known.");
        return;
      }
      const [query, mark] = [`ra=${ra}&dec=${dec}`, `&mark=${ra},${dec}`];
      const link = (words, href) =>
        dom.make("a", { href, target: "_blank", rel: "noopener noreferrer" }, words);
      place.append(
        link("SkyServer", `https://skyserver.sdss.org/dr18/VisualTools/explore/summary?${query}`),
        " ",
        link("Legacy Surveys", `https://www.legacysurvey.org/viewer?${query}&zoom=15${mark}`),
        ` at ra ${ra}, dec ${dec} (another site opens)`,
      );
    });
    return place;
  },

  _tables(galaxy) {
    const { columns, catalog } = galfigGallery.meta;
    const table = (title, listed) => {
      const body = dom.make("dl", { className: "numbers" });
      for (const { id, label } of listed) {
        const value = dom.make("dd", {}, "…");
        body.append(dom.make("div", {}, dom.make("dt", {}, label), value));
        galfigGallery.load(id).then((column) => {
          value.textContent = galfigGallery.write(column, galaxy) || "–";
        });
      }
      return dom.make("section", {}, dom.make("h3", {}, title), body);
    };
    const own = columns.filter(({ label, id }) => label && id !== "objid");
    return dom.make(
      "div",
      { className: "tables" },
      table("Network and maps", own),
      ...(catalog.length ? [table("Catalog", catalog)] : []),
    );
  },
};
