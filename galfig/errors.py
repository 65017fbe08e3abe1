"""Errors that galfig raises on purpose.

A message is one line: ``<where>: <what was found>, <what was expected>[; <what to do>]``. It names
parameters in backticks, as Python writes them: ``use `if_exists="replace"` to replace it``. The
command line turns them into its options.
"""


class GalfigError(Exception):
    """Base of every error that galfig raises on purpose."""


class ConfigError(GalfigError, ValueError):
    """A setting is unknown, of the wrong type or inconsistent with another."""


class CatalogError(GalfigError, ValueError):
    """A catalog cannot be read, or says something that galfig cannot use."""


class CutoutError(GalfigError, OSError):
    """An image file cannot be decoded."""


class LostCutoutError(GalfigError, OSError):
    """An image file was there and has gone, or its folder has: no fault of the galaxy."""


class CheckpointError(GalfigError, OSError):
    """A file is not a galfig checkpoint, or does not fit what it is used for."""


class StoreError(GalfigError, OSError):
    """A file is not a galfig store, or not one that this version can read."""


class SelectionError(GalfigError, ValueError):
    """No galaxy of the store is what was asked for."""


class OutputError(GalfigError, OSError):
    """A file cannot be written, or would replace one that is there."""


class LockError(GalfigError, OSError):
    """Another process makes the same file."""


class FigureError(GalfigError, ValueError):
    """A figure is unknown, or the store lacks what it shows."""


class ManuscriptError(GalfigError, ValueError):
    """A manuscript's manifest is wrong, or a step or LaTeX failed."""
