"""Importing: a network that another program trained becomes a checkpoint, and proves itself."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from galfig.catalog.columns import read_numbers
from galfig.catalog.formats import read_table
from galfig.catalog.paths import SUFFIXES, fill_template, parse_template
from galfig.config import CatalogSettings, Settings, load_settings
from galfig.errors import CatalogError, CheckpointError, ConfigError, CutoutError
from galfig.images.cutouts import Decoding, choose_decoding, decode_image, fit_image
from galfig.images.sources import Source
from galfig.networks.agreement import (
    LITTLE,
    NOTHING,
    TOLERANCE,
    Reference,
    find_differences,
    find_tolerance,
    measure_difference,
    measure_spread,
)
from galfig.networks.architectures import build_network, find_layer
from galfig.networks.checkpoint import Checkpoint, check_meaning, save_checkpoint
from galfig.networks.families import OWN, build_own, list_relatives
from galfig.networks.weights import (
    Match,
    Weights,
    describe_match,
    match_names,
    read_weights,
    take_by_name,
    take_by_order,
)
from galfig.records import CheckpointRecord, describe_invalid
from galfig.runtime.files import ErrorOrReplace, check_apart, check_output
from galfig.runtime.messages import quote, shorten

logger = logging.getLogger(__name__)
# Galaxies that are compared with the original network, at most.
N_CHECKED = 256
Shapes = dict[str, tuple[int, ...]]


def import_model(
    weights: Path | str,
    out: Path | str = "model.safetensors",
    *,
    arch: str,
    class_names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    cutout_size: int,
    image_size: int | None = None,
    layer: str = "auto",
    check: Path | str | None = None,
    images: Path | str | None = None,
    id_column: str = CatalogSettings.model_fields["id"].default,
    by_order: bool = False,
    n_train: Mapping[str, int] | None = None,
    settings: Path | str | Mapping[str, Any] | Settings | None = None,
    if_exists: ErrorOrReplace = "error",
) -> Checkpoint:
    """Import a network that another program trained, and write its checkpoint.

    Nothing in the file of weights is executed. The weights are matched by name. With ``check``, the
    network must give the probabilities that the original gave; without, the checkpoint, stores and
    captions say that nobody has checked it.

    Parameters
    ----------
    weights : Path or str
        A safetensors file, or one that ``torch.save`` wrote: a ``state_dict``, or what fastai's
        ``Learner.save`` or Lightning write.
    out : Path or str, default "model.safetensors"
        The checkpoint.
    arch : str
        ``conv3``, an xresnet, ``timm:NAME``, ``torchvision:NAME``, ``fastai:NAME`` (a
        ``vision_learner``), ``zoobot:NAME`` (an encoder of timm with a linear head), or
        ``python:package.module:function``, the user's own code, which is imported and run.
    class_names : sequence of str
        Class of each logit, (C,), in the order of the logits.
    mean, std : (n_channels,) sequence of float
        Mean and standard deviation that normalised each channel in training, for values in [0, 1].
    cutout_size : int
        Side of the central crop of each image [pixels].
    image_size : int, optional
        Side of the crop after scaling [pixels]; by default, the crop is not scaled.
    layer : str, default "auto"
        Name of the layer to explain by default; "auto" is the last one that returns feature maps.
    check : Path or str, optional
        A table, CSV, Parquet, FITS or ECSV, with a column of identifiers and a column for each
        class, which holds the probabilities that the original network gave.
    images : Path or str, optional
        Where the images of this table are: a folder with files named by identifier, or a template
        such as "images/{objID}.jpg". By default, the folder ``images`` beside the table.
    id_column : str, default "objID"
        Column of the identifiers.
    by_order : bool, default False
        Match the weights by their order, not by name. Two implementations may have equal shapes
        and give other answers; check them.
    n_train : mapping of str to int, optional
        Number of galaxies of each class that trained the network, for captions.
    settings : Path, str, mapping or Settings, optional
        A settings file or its tables, whose table ``catalog`` says how image files become pixels
        (such as ``fits_range`` and ``planes``), for ``check``. By default, ``galfig.toml`` of the
        working directory where there is one.
    if_exists : {"error", "replace"}, default "error"
        What to do if the checkpoint exists.

    Returns
    -------
    Checkpoint
        Read back from the file.

    Raises
    ------
    CheckpointError
        If the file of weights cannot be read, its tensors do not fit the architecture, or the
        network does not give the probabilities of the original; the message says what to change.
    ConfigError
        If the architecture or the layer is unknown, the numbers do not fit each other, or the
        settings cannot be used or name another number of channels.
    CatalogError
        If the table of probabilities cannot be used.
    OutputError
        If the checkpoint exists and ``if_exists`` is "error", or cannot be written.
    """
    weights, out = Path(weights), Path(out)
    check_apart(out, [weights, *([] if check is None else [Path(check)])])
    check_output(out, if_exists=if_exists)
    if images is not None and check is None:
        raise ConfigError("`images`: only with `check`, the probabilities of the original network")
    metadata: dict[str, Any] = {
        "arch": arch,
        "class_names": list(class_names),
        "cutout_size": cutout_size,
        "image_size": image_size or cutout_size,
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
        "layer": layer,
    }
    if n_train is not None:
        metadata["n_train"] = dict(n_train)
    record = _validate(metadata)
    found = read_weights(weights)
    metadata["arch"], model = _fill(weights, found, record, by_order=by_order)
    record = _validate(metadata)
    # What cannot be explained is said before the check, which takes longer.
    find_layer(model, record.layer, record.image_size, record.arch, len(record.mean))
    check_meaning(model, record)
    imported: dict[str, Any] = {"weights_sha256": found.sha256, "by_order": by_order}
    if check is None:
        logger.warning(
            "%s: not checked against the original network, as captions will say; give its "
            "probabilities of some galaxies as `check`",
            out,
        )
    else:
        decoding = choose_decoding(load_settings(settings).catalog, len(record.mean))
        imported |= _check(model, record, Path(check), images, id_column, decoding)
    metadata["imported"] = imported
    return save_checkpoint(
        out, model, metadata, arch=metadata["arch"] if _is_own(arch) else None, if_exists=if_exists
    )


def _is_own(arch: str) -> bool:
    return arch.startswith(OWN)


def _validate(metadata: Mapping[str, Any]) -> CheckpointRecord:
    """Raise ConfigError unless the arguments describe a network."""
    try:
        record = CheckpointRecord.model_validate(metadata)
    except ValidationError as exc:
        key, reason = describe_invalid(exc)
        raise ConfigError(f"`{key.partition('.')[0]}`: {reason}") from exc
    if strange := set(record.n_train or {}) - set(record.class_names):
        raise ConfigError(
            f"`n_train`: {quote(min(strange))} is not one of the classes "
            f"{', '.join(record.class_names)}"
        )
    return record


def _build(arch: str, record: CheckpointRecord, device: str) -> nn.Module:
    """Build an untrained network; on the "meta" device, it takes no memory."""
    build = build_own if _is_own(arch) else build_network
    with torch.random.fork_rng(devices=[]), torch.device("cpu" if _is_own(arch) else device):
        return build(arch, len(record.class_names), len(record.mean)).eval()


def _list_shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _fill(
    path: Path, weights: Weights, record: CheckpointRecord, *, by_order: bool
) -> tuple[str, nn.Module]:
    """Return the full name of the architecture, and the network with the weights of a file."""
    arch, found = record.arch, _list_shapes(weights.tensors)
    expected = _list_shapes(_build(arch, record, "meta").state_dict())
    if by_order:
        taken = take_by_order(weights.tensors, expected)
        if isinstance(taken, str):
            raise CheckpointError(f"{path}: does not fit {arch} by order: {taken}")
    else:
        match = match_names(found, expected)
        if not match.fits:
            arch, expected, match = _find_other(path, weights, record, expected, match)
        if match.prefix:
            logger.info("%s: takes the tensors below %s", path, quote(match.prefix))
        if match.outside:
            logger.warning(
                "%s: %d tensors are not those of %s and left out: %s",
                path,
                len(match.outside),
                arch,
                shorten(match.outside, 3),
            )
        taken = take_by_name(weights.tensors, match, expected)
    model = _build(arch, record, "cpu")
    model.load_state_dict(taken, strict=False)
    return arch, model


def _find_other(
    path: Path, weights: Weights, record: CheckpointRecord, expected: Shapes, match: Match
) -> tuple[str, Shapes, Match]:
    """Find the architecture that weights are of, where they do not fit the one that was named.

    The head of a fastai learner follows from the weights, if the body is the one that was named.
    For any other architecture, raise CheckpointError with its name.
    """
    arch, found = record.arch, _list_shapes(weights.tensors)
    words = describe_match(match, found, expected)
    for other in list_relatives(arch, found):
        try:
            shapes = _list_shapes(_build(other, record, "meta").state_dict())
        except ConfigError:
            continue
        fit = match_names(found, shapes)
        if not fit.fits:
            continue
        if arch.startswith("fastai:") and other.startswith("fastai:"):
            logger.info("%s: the weights are those of %s", path, other)
            return other, shapes, fit
        raise CheckpointError(
            f'{path}: its tensors do not fit {arch} by name ({words}); they fit `arch="{other}"`'
        )
    hint = "choose another `arch`"
    if len(record.class_names) == 2 and any(
        found[match.prefix + name][:1] == (1,) and expected[name][:1] == (2,)
        for name in match.unlike
    ):
        hint = "the network has one output, which galfig cannot explain: give it one for each class"
    elif not isinstance(take_by_order(weights.tensors, expected), str):
        hint += (
            "; the shapes fit in their order, but another implementation may compute other numbers "
            "from them: try `by_order=True` only with `check`"
        )
    raise CheckpointError(f"{path}: its tensors do not fit {arch} by name: {words}; {hint}")


def _check(
    model: nn.Module,
    record: CheckpointRecord,
    path: Path,
    images: Path | str | None,
    id_column: str,
    decoding: Decoding,
) -> dict[str, Any]:
    """Compare a network with the original; return what the record says of it."""
    reference = read_reference(path, images, record, id_column, decoding)
    difference = measure_difference(model, record, reference)
    tolerance = find_tolerance(reference.probs)
    n, spread = len(reference.probs), measure_spread(reference.probs)
    if spread < NOTHING and n > 1:
        raise CatalogError(
            f"{path}: the original's probabilities are the same for all {n} galaxies, which proves "
            "nothing; choose galaxies that it classifies differently"
        )
    if not difference <= tolerance:
        logger.info("%s: differs by up to %.2g; looking for the reason", path, difference)
        advice = find_differences(model, record, reference, tolerance)
        why = " since those hardly vary between galaxies" if tolerance < TOLERANCE else ""
        raise CheckpointError(
            f"{path}: probabilities differ from those of the original network by up to "
            f"{difference:.2g}, expected at most {tolerance:.2g}{why}; {advice}"
        )
    if spread < LITTLE:
        logger.warning(
            "%s: the original's probabilities of %d galaxies vary by %.1g only, so that their "
            "agreement says little; choose galaxies that it classifies differently",
            path,
            n,
            spread,
        )
    logger.info("%s: agrees for %d galaxies, to %.1e", path, n, difference)
    return {"n_checked": n, "largest_difference": difference}


def read_reference(
    path: Path,
    images: Path | str | None,
    record: CheckpointRecord,
    id_column: str,
    decoding: Decoding,
) -> Reference:
    """Read the original's probabilities of some galaxies, and their images.

    Parameters
    ----------
    path : Path
        Table with a column of identifiers, and one column for each class.
    images : Path, str or None
        Folder or template of the images; see `import_model`.
    record : CheckpointRecord
        Classes and channels of the network.
    id_column : str
        Column of the identifiers.
    decoding : Decoding
        How the files become pixels.

    Returns
    -------
    Reference
        At most `N_CHECKED` galaxies, always the same for the same table. Those without image or
        with an empty cell are left out and counted.

    Raises
    ------
    CatalogError
        If the table cannot be read, a column is missing, or no galaxy is left.
    """
    template = parse_template(str(images), "`images`") if "{" in str(images) else None
    table = read_table(path, id_column, template.columns if template else ())
    columns = [read_numbers(table, name, path, "`check`") for name in record.class_names]
    probs = np.column_stack(columns).astype(np.float64)
    objid = table[id_column].tolist()
    files: Sequence[Source | None]
    if template is not None:
        names, _ = fill_template(table, template, path)
        files = [
            Path(name) if name and Path(name).is_file() else None for name in names.to_pylist()
        ]
    else:
        files = _find_images(objid, path, images, id_column)

    def read(file: Source) -> NDArray[np.uint8]:
        image = decode_image(file, decoding)
        return fit_image(image, record.cutout_size, is_whole=True) if decoding.is_whole else image

    rows = np.random.default_rng(0).permutation(len(table))
    reasons: dict[str, str] = {}
    chosen = list(islice(_iter_usable(rows, objid, probs, files, read, reasons), N_CHECKED))
    if reasons:
        name, reason = next(iter(reasons.items()))
        logger.warning(
            "%s: %d galaxies are not compared, for example %s (%s)",
            path,
            len(reasons),
            quote(name),
            reason,
        )
    if not chosen:
        raise CatalogError(f"{path}: no galaxy can be compared, expected some with image")
    return Reference([image for _, image in chosen], probs[[row for row, _ in chosen]])


def _iter_usable(
    rows: NDArray[np.intp],
    objid: Sequence[str],
    probs: NDArray[np.float64],
    files: Sequence[Source | None],
    read: Callable[[Source], NDArray[np.uint8]],
    reasons: dict[str, str],
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Give the positions and images of galaxies that can be compared; note why others cannot."""
    for row in map(int, rows):
        file = files[row]
        if not np.isfinite(probs[row]).all():
            reasons[objid[row]] = "no probability of a class"
        elif file is None:
            reasons[objid[row]] = "no image"
        else:
            try:
                yield row, np.array(read(file))
            except CutoutError as exc:
                reasons[objid[row]] = str(exc)


def _find_images(
    objid: Sequence[str], path: Path, images: Path | str | None, id_column: str
) -> list[Path | None]:
    """Return the file that is named by each identifier in a folder, None where there is none."""
    folder = path.parent / "images" if images is None else Path(images)
    if images is None and not folder.is_dir():
        folder = path.parent
    try:
        there = {file.name: file for file in sorted(folder.iterdir())}
    except OSError as exc:
        raise CatalogError(f"{folder}: cannot be read ({exc.strerror}), expected images") from exc
    found = [
        next((there[name + suffix] for suffix in SUFFIXES if name + suffix in there), None)
        for name in objid
    ]
    if not any(found):
        raise CatalogError(
            f"{folder}: no image of a galaxy of {path}, expected files such as {objid[0]}.jpg; "
            f"set `images` to their folder, or to a template such as 'folder/{{{id_column}}}.jpg'"
        )
    return found
