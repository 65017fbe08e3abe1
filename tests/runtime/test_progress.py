"""Progress: a bar on a terminal, lines in a log, and nothing where nobody asked for it."""

import io
import logging

import pytest

from galfig.cli import _Log
from galfig.runtime.progress import show_progress, track, write_line


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def render(self) -> list[str]:
        """Return the lines as a terminal shows them: a carriage return writes over a line."""
        shown = []
        for line in self.getvalue().split("\n"):
            cells: list[str] = []
            for piece in line.split("\r"):
                cells[: len(piece)] = piece
            shown.append("".join(cells).rstrip())
        return shown


class Watch:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log(caplog, monkeypatch):
    """Let galfig's logger pass INFO, and give what it logs."""
    # Commands that ran in this process before keep their messages to themselves.
    monkeypatch.setattr(logging.getLogger("galfig"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("galfig"), "handlers", [])
    with caplog.at_level(logging.INFO, "galfig"):
        yield caplog


@pytest.fixture
def replace_stderr(monkeypatch):
    """Give a function for the test itself to call: before it, pytest sets a stderr of its own."""

    def replace(stream):
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    return replace


def work(steps, *, total, unit="galaxies", initial=0):
    """Do a job: pairs of the second at which, and of how many things, are done."""
    watch = Watch()
    with show_progress("explaining", total, unit, initial=initial, clock=watch) as advance:
        for second, n in steps:
            watch.now = 1000.0 + second
            advance(n)


def test_log_has_a_line_every_so_often_and_one_at_the_end(log):
    """Share, rate and time left; the first after ten seconds, then each half minute."""
    work([(second, 80) for second in range(1, 63)] + [(63, 40)], total=5000)
    assert log.messages == [
        "explaining: 800 of 5 000 galaxies (16 %), 80/s, 52 s left",
        "explaining: 3 200 of 5 000 galaxies (64 %), 80/s, 22 s left",
        "explaining: 5 000 of 5 000 galaxies (100 %), 79/s, took 63 s",
    ]
    assert {record.levelname for record in log.records} == {"INFO"}


def test_short_work_logs_nothing(log):
    """What is over before the first line is due needs none."""
    work([(9.9, 5)], total=5)
    assert log.messages == []


def test_rate_is_that_of_this_run(log):
    """What an earlier run has done took this one no time."""
    work([(20, 100)], total=1000, initial=800)
    assert log.messages[0] == "explaining: 900 of 1 000 galaxies (90 %), 5/s, 20 s left"


@pytest.mark.parametrize(
    ("seconds", "n", "words"),
    [
        (10, 123, "12/s, 1 h 55 min left"),
        (100, 123, "1.2/s, 19 h 10 min left"),
        (1000, 123, "0.12/s, 191 h 41 min left"),
        (10, 50_000, "5 000/s, 7 s left"),
        (10, 10_000, "1 000/s, 75 s left"),
        (10, 5_000, "500/s, 3 min left"),
    ],
)
def test_numbers_are_no_finer_than_one_reads_them(log, seconds, n, words):
    """Rates have two digits at least, and times the unit that fits."""
    work([(seconds, n)], total=85_000)
    assert log.messages[0].endswith(words)


def test_work_that_fails_has_no_line_at_its_end(log):
    """The error says what happened."""
    watch = Watch()

    def fail(advance):
        for watch.now in (1011.0, 1012.0):
            advance(1)
        raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError),
        show_progress("explaining", 9, "galaxies", clock=watch) as advance,
    ):
        fail(advance)
    assert log.messages == ["explaining: 1 of 9 galaxies (11 %), 0.091/s, 88 s left"]


def test_nothing_done_yet_has_no_time_left(log):
    """Of no rate follows no time, and no division by zero."""
    work([(15, 0)], total=9)
    assert log.messages[0] == "explaining: 0 of 9 galaxies (0 %), 0/s"


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_nothing_is_shown_where_nobody_asked(caplog, replace_stderr, level):
    """-q, and a script that did not ask for INFO, see neither bar nor line."""
    terminal = replace_stderr(Terminal())
    with caplog.at_level(level, "galfig"):
        work([(100, 1), (200, 1)], total=3)
        assert list(track("abc", "reading", 3, "letters")) == ["a", "b", "c"]
    assert caplog.messages == []
    assert terminal.getvalue() == ""


def test_items_are_tracked(log):
    """An iteration is shown as what is reported by a callback is."""
    watch = Watch()
    for letter in track("abcd", "reading", 4, "letters", clock=watch):
        watch.now += 7 if letter < "d" else 1
    assert log.messages == [
        "reading: 2 of 4 letters (50 %), 0.14/s, 14 s left",
        "reading: 4 of 4 letters (100 %), 0.18/s, took 22 s",
    ]


def test_terminal_has_a_bar_and_no_lines(log, replace_stderr):
    """On a terminal the bar says it all."""
    terminal = replace_stderr(Terminal())
    work([(100, 3), (200, 4)], total=10, initial=3)
    (bar,) = filter(None, terminal.render())
    assert bar.startswith("explaining: 100%|")
    assert "10/10" in bar
    assert "galaxies/s" in bar
    assert log.messages == []


def test_bar_may_go_when_the_work_is_done(log, replace_stderr):
    """What only prepares the real work leaves no trace."""
    terminal = replace_stderr(Terminal())
    assert len(list(track(range(3), "reading images", 3, "images", leave=False))) == 3
    assert "reading images" in terminal.getvalue()
    assert not any(terminal.render())


def test_bar_and_lines_do_not_tear_each_other(log, replace_stderr):
    """A line goes above the bar, and the bar goes on below it."""
    terminal = replace_stderr(Terminal())
    with show_progress("training", 4, "steps") as advance:
        advance(2)
        write_line("epoch 1: accuracy 0.9")
        advance(2)
    first, second, *rest = terminal.render()
    assert first == "epoch 1: accuracy 0.9"
    assert second.startswith("training: 100%|")
    assert rest == [""]


class Gone(Terminal):
    """A terminal that is gone."""

    def write(self, words):
        raise OSError(5, "Input/output error")


def closed():
    stream = Terminal()
    stream.close()
    return stream


@pytest.mark.parametrize("make", [Gone, closed], ids=["gone", "closed"])
def test_terminal_that_is_gone_ends_no_job(log, replace_stderr, make):
    """As the command line wraps it, a stderr that cannot be written costs the bar alone."""
    replace_stderr(_Log(make()))
    assert list(track(range(3), "reading", 3, "images")) == [0, 1, 2]
    write_line("said to nobody")


def test_missing_stderr_ends_no_job(log, replace_stderr):
    """Python has none where it was closed by who started it."""
    replace_stderr(None)
    work([(20, 1)], total=2)
    assert log.messages[0].startswith("explaining: 1 of 2")
