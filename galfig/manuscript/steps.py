"""The recipe of a manuscript: run the steps whose files are not up to date."""

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from galfig.config import DEFAULT_FILE
from galfig.errors import ManuscriptError
from galfig.manuscript.folder import digest_file, require_own
from galfig.manuscript.manifest import Step
from galfig.manuscript.record import MadeFile, identify
from galfig.runtime.options import OFFLINE
from galfig.store.audits import read_audited_plan

logger = logging.getLogger(__name__)

# What a step's process runs. Its arguments are where it may import from, and those of galfig.
_LAUNCH = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from galfig.cli import main
main(prog_name="galfig")
"""


def run_steps(
    folder: Path,
    steps: tuple[Step, ...],
    before: Mapping[str, MadeFile],
    *,
    retrain: bool = False,
) -> tuple[dict[str, MadeFile], dict[str, str]]:
    """Run the steps whose file is missing or was not made by the current recipe.

    An existing file without a record is assumed to come from the current recipe.

    Parameters
    ----------
    folder : Path
        The manuscript's folder, in which the steps run.
    steps : tuple of Step
        The steps, in order.
    before : mapping of str to MadeFile
        The record of the files, by path.
    retrain : bool, default False
        Also remake the files that are kept with the paper.

    Returns
    -------
    made : dict of str to MadeFile
        The new record of the files, by path.
    reasons : dict of str to str
        Why each new file was made, by path.

    Raises
    ------
    ManuscriptError
        If a step fails, does not make its file, or would write through a symbolic link.
    """
    made: dict[str, MadeFile] = {}
    reasons: dict[str, str] = {}
    chain = ""
    for step in steps:
        chain = _digest_recipe(folder, step, chain)
        reason = _find_reason(folder, step, chain, before.get(step.makes), retrain)
        if reason is not None:
            logger.info("%s: %s", step.makes, reason)
            _run(folder, step)
            reasons[step.makes] = reason
        identity = identify(folder, step.makes)
        if identity is None:
            raise ManuscriptError(
                f"{step.command}: did not write {folder / step.makes}, expected by 'makes'"
            )
        if step.kept:
            # Later steps depend on the content of a kept file, not on the recipe that made it.
            chain = identity
        made[step.makes] = MadeFile(recipe=chain, identity=identity)
    return made, reasons


def find_stale(
    folder: Path, steps: tuple[Step, ...], before: Mapping[str, MadeFile]
) -> dict[str, str]:
    """Find the files that `run_steps` would make, without running anything.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    steps : tuple of Step
        The steps, in order.
    before : mapping of str to MadeFile
        The record of the files, by path.

    Returns
    -------
    dict of str to str
        Why each file would be made, by path.
    """
    stale: dict[str, str] = {}
    chain = ""
    for step in steps:
        chain = _digest_recipe(folder, step, chain)
        reason = _find_reason(folder, step, chain, before.get(step.makes), retrain=False)
        if reason is not None:
            stale[step.makes] = reason
        if step.kept:
            chain = identify(folder, step.makes) or chain
    return stale


def _find_reason(
    folder: Path, step: Step, recipe: str, before: MadeFile | None, retrain: bool
) -> str | None:
    """Determine why a step must run; None if it need not."""
    identity = identify(folder, step.makes)
    if identity is None:
        return "absent"
    if step.kept:
        if retrain:
            return "to be retrained"
        return "of another store" if _is_of_another_store(folder, step) else None
    if before is None:
        # A missing record does not justify repeating days of work on a GPU.
        return None
    if before.recipe != recipe:
        return "recipe changed"
    if before.identity != identity:
        return "not what its recipe made"
    return None


def _is_of_another_store(folder: Path, step: Step) -> bool:
    """Whether an audit is of other galaxies, networks or settings than the store of its recipe.

    The maps themselves are not compared: those of another processor differ in the sixth digit.
    """
    if step.parsed.name != "audit":
        return False
    plan = identify(folder, step.parsed.store)
    return plan is not None and read_audited_plan(folder / step.makes) != plan


def _digest_recipe(folder: Path, step: Step, before: str) -> str:
    """Return a digest of a command, its settings and input files, and the steps before it."""
    digest = hashlib.sha256(f"{before}\n{step.command}\n".encode())
    names = (set(step.parsed.paths.values()) | {DEFAULT_FILE}) - {step.makes}
    names |= set(_list_networks(folder, step.parsed.model))
    for name in sorted(names):
        # Only settings and checkpoints: a store enters the chain through the recipe that made it.
        if Path(name).suffix in (".toml", ".safetensors"):
            sha256 = digest_file(folder, name)
            if sha256 is not None:
                digest.update(f"{name}\n{sha256}\n".encode())
    return digest.hexdigest()


def _list_networks(folder: Path, model: str | None) -> list[str]:
    """Return the files of a manuscript that are networks in the folder that a recipe names."""
    inside = None if model is None else folder / model
    if inside is None or inside.is_symlink() or not inside.is_dir():
        return []
    return [f"{model}/{file.name}" for file in inside.iterdir()]


def _run(folder: Path, step: Step) -> None:
    """Run a step in the manuscript's folder, as galfig, without a shell and without its code."""
    for name in (*step.parsed.outputs, *step.parsed.sample):
        require_own(folder, name, recursive=name.endswith((".parts", ".networks")))
    arguments = list(step.parsed.arguments)
    if not {"--update", "--overwrite"} & set(arguments):
        # --update keeps a store that this recipe would make again, which may have taken days.
        is_costly = step.parsed.name in ("build-maps", "audit")
        arguments.append("--update" if is_costly else "--overwrite")
    if not logger.isEnabledFor(logging.INFO):
        arguments.append("--quiet")
    # -I: neither the folder nor the environment adds to what Python imports or runs at its start.
    command = [sys.executable, "-I", "-c", _LAUNCH, json.dumps(_list_imports(folder)), *arguments]
    # The output of a step belongs in the log of the build, not in the table on stdout.
    finished = subprocess.run(
        command, cwd=folder, env=_clean_environment(), stdout=sys.stderr, check=False
    )
    if finished.returncode:
        raise ManuscriptError(
            f"{step.command}: failed with exit status {finished.returncode}, in {folder}"
        )


def _list_imports(folder: Path) -> list[str]:
    """Return where this process imports from, without anything relative or in the manuscript."""
    inside = folder.resolve()
    return [
        entry
        for entry in sys.path
        if Path(entry).is_absolute() and not Path(entry).resolve().is_relative_to(inside)
    ]


def _clean_environment() -> dict[str, str]:
    """Return the environment of a step: it imports from nowhere else, and downloads nothing.

    The settings of a manuscript, too, may be anybody's.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, "PYTHONSAFEPATH": "1", OFFLINE: "1"}
