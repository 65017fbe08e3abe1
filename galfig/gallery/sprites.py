"""Sprite sheets: the cutouts and maps of many galaxies as thumbnails in few images."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from galfig.config import NONLINEAR_METHODS
from galfig.figures.choice import choose_maps
from galfig.figures.composing import SIGNED_LOOK, compose_map
from galfig.figures.rows import Look
from galfig.runtime.progress import show_progress
from galfig.store.reader import Store

# Galaxies side by side on a sheet, and on a sheet altogether. A page in another order than the
# sheets needs one sheet for each galaxy that it shows: larger ones would be decoded for nothing.
N_ACROSS, N_SHEET = 8, 32
# Blocks of the compression [pixel]. A thumbnail that fills whole ones takes nothing from its
# neighbour.
BLOCK = 16
# Names of the slots of a galaxy that are no map of a class.
CUTOUT, EVIDENCE = "cutout", "evidence"


@dataclass(frozen=True)
class Sheets:
    """How thumbnails lie on the sheets.

    Attributes
    ----------
    side : int
        Side of a thumbnail [pixel].
    slots : tuple of str
        What is drawn of each galaxy: "cutout", "map-0" and so on, and "evidence" if there is any.
    quality : int
        Quality of the compression, from 1 to 100.
    look : Look
        How the maps of classes are drawn.
    """

    side: int
    slots: tuple[str, ...]
    quality: int
    look: Look

    @property
    def pitch(self) -> int:
        """Distance between thumbnails [pixel]: the side, in whole blocks."""
        return -(-self.side // BLOCK) * BLOCK

    def place(self, number: int) -> tuple[int, int, int]:
        """Return sheet, left and top [pixel] of the galaxy at a place of the gallery."""
        sheet, within = divmod(number, N_SHEET)
        down, across = divmod(within, N_ACROSS)
        return sheet, across * self.pitch, down * self.pitch

    def name(self, sheet: int, slot: str) -> str:
        """Return the name of the file of a sheet."""
        return f"{sheet:05d}-{slot}.webp"


class Measured(NamedTuple):
    """Numbers of the maps of galaxies, found while they are drawn.

    Attributes
    ----------
    peak : (n,) ndarray of float32
        End of the colour scale of each galaxy, which its maps share; 0 if none is positive.
    totals : (n, C) ndarray of float32
        Sum of the map of each class, negative values included.
    evidence_peak : (n,) ndarray of float32 or None
        End of the colour scale of the signed map; None without one.
    is_compared : (n,) ndarray of bool
        Whether the map of the predicted class is shown beside another.
    is_deceptive : (n,) ndarray of bool
        Whether the brightest pixel of the maps that are shown is not on that of the predicted
        class, which is shown.
    """

    peak: NDArray[np.float32]
    totals: NDArray[np.float32]
    evidence_peak: NDArray[np.float32] | None
    is_compared: NDArray[np.bool_]
    is_deceptive: NDArray[np.bool_]


def has_evidence(store: Store) -> bool:
    """Return whether evidence follows from the maps of a store."""
    return store.method not in NONLINEAR_METHODS and len(store.class_names) > 1


def choose_shown(store: Store, rows: NDArray[np.intp], chosen: Sequence[int]) -> NDArray[np.int16]:
    """Choose the classes whose maps are shown of each galaxy, that of the predicted one first.

    Parameters
    ----------
    store : Store
        An open store.
    rows : (n,) ndarray of int
        Positions of the galaxies.
    chosen : sequence of int
        As of `galfig.figures.choice.choose_maps`.

    Returns
    -------
    (n, M) ndarray of int16
        Positions of classes. The first map is that of the predicted class, if it is shown: what a
        page shows first is then found on one sheet.
    """
    shown = []
    for row in rows.tolist():
        predicted = int(store.predicted[row])
        shown.append(sorted(choose_maps(store, row, chosen), key=lambda c: c != predicted))
    return np.array(shown, np.int16)


def write_sheets(
    store: Store, rows: NDArray[np.intp], shown: NDArray[np.int16], sheets: Sheets, folder: Path
) -> Measured:
    """Draw galaxies as thumbnails, and write the sheets.

    Parameters
    ----------
    store : Store
        An open store.
    rows : (n,) ndarray of int
        Positions of the galaxies, in the order of the gallery.
    shown : (n, M) ndarray of int16
        The classes whose maps are drawn.
    sheets : Sheets
        How they lie on the sheets.
    folder : Path
        An existing folder to write to.

    Returns
    -------
    Measured
        Numbers of the maps.
    """
    n, n_classes = len(rows), len(store.class_names)
    with_evidence = EVIDENCE in sheets.slots
    measured = Measured(
        np.zeros(n, np.float32),
        np.zeros((n, n_classes), np.float32),
        np.zeros(n, np.float32) if with_evidence else None,
        (shown == store.predicted[rows][:, None]).any(axis=1) & (shown.shape[1] > 1),
        np.zeros(n, bool),
    )
    store.announce(rows)
    # Images are compressed while the next are drawn, and no more than those of one sheet wait.
    with (
        show_progress("drawing", n, "galaxies") as advance,
        ThreadPoolExecutor() as pool,
    ):
        waiting: list[Future[None]] = []
        for start in range(0, n, N_SHEET):
            part = slice(start, min(start + N_SHEET, n))
            canvases = _draw_sheet(store, rows, shown, sheets, measured, part)
            for done in waiting:
                done.result()
            waiting = [
                pool.submit(_save, image, folder / sheets.name(start // N_SHEET, slot), sheets)
                for slot, image in zip(sheets.slots, canvases, strict=True)
            ]
            advance(part.stop - start)
        for done in waiting:
            done.result()
    return measured


def _draw_sheet(
    store: Store,
    rows: NDArray[np.intp],
    shown: NDArray[np.int16],
    sheets: Sheets,
    measured: Measured,
    part: slice,
) -> list[NDArray[np.uint8]]:
    """Draw the sheets of some galaxies, one for each slot, and note the numbers of their maps."""
    n_down = -(-(part.stop - part.start) // N_ACROSS)
    shape = (n_down * sheets.pitch, N_ACROSS * sheets.pitch, 3)
    canvases = [np.zeros(shape, np.uint8) for _ in sheets.slots]
    for number in range(part.start, part.stop):
        row = int(rows[number])
        cutout, cams = _shrink(store.cutouts(row), sheets.side), store.cams(row)
        measured.totals[number] = cams.sum(axis=(1, 2), dtype=np.float64)
        maps = cams[shown[number]]
        measured.peak[number] = peak = max(0.0, float(maps.max(initial=0.0)))
        measured.is_deceptive[number] = _is_deceptive(store, row, maps, shown[number])
        panels = [cutout, *(compose_map(cam, cutout, peak, sheets.look) for cam in maps)]
        if measured.evidence_peak is not None:
            signed = store.contrast(row, cams)
            signed = signed if signed.ndim == 2 else signed[store.predicted[row]]
            measured.evidence_peak[number] = end = float(np.abs(signed).max(initial=0.0))
            panels.append(compose_map(signed, cutout, end, SIGNED_LOOK))
        _, left, top = sheets.place(number)
        for canvas, panel in zip(canvases, panels, strict=True):
            cell = canvas[top : top + sheets.pitch, left : left + sheets.pitch]
            cell[: sheets.side, : sheets.side] = panel
            # The edge is repeated to the end of the block.
            cell[sheets.side :, : sheets.side] = panel[-1]
            cell[:, sheets.side :] = cell[:, sheets.side - 1 : sheets.side]
    return canvases


def _is_deceptive(
    store: Store, row: int, maps: NDArray[np.float32], classes: NDArray[np.int16]
) -> bool:
    """Return whether the brightest map is not that of the predicted class, and that is shown."""
    predicted = int(store.predicted[row])
    if predicted not in classes:
        return False
    peaks = maps.max(axis=(1, 2))
    own, brightest = peaks[list(classes).index(predicted)], int(peaks.argmax())
    # What rounding may have made brighter is not called so.
    margin = store.rounding("cams", row)[[int(classes[brightest]), predicted]].sum()
    return bool(peaks[brightest] > 0 and peaks[brightest] - own > margin)


def _shrink(cutout: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if cutout.shape[0] == side:
        return cutout
    return np.asarray(Image.fromarray(cutout).resize((side, side), Image.Resampling.BILINEAR))


def _save(image: NDArray[np.uint8], path: Path, sheets: Sheets) -> None:
    Image.fromarray(image).save(path, "WEBP", quality=sheets.quality, method=2)
