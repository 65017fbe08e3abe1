"""The environment of a command: what a shell or a folder sets must not change its results."""

import contextlib
import importlib.util
import os
import sys
from pathlib import Path

from galfig.runtime.clock import now


def settle_environment() -> None:
    """Check SOURCE_DATE_EPOCH, and keep the user's settings of matplotlib from being read.

    Figures are the same whatever ``matplotlibrc`` says, and need no window. matplotlib reads these
    when it is imported, and a damaged file or an unknown backend then fails. Only the command line
    does this: in a notebook, backend and settings belong to its user.

    Raises
    ------
    ConfigError
        If SOURCE_DATE_EPOCH is not a number of seconds.
    """
    now()
    if "matplotlib" in sys.modules:
        return
    os.environ.pop("MPLBACKEND", None)
    os.environ["MATPLOTLIBRC"] = os.devnull
    if os.path.lexists("matplotlibrc"):
        _import_elsewhere()


def _import_elsewhere() -> None:
    """Import matplotlib in a folder where it finds its defaults.

    A ``matplotlibrc`` in the working directory comes before all others.
    """
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return
    with contextlib.chdir(Path(found.origin).parent / "mpl-data"):
        importlib.import_module("galfig.figures.style")
