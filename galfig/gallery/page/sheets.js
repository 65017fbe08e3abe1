// Sprite sheets: thumbnails of a few dozen galaxies in an image, which is loaded when one is needed.
"use strict";

const sheets = {
  /** Sheets that are kept: each takes about a MB once it is decoded. */
  MOST: 500,
  _kept: new Map(),

  /** Return the places of what can be shown of a galaxy: name of the slot, class and words. */
  list(galaxy) {
    const { slots } = galfigGallery.meta.sheets;
    return slots.map((slot) => {
      const place = /^map-(\d+)$/.exec(slot);
      if (!place) {
        const words = slot === "evidence" ? galfigGallery.meta.evidence : slot;
        return { slot, class: null, words };
      }
      const number = galfigGallery.values(`shown.${place[1]}`)[galaxy];
      return { slot, class: number, words: `map of ${galfigGallery.meta.classes[number]}` };
    });
  },

  /** Return what is shown of a galaxy for a choice such as "predicted"; undefined if nothing is. */
  choose(galaxy, show) {
    const places = this.list(galaxy);
    const wanted = { predicted: "predicted", true: "true" }[show];
    if (wanted) {
      const number = galfigGallery.values(wanted)[galaxy];
      return places.find((place) => place.class !== null && place.class === number);
    }
    const asked = /^class-(\d+)$/.exec(show);
    if (asked) return places.find((place) => place.class === Number(asked[1]));
    return places.find((place) => place.slot === show);
  },

  /** Return whether a choice of what is shown means anything in this gallery. */
  isKnown(show) {
    const { classes, sheets: described } = galfigGallery.meta;
    const asked = /^class-(\d+)$/.exec(show ?? "");
    if (asked) return Number(asked[1]) < classes.length;
    return ["predicted", "true"].includes(show) || described.slots.includes(show);
  },

  /** Draw a slot of a galaxy on a canvas, as soon as its sheet is there. */
  draw(canvas, galaxy, slot) {
    const { side, pitch, across, each } = galfigGallery.meta.sheets;
    const wanted = `${galaxy} ${slot}`;
    if (canvas.dataset.drawn === wanted) {
      canvas.dataset.wanted = wanted;
      return;
    }
    canvas.dataset.wanted = wanted;
    const within = galaxy % each;
    const [left, top] = [(within % across) * pitch, Math.floor(within / across) * pitch];
    const paint = (image) => {
      if (canvas.dataset.wanted !== wanted) return;
      if (canvas.width !== side) canvas.width = canvas.height = side;
      canvas.getContext("2d").drawImage(image, left, top, side, side, 0, 0, side, side);
      canvas.dataset.drawn = wanted;
    };
    const sheet = this._get(Math.floor(galaxy / each), slot);
    if (sheet.isReady) paint(sheet.image);
    else sheet.ready.then(paint, () => this.clear(canvas));
  },

  /** Show nothing on a canvas. */
  clear(canvas) {
    canvas.dataset.wanted = canvas.dataset.drawn = "";
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  },

  _get(number, slot) {
    const file = `sheets/${String(number).padStart(5, "0")}-${slot}.webp`;
    let sheet = this._kept.get(file);
    if (sheet) this._kept.delete(file);
    else {
      const image = new Image();
      image.src = file;
      sheet = { image, isReady: false };
      sheet.ready = image.decode().then(() => {
        sheet.isReady = true;
        return image;
      });
    }
    // The sheet that was asked for last stands last, and the first is forgotten.
    this._kept.set(file, sheet);
    if (this._kept.size > this.MOST) this._kept.delete(this._kept.keys().next().value);
    return sheet;
  },
};
