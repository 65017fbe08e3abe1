"""Time and memory against the number of galaxies: ``python -m benchmarks.scale``.

It makes catalogs and stores of each size, runs each command in a process of its own, and writes
the time of the whole process and its peak memory to ``scale.json`` and into the table of
``docs/performance.md``. A command that takes longer than the limit is stopped, and not tried on
more galaxies.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Nothing heavy is imported here: the peak of a child begins with the memory of its parent.
ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "scale.json", ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- scale: begin -->\n", "<!-- scale: end -->\n"
SIZES = (10_000, 100_000, 1_000_000)
# Seconds that one command may take.
LIMIT = 600.0
# A command that had the processors for a smaller share of its time waited for disk or other jobs.
_BUSY = 0.8
# Captions and alternative text go beside it.
_OUT = ("--out", "{out}", "--overwrite")
COMMANDS: dict[str, tuple[str, ...]] = {
    "read, CSV": ("benchmarks.catalogs", "read", "{csv}"),
    "read, Parquet": ("benchmarks.catalogs", "read", "{parquet}"),
    "plan, CSV": ("benchmarks.catalogs", "plan", "{csv}"),
    "plan, Parquet": ("benchmarks.catalogs", "plan", "{parquet}"),
    "info": ("galfig", "info", "{store}"),
    "render --n 5": ("galfig", "render", "{store}", "--n", "5", *_OUT),
    "render --n 5 --zmin --zmax": (
        *("galfig", "render", "{store}", "--n", "5", "--zmin", "0.05", "--zmax", "0.08"),
        *_OUT,
    ),
    'render --n 5 --where "lgm_tot_p50 > 10.5"': (
        *("galfig", "render", "{store}", "--n", "5", "--where", "lgm_tot_p50 > 10.5"),
        *_OUT,
    ),
    **{
        f"figure {name}": ("galfig", "figure", name, "{store}", *_OUT)
        for name in (
            *("evidence", "histogram", "class-examples", "training-curves", "learning-rate"),
            *("confusion-matrix", "roc", "top-losses", "reliability"),
            *("radial-profile", "stacked-maps"),
        )
    },
    "figure atlas --n 500": (*("galfig", "figure", "atlas", "{store}", "--n", "500", *_OUT),),
    "figure compare": (*("galfig", "figure", "compare", "{store}", "--with", "{other}", *_OUT),),
    "verify": ("galfig", "verify", "{store}"),
}
"""Commands by name; the words in braces are files."""


class Measured(NamedTuple):
    """What a process took.

    Attributes
    ----------
    seconds : float
        From its start to its end.
    cpu_seconds : float
        Time of processors, which other jobs of the machine hardly change.
    peak_mb : float
        Largest resident memory [MB].
    failed : str
        Why it did not end as it should; "" if it did.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    failed: str = ""


def main() -> None:
    """Measure, print the table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=lambda n: int(float(n)), nargs="+", default=SIZES)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for one command")
    parser.add_argument("--only", default="", help="only commands whose name has this in it")
    parser.add_argument("--folder", type=Path, help="keep the catalogs and stores here")
    parser.add_argument("--note", default="", help="what else the machine did, for the page")
    parser.add_argument("--out", type=Path, help="JSON to write, not the page")
    parser.add_argument("--add", action="store_true", help="keep other results of this machine")
    asked = parser.parse_args()
    out = asked.out or RESULTS

    names = [name for name in COMMANDS if asked.only in name]
    known = json.loads(out.read_text("utf-8"))["commands"] if asked.add else {}
    results = {"machine": {}, "note": asked.note, "limit_s": asked.limit, "commands": known}
    with tempfile.TemporaryDirectory(prefix="galfig-scale-") as temporary:
        folder = (asked.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name, n, done in measure_all(names, sorted(asked.sizes), folder, asked.limit):
            known.setdefault(name, {})[str(n)] = done._asdict()
            sys.stderr.write(
                f"{n:>9} {name:44} {done.seconds:8.2f} s ({done.cpu_seconds:.2f} s of processors) "
                f"{done.peak_mb:7.0f} MB {done.failed}\n"
            )
            # What was measured stays if the rest is interrupted.
            out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    from benchmarks.machine import describe_machine

    results["machine"] = {**describe_machine(), "cores": os.cpu_count()}
    results["commands"] = {name: known[name] for name in COMMANDS if name in known}
    sys.stdout.write(f"{write_table(results)}\n")
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if asked.out is None:
        PAGE.write_text(insert_table(PAGE.read_text("utf-8"), write_table(results)), "utf-8")


def measure_all(
    names: Sequence[str], sizes: Iterable[int], folder: Path, limit: float
) -> Iterator[tuple[str, int, Measured]]:
    """Run commands on catalogs and stores of each size.

    Parameters
    ----------
    names : sequence of str
        Keys of `COMMANDS`.
    sizes : iterable of int
        Numbers of galaxies, ascending.
    folder : Path
        Where the files are, or are made.
    limit : float
        Time that one command may take [s].

    Yields
    ------
    name : str
        The command.
    n : int
        Number of galaxies.
    done : Measured
        What it took.
    """
    failed: set[str] = set()
    for n in sizes:
        files = name_files(folder, n)
        for name in names:
            if name in failed:
                continue
            words = [word.format(**files) for word in COMMANDS[name]]
            _make_files([file for word in COMMANDS[name] for file in _list_files(word)], files, n)
            done = measure([sys.executable, "-m", *words], limit)
            if done.failed:
                failed.add(name)
            for written in folder.glob("figure*"):
                written.unlink()
            yield name, n, done


def name_files(folder: Path, n: int) -> dict[str, str]:
    """Return the paths of the files of n galaxies, by the words that `COMMANDS` uses."""
    return {
        "csv": str(folder / f"{n}" / "catalog.csv"),
        "parquet": str(folder / f"{n}" / "catalog.parquet"),
        "store": str(folder / f"{n}.h5"),
        "other": str(folder / f"{n}-other.h5"),
        "out": str(folder / "figure.pdf"),
    }


def measure(command: Sequence[str], limit: float) -> Measured:
    """Run a command; return its time and its peak memory.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    limit : float
        Time after which it is stopped [s].

    Returns
    -------
    Measured
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, cwd=ROOT)
        timer = threading.Timer(limit, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        timer.cancel()
        # The module has no other way to be told that somebody else waited for its process.
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        last = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
    failed = ""
    if process.returncode:
        failed = f"stopped after {limit:g} s" if seconds >= limit else last or "failed"
    # In kilobytes on Linux, in bytes on macOS.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return Measured(
        round(seconds, 3),
        round(usage.ru_utime + usage.ru_stime, 3),
        round(usage.ru_maxrss / unit, 1),
        failed,
    )


def write_table(results: Mapping[str, Any]) -> str:
    """Write the results as a Markdown table, with the machine above it.

    Parameters
    ----------
    results : mapping
        What `main` writes as JSON.

    Returns
    -------
    str
        The table: a row per command, and for each size its time and peak memory.
    """
    commands = results["commands"]
    sizes = sorted({int(n) for one in commands.values() for n in one})
    machine = results["machine"]
    head = f"{machine['processor']}, {machine['cores']} cores, {machine['date']}"
    head += f"; {results['note']}." if results["note"] else "."
    lines = [textwrap.fill(head, 100), ""]
    lines.append(f"| command | {' | '.join(f'N = {_write_size(n)}' for n in sizes)} |")
    lines.append(f"| --- |{' --- |' * len(sizes)}")
    for name, one in commands.items():
        cells = [_write_cell(one.get(str(n)), results["limit_s"]) for n in sizes]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def insert_table(page: str, table: str) -> str:
    """Return a page with the table between its two marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n\n{END}{rest.split(END)[1]}"


def _write_size(n: int) -> str:
    """Write a power of ten as one: 10⁶."""
    power = len(str(n)) - 1
    raised = "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(power))
    return f"10{raised}" if n == 10**power else f"{n:,}".replace(",", " ")


def _write_cell(one: Mapping[str, Any] | None, limit: float) -> str:
    if one is None:
        return "–"
    if one["failed"]:
        return f"> {limit:g} s" if one["failed"].startswith("stopped") else "failed"
    seconds, cpu_seconds = one["seconds"], one["cpu_seconds"]
    words = _write_seconds(seconds)
    if cpu_seconds < _BUSY * seconds:
        words += f" ({_write_seconds(cpu_seconds)} CPU)"
    return f"{words}, {one['peak_mb']:.0f} MB"


def _write_seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


def _list_files(word: str) -> list[str]:
    """Return the file that a word of a command stands for, if it is one that is made."""
    name = word.strip("{}")
    return [name] if word.startswith("{") and name != "out" else []


def _make_files(names: Iterable[str], files: Mapping[str, str], n: int) -> None:
    """Make the files that are not there yet, in processes of their own."""
    for name in names:
        path = Path(files[name])
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            command = [sys.executable, "-m", "benchmarks.synthetic", str(path), str(n)]
            command += ["1e-4"] if name == "other" else []
            subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
