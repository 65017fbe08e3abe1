"""Run galfig as ``python -m galfig``."""

import sys
from pathlib import Path

# Python puts the working directory before all libraries. It may be a stranger's manuscript, and
# what is named there like a library is not to be imported for it.
if sys.path[:1] == [str(Path.cwd())] and Path(__file__).resolve().parents[1] != Path.cwd():
    del sys.path[0]

from galfig.cli import main

if __name__ == "__main__":
    main()
