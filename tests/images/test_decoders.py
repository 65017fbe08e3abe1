"""The guard around decoders: any error becomes one, and warnings stay where they were."""

import threading
import warnings

import pytest

from galfig.images.decoders import guard_decoder


@pytest.mark.parametrize("error", [SyntaxError("broken\n  PNG"), ZeroDivisionError(), KeyError(3)])
def test_any_error_becomes_one_line(error):
    """Whatever a decoder raises is a ValueError of one line, with the words or the name."""
    with (
        pytest.raises(ValueError, match=r"^cannot be decoded \([^\n]+\)$") as caught,
        guard_decoder(),
    ):
        raise error
    assert caught.value.__cause__ is error


def test_interrupts_pass():
    """Ctrl-C is no damaged image."""
    with pytest.raises(KeyboardInterrupt), guard_decoder():
        raise KeyboardInterrupt


def warn_as(module):
    """Warn as if from a module."""
    warnings.warn_explicit("odd", UserWarning, "file.py", 1, module=module)


def test_only_decoders_are_silenced():
    """Pillow's and astropy's warnings go nowhere; others are what they were, and all afterwards."""
    with guard_decoder():
        warn_as("PIL.TiffImagePlugin")
        warn_as("astropy.io.fits.card")
    for module in ("PILOT", "numpy"):
        with pytest.raises(ValueError, match="odd"), guard_decoder():
            warn_as(module)
    with pytest.raises(UserWarning, match="odd"):
        warn_as("PIL.Image")


def test_filters_are_as_before_when_threads_overlap():
    """Threads that come and go in any order leave the filters as they were."""
    before = list(warnings.filters)
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first():
        with guard_decoder():
            first_in.set()
            second_in.wait(10)
        first_out.set()

    def second():
        first_in.wait(10)
        with guard_decoder():
            second_in.set()
            first_out.wait(10)
            warn_as("PIL.Image")

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert first_out.is_set()
    assert warnings.filters == before
