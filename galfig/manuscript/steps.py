"""The recipe of a manuscript: run the steps whose files are not up to date."""

import hashlib
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from galfig.config import DEFAULT_FILE
from galfig.errors import ManuscriptError
from galfig.manuscript.manifest import Step
from galfig.manuscript.record import MadeFile, digest_file, identify

logger = logging.getLogger(__name__)


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
        If a step fails, or does not make its file.
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
        identity = identify(folder / step.makes)
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
            chain = identify(folder / step.makes) or chain
    return stale


def _find_reason(
    folder: Path, step: Step, recipe: str, before: MadeFile | None, retrain: bool
) -> str | None:
    """Determine why a step must run; None if it need not."""
    identity = identify(folder / step.makes)
    if identity is None:
        return "absent"
    if step.kept:
        return "to be retrained" if retrain else None
    if before is None:
        # A missing record does not justify repeating days of work on a GPU.
        return None
    if before.recipe != recipe:
        return "recipe changed"
    if before.identity != identity:
        return "not what its recipe made"
    return None


def _digest_recipe(folder: Path, step: Step, before: str) -> str:
    """Return a digest of a command, its settings and input files, and the steps before it."""
    digest = hashlib.sha256(f"{before}\n{step.command}\n".encode())
    names = {word for word in step.arguments if word != step.makes} | {DEFAULT_FILE}
    for name in sorted(names):
        path = folder / name
        # Only settings and checkpoints: a store enters the chain through the recipe that made it.
        if path.is_file() and path.suffix in (".toml", ".safetensors"):
            digest.update(f"{name}\n{digest_file(path)}\n".encode())
    return digest.hexdigest()


def _run(folder: Path, step: Step) -> None:
    """Run a step in the manuscript's folder, as galfig and without a shell."""
    command = [sys.executable, "-m", "galfig", *step.arguments]
    if not {"--update", "--overwrite"} & set(step.arguments):
        # --update keeps a store that this recipe would make again, which may have taken days.
        command.append("--update" if step.arguments[0] == "build-maps" else "--overwrite")
    if not logger.isEnabledFor(logging.INFO):
        command.append("--quiet")
    # The output of a step belongs in the log of the build, not in the table on stdout.
    finished = subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False)
    if finished.returncode:
        raise ManuscriptError(
            f"{step.command}: failed with exit status {finished.returncode}, in {folder}"
        )
