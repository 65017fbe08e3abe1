"""PDF files of many pages, in memory that does not grow with the number of pages."""

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_pdf import PdfFile, PdfPages
from matplotlib.figure import Figure


class PagewisePdf(PdfPages):
    """A PDF file whose images are written after each page.

    matplotlib keeps the images of all pages until it closes the file. A page of an atlas is an
    image of 23 MB.

    Parameters
    ----------
    path : Path
        The file.
    metadata : dict
        Entries of the document information dictionary.
    """

    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        super().__init__(path, metadata=metadata)
        self._path, self._information = path, metadata

    def _ensure_file(self) -> PdfFile:
        if self._file is None:
            self._file = _PagewiseFile(self._path, metadata=self._information)
        return self._file

    def add_page(self, page: Figure) -> None:
        """Write a figure as the next page."""
        self.savefig(page)
        self._ensure_file().writeImages()


class _PagewiseFile(PdfFile):
    """A PDF file that forgets an image once it is written, and remembers its name."""

    def writeImages(self) -> None:
        """Write the images that are waiting."""
        images = self._images
        self._images = {key: image for key, image in images.items() if image[0] is not None}
        super().writeImages()
        # The file ends with a list of all images. Arrays were keys by their address, which the
        # images of the next page may have again.
        self._images = {name: (None, name, number) for _, name, number in images.values()}
