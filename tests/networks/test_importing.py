"""Importing: networks of other programs answer as they did there, or are refused with reasons."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits
from PIL import Image
from torch import nn

import galfig
from galfig.config import load_settings
from galfig.errors import CatalogError, CheckpointError, ConfigError, OutputError
from galfig.images.cutouts import choose_decoding, decode_image
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import load_checkpoint
from galfig.networks.families import build_member
from galfig.networks.importing import import_model

MEAN, STD = [0.3, 0.25, 0.2], [0.2, 0.15, 0.25]
ORIGINAL = {"arch": "conv3", "class_names": ["low", "high"], "mean": MEAN, "std": STD}


def read_pixels(folder, size, scale_to=None):
    """Read the images of a catalog as its owner might: with Pillow, and nothing of galfig."""
    objid = pd.read_csv(folder / "catalog.csv", dtype=str)["objID"]
    pixels = []
    for name in objid:
        image = Image.open(folder / "images" / f"{name}.jpg").convert("RGB")
        left = (image.width - size) // 2
        image = image.crop((left, left, left + size, left + size))
        if scale_to is not None:
            image = image.resize((scale_to, scale_to), Image.Resampling.BILINEAR)
        pixels.append(np.asarray(image))
    return objid, torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).double() / 255


def normalise(pixels, mean=MEAN, std=STD):
    return ((pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]).float()


def make_telling(model, images):
    """Give random weights the batch statistics and the scale that tell galaxies apart."""
    norms = [one for one in model.modules() if isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        logits = model.eval()(images)
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        last.weight.data *= 0.6 / (logits[:, 0] - logits[:, 1]).std()
        if last.bias is not None:
            last.bias.data -= model(images).mean(dim=0)
    return model


def write_probs(path, objid, model, images, names=("low", "high")):
    with torch.no_grad():
        probs = model(images).softmax(dim=1).numpy()
    table = pd.DataFrame(probs, columns=list(names))
    table.insert(0, "objID", objid)
    table.to_csv(path, index=False)
    return probs


@pytest.fixture
def original(galaxy_folder):
    """Train nothing: write weights of conv3, and its probabilities, as another program would."""
    objid, pixels = read_pixels(galaxy_folder, 32)
    torch.manual_seed(0)
    model = make_telling(build_network("conv3", 2), normalise(pixels))
    torch.save(model.state_dict(), galaxy_folder / "weights.pt")
    write_probs(galaxy_folder / "original.csv", objid, model, normalise(pixels))
    return galaxy_folder


def bring(folder, out="model.safetensors", **changes):
    options = {**ORIGINAL, "cutout_size": 32, "check": folder / "original.csv", **changes}
    return import_model(folder / "weights.pt", folder / out, **options)


def test_an_import_proves_itself(original):
    """The probabilities are those of the original; the checkpoint says how far it was compared."""
    checkpoint = bring(original)
    imported = checkpoint.record.imported
    assert imported.n_checked == 24
    assert imported.largest_difference < 1e-5
    assert checkpoint.layer_name == "conv3"
    for unknown in ("metrics", "members", "n_train", "settings", "images"):
        assert unknown not in checkpoint.metadata
    _, pixels = read_pixels(original, 32)
    cutouts = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    with torch.no_grad():
        probs = checkpoint.model(checkpoint.normalise(cutouts)).softmax(dim=1).numpy()
    expected = pd.read_csv(original / "original.csv")[["low", "high"]]
    np.testing.assert_allclose(probs, expected, atol=1e-5)
    again = load_checkpoint(original / "model.safetensors")
    assert again.digest == checkpoint.digest
    # No path of this machine is in the file.
    assert str(original) not in json.dumps(again.metadata)


WRONG = {
    "order": ({"class_names": ["high", "low"]}, "in the order `class_names` low,high"),
    "none": ({"mean": [0, 0, 0], "std": [1, 1, 1]}, "none of these alone makes it agree"),
    "scale": ({"cutout_size": 24}, "`cutout_size` 32, not scaled"),
    "padding": ({"cutout_size": 48, "image_size": 32}, "`cutout_size` 32, not scaled"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_differs_is_found(original, kind):
    """Nothing is written, and the line says what to change where a change of options helps."""
    changes, words = WRONG[kind]
    with pytest.raises(CheckpointError, match=r"differ from those of the original") as caught:
        bring(original, **changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (original / "model.safetensors").exists()


def rewrite(folder, change):
    """Write the probabilities of an original that does one thing differently."""
    objid, pixels = read_pixels(folder, 32)
    model = build_network("conv3", 2).eval()
    model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    inputs = {
        "imagenet": normalise(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        "to one": normalise(pixels, [0.5] * 3, [0.5] * 3),
        "none": pixels.float(),
        "255": pixels.float() * 255,
        "255 normalised": normalise(pixels * 255),
        "bgr": normalise(pixels.flip(1)),
        "bgr of imagenet": normalise(pixels.flip(1), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        "upside down": normalise(pixels.flip(2)),
    }.get(change, normalise(pixels))
    for module in model.modules():
        if change == "eps" and isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
        elif change == "eps" and isinstance(module, nn.Conv2d):
            # The smaller the variance, the more epsilon matters.
            module.weight.data *= 0.05
    make_telling(model, inputs)
    torch.save(model.state_dict(), folder / "weights.pt")
    with torch.no_grad():
        logits = model(inputs)
    values = {
        "sigmoid": logits.sigmoid(),
        "logits": logits,
    }.get(change, logits.softmax(1))
    table = pd.DataFrame(values.numpy(), columns=["low", "high"])
    table.insert(0, "objID", objid)
    table.to_csv(folder / "original.csv", index=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("imagenet", "the normalisation of ImageNet (`mean` 0.485,0.456,0.406 and `std` 0.229,"),
        ("to one", "pixel values from -1 to 1 (`mean` 0.5,0.5,0.5 and `std` 0.5,0.5,0.5)"),
        ("none", "no normalisation (`mean` 0,0,0 and `std` 1,1,1)"),
        ("255", "pixel values from 0 to 255 (`mean` 0,0,0 and `std` 0.003922,"),
        ("255 normalised", "this normalisation of pixel values from 0 to 255"),
        ("bgr", "the bands in the order blue, green, red"),
        (
            "bgr of imagenet",
            "of ImageNet (`mean` 0.485,0.456,0.406 and `std` 0.229,0.224,0.225) "
            "and with the bands in the order blue, green, red",
        ),
        ("eps", "an epsilon of 0.001 in batch norm"),
        ("sigmoid", "columns that hold sigmoids, each class by itself, instead of a softmax"),
        ("logits", "columns that hold logits instead of a softmax"),
    ],
)
def test_each_usual_mistake_is_named(original, change, words):
    """What another program did is found by trying it."""
    rewrite(original, change)
    with pytest.raises(CheckpointError) as caught:
        bring(original)
    assert words in str(caught.value)
    assert "it agrees to" in str(caught.value)


def test_the_whole_image_scaled_is_found(original):
    """Resizing is the usual difference to a crop."""
    objid, pixels = read_pixels(original, 48, scale_to=32)
    model = build_network("conv3", 2).eval()
    model.load_state_dict(torch.load(original / "weights.pt", weights_only=True))
    write_probs(original / "original.csv", objid, model, normalise(pixels))
    with pytest.raises(CheckpointError, match=r"whole image \(`cutout_size` 48\) scaled to `image"):
        bring(original)
    assert bring(original, cutout_size=48, image_size=32).record.imported.n_checked == 24


def test_without_check_everything_says_so(original, caplog):
    """The import, the checkpoint, the store, and the captions."""
    with caplog.at_level(logging.WARNING, logger="galfig"):
        bring(original, check=None, n_train={"low": 10, "high": 12})
    assert "not checked against the original network, as captions will say" in caplog.text
    from galfig.info import describe_file

    warning = "the import of the network was not checked against the original"
    assert warning in describe_file(original / "model.safetensors")["warnings"]
    catalog = galfig.load_catalog(original / "catalog.csv")
    store = galfig.build_maps(
        catalog, original / "maps.h5", model=original / "model.safetensors", split="all"
    )
    assert warning in repr(store)
    caption = galfig.plot.panels(store).caption
    assert "The network, conv3, was trained on 22 galaxies, not by galfig" in caption
    assert "The import of the network was not checked against the original network" in caption
    assert store.training.imported.n_checked == 0


def test_a_checked_import_needs_no_such_words(original):
    """And the size that the network sees is in the caption, though no settings are known."""
    _, pixels = read_pixels(original, 48, scale_to=32)
    objid, _ = read_pixels(original, 48)
    model = build_network("conv3", 2).eval()
    model.load_state_dict(torch.load(original / "weights.pt", weights_only=True))
    write_probs(original / "original.csv", objid, model, normalise(pixels))
    bring(original, cutout_size=48, image_size=32)
    catalog = galfig.load_catalog(original / "catalog.csv")
    store = galfig.build_maps(
        catalog, original / "maps.h5", model=original / "model.safetensors", split="all"
    )
    caption = galfig.plot.panels(store).caption
    assert "was not trained by galfig" in caption
    assert "was not checked" not in caption + repr(store)
    assert "scaled to 32 × 32 pixels for the network" in caption


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"class_names": ["a", "b", "c"]}, CheckpointError, r"2 of another shape.*linear.weight"),
        ({"mean": [0.1]}, ConfigError, "`std`: 3 numbers, expected 1"),
        ({"mean": [120.0] * 3}, ConfigError, "`mean`: 120, .*divide by 255"),
        ({"layer": "conv4"}, ConfigError, "did you mean 'conv3'"),
        ({"arch": "xresnet18"}, CheckpointError, "missing: '0.0.weight'.*left over: 'conv1.0.wei"),
        ({"arch": "python:os:getcwd"}, ConfigError, "gives a str, expected a torch.nn.Module"),
        ({"images": "nowhere"}, CatalogError, "nowhere: cannot be read"),
        ({"images": "x/{objID}.jpg"}, CatalogError, "no galaxy can be compared"),
        ({"n_train": {"lwo": 3}}, ConfigError, "`n_train`: 'lwo' is not one of the classes"),
        ({"class_names": ["low", "hihg"]}, CatalogError, "no column 'hihg'.*did you mean 'high'"),
        ({"check": None, "images": "x"}, ConfigError, "`images`: only with `check`"),
        ({"out": "weights.pt"}, OutputError, "weights.pt: is one of the inputs"),
    ],
)
def test_what_does_not_fit_is_refused(original, changes, error, words):
    """In a line that names the argument; nothing is written."""
    with pytest.raises(error, match=words) as caught:
        bring(original, **changes)
    assert "\n" not in str(caught.value)
    assert not (original / "model.safetensors").exists()


def test_probabilities_that_prove_nothing_are_refused(original, caplog):
    """Where all are the same, any network agrees; where they hardly vary, little is said."""
    table = pd.read_csv(original / "original.csv", dtype={"objID": str})
    table.assign(low=1.0, high=0.0).to_csv(original / "original.csv", index=False)
    with pytest.raises(CatalogError, match="the same for all 24 galaxies, which proves nothing"):
        bring(original)


def test_galaxies_that_cannot_be_compared_are_counted(original, caplog):
    """An empty cell, and a galaxy without image."""
    table = pd.read_csv(original / "original.csv", dtype={"objID": str})
    table.loc[0, "low"] = np.nan
    table.loc[1, "objID"] = "12"
    table.to_csv(original / "original.csv", index=False)
    with caplog.at_level(logging.WARNING, logger="galfig"):
        assert bring(original).record.imported.n_checked == 22
    assert "2 galaxies are not compared" in caplog.text


def test_a_network_of_one_output_is_recognised(original):
    """A sigmoid of one output is the softmax of two, which the message asks for."""
    torch.save(build_network("conv3", 1).state_dict(), original / "weights.pt")
    with pytest.raises(CheckpointError, match="the network has one output, which galfig cannot"):
        bring(original)


def test_images_are_found_by_template(original, monkeypatch):
    """As in the settings, and relative to the working directory."""
    monkeypatch.chdir(original.parent)
    found = bring(original, images=f"{original.name}/images/{{objID}}.jpg")
    assert found.record.imported.n_checked == 24


def test_images_become_pixels_as_the_settings_say(tmp_path, monkeypatch):
    """FITS cubes of four planes, of which three are seen; other settings give other answers."""
    rng = np.random.default_rng(0)
    fluxes = rng.normal(50, 40, (12, 4, 32, 32)).astype(np.float32)
    objid = [f"g{index:02}" for index in range(12)]
    (tmp_path / "images").mkdir()
    for name, cube in zip(objid, fluxes, strict=True):
        fits.PrimaryHDU(cube).writeto(tmp_path / "images" / f"{name}.fits")
    catalog = {"planes": [3, 1, 0], "fits_range": [0.0, 100.0]}
    decoding = choose_decoding(load_settings({"catalog": catalog}).catalog, 3)
    files = [tmp_path / "images" / f"{name}.fits" for name in objid]
    pixels = np.stack([decode_image(file, decoding) for file in files])
    torch.manual_seed(0)
    images = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2).double() / 255)
    model = make_telling(build_network("conv3", 2), images)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    write_probs(tmp_path / "original.csv", objid, model, images)
    assert bring(tmp_path, settings={"catalog": catalog}).record.imported.n_checked == 12
    swapped = {"catalog": {**catalog, "planes": [0, 1, 3]}}
    with pytest.raises(CheckpointError, match="differ from those of the original"):
        bring(tmp_path, "other.safetensors", settings=swapped)
    four = {"catalog": {**catalog, "planes": [3, 1, 0, 2]}}
    with pytest.raises(ConfigError, match="sees 3 channels, but the settings name 4"):
        bring(tmp_path, "other.safetensors", settings=four)
    monkeypatch.chdir(tmp_path)
    Path("galfig.toml").write_text("[catalog]\nplanes = [3, 1, 0]\nfits_range = [0, 100]\n")
    assert bring(tmp_path, "other.safetensors").record.imported.n_checked == 12


OWN = """
from torch import nn

def make(n_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, n_classes))
"""


def test_own_code_runs_only_where_it_is_named(galaxy_folder, monkeypatch):
    """At the import and whenever the checkpoint is used, but never since a file names it."""
    monkeypatch.chdir(galaxy_folder)
    (galaxy_folder / "networks_of_mine.py").write_text(OWN)
    arch = "python:networks_of_mine:make"
    namespace = {}
    exec(OWN, namespace)
    torch.save(namespace["make"](2).state_dict(), "weights.pt")
    bring(galaxy_folder, arch=arch, check=None)
    path = galaxy_folder / "model.safetensors"
    with pytest.raises(CheckpointError, match=r"code of its maker's own.*'python:networks_of_mine"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"but `arch` is 'conv3'; give the one"):
        load_checkpoint(path, arch="conv3")
    assert load_checkpoint(path, arch=arch).record.arch == arch
    catalog = galfig.load_catalog(galaxy_folder / "catalog.csv")
    with pytest.raises(CheckpointError, match="only where you name it"):
        galfig.build_maps(catalog, "maps.h5", model=path)
    store = galfig.build_maps(catalog, "maps.h5", model=path, arch=arch, split="all")
    assert store.training.arch == arch
    with pytest.raises(ConfigError, match="`arch`: only with the file"):
        galfig.build_maps(catalog, "other.h5", arch=arch)


FOREIGN = {
    "fastai": ("fastai:resnet18", lambda sd: {"model": sd, "opt": {}}, {}),
    "fastai with a head of its own": ("fastai:resnet18,lin_ftrs=64", lambda sd: sd, {}),
    "timm": ("timm:resnet18", lambda sd: sd, {}),
    "torchvision": ("torchvision:resnet18", lambda sd: {"state_dict": sd}, {"prefix": "module."}),
    "zoobot": (
        "zoobot:convnext_atto",
        lambda sd: {"state_dict": {**sd, "loss.weight": torch.ones(2)}, "hyper_parameters": {}},
        {},
    ),
}


def make_original(kind):
    """Make a network with the library that it is of, not by galfig."""
    torch.manual_seed(0)
    if kind.startswith("fastai"):
        from torchvision.models import resnet18

        from galfig.networks.families import import_fastai

        widths = [64] if "head" in kind else None
        return import_fastai("vision.learner").create_vision_model(
            resnet18, 2, pretrained=False, lin_ftrs=widths
        )
    if kind == "torchvision":
        from torchvision.models import resnet18

        return resnet18(num_classes=2)
    import timm

    if kind == "timm":
        return timm.create_model("resnet18", num_classes=2)

    class Zoobot(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = timm.create_model("convnext_atto", num_classes=0)
            self.head = nn.ModuleDict({"linear": nn.Linear(self.encoder.num_features, 2)})

        def forward(self, images):
            return self.head["linear"](self.encoder(images))

    return Zoobot()


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_networks_come_in_by_one_command(galaxy_folder, kind):
    """With the probabilities of the original to 1e-5; and two mistakes are caught."""
    arch, wrap, options = FOREIGN[kind]
    objid, pixels = read_pixels(galaxy_folder, 48, scale_to=64)
    images = normalise(pixels)
    model = make_telling(make_original(kind), images)
    prefix = options.get("prefix", "")
    state = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(wrap(state), galaxy_folder / "weights.pt")
    probs = write_probs(galaxy_folder / "original.csv", objid, model, images)
    assert np.ptp(probs[:, 0]) > 0.1
    sizes = {"cutout_size": 48, "image_size": 64, "arch": arch.partition(",")[0]}
    checkpoint = bring(galaxy_folder, **sizes)
    assert checkpoint.record.arch == arch
    assert checkpoint.record.imported.largest_difference < 1e-5
    for changes, words in (
        ({"class_names": ["high", "low"]}, "in the order `class_names` low,high"),
        ({"mean": [0.4, 0.4, 0.4]}, "differ from those of the original"),
    ):
        with pytest.raises(CheckpointError, match=words):
            bring(galaxy_folder, "bad.safetensors", **sizes, **changes)
    assert not (galaxy_folder / "bad.safetensors").exists()


@pytest.mark.slow
def test_exchanged_layers_are_caught(galaxy_folder):
    """torchvision's efficientnet_v2_s fits timm's in every shape, and gives other answers."""
    objid, pixels = read_pixels(galaxy_folder, 48, scale_to=64)
    images = normalise(pixels)
    torch.manual_seed(0)
    model = make_telling(build_member("torchvision:efficientnet_v2_s", 2), images)
    torch.save(model.state_dict(), galaxy_folder / "weights.pt")
    write_probs(galaxy_folder / "original.csv", objid, model, images)
    sizes = {"cutout_size": 48, "image_size": 64, "arch": "timm:efficientnetv2_s"}
    with pytest.raises(CheckpointError, match=r"missing: 'conv_stem.weight'.*`by_order=True` only"):
        bring(galaxy_folder, **sizes)
    with pytest.raises(CheckpointError, match="differ from those of the original"):
        bring(galaxy_folder, by_order=True, **sizes)
    right = {**sizes, "arch": "torchvision:efficientnet_v2_s"}
    assert bring(galaxy_folder, **right).record.imported.largest_difference < 1e-5


def test_names_of_another_family_are_recognised(galaxy_folder):
    """The message names the architecture that the weights are of."""
    torch.save(build_member("fastai:squeezenet1_1", 2).state_dict(), galaxy_folder / "weights.pt")
    with pytest.raises(CheckpointError, match='they fit `arch="fastai:squeezenet1_1"`'):
        bring(galaxy_folder, arch="torchvision:squeezenet1_1", check=None)
