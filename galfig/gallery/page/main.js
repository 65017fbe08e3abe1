// The page as a whole: what is shown, the order, the keys, the theme and the address.
"use strict";

const KEYS = [
  ["← → ↑ ↓", "go from galaxy to galaxy"],
  ["Home, End, PageUp, PageDown", "go further; with Ctrl to the first and the last"],
  ["Enter", "open a galaxy; ← → then go to the one before and the next, Escape closes it"],
  ["p", "pick a galaxy, or no longer; so does a click with Ctrl"],
  ["c", "show cutouts"],
  ["m", "show the map of the predicted class"],
  ["t", "show the map of the true class"],
  ["1 to 9", "show the map of a class"],
  ["e", "show evidence, where there is any"],
  ["?", "show these keys"],
  ["Pointer", "move it across a galaxy to see the cutout, then each map"],
];
const THEMES = ["auto", "light", "dark"];

/** Keep a choice of the reader, where the browser permits it. */
const kept = {
  read(name) {
    try {
      return localStorage.getItem(`galfig-${name}`);
    } catch {
      return null;
    }
  },
  write(name, value) {
    try {
      localStorage.setItem(`galfig-${name}`, value);
    } catch {
      // It then holds until the page is closed.
    }
  },
};

function start() {
  const { meta } = galfigGallery;
  document.title = `${meta.store}: galfig gallery`;
  dom.find("title").textContent = meta.store;
  dom.find("subtitle").textContent = meta.title;
  state.start(meta.n);
  picks.start();
  startTheme();
  startToolbar();
  grid.size = Number(dom.find("size").value);
  grid.start();
  filters.start();
  galaxyView.start();
  startDialogs();
  state.listen(follow);
  document.addEventListener("keydown", pressKey);
  window.addEventListener("hashchange", () => {
    if (location.hash.slice(1) !== state.write()) state.read(location.hash.slice(1));
  });
  showCount();
  showScale();
  if (location.hash.length > 1) state.read(location.hash.slice(1));
}

/** Have the page follow a change of the state. */
function follow(what) {
  if (what === "galaxies") {
    grid.refill();
    filters.update();
    showCount();
    dom.find("sort").value = state.sort.id;
    dom.find("direction").textContent = state.sort.isDescending ? "Descending" : "Ascending";
    dom.find("direction").disabled = !state.sort.id;
  } else {
    grid.redraw();
    showScale();
    dom.find("show").value = state.show;
  }
  try {
    history.replaceState(null, "", `#${state.write()}`);
  } catch {
    // A browser that forbids it on a disk loses nothing but the address.
  }
}

let announcing = 0;

function showCount() {
  const [n, all] = [state.visible.length, galfigGallery.meta.n];
  const words = `${numbers.count(n)} of ${numbers.count(all)} galaxies`;
  dom.find("count").textContent = words;
  dom.find("nothing").hidden = n > 0;
  // A range that is being drawn changes many times a second.
  clearTimeout(announcing);
  announcing = setTimeout(() => say(words), 400);
}

/** Say what the colours of the maps that are shown mean. */
function showScale() {
  const { unit, evidence } = galfigGallery.meta;
  const bar = (src) => dom.make("img", { src, alt: "colour scale", width: 128, height: 10 });
  const parts = {
    cutout: ["Cutouts, as the store holds them."],
    evidence: [
      "− peak",
      bar("signed-scale.png"),
      `+ peak [log-odds]: ${evidence} in orange, against it in blue; one scale per galaxy.`,
    ],
  }[state.show] ?? [
    "0",
    bar("scale.png"),
    `peak [${unit}]: one scale per galaxy, which its maps share. ` +
      "Brightness is not the probability p.",
  ];
  dom.find("scale").replaceChildren(...parts);
}

function startToolbar() {
  const { meta } = galfigGallery;
  const hasTruth = galfigGallery.values("true").some((code) => code >= 0);
  const slots = meta.sheets.slots;
  dom.fillSelect(dom.find("show"), [
    [
      "",
      [
        ["predicted", "map: predicted class"],
        ...(hasTruth ? [["true", "map: true class"]] : []),
        ["cutout", "cutout"],
        ...(slots.includes("evidence") ? [["evidence", "evidence (signed)"]] : []),
      ],
    ],
    ["Map of a class", meta.classes.map((name, number) => [`class-${number}`, name])],
  ]);
  dom.find("show").addEventListener("change", (event) => state.setShow(event.target.value));
  const order = meta.sort === "given" ? "as given" : meta.sort;
  const named = (columns) =>
    columns.filter(({ label }) => label).map(({ id, label }) => [id, label]);
  dom.fillSelect(dom.find("sort"), [
    ["", [["", `gallery (${order})`]]],
    ["Network and maps", named(meta.columns)],
    ["Catalog", named(meta.catalog)],
  ]);
  dom.find("sort").addEventListener("change", async (event) => {
    const id = event.target.value;
    if (id) await galfigGallery.load(id);
    // Who sorts by loss or p looks for the largest.
    state.setSort(id, ["loss", "p"].includes(id));
  });
  dom.find("direction").disabled = true;
  dom.find("direction").addEventListener("click", () => {
    state.setSort(state.sort.id, !state.sort.isDescending);
  });
  const size = dom.find("size");
  size.value = kept.read("size") ?? (window.innerWidth < 640 ? 104 : 128);
  size.addEventListener("input", () => {
    grid.size = Number(size.value);
    kept.write("size", size.value);
    grid.layout();
  });
}

function startDialogs() {
  const { meta } = galfigGallery;
  const legend = dom.find("legend");
  const alt = "colour scale of the maps";
  const bar = dom.make("img", { src: "scale.png", alt, width: 256, height: 16 });
  legend.append(
    dom.headDialog(legend, "legend-name", "How to read the maps"),
    dom.make("p", { className: "scale" }, "0 ", bar, ` peak of the galaxy [${meta.unit}]`),
    ...meta.legend.map((words) => dom.make("p", {}, words)),
    dom.make("h3", {}, "Made from"),
    dom.make("pre", { tabIndex: 0 }, JSON.stringify(meta.provenance, null, 1)),
  );
  dom.find("show-legend").addEventListener("click", () => dom.openDialog(legend));
  const help = dom.find("help");
  help.append(
    dom.headDialog(help, "help-name", "Keys"),
    dom.make(
      "dl",
      { className: "keys" },
      ...KEYS.map(([key, words]) =>
        dom.make("div", {}, dom.make("dt", {}, key), dom.make("dd", {}, words)),
      ),
    ),
  );
  dom.find("show-help").addEventListener("click", () => dom.openDialog(help));
  const [panel, opener] = [dom.find("filters"), dom.find("show-filters")];
  const setPanel = (isOpen) => {
    panel.classList.toggle("open", isOpen);
    opener.setAttribute("aria-expanded", String(isOpen));
    // What lies behind the filters cannot be reached.
    for (const behind of document.querySelectorAll("header, main")) behind.inert = isOpen;
    (isOpen ? dom.find("hide-filters") : opener).focus();
  };
  opener.addEventListener("click", () => setPanel(!panel.classList.contains("open")));
  dom.find("hide-filters").addEventListener("click", () => setPanel(false));
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && panel.classList.contains("open")) setPanel(false);
  });
  matchMedia("(max-width: 48rem)").addEventListener("change", () => {
    if (panel.classList.contains("open")) setPanel(false);
  });
}

function startTheme() {
  const button = dom.find("theme");
  const set = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    filters.update();
  };
  set(THEMES.includes(kept.read("theme")) ? kept.read("theme") : "auto");
  button.addEventListener("click", () => {
    const now = THEMES.indexOf(document.documentElement.dataset.theme);
    const next = THEMES[(now + 1) % THEMES.length];
    kept.write("theme", next);
    set(next);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => filters.update());
}

/** Act on keys that hold everywhere but in a field. */
function pressKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isBusy = event.target.closest("input, select, textarea");
  if (isBusy || document.querySelector("dialog[open]")) return;
  const shows = { c: "cutout", m: "predicted", t: "true", e: "evidence" };
  const number = Number(event.key) - 1;
  const { classes } = galfigGallery.meta;
  const show = shows[event.key] ?? (classes[number] === undefined ? null : `class-${number}`);
  const isOffered = [...dom.find("show").options].some(({ value }) => value === show);
  if (event.key === "?") dom.openDialog(dom.find("help"));
  else if (isOffered) state.setShow(show);
  else return;
  event.preventDefault();
}

start();
