"""Insertion: how soon the network finds the class as pixels come in the order of the map."""

from galfig.auditing.estimates import Measured
from galfig.auditing.removal import measure_removal
from galfig.auditing.sample import Progress, Sample


def measure(sample: Sample, *, progress: Progress = lambda n: None) -> Measured:
    r"""Measure the area under the probability of the predicted class as pixels are inserted [1]_.

    The higher the area, the sooner the probability rises. The image begins as shuffled pixels of
    its sky, as the blurred image, or imputed from what is there; controls and names of the numbers
    are those of `galfig.auditing.deletion.measure`. The excess over light is
    :math:`E = (I_M - I_\mathrm{light}) / (I_M - I_\mathrm{random})`.

    Parameters
    ----------
    sample : Sample
        The galaxies.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    Measured

    References
    ----------
    .. [1] Petsiuk, Das & Saenko 2018, BMVC, arXiv:1806.07421
    """
    return measure_removal(sample, is_insertion=True, progress=progress)
