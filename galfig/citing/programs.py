"""Programs, methods and architectures: the papers that describe them."""

import re
from typing import NamedTuple

PROGRAMS = {
    "galfig": ("galfig",),
    "torch": ("Paszke2019",),
    "fastai": ("Howard2020",),
    "timm": ("Wightman2019",),
    "torchvision": ("TorchVision2016",),
    "captum": ("Kokhlikyan2020",),
    "numpy": ("Harris2020",),
    "pandas": ("McKinney2010",),
    "h5py": ("Collette2023",),
    "matplotlib": ("Hunter2007",),
    # As the project asks: all three papers.
    "astropy": ("Astropy2013", "Astropy2018", "Astropy2022"),
}
"""Entries of the bibliography for programs, by the names of their distributions."""

METHODS = {
    "grad-cam": ("Selvaraju2017",),
    "hires-cam": ("Draelos2020",),
    "grad-cam++": ("Chattopadhyay2018",),
    "layer-cam": ("Jiang2021",),
    "x-grad-cam": ("Fu2020",),
    "evidence": ("Selvaraju2017", "Srinivas2021", "Wang2022"),
    "integrated-gradients": ("Sundararajan2017",),
    "input-x-gradient": ("Shrikumar2016",),
}
"""Entries for all methods of attribution; a test compares it with `galfig.attribution.methods`."""

# Entries by the beginning of the name of a network in timm and torchvision, the longest first.
_NETWORKS = (
    (r"(?:tf_)?efficientnet_?v2", "Tan2021"),
    (r"(?:tf_)?efficientnet", "Tan2019"),
    (r"mnasnet", "Tan2019MnasNet"),
    (r"(?:tf_)?mobilenet_?v3", "Howard2019"),
    (r"mobilenet_?v2", "Sandler2018"),
    (r"shufflenet_v2", "Ma2018"),
    (r"squeezenet", "Iandola2016"),
    (r"convnextv2", "Woo2023"),
    (r"convnext", "Liu2022"),
    (r"swin_v2|swinv2", "Liu2022Swin"),
    (r"swin_", "Liu2021"),
    (r"maxvit", "Tu2022"),
    (r"deit_", "Touvron2021"),
    (r"vit_", "Dosovitskiy2021"),
    (r"regnet", "Radosavovic2020"),
    (r"wide_resnet", "Zagoruyko2016"),
    (r"resnext", "Xie2017"),
    (r"resnet\d", "He2016"),
    (r"densenet", "Huang2017"),
    (r"vgg\d", "Simonyan2015"),
    (r"alexnet", "Krizhevsky2012"),
    (r"googlenet", "Szegedy2015"),
    (r"inception_v3", "Szegedy2016"),
)


class Architecture(NamedTuple):
    """What to cite for an architecture.

    Attributes
    ----------
    keys : tuple of str
        Entries of the bibliography.
    libraries : tuple of str
        Names of the distributions that build it.
    note : str
        What is not known; "" if nothing.
    """

    keys: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    note: str = ""


def find_architecture(arch: str) -> Architecture:
    """Return what to cite for an architecture.

    Parameters
    ----------
    arch : str
        Its name, as of `galfig.networks.architectures.build_network`.

    Returns
    -------
    Architecture
    """
    family, colon, rest = arch.partition(":")
    if family == "python" and colon:
        return Architecture((), (), f"the network {arch} is built by code of your own: cite it")
    if arch == "conv3":
        # Three convolutions, of the tutorial by the author of Wu (2020), whom galfig cites anyhow.
        return Architecture((), ("fastai",))
    network = (rest if colon else arch).partition(",")[0].rpartition(":")[2]
    if network.startswith("xresnet"):
        variants = network.split("_")[1:]
        more = [("mish", "Misra2019"), ("sa", "Zhang2019")]
        keys = ("He2016", "He2019", *(key for variant, key in more if variant in variants))
        return Architecture(keys, ("fastai",))
    keys = tuple(key for pattern, key in _NETWORKS if re.match(pattern, network))[:1]
    library = "timm" if not colon or family == "zoobot" or ":" in rest else family
    libraries = {"fastai": ("fastai",), "timm": ("timm",), "torchvision": ("torchvision",)}
    note = ""
    if not keys:
        note = f"galfig knows no paper on the architecture {network}; see the documentation of timm"
    zoobot = ("Walmsley2023",) if family == "zoobot" and colon else ()
    own = ("fastai",) if family == "fastai" and library != "fastai" else ()
    return Architecture((*zoobot, *keys), (*own, *libraries.get(library, ())), note)


def is_of_imagenet(source: str) -> bool:
    """Return whether pretrained weights, by their name, were trained on ImageNet."""
    return re.search(r"(?:^|[._])in(?:1|12|21|22)k|imagenet1k", source, re.IGNORECASE) is not None
