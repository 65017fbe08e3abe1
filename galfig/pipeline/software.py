"""Software: which programs a store was made with, and in which versions."""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import galfig
from galfig.attribution.methods import METHODS
from galfig.networks.architectures import list_libraries
from galfig.pipeline.plan import Plan

# What reads the catalog and the images, computes the maps, and writes the store.
_ALWAYS = ("astropy", "h5py", "numpy", "pandas", "pillow", "torch")


def list_software(plan: Plan, archs: Iterable[str]) -> dict[str, str]:
    """List the programs that a store is made with, by the names of their distributions.

    Parameters
    ----------
    plan : Plan
        What is explained.
    archs : iterable of str
        The architecture of each network.

    Returns
    -------
    dict of str to str
        Version of each; what takes no part, such as a library of other networks, is left out.
    """
    used = {*_ALWAYS, *(library for arch in archs for library in list_libraries(arch))}
    if METHODS[plan.settings.maps.method].of_pixels:
        used.add("captum")
    found = {"python": platform.python_version(), "galfig": galfig.__version__}
    for name in sorted(used):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            # Such as a torch that its user built, which has no metadata.
            continue
    return found
