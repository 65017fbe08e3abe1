"""Deletion: how soon the network loses the class as pixels go in the order of the map."""

from galfig.auditing.estimates import Measured
from galfig.auditing.removal import measure_removal
from galfig.auditing.sample import Progress, Sample


def measure(sample: Sample, *, progress: Progress = lambda n: None) -> Measured:
    r"""Measure the area under the probability of the predicted class as pixels are removed [1]_.

    The lower the area, the sooner the probability falls. Removed pixels are replaced by shuffled
    pixels of the sky; on some of the galaxies also by the blurred image, and by noisy linear
    imputation [2]_. The controls are the same areas for pixels in a random order, by nearness to
    the centre, by brightness, by the map blurred, and by edges (the Laplacian); and by the evidence
    where it differs from the map. The excess over light is
    :math:`E = (D_\mathrm{light} - D_M) / (D_\mathrm{random} - D_M)`.

    Parameters
    ----------
    sample : Sample
        The galaxies.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    Measured
        ``area``, ``lead over random`` and ``excess over light`` with sky in place of the removed
        pixels, and the same with ", blur" and ", linear imputation" behind their names.

    References
    ----------
    .. [1] Petsiuk, Das & Saenko 2018, BMVC, arXiv:1806.07421
    .. [2] Rong et al. 2022, ICML, arXiv:2202.00449
    """
    return measure_removal(sample, is_insertion=False, progress=progress)
