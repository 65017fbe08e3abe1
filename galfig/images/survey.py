"""Survey: the sizes of images, and what else their files hold, from their headers."""

from typing import NamedTuple

from galfig.images.arrays import is_array, measure_array
from galfig.images.fits import MAX_BYTES, Choice, is_fits, measure_fits
from galfig.images.raster import measure_raster
from galfig.images.sources import Source, read_parts


class Frame(NamedTuple):
    """What the header of an image says.

    Attributes
    ----------
    height, width : int
        Its size [pixels].
    unused : tuple of str
        Names or numbers of further images in the file.
    """

    height: int
    width: int
    unused: tuple[str, ...] = ()


def measure_frame(source: Source, choice: Choice) -> Frame | None:
    """Read the size of an image from its header.

    Parameters
    ----------
    source : Path, BandFiles or Element
        The image.
    choice : Choice
        The extensions and planes that are used.

    Returns
    -------
    Frame or None
        None if the image cannot be read; whoever decodes it says why.
    """
    try:
        data = read_parts(source, MAX_BYTES)[0]
        if is_fits(data):
            return Frame(*measure_fits(data, choice))
        return Frame(*(measure_array(data) if is_array(data) else measure_raster(data)))
    except (ValueError, OSError, MemoryError):
        return None
