"""Supply: where a store takes maps and cutouts from that it does not hold."""

from collections.abc import Collection
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Supply(Protocol):
    """Makes maps and cutouts again, for `galfig.store.reader.Store.attach`.

    Attributes
    ----------
    names : collection of str
        What it makes, as a full store calls it: "cutouts", "cams", "cams_sd", "evidence_sd". It is
        asked for these even where the store holds them; but for "features".
    """

    names: Collection[str]

    def announce(self, rows: NDArray[np.intp]) -> None:
        """Take notice of the galaxies that will be read, (n,) positions in this order."""

    def read(self, name: str, row: int) -> NDArray[Any]:
        """Return what a full store would return of one galaxy, maps in float32."""
