"""Run galfig as ``python -m galfig``."""

from galfig.cli import main

if __name__ == "__main__":
    main()
