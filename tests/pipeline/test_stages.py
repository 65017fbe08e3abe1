"""Stages: each image once and in order, whatever the threads do, in bounded memory."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import load_with_settings

from galfig.attribution.engine import make_engine, open_workers
from galfig.errors import ConfigError, LostCutoutError
from galfig.images.cutouts import Decoding
from galfig.pipeline.explain import explain_galaxies
from galfig.pipeline.stages import Stages, explain_in_stages
from galfig.pipeline.transfer import Transfer
from galfig.pipeline.work import count_threads_by_default
from galfig.runtime.timing import Stopwatch

CPU = torch.device("cpu")


def run(n, n_batch, *, decode=None, explain=None, finish=None, n_workers=3):
    """Explain n images whose pixels are their numbers; every fifth is no image."""

    def decode_all(paths):
        numbers = [int(path.name) for path in paths]
        return [f"no image {i}" if i % 5 == 4 else np.full((2, 2, 1), i, np.uint8) for i in numbers]

    def explain_all(pixels):
        return [pixels.float()[:, None, :, :, 0], pixels.float()[:, 0, 0]]

    def finish_all(rows, cutouts):
        zipped = zip(*rows, cutouts, strict=True)
        return [(int(cam[0, 0, 0]), int(row[0]), int(cut[0, 0, 0])) for cam, row, cut in zipped]

    stages = Stages(
        decode or decode_all, lambda cutout: cutout, explain or explain_all, finish or finish_all
    )
    with ThreadPoolExecutor(n_workers) as pool:
        groups = explain_in_stages(
            [Path(str(i)) for i in range(n)],
            stages,
            Transfer(CPU),
            pool,
            n_batch=n_batch,
            shape=(2, 2, 1),
            stopwatch=Stopwatch(),
        )
        return [one for group in groups for one in group]


@pytest.mark.parametrize("n", [0, 1, 4, 8, 63, 64, 65, 200])
@pytest.mark.parametrize("n_batch", [1, 5, 8, 20, 64])
def test_every_image_once_and_in_order(n, n_batch):
    """Batches of any size, with images that cannot be decoded among them."""
    assert run(n, n_batch) == [f"no image {i}" if i % 5 == 4 else (i, i, i) for i in range(n)]


def test_batch_without_images_is_not_computed():
    """Its reasons come back in their place."""
    sizes = []

    def explain(pixels):
        sizes.append(len(pixels))
        return [pixels]

    found = run(30, 10, decode=lambda paths: ["no image"] * len(paths), explain=explain)
    assert found == ["no image"] * 30
    assert not sizes


@pytest.mark.parametrize("stage", ["decode", "explain", "finish"])
def test_error_of_a_stage_ends_all(stage):
    """It is raised as it is, and no thread goes on."""

    def fail(*arguments):
        raise LostCutoutError("gone")

    with pytest.raises(LostCutoutError, match="gone"):
        run(300, 16, **{stage: fail})


def test_memory_is_bounded():
    """Slow compressing holds decoding back: few batches are in memory, of many."""
    n_batch, alive, most, lock = 16, 0, 0, threading.Lock()

    def decode(paths):
        nonlocal alive, most
        with lock:
            alive += len(paths)
            most = max(most, alive)
        return [np.zeros((2, 2, 1), np.uint8)] * len(paths)

    def finish(rows, cutouts):
        nonlocal alive
        time.sleep(1e-3)
        with lock:
            alive -= len(cutouts)
        return [0] * len(cutouts)

    run(1600, n_batch, decode=decode, finish=finish)
    assert alive == 0
    assert most <= 6 * n_batch


@pytest.mark.parametrize(("n_networks", "casts"), [(1, True), (1, False), (2, True)])
@pytest.mark.parametrize("tta", [False, True])
def test_stages_give_the_bytes_of_groups(
    galaxy_folder, checkpoint, shared_device, monkeypatch, n_networks, casts, tta
):
    """The maps of a device that threads share are those of threads that compute."""
    monkeypatch.setattr("galfig.pipeline.explain.casts_exactly", lambda device: casts)
    galaxies, _ = load_with_settings(galaxy_folder)
    broken = galaxies.paths[5]
    broken.write_bytes(b"no image")
    layer = checkpoint.model.get_submodule("conv3")

    def explain(*, is_shared):
        shared_device(is_shared)
        engines = [make_engine(checkpoint.model, layer) for _ in range(n_networks)]
        assert engines[0].takes_turns == is_shared
        with open_workers(2) as pool:
            return explain_galaxies(galaxies, checkpoint, engines, Decoding(), pool=pool, tta=tta)

    one, other = explain(is_shared=False), explain(is_shared=True)
    assert one.rejected == other.rejected
    assert list(one.rejected) == [galaxies.objid[5]]
    assert one.rejected_digests == other.rejected_digests
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])
    assert [image.cams for image in one.images] == [image.cams for image in other.images]
    assert [image.cutout for image in one.images] == [image.cutout for image in other.images]


def test_image_that_does_not_fit_is_one_line(galaxy_folder, checkpoint, shared_device):
    """The user hears of the memory, not of torch."""
    galaxies, _ = load_with_settings(galaxy_folder)
    shared_device(True)
    engine = make_engine(checkpoint.model, checkpoint.model.get_submodule("conv3"))

    def fail(images, normalise):
        raise torch.OutOfMemoryError("CUDA out of memory.\nMore")

    engine.explain = fail
    with open_workers(2) as pool, pytest.raises(ConfigError) as caught:
        explain_galaxies(galaxies, checkpoint, [engine], Decoding(), pool=pool)
    assert str(caught.value) == (
        "explaining: CUDA out of memory; use a network that takes smaller images, or a machine "
        "with more memory"
    )


@pytest.mark.parametrize("casts", [True, False])
def test_galaxy_without_finite_numbers_is_rejected(
    galaxy_folder, checkpoint, shared_device, monkeypatch, casts
):
    """Wherever its maps are scaled; the others of its batch are stored."""
    monkeypatch.setattr("galfig.pipeline.explain.casts_exactly", lambda device: casts)
    galaxies, _ = load_with_settings(galaxy_folder)
    shared_device()
    engine = make_engine(checkpoint.model, checkpoint.model.get_submodule("conv3"))
    explain, n_done = engine.explain, 0

    def explain_sick(images, normalise):
        nonlocal n_done
        batch = explain(images, normalise)
        for row, value in ((2, torch.nan), (5, torch.inf)):
            if n_done <= row < n_done + len(images):
                batch.cams[row - n_done, 0, 1, 1] = value
        n_done += len(images)
        return batch

    engine.explain = explain_sick
    with open_workers(2) as pool:
        part = explain_galaxies(galaxies, checkpoint, [engine], Decoding(), pool=pool)
    assert list(part.rejected) == [galaxies.objid[2], galaxies.objid[5]]
    assert all("not finite" in reason for reason in part.rejected.values())
    assert len(part.images) == 22


def test_few_threads_decode_for_a_device(checkpoint, shared_device, monkeypatch):
    """Python's lock lets more of them do no more; a processor has work for each of its own."""
    monkeypatch.setattr("galfig.pipeline.work.count_processors", lambda: 64)
    layer = checkpoint.model.get_submodule("conv3")
    assert count_threads_by_default(make_engine(checkpoint.model, layer)) is None
    shared_device()
    assert count_threads_by_default(make_engine(checkpoint.model, layer)) == 4
