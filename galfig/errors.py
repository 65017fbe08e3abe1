"""Errors that galfig raises on purpose.

A message is one line: ``<where>: <what was found>, <what was expected>[; <what to do>]``. It names
parameters in backticks, as Python writes them: ``use `if_exists="replace"` to replace it``. The
command line turns them into its options.
"""

from pathlib import Path


class GalfigError(Exception):
    """Base of every error that galfig raises on purpose."""


class ConfigError(GalfigError, ValueError):
    """A setting is unknown, of the wrong type or inconsistent with another."""


class CatalogError(GalfigError, ValueError):
    """A catalog cannot be read, or holds something that galfig cannot use."""


class CutoutError(GalfigError, OSError):
    """An image file cannot be decoded."""


class LostCutoutError(GalfigError, OSError):
    """An image that was listed cannot be read today, through a fault of the machine.

    It, or its folder, has disappeared or may not be read; a disk or a network fails; memory or
    open files are exhausted. The galaxy is not at fault, so it is not rejected.
    """


class CheckpointError(GalfigError, OSError):
    """A file is not a galfig checkpoint, or does not suit its use."""


class StoreError(GalfigError, OSError):
    """A file is not a galfig store, or this version cannot read it."""


class DamagedPartError(StoreError):
    """A part of a store that is being built is not what was written for its plan.

    Attributes
    ----------
    part : Path
        The file.
    """

    def __init__(self, part: Path, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part


class AuditError(GalfigError, OSError):
    """A file is not an audit of galfig, or a store cannot be audited."""


class SelectionError(GalfigError, ValueError):
    """No galaxy of the store matches the selection."""


class OutputError(GalfigError, OSError):
    """A file cannot be written, or would replace an existing one."""


class LockError(GalfigError, OSError):
    """Another process is making the same file."""


class ElsewhereError(GalfigError):
    """Another process of the same job failed, and reports why; this one has nothing to add."""


class EngineError(GalfigError, RuntimeError):
    """Workers of an engine are lost, or cannot explain galaxies as this process would."""


class SurveyError(GalfigError, OSError):
    """A service of a survey does not give what it was asked for."""


class ScoreError(GalfigError, ValueError):
    """Maps cannot be scored, or the truth is not what was simulated."""


class FigureError(GalfigError, ValueError):
    """A figure is unknown, or the store lacks the data that it shows."""


class ManuscriptError(GalfigError, ValueError):
    """The manifest of a manuscript is invalid, or one of its steps or LaTeX failed."""
