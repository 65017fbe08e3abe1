"""The recipe: the steps that make a manuscript's stores, run where something is not up to date."""

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
    """Run the steps whose file is absent or not what their recipe makes.

    A file that is there without a record is taken as what its recipe makes.

    Parameters
    ----------
    folder : Path
        The manuscript's folder, in which they run.
    steps : tuple of Step
        In order.
    before : mapping of str to MadeFile
        What the record says of the files, by path.
    retrain : bool, default False
        Make the kept files anew too.

    Returns
    -------
    made : dict of str to MadeFile
        For the record.
    reasons : dict of str to str
        Why each file that was made was made, by path.

    Raises
    ------
    ManuscriptError
        A step that failed, or that did not make its file.
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
            # What follows depends on the file that is kept, not on how it came to be.
            chain = identity
        made[step.makes] = MadeFile(recipe=chain, identity=identity)
    return made, reasons


def find_stale(
    folder: Path, steps: tuple[Step, ...], before: Mapping[str, MadeFile]
) -> dict[str, str]:
    """Return why files would be made by `run_steps`, by path; nothing is run."""
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
    """Say why a step is to be run; None where it is not."""
    identity = identify(folder / step.makes)
    if identity is None:
        return "absent"
    if step.kept:
        return "to be retrained" if retrain else None
    if before is None:
        # Days of work on a GPU are not done again because nobody wrote them down.
        return None
    if before.recipe != recipe:
        return "recipe changed"
    if before.identity != identity:
        return "not what its recipe made"
    return None


def _digest_recipe(folder: Path, step: Step, before: str) -> str:
    """Return a digest of a command, the settings, the files it names, and the steps before it."""
    digest = hashlib.sha256(f"{before}\n{step.command}\n".encode())
    names = {word for word in step.arguments if word != step.makes} | {DEFAULT_FILE}
    for name in sorted(names):
        path = folder / name
        # A store has a digest of its own; another step's product is in the chain by its recipe.
        if path.is_file() and path.suffix in (".toml", ".safetensors"):
            digest.update(f"{name}\n{digest_file(path)}\n".encode())
    return digest.hexdigest()


def _run(folder: Path, step: Step) -> None:
    """Run a step in the manuscript's folder; no shell, and nothing but galfig."""
    command = [sys.executable, "-m", "galfig", *step.arguments]
    if not {"--update", "--overwrite"} & set(step.arguments):
        # A store that this recipe makes here too is left as it is: it may have taken days.
        command.append("--update" if step.arguments[0] == "build-maps" else "--overwrite")
    if not logger.isEnabledFor(logging.INFO):
        command.append("--quiet")
    # What a step says of itself belongs to the log of the build, not to its table.
    finished = subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False)
    if finished.returncode:
        raise ManuscriptError(
            f"{step.command}: failed with exit status {finished.returncode}, in {folder}"
        )
