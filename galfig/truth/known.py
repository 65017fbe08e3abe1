"""Known truth: a folder of galaxies simulated with a cue, read and checked."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from galfig.catalog.cues import digest_galaxy
from galfig.catalog.formats import read_table
from galfig.errors import ScoreError
from galfig.images.raster import decode_raster
from galfig.records import TRUTH_FILE, TruthRecord, describe_invalid
from galfig.runtime.documents import load_json
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import make_printable, one_line, quote

Galaxy = tuple[NDArray[np.uint8], dict[str, NDArray[np.bool_]]]
MAX_RECORD, MAX_IMAGE = 1_000_000, 10_000_000


@dataclass(frozen=True)
class Truth:
    """Galaxies whose class one known component decides.

    Attributes
    ----------
    folder : Path
        Where they are.
    record : TruthRecord
        What is known of them.
    objid : list of str
        Identifiers, in the order of the catalog.
    label : (N,) ndarray of int
        True class, as an index into ``record.class_names``.
    kept : tuple of (cutout, masks), optional
        What `iter_galaxies` yields, of a truth that several sets of maps are compared with.
    """

    folder: Path
    record: TruthRecord
    objid: list[str]
    label: NDArray[np.intp]
    kept: tuple[Galaxy, ...] = ()

    def keep(self) -> "Truth":
        """Return the same truth, with all cutouts and masks in memory."""
        return dataclasses.replace(self, kept=tuple(self.iter_galaxies()))

    def iter_galaxies(self) -> Iterator[Galaxy]:
        """Read the cutout and the masks of each galaxy, and compare the digest of all at the end.

        Yields
        ------
        cutout : (H, W, 3) ndarray of uint8
            RGB.
        masks : dict of str to (H, W) ndarray of bool
            Mask of each component.

        Raises
        ------
        ScoreError
            If a file cannot be read, or is not what was simulated.
        """
        if self.kept:
            yield from self.kept
            return
        digest = hashlib.sha256()
        for objid, label in zip(self.objid, self.label, strict=True):
            cutout = self._read(Path("images") / f"{objid}.png", 3)
            masks = {
                name: self._read(Path("masks") / name / f"{objid}.png", 1) > 0
                for name in self.record.components
            }
            class_name = self.record.class_names[label]
            digest.update(digest_galaxy(objid, class_name, cutout, masks))
            yield cutout, masks
        if digest.hexdigest() != self.record.digest:
            raise ScoreError(
                f"{self.folder}: images, masks or classes are not those that were simulated; "
                "simulate them again"
            )

    def _read(self, name: Path, n_channels: int) -> NDArray[np.uint8]:
        path = self.folder / name
        try:
            image = decode_raster(read_regular(path, MAX_IMAGE), n_channels)
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else one_line(exc)
            raise ScoreError(f"{path}: cannot be read ({reason})") from exc
        if image.shape[:2] != (self.record.size, self.record.size):
            raise ScoreError(
                f"{path}: an image of {image.shape[:2]}, expected sides of {self.record.size}"
            )
        return image


def load_truth(folder: Path | str) -> Truth:
    """Load what is known of simulated galaxies; their images are read later.

    Parameters
    ----------
    folder : Path or str
        Folder that `galfig.simulate` wrote with ``cue``.

    Returns
    -------
    Truth

    Raises
    ------
    ScoreError
        If the folder lacks the truth, or its files contradict each other.
    CatalogError
        If the catalog cannot be read.
    """
    folder = Path(folder)
    path = folder / TRUTH_FILE
    try:
        record = TruthRecord.model_validate(load_json(read_regular(path, MAX_RECORD)))
    except ValidationError as exc:
        where, what = describe_invalid(exc)
        raise ScoreError(f"{path}: {where}: {what}") from exc
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else one_line(exc)
        raise ScoreError(
            f"{path}: cannot be read ({reason}), expected a folder of galaxies that were simulated "
            "with a cue"
        ) from exc
    for name in record.components:
        _check_name(path, name)
    catalog = read_table(folder / "catalog.csv", "objID", ("class", "cue"))
    for column in ("class", "cue"):
        if column not in catalog:
            raise ScoreError(f"{folder / 'catalog.csv'}: no column {column!r}; simulate it again")
    if len(catalog) != record.n or set(catalog["cue"]) != {record.cue}:
        raise ScoreError(
            f"{folder}: the catalog is not that of {TRUTH_FILE}, expected {record.n} galaxies of "
            f"the cue {record.cue!r}; simulate it again"
        )
    objid = catalog["objID"].astype(str).tolist()
    for name in objid:
        _check_name(path, name)
    unknown = set(catalog["class"]) - set(record.class_names)
    if unknown or len(set(objid)) < len(objid):
        raise ScoreError(f"{folder / 'catalog.csv'}: unknown classes, or an objID twice")
    label = np.array([record.class_names.index(name) for name in catalog["class"]])
    return Truth(folder, record, objid, label)


def _check_name(path: Path, name: str) -> None:
    """Refuse a name that would lead out of the folder."""
    if os.sep in name or "/" in name or "\\" in name or name in ("", ".", ".."):
        raise ScoreError(f"{make_printable(path)}: {quote(name)}, expected a plain file name")
