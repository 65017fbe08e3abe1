"""The device, and the memory layout in which a network trains."""

import os
import subprocess
import sys

import pytest
import torch
from samples import make_tiny_cnn
from torch import nn

from galfig.errors import ConfigError
from galfig.networks.architectures import build_network
from galfig.networks.device import choose_device, choose_layout

HEAD = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]


def have_devices(monkeypatch, n, visible=None):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


def test_a_device_by_its_number(monkeypatch):
    """Each of several can be named, and the first is that of "cuda" and of "auto"."""
    have_devices(monkeypatch, 3)
    assert [choose_device(f"cuda:{n}").index for n in range(3)] == [0, 1, 2]
    assert choose_device("cuda") == choose_device("auto") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")
    have_devices(monkeypatch, 0)
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize(
    ("n", "name", "visible", "words"),
    [
        (0, "cuda:1", None, '`device="cuda:1"`: no CUDA device found; use'),
        (0, "cuda", "", "no CUDA device found, with CUDA_VISIBLE_DEVICES=''; use"),
        (1, "cuda:1", None, "no such CUDA device, expected cuda:0;"),
        (
            2,
            "cuda:5",
            "5,6",
            "no such CUDA device, expected cuda:0 to cuda:1, with CUDA_VISIBLE_DEVICES='5,6'; "
            "numbers count from 0",
        ),
        (2, "cuda:-1", None, "expected 'auto', 'cpu', 'cuda', or 'cuda:1'"),
        (2, "cuda:01", None, "expected 'auto'"),
        (2, "gpu", None, "expected 'auto'"),
        (2, "cuda:0\n", None, "expected 'auto'"),
        (2, None, None, "expected 'auto'"),
    ],
)
def test_a_device_that_is_not_there(monkeypatch, n, name, visible, words):
    """The message says which are, and what hides the others."""
    have_devices(monkeypatch, n, visible)
    with pytest.raises(ConfigError) as caught:
        choose_device(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["conv3", "xresnet18", "xresnet50"])
def test_networks_of_plain_convolutions_train_channels_last(arch):
    """The networks that galfig brings keep the fast layout."""
    model = build_network(arch, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    assert choose_layout(model, (3, 64, 64)) is torch.channels_last
    assert all(module.training for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    kernels = [parameter for parameter in model.parameters() if parameter.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


class Viewed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 6 * 6, 2)

    def forward(self, images):
        return self.head(self.conv(images).view(len(images), -1))


class WithSpectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat, self.deep = nn.Conv2d(3, 4, 3), nn.Conv3d(1, 4, 3)
        self.head = nn.Linear(8, 2)

    def forward(self, images):
        deep = self.deep(images[:, None]).mean((2, 3, 4))
        return self.head(torch.cat([self.flat(images).mean((2, 3)), deep], 1))


class Turned(nn.Module):
    """Convolves with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.kernel, self.head = nn.Parameter(torch.randn(4, 3, 1, 1)), nn.Linear(4, 2)

    def forward(self, images):
        return self.head(nn.functional.conv2d(images, self.kernel, stride=2).mean((2, 3)))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 4, 1, stride=2), *HEAD),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 3), *HEAD),
        Viewed(),
        WithSpectrum(),
        Turned(),
    ],
    ids=["strided 1x1", "transposed", "view", "3-D beside 2-D", "functional"],
)
def test_other_networks_train_contiguous(model):
    """What is not known to work channels-last trains as PyTorch lays it out, and does train."""
    shape = (3, 8, 8)
    assert choose_layout(model, shape) is torch.contiguous_format
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    model(torch.randn(2, *shape)).square().sum().backward()


def test_strides_are_safe_on_cuda():
    """The fault of strided 1 x 1 convolutions is one of processors."""
    model = make_tiny_cnn()
    model[0][0] = nn.Conv2d(3, 8, 1, stride=2)
    assert choose_layout(model, (3, 8, 8), "cuda") is torch.channels_last


TRAINING = """
import sys
from pathlib import Path
from samples import make_settings, train
from galfig.catalog.galaxies import load_galaxies
settings = make_settings(Path(sys.argv[1]), arch=sys.argv[2], cutout_size=96, batch_size=8)
train(load_galaxies(settings), settings, Path("m.safetensors"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["repvgg_a0", "mobileone_s0"])
def test_network_that_begins_with_strided_1x1_trains(galaxy_folder, arch):
    """Channels-last, this ends in a segmentation fault or a damaged heap on some processors."""
    command = [sys.executable, "-c", TRAINING, str(galaxy_folder), arch]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
