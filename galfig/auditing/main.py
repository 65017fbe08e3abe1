"""The audit of a store: each measure once, kept when it is done, then a sealed file and tables."""

import hashlib
import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.abc import SourceLoader
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np

import galfig
from galfig.auditing.columns import Radii, find_radii, tabulate_galaxies
from galfig.auditing.sample import Sample, draw_sample
from galfig.auditing.table import list_tables, write_tables
from galfig.auditing.verdict import write_verdict
from galfig.errors import AuditError, CheckpointError, ConfigError, OutputError
from galfig.manuscript.code import list_modules
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.ensemble import list_files, load_networks
from galfig.pipeline.supply import Sources, attach
from galfig.records import Measured
from galfig.runtime.documents import dump_json, load_json
from galfig.runtime.files import (
    IfExists,
    check_apart,
    check_output,
    check_parts,
    remove_leftovers,
    replace_file,
)
from galfig.runtime.inputs import read_regular
from galfig.runtime.lock import Lock, hold_lock
from galfig.runtime.messages import require_choice, suggest
from galfig.runtime.options import Device, RunOptions
from galfig.runtime.progress import show_progress
from galfig.runtime.storage import find_folder
from galfig.store.audits import Audit, is_audit, open_audit, write_audit
from galfig.store.content import read_content
from galfig.store.reader import Store, open_store
from galfig.store.selection import count_splits

logger = logging.getLogger(__name__)

# The measures in the order in which they are shown, each a module of this package.
MEASURES = (
    "completeness",
    "common-mode",
    "receptive-field",
    "deletion",
    "insertion",
    "sanity",
    "retraining",
    "symmetry",
    "seeds",
    "shortcuts",
    "reliability",
)
# More galaxies than any store has, and the largest seed that scikit-learn takes.
MAX_N, MAX_SEED = 1 << 40, (1 << 32) - 1
# Measures that are made only if they are named, since they take as long as trainings.
ON_REQUEST = ("retraining",)
# Measures of what the other measures found.
_OF_OTHERS = ("reliability",)
# What one measure found has far less [byte].
_MAX_PART = 1 << 28


def audit(
    store: Store | Path | str,
    *,
    model: Path | str | Checkpoint,
    arch: str | None = None,
    images: Path | str | None = None,
    n: int = 500,
    measures: Sequence[str] | None = None,
    seed: int = 256,
    r50: str | None = None,
    r90: str | None = None,
    out: Path | str | None = None,
    if_exists: IfExists = "error",
    device: Device = "auto",
    takeover: bool = False,
) -> Audit:
    """Measure what the maps of a store are worth, and write the numbers with their controls.

    Everything follows from the store, which holds the cutouts unless it was built without, and
    from the network. Galaxies that
    trained the network are left out. What each measure found is kept beside the audit until all
    are done, so that the same call goes on where an interrupted one stopped.

    Parameters
    ----------
    store : Store, Path or str
        The store.
    model : Path, str or Checkpoint
        The network that the store was built with; the folder of networks for a store of several.
    arch : str, optional
        The architecture of a checkpoint that the user's own code builds, such as
        "python:package.module:function"; that code runs.
    images : Path or str, optional
        The folder of the images, or their address, for a store that holds no cutouts; see
        `galfig.explain_again`.
        The audit then measures maps that are explained again, without the rounding of a native
        store.
    n : int, default 500
        Number of galaxies, drawn at random.
    measures : sequence of str, optional
        Some of `MEASURES`; by default, all but those `ON_REQUEST`, which is retraining.
    seed : int, default 256
        Seed of the draw of galaxies, and of everything that a measure draws.
    r50, r90 : str, optional
        Columns of the catalog with the radii that hold half and 90 % of the light [arcsec]. By
        default, those of SDSS, such as petroR50_r, where the catalog has them.
    out : Path or str, optional
        The audit; by default, ``<stem>.audit.h5`` beside the store. The table of galaxies is
        written beside it, as Parquet and ECSV.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if the audit exists. "error" keeps one that has all of this, and raises for any
        other file. "update" measures what is missing or out of date. "replace" measures all anew.
    device : {"auto", "cpu", "cuda", "cuda:1", ...}, default "auto"
        Where the network runs; "auto" takes CUDA where there is one.
    takeover : bool, default False
        Take over a stale lock from another host.

    Returns
    -------
    Audit
        The audit, with its verdict.

    Raises
    ------
    StoreError
        If the store cannot be read.
    CheckpointError
        If the network cannot be read, or is not that of the store.
    AuditError
        If all galaxies of the store trained the network.
    SelectionError
        If too few did not.
    ConfigError
        If a measure is unknown or does not apply to the store, or there is no such column.
    OutputError
        If another file exists and must not be replaced, or an output cannot be written.
    LockError
        If another process is making the same audit.
    """
    require_choice("if_exists", if_exists, get_args(IfExists))
    for parameter, value, most in (("n", n, MAX_N), ("seed", seed, MAX_SEED)):
        if not 0 <= value <= most:
            raise ConfigError(f"`{parameter}` {value}: expected at most {most}, and no less than 0")
    names = choose_measures(measures)
    opened = store if isinstance(store, Store) else open_store(store)
    try:
        path = Path(out) if out is not None else opened.path.with_suffix(".audit.h5")
        network = model if isinstance(model, Checkpoint) else load_networks(model, arch=arch)
        check_network(opened, network)
        folder = None if images is None else find_folder(images, "images")
        sources = Sources((network,), folder, run=RunOptions(device))
        attach(opened, sources, with_maps=True)
        if _count_trained(opened) == len(opened):
            raise AuditError(
                f"{opened.path}: all of its galaxies trained the network, expected some that did "
                "not; build a store of the validation set"
            )
        radii = find_radii(opened, r50, r90)
        files = [] if isinstance(model, Checkpoint) else list_files(Path(model))
        _check_names(path, [opened.path, *files])
        _check_early(path, opened, network, n, seed, if_exists)
        sample = draw_sample(opened, [network], n=n, seed=seed, device=device)
        _report(sample, n)
        with hold_lock(path, takeover=takeover) as lock:
            for file in (path, *list_tables(path)):
                remove_leftovers(file)
            job = _Job(path, sample, n, radii, _describe_inputs(sample, n), lock)
            check_parts(job.parts)
            return _run(job, names, if_exists, is_choice=measures is not None)
    finally:
        if opened is not store:
            opened.close()


def choose_measures(asked: Sequence[str] | None) -> tuple[str, ...]:
    """Return the measures that are asked for, each once, in the order in which they are shown.

    Parameters
    ----------
    asked : sequence of str or None
        Names; None for all but those `ON_REQUEST`.

    Returns
    -------
    tuple of str

    Raises
    ------
    ConfigError
        If one is unknown, or none is asked for.
    """
    if asked is None:
        return tuple(name for name in MEASURES if name not in ON_REQUEST)
    for name in asked:
        if name not in MEASURES:
            hint = suggest(name, MEASURES, f"expected some of {', '.join(MEASURES)}")
            raise ConfigError(f"`measures`: {name!r} is unknown; {hint}")
    if not asked:
        raise ConfigError(f"`measures` is empty, expected some of {', '.join(MEASURES)}")
    return tuple(name for name in MEASURES if name in asked)


def check_network(store: Store, network: Checkpoint) -> None:
    """Raise CheckpointError unless a store was built with this network or ensemble."""
    if network.digest != store.record.checkpoint_sha256:
        raise CheckpointError(
            f"{store.path}: its maps are of the network {store.record.checkpoint_sha256[:12]}..., "
            f"`model` is {network.digest[:12]}...; give the checkpoint that it was built with"
        )


def _report(sample: Sample, n: int) -> None:
    """Say which galaxies are measured, and which are left out."""
    store = sample.store
    n_trained, n_unknown = _count_trained(store), _count_unknown(sample)
    left_out = f"; {n_trained} that trained the network are left out" if n_trained else ""
    fewer = f", fewer than the {n} asked for" if len(sample) < n else ""
    found = f"measuring {len(sample)} of {len(store)} galaxies{fewer}{left_out}"
    logger.info("%s: %s", store.path, found)
    if n_unknown:
        logger.warning(
            "%s: whether %d of %d galaxies trained the network is unknown; numbers on galaxies "
            "that did say less",
            store.path,
            n_unknown,
            len(sample),
        )


def _count_trained(store: Store) -> int:
    return count_splits(store).get("train", 0)


def _count_unknown(sample: Sample) -> int:
    return int(np.sum(sample.store.split[sample.rows] == ""))


@dataclass(frozen=True)
class _Job:
    """An audit that is being made.

    Attributes
    ----------
    path : Path
        The audit.
    sample : Sample
        Its galaxies.
    n : int
        Number of galaxies that were asked for.
    radii : Radii
        Columns with the radii of the galaxies.
    inputs : dict
        What all measures follow from; see `_describe_inputs`.
    lock : Lock
        Held while it is made.
    """

    path: Path
    sample: Sample
    n: int
    radii: Radii
    inputs: Mapping[str, Any]
    lock: Lock

    @property
    def parts(self) -> Path:
        """Folder with what each measure found, until all are done."""
        return self.path.with_name(f"{self.path.name}.parts")

    def make_keys(self, measures: Sequence[str]) -> dict[str, str]:
        """Return a digest of what each of some measures follows from, its own code included."""
        keys: dict[str, str] = {}
        for name in sorted(measures, key=lambda one: one in _OF_OTHERS):
            others = dict(keys) if name in _OF_OTHERS else {}
            keys[name] = _digest(
                {**self.inputs, "measure": name, "code": digest_measure(name), "others": others}
            )
        return keys


def _describe_inputs(sample: Sample, n: int) -> dict[str, Any]:
    """Return what all measures follow from, as JSON can hold it."""
    store = sample.store
    return {
        "plan_digest": store.record.plan_digest,
        "content": read_content(store.path),
        "checkpoints": [network.digest for network in sample.networks],
        "objid": store.objids(sample.rows).tolist(),
        "n": n,
        "seed": sample.seed,
    }


def digest_measure(name: str) -> str:
    """Return a digest of the code of a measure: its module, and those of this package it imports.

    Parameters
    ----------
    name : str
        One of `MEASURES`.

    Returns
    -------
    str
        SHA-256. What an older galfig measured with the same code stays valid.
    """
    package = f"{__package__}."
    modules = [one for one in list_modules(_find_module(name)) if one.startswith(package)]
    digest = hashlib.sha256()
    for module in modules:
        spec = find_spec(module)
        if spec is not None and isinstance(spec.loader, SourceLoader):
            digest.update(spec.loader.get_data(str(spec.origin)))
    return digest.hexdigest()


def load_measure(name: str) -> Callable[..., Measured]:
    """Import the function of a measure, which takes a `Sample` and ``progress``."""
    measure: Callable[..., Measured] = importlib.import_module(_find_module(name)).measure
    return measure


def _find_module(name: str) -> str:
    return f"{__package__}.{name.replace('-', '_')}"


def _digest(inputs: Mapping[str, Any]) -> str:
    return hashlib.sha256(dump_json(inputs).encode()).hexdigest()


def _run(job: _Job, names: Sequence[str], if_exists: IfExists, *, is_choice: bool) -> Audit:
    """Make the audit, or open the one that is there already."""
    before = _open_existing(job.path, if_exists)
    ordered = _list_measures(job, names, before)
    keys = job.make_keys(ordered)
    known = {} if before is None else _recall(before, keys)
    lacking = [name for name in keys if name not in known]
    digest = _digest({"keys": keys, "radii": job.radii.names})
    if before is not None and before.record.audit_digest == digest and not lacking:
        # An earlier call may have been killed before its last steps.
        if not all(table.is_file() for table in list_tables(job.path)):
            write_tables(job.path, before.columns, {"audit_digest": digest})
        _remove_parts(job.parts)
        return before
    _check_existing(job.path, before, lacking, if_exists)
    for number, name in enumerate(lacking, 1):
        logger.info("%s (%d of %d)", name, number, len(lacking))
        others = {"measures": dict(known)} if name in _OF_OTHERS else {}
        known[name] = _measure(job, name, keys[name], is_choice=is_choice, **others)
    measures = {name: known[name] for name in ordered}
    columns = tabulate_galaxies(job.sample, job.radii, measures)
    attrs = _describe_audit(job, measures, keys, digest)
    job.lock.check()
    # Tables say of no other audit than the one beside them, whenever this is killed.
    for table in list_tables(job.path):
        table.unlink(missing_ok=True)
    with replace_file(job.path, if_exists="replace") as temporary:
        write_audit(temporary, attrs, measures, columns)
        job.lock.check()
    write_tables(job.path, columns, {"audit_digest": digest})
    _remove_parts(job.parts)
    return open_audit(job.path)


def _check_names(path: Path, inputs: Sequence[Path]) -> None:
    """Raise OutputError if files of the audit would replace each other, or what it is made from."""
    tables = list_tables(path)
    if path in tables:
        raise OutputError(
            f"{path}: is the name of its table of galaxies, expected another suffix, such as .h5"
        )
    for file in (path, *tables):
        check_apart(file, inputs)


def _check_early(
    path: Path, store: Store, network: Checkpoint, n: int, seed: int, if_exists: IfExists
) -> None:
    """Raise OutputError where files that exist plainly are of something else.

    What can be compared without the galaxies is, so that nobody waits to be refused.
    """
    before = _open_existing(path, if_exists)
    if before is None:
        _check_outputs(path, if_exists)
        return
    record = before.record
    differs = {
        "store": record.store.plan_digest != store.record.plan_digest,
        "network": list(record.checkpoints) != [one.digest for one in network.networks],
        f"`n` ({record.n_asked}, here {n})": record.n_asked != n,
        f"`seed` ({record.seed}, here {seed})": record.seed != seed,
    }
    if if_exists == "error" and any(differs.values()):
        what = " and ".join(name for name, is_other in differs.items() if is_other)
        raise OutputError(
            f'{path}: is an audit of another {what}; use `if_exists="replace"` to replace it, or '
            "another `out` to keep both"
        )


def _open_existing(path: Path, if_exists: IfExists) -> Audit | None:
    """Open the audit that is there; None if there is none, or it is to be replaced unread."""
    if not path.exists() or if_exists == "replace":
        return None
    try:
        return open_audit(path)
    except AuditError:
        if if_exists == "update" and is_audit(path):
            # Damaged: what it held is measured again.
            return None
        raise


def _list_measures(job: _Job, names: Sequence[str], before: Audit | None) -> list[str]:
    """Return what the audit will hold: what is asked for, and what an existing one holds of it."""
    held = [] if before is None else [name for name in MEASURES if name in before.measures]
    kept = set(names)
    if before is not None:
        kept |= set(_recall(before, job.make_keys(held)))
    return [name for name in MEASURES if name in kept]


def _recall(before: Audit, keys: Mapping[str, str]) -> dict[str, Measured]:
    """Return what an existing audit found by the same measures of the same things."""
    known = before.record.keys
    return {
        name: before.measures[name]
        for name, key in keys.items()
        if name in before.measures and known.get(name) == key
    }


def _check_existing(
    path: Path, before: Audit | None, lacking: Sequence[str], if_exists: IfExists
) -> None:
    """Raise OutputError if files exist and must not be replaced."""
    if if_exists == "error" and before is not None:
        what = (
            f"is an audit without {', '.join(lacking)} of this store by this code"
            if lacking
            else "is an audit with other columns of radii"
        )
        raise OutputError(
            f'{path}: {what}; use `if_exists="update"` to complete it, or another `out` to keep '
            "both"
        )
    _check_outputs(path, if_exists)


def _check_outputs(path: Path, if_exists: IfExists) -> None:
    """Raise OutputError if the audit cannot be written, or its tables must not be replaced."""
    check_output(path, if_exists=if_exists)
    # Without an audit, the tables beside it are somebody's.
    is_kept = if_exists == "error" or (if_exists == "update" and not path.exists())
    for table in list_tables(path):
        check_output(table, if_exists="error" if is_kept else if_exists)


def _measure(job: _Job, name: str, key: str, *, is_choice: bool, **others: Any) -> Measured:
    """Measure, unless an interrupted call did already, and keep what was found."""
    part = job.parts / f"{name}.json"
    kept = _read_part(part, key, len(job.sample))
    if kept is not None:
        logger.info("%s: measured already", name)
        return kept
    measure = load_measure(name)
    try:
        with show_progress(name, len(job.sample), "galaxies") as advance:
            measured = measure(job.sample, progress=advance, **others)
    except ConfigError as exc:
        # A measure that was not asked for by name need not apply to every store.
        if is_choice:
            raise
        reason = str(exc).removeprefix(f"{job.sample.store.path}: ")
        measured = Measured(name=name, notes=(f"Does not apply: {reason}.",))
    job.lock.check()
    document = dump_json(measured.model_dump(mode="python"), sort_keys=False)
    record = {"key": key, "sha256": hashlib.sha256(document.encode()).hexdigest()}
    with replace_file(part, if_exists="replace") as temporary:
        temporary.write_text(f"{dump_json(record)}\n{document}\n", encoding="utf-8")
    return Measured.model_validate(load_json(document))


def _read_part(part: Path, key: str, n: int) -> Measured | None:
    """Read what an interrupted call found; None if it is of other things, or is not intact."""
    try:
        record, document = read_regular(part, _MAX_PART).decode().splitlines()
        found = load_json(record)
        digest = hashlib.sha256(document.encode()).hexdigest()
        if found != {"key": key, "sha256": digest}:
            return None
        measured = Measured.model_validate(load_json(document))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        logger.debug("%s: %s", part, exc)
        return None
    is_whole = all(len(column) == n for column in measured.per_galaxy.values())
    return measured if is_whole else None


def _remove_parts(folder: Path) -> None:
    """Remove what the measures found one by one, which the audit holds now."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for name in MEASURES:
        part = folder / f"{name}.json"
        remove_leftovers(part)
        part.unlink(missing_ok=True)
    # Left where somebody keeps other files in it.
    with suppress(OSError):
        folder.rmdir()


def _describe_audit(
    job: _Job, measures: Mapping[str, Measured], keys: Mapping[str, str], digest: str
) -> dict[str, Any]:
    """Return the root attributes of the audit."""
    store, sample = job.sample.store, job.sample
    audited = {
        "plan_digest": store.record.plan_digest,
        "catalog_sha256": store.record.catalog_sha256,
        "checkpoint_sha256": store.record.checkpoint_sha256,
        "content": read_content(store.path),
        "class_names": list(store.class_names),
        "target_layer": store.record.target_layer,
        "method": store.record.method,
        "arch": store.training.arch,
        "simulated": store.record.simulated,
        "n_galaxies": len(store),
    }
    return {
        "galfig_version": galfig.__version__,
        "audit_digest": digest,
        "store": dump_json(audited),
        "checkpoints": dump_json([network.digest for network in sample.networks]),
        "n_asked": job.n,
        "seed": sample.seed,
        "n_trained": _count_trained(store),
        "n_unknown": _count_unknown(sample),
        "keys": dump_json(dict(keys)),
        "verdict": dump_json(
            write_verdict(
                measures,
                len(sample),
                accuracy=store.score(sample.rows),
                class_names=store.class_names,
                known=choose_measures(None),
            )
        ),
    }
