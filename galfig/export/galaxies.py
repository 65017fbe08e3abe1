"""Galaxies: everything that a store holds of them, as columns of a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galfig.config import NONLINEAR_METHODS
from galfig.figures.methods import find_words
from galfig.pipeline.moments import collect_statistics, measure_rounded
from galfig.runtime.progress import track
from galfig.store.reader import Store
from galfig.store.schema import DESCRIPTIONS
from galfig.tables.columns import Column, make_distinct, read_cells

if TYPE_CHECKING:
    # pandas is slow to import.
    import pandas as pd

_ID = "objid"


def tabulate_store(
    store: Store, rows: NDArray[np.intp], *, with_statistics: bool = True
) -> dict[str, Column]:
    """Tabulate galaxies of a store.

    Parameters
    ----------
    store : Store
        An open store.
    rows : (n,) ndarray of int
        Positions of the galaxies.
    with_statistics : bool, default True
        Whether to measure their maps, which reads all of them.

    Returns
    -------
    dict of str to Column
        The identifier, as text; all columns of the catalog, ``catalog_<name>`` where one has the
        name of another column, with a number where that is taken; split, true and predicted class,
        probabilities and loss; statistics of the maps; and error bars of an ensemble. n values
        each.
    """
    derived = {
        **_list_predictions(store, rows),
        **(_measure_maps(store, rows) if with_statistics else {}),
        **_list_spreads(store, rows),
        **_list_scales(store, rows),
    }
    columns = {_ID: Column(store.objids(rows), DESCRIPTIONS["objid"])}
    # The column of identifiers is there already, as text.
    names = [name for name in store.columns if not _holds_objids(store, name)]
    for name, free in zip(names, _find_free(names, [_ID, *derived]), strict=True):
        columns[free] = _read_column(store, name, rows)
    return {**columns, **derived}


def _holds_objids(store: Store, name: str) -> bool:
    if name.casefold() != _ID:
        return False
    if name == store.settings.catalog.id:
        return True
    cells = read_cells(Column(_take(store.columns[name], np.arange(len(store))), ""))
    return cells.values.astype(str).tolist() == store.objid.tolist()


def _find_free(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return names for columns of the catalog that no other column has, whatever its capitals."""
    others = {name.casefold() for name in taken}
    kept = [name for name in names if name.casefold() not in others]
    moved = [name for name in names if name.casefold() in others]
    n_others = len(taken) + len(kept)
    found = make_distinct([*taken, *kept, *(f"catalog_{name}" for name in moved)])[n_others:]
    renamed = dict(zip(moved, found, strict=True))
    return [renamed.get(name, name) for name in names]


def _read_column(store: Store, name: str, rows: NDArray[np.intp]) -> Column:
    """Return a column of the catalog, with the unit and the description that the store has."""
    described = store.describe_column(name)
    words = described.description or f"{name}, as in the catalog"
    return Column(_take(store.columns[name], rows), words, described.unit)


def _take(series: "pd.Series", rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return cells of a column, of which missing ones are masked."""
    taken = series.iloc[rows]
    if taken.dtype.kind in "fb" and taken.dtype != object:
        return taken.to_numpy()
    is_missing = taken.isna().to_numpy(bool)
    if taken.dtype.kind in "iu":
        values: NDArray[Any] = taken.fillna(0).to_numpy(np.int64)
    else:
        values = taken.fillna("").to_numpy(object)
    return np.ma.MaskedArray(values, mask=is_missing) if is_missing.any() else values


def _list_predictions(store: Store, rows: NDArray[np.intp]) -> dict[str, Column]:
    """Return what is known of the class of galaxies, and what the network made of it."""
    names = np.array([*store.class_names, ""], dtype=object)
    probs, label = store.probs[rows], store.label[rows]
    split, true = store.split[rows], names[label]
    return {
        "split": Column(
            _mask(split, split == ""), "train, valid or test: how training used the galaxy"
        ),
        "true": Column(_mask(true, label < 0), "true class"),
        "predicted": Column(names[store.predicted[rows]], "class of largest probability"),
        "p": Column(probs.max(axis=1, initial=0), "probability of that class"),
        "loss": Column(store.losses[rows], "cross-entropy loss"),
        **{
            f"p_{name}": Column(probs[:, c], f"probability of class {name}")
            for c, name in enumerate(store.class_names)
        },
    }


def _mask(values: NDArray[Any], is_missing: NDArray[np.bool_]) -> NDArray[Any]:
    return np.ma.MaskedArray(values, mask=is_missing) if is_missing.any() else values


def _measure_maps(store: Store, rows: NDArray[np.intp]) -> dict[str, Column]:
    """Return the statistics of maps that a store of statistics holds; see `Store.statistics`."""
    numbers, unit = _read_statistics(store, rows), find_words(store.record).unit
    words = {
        f"{kind}_{name}": f"{what} of the map of class {name} [{unit}]"
        for kind, what in (("total", "sum"), ("peak", "largest value"))
        for name in store.class_names
    }
    of_map = (
        "evidence for the predicted class"
        if _gives_evidence(store)
        else (f"{find_words(store.record).name} map of the predicted class")
    )
    words |= {
        "centroid_x": f"centroid of |M| from the centre of the cutout, to the right; M is the "
        f"{of_map}",
        "centroid_y": "centroid of |M| from the centre of the cutout, downwards",
        "concentration": "Gini coefficient of |M|: 0 where all cells are equal, 1 where one holds "
        "all",
        "positive_share": "sum of the positive cells of M over that of all absolute ones",
    }
    return {
        name: Column(numbers[name], words[name], "pix" if name.startswith("centroid") else "")
        for name in words
    }


def _gives_evidence(store: Store) -> bool:
    return store.method not in NONLINEAR_METHODS and len(store.class_names) > 1


def _read_statistics(store: Store, rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """Read or measure the statistics of maps, by the names of the columns of `Store.statistics`."""
    stored = store.statistics
    if stored is not None:
        return {str(name): stored[name].to_numpy()[rows] for name in stored.columns}
    size, method = store.record.cutout_size, store.method
    store.announce(rows)
    found = [
        measure_rounded(store.cams(int(row)), store.logits[row], method, size)
        for row in track(rows, "measuring maps", len(rows), "galaxies")
    ]
    columns: dict[str, NDArray[Any]] = {}
    for name, values in collect_statistics(found, len(store.class_names)).items():
        if values.ndim == 1:
            columns[name] = values
            continue
        for c, class_name in enumerate(store.class_names):
            columns[f"{name.removeprefix('cam_')}_{class_name}"] = values[:, c]
    return columns


def _list_spreads(store: Store, rows: NDArray[np.intp]) -> dict[str, Column]:
    """Return the standard deviations over the networks of an ensemble; nothing of one network."""
    if store.n_networks == 1 or store.logits_sd is None or store.log_odds_sd is None:
        return {}
    n, names = store.n_networks, store.class_names
    over = f"standard deviation over {n} networks of the"
    columns = {
        f"logit_sd_{name}": Column(store.logits_sd[rows, c], f"{over} logit of class {name}")
        for c, name in enumerate(names)
    }
    if store.log_odds_sd.shape[1] == 1:
        columns["log_odds_sd"] = Column(
            store.log_odds_sd[rows, 0], f"{over} log-odds of class {names[-1]}"
        )
    else:
        for c, name in enumerate(names):
            words = f"{over} log-odds of class {name} against the rest"
            columns[f"log_odds_sd_{name}"] = Column(store.log_odds_sd[rows, c], words)
    if store.agreement is not None:
        columns["agreement"] = Column(store.agreement[rows], DESCRIPTIONS["agreement"])
    return columns


def _list_scales(store: Store, rows: NDArray[np.intp]) -> dict[str, Column]:
    """Return the scales of the cutouts, where any is known."""
    known = {
        "pixel_scale": Column(store.pixel_scale[rows], "pixel scale of the cutout", "arcsec / pix"),
        "kpc_per_arcsec": Column(
            store.kpc_per_arcsec[rows],
            "proper length of an arcsec (Planck Collaboration 2020)",
            "kpc / arcsec",
        ),
    }
    return {name: one for name, one in known.items() if np.isfinite(one.values).any()}
