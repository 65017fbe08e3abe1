"""Batches: a device that runs out of memory is given fewer images at a time."""

import logging
import subprocess
import sys
import textwrap
import weakref

import pytest
import torch
from samples import make_tiny_cnn
from torch import nn

from galfig.attribution.batches import BatchLimit, explain_in_batches
from galfig.attribution.devices import TooLargeError, is_out_of_memory, wake_device
from galfig.attribution.engine import make_engine
from galfig.attribution.gradcam import CamBatch, grad_cam

CPU = torch.device("cpu")
# What the allocators of torch and of the libraries below it say.
SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ..."),
    MemoryError("std::bad_alloc"),
    MemoryError(),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 8000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: out of memory"),
]


@pytest.fixture
def images():
    return torch.randn(19, 3, 24, 24, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """A network whose device has memory for a few images at a time; copies share the device."""

    n_fitting, exc, sizes = 100, SHORTAGES[0], ()

    def __init__(self):
        super().__init__()
        self.body = make_tiny_cnn()

    def forward(self, x):
        Small.sizes = (*Small.sizes, len(x))
        if len(x) > self.n_fitting:
            raise self.exc
        return self.body(x)


@pytest.fixture
def fit(monkeypatch):
    """Return a function that sets how many images fit, and what is said of more."""

    def change(n_fitting, exc=SHORTAGES[0]):
        monkeypatch.setattr(Small, "n_fitting", n_fitting)
        monkeypatch.setattr(Small, "exc", exc)
        monkeypatch.setattr(Small, "sizes", ())

    return change


@pytest.mark.parametrize("exc", SHORTAGES, ids=lambda exc: str(exc)[:30])
def test_shortage_of_memory_is_recognised(exc):
    """Whichever library says so."""
    assert is_out_of_memory(exc)


@pytest.mark.parametrize(
    "exc", [RuntimeError("shapes cannot be multiplied"), ValueError("out of memory"), OSError(12)]
)
def test_other_errors_are_not_shortages(exc):
    """They would come again with fewer images."""
    assert not is_out_of_memory(exc)


@pytest.mark.parametrize("exc", SHORTAGES[:4], ids=lambda exc: str(exc)[:30])
def test_batch_is_halved_until_it_fits(exc, images, fit, caplog):
    """It says so at each step, explains every image once, and its maps keep their bits."""
    model = Small().eval()
    whole = make_engine(model, model.body[1], micro_batch=8).explain(images)
    engine = make_engine(model, model.body[1], micro_batch=8, shape=(3, 24, 24))
    fit(3, exc)
    with caplog.at_level(logging.WARNING, "galfig"):
        found = engine.explain(images)
    assert torch.equal(found.cams, whole.cams)
    assert torch.equal(found.logits, whole.logits)
    assert [record.getMessage() for record in caplog.records] == [
        "cpu: out of memory with 8 images at a time; going on with 4",
        "cpu: out of memory with 4 images at a time; going on with 2",
    ]
    # What has been found stays found.
    caplog.clear()
    fit(3, exc)
    engine.explain(images)
    assert set(Small.sizes) == {2}
    assert not caplog.records


def test_pixels_are_normalised_a_batch_at_a_time(images, fit):
    """On the device, where they take four times as much memory: no more than fit at once."""
    model = Small().eval()
    engine = make_engine(model, model.body[1], micro_batch=8, shape=(3, 24, 24))
    pixels = (40 * images + 128).clamp(0, 255).byte()
    whole = engine.explain(pixels.float() / 100)
    sizes = []

    def normalise(batch):
        sizes.append(len(batch))
        if len(batch) > 4:
            raise SHORTAGES[0]
        return batch.float() / 100

    found = engine.explain(pixels, normalise)
    assert sizes == [8, 4, 4, 4, 4, 4]
    assert torch.equal(found.cams, whole.cams)


@pytest.mark.parametrize("n_fitting", [1, 2, 4])
def test_proof_fits_as_well(n_fitting, images, fit):
    """The images of noise run together only where they fit; one alone depends on no other."""
    model = Small().eval()
    exact = grad_cam(model, images, model.body[1])
    fit(n_fitting)
    found = make_engine(model, model.body[1], micro_batch=8).explain(images)
    assert max(size for size in Small.sizes[-5:]) <= n_fitting
    torch.testing.assert_close(found.cams, exact.cams, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("is_proven", [False, True], ids=["in the proof", "later"])
def test_single_image_that_does_not_fit_is_one_line(is_proven, images, fit):
    """It names the device, and what torch said in its first line."""
    model = Small().eval()
    engine = make_engine(model, model.body[1], micro_batch=4)
    if is_proven:
        engine.prove((3, 24, 24))
    fit(0)
    with pytest.raises(TooLargeError) as caught:
        engine.explain(images)
    assert str(caught.value) == (
        "a single image does not fit in the memory of cpu (CUDA out of memory. Tried to allocate "
        "2.00 GiB)"
    )


def test_threads_halve_once(images, fit, caplog):
    """Several that ran out of memory together, with the same batch, halve it once."""
    limit, n_failed = BatchLimit(CPU), 0

    def fail():
        nonlocal n_failed
        n_failed += 1
        if n_failed == 1:
            # While this one fails, another fails, too.
            assert limit.attempt(fail, 8) is None
        raise MemoryError

    assert limit.attempt(fail, 8) is None
    assert limit.cap(8) == 4
    assert len(caplog.records) == 1


def test_error_keeps_no_tensor(images, monkeypatch):
    """What a failed batch held is gone when the memory is returned to the device."""
    alive, seen = weakref.WeakSet(), []
    monkeypatch.setattr(
        "galfig.attribution.batches.release_memory", lambda device: seen.append(len(alive))
    )

    def explain(batch):
        held = batch.clone()
        alive.add(held)
        if len(held) > 2:
            raise MemoryError
        return CamBatch(held, held)

    explain_in_batches(explain, images, 8, BatchLimit(CPU))
    assert seen == [0, 0]


def test_device_wakes_in_each_thread():
    """As often as asked, in any mode of gradients."""
    with torch.inference_mode():
        wake_device(CPU)
    with torch.no_grad():
        wake_device(CPU)


@pytest.mark.slow
def test_real_limit_of_memory_is_found():
    """A process that may use little memory explains all images, with fewer at a time."""
    script = """
    import logging, resource, torch
    from galfig.attribution.engine import make_engine
    from torch import nn

    logging.basicConfig(format="%(message)s")
    torch.set_num_threads(1)
    model = nn.Sequential(
        nn.Conv2d(1, 64, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)
    ).eval()
    engine = make_engine(model, model[0], micro_batch=64, shape=(1, 16, 16))
    images = torch.randn(64, 1, 512, 512)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 1_500_000_000,) * 2)
    found = engine.explain(images)
    print(len(found.cams), bool(found.cams.isfinite().all()))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert done.stdout.split() == ["64", "True"], done.stderr
    assert "out of memory with 64 images at a time; going on with 32" in done.stderr


@pytest.mark.gpu
def test_small_limit_of_a_gpu_is_found(caplog):
    """With a hundredth of its memory, a GPU explains all images, fewer at a time, to the bit."""
    torch.manual_seed(0)
    wide = nn.Conv2d(3, 256, 3, padding=1)
    model = nn.Sequential(wide, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 2))
    model.eval().cuda()
    images = torch.randn(300, 3, 224, 224)
    expected = grad_cam(model, images[:2].cuda(), wide).cams
    engine = make_engine(model, wide, shape=(3, 224, 224))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.02)
    try:
        found = engine.explain(images)
        again = engine.explain(images)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of memory with 256 images at a time; going on with 128" in caplog.text
    assert len(found.cams) == 300
    assert torch.equal(found.cams, again.cams)
    torch.testing.assert_close(found.cams[:2], expected, rtol=1e-3, atol=1e-6)
