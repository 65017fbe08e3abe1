"""Memory: bounds that hold, told before the work, and refusals in one line."""

import math

import pytest
import torch
from click.testing import CliRunner
from samples import load_with_settings, make_checkpoint
from torch import nn

from galfig.cli import main
from galfig.errors import ConfigError
from galfig.networks import memory
from galfig.networks.architectures import build_network
from galfig.networks.memory import (
    check_memory,
    measure_explaining,
    measure_training,
    refusing_too_large,
)
from galfig.pipeline.main import run_main_job

FLOAT, SIZE = 4, 20


def make_network(device="meta"):
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * SIZE**2, 2)]
    return nn.Sequential(*layers).to(device)


@pytest.fixture
def no_memory(monkeypatch):
    """Let this process use a kilobyte, and fail on any image that is read."""

    def read_none(*args, **kwargs):
        raise AssertionError("an image was read before the memory was checked")

    monkeypatch.setattr(memory, "find_memory", lambda: 1000)
    monkeypatch.setattr("galfig.images.cutouts.read_cutout", read_none)
    for module in ("proof", "explain"):
        monkeypatch.setattr(f"galfig.pipeline.{module}.read_cutout", read_none)


@pytest.mark.parametrize("n_images", [1, 7])
def test_training_counts_what_gradients_need(n_images):
    """The convolution keeps the images, the ReLU its result; weights take four times their room."""
    weights = (8 * 3 * 9 + 8) + (2 * 8 * SIZE**2 + 2)
    kept = n_images * (3 + 8) * SIZE**2
    found = measure_training(make_network(), (3, SIZE, SIZE), n_images)
    assert found == FLOAT * (4 * weights + kept)


def test_explaining_counts_the_widest_module():
    """Input and output of the ReLU, for all images of noise at a time."""
    model = make_network("cpu")
    before = [weight.clone() for weight in model.parameters()]
    found = measure_explaining(model, (3, SIZE, SIZE))
    assert found == memory.N_PROBES * FLOAT * 2 * 8 * SIZE**2
    pairs = zip(model.parameters(), before, strict=True)
    assert all(torch.equal(weight, same) and not weight.is_meta for weight, same in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["conv3", "xresnet18"])
def test_the_bound_for_training_is_no_more_than_is_taken(arch):
    """What autograd really keeps on a CPU, and the tensors of the weights, are no fewer bytes."""
    torch.manual_seed(0)
    model, kept = build_network(arch, 2), {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.randn(4, 3, 64, 64)).sum().backward()
    weights = {weight.untyped_storage().data_ptr(): weight for weight in model.parameters()}
    with torch.device("meta"):
        skeleton = build_network(arch, 2)
    found = measure_training(skeleton, (3, 64, 64), 4)
    sizes = [tensor.untyped_storage().nbytes() for tensor in {**kept, **weights}.values()]
    expected = sum(sizes) + 3 * sum(FLOAT * weight.numel() for weight in weights.values())
    assert math.isclose(found, expected, rel_tol=0.02)
    assert found <= expected * 1.001


def test_a_network_that_cannot_be_tried_is_not_refused():
    """A tensor that is no parameter stays behind on the processor; then nothing is known."""

    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.offset = [torch.ones(1)]

        def forward(self, images):
            return (images * self.weight + torch.from_numpy(images.numpy())).mean((2, 3))

    assert measure_explaining(Stubborn(), (3, 8, 8)) == 0


def test_what_fits_passes(monkeypatch):
    """Exactly as much as is allowed is enough; one byte more is not."""
    monkeypatch.setattr(memory, "find_memory", lambda: 5_000_000_000)
    check_memory("conv3", 5_000_000_000, torch.device("cpu"), "rest")
    with pytest.raises(ConfigError, match=r"^conv3: needs 5\.0 GB of memory .*; rest$"):
        check_memory("conv3", 5_000_000_001, torch.device("cpu"), "rest")


@pytest.mark.usefixtures("no_memory")
def test_build_is_refused_before_an_image_is_read(galaxy_folder, tmp_path, checkpoint):
    """The store, its lock and its parts are not begun either."""
    galaxies, settings = load_with_settings(galaxy_folder)
    with pytest.raises(ConfigError, match="explaining images of 16 pixels: needs") as caught:
        run_main_job(galaxies, settings, tmp_path / "maps.h5", model=checkpoint, split="all")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("maps.h5*"))


@pytest.mark.usefixtures("no_memory")
def test_training_is_refused_before_an_image_is_read(galaxy_folder, tmp_path):
    """The command names its own options, and leaves nothing."""
    out = tmp_path / "model.safetensors"
    args = ["train", "--catalog", str(galaxy_folder / "catalog.csv"), "--out", str(out), "-q"]
    done = CliRunner().invoke(main, [*args, "--cutout-size", "32"])
    assert done.exit_code == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "conv3, training on" in done.stderr
    assert "--batch-size" in done.stderr
    assert not list(tmp_path.glob("model.safetensors*"))


def test_sizes_beyond_any_machine_take_no_memory_to_measure():
    """The measure itself computes nothing."""
    size = 8192
    with torch.device("meta"):
        skeleton = build_network("conv3", 2)
    assert measure_training(skeleton, (3, size, size), 64) > 64 * 3 * FLOAT * size**2
    assert measure_explaining(skeleton.eval(), (3, size, size)) > 3 * FLOAT * size**2


def test_shortage_is_one_line_that_says_what_to_do():
    """Whatever torch adds below its first line; other errors stay as they are."""
    with pytest.raises(ConfigError) as caught, refusing_too_large("conv3"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has")
    assert str(caught.value) == (
        "conv3: CUDA out of memory. Tried to allocate 2.00 GiB; use a network that takes smaller "
        "images, or a machine with more memory"
    )
    with pytest.raises(RuntimeError, match="shapes"), refusing_too_large("conv3"):
        raise RuntimeError("shapes cannot be multiplied")


def test_build_without_memory_for_one_image_is_one_line(galaxy_folder, tmp_path, monkeypatch):
    """From the command, where the network is examined."""

    def fail(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has")

    path = tmp_path / "model.safetensors"
    make_checkpoint(path)
    monkeypatch.setattr("galfig.attribution.engine.explain_one_by_one", fail)
    args = ["build-maps", "--catalog", str(galaxy_folder / "catalog.csv"), "--model", str(path)]
    done = CliRunner().invoke(main, [*args, "--out", str(tmp_path / "maps.h5"), "-q"])
    assert done.exit_code == 1
    (line,) = done.stderr.strip().splitlines()
    assert "conv3: a single image does not fit in the memory of cpu (CUDA out of memory." in line
    assert not (tmp_path / "maps.h5").exists()
