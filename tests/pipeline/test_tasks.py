"""Tasks: what a worker does with the shards that it is sent, and what it answers."""

import os
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from samples import CPU, explain_at, load_with_settings, make_checkpoint

from galfig.pipeline import tasks
from galfig.pipeline.dispatch import _describe_job
from galfig.pipeline.parts import Parts
from galfig.pipeline.plan import make_plan
from galfig.pipeline.portion import cut_portion
from galfig.pipeline.tasks import NetworkFile, explain_portion
from galfig.pipeline.work import Work
from galfig.store.outline import open_outline
from galfig.store.reader import read_digest


@pytest.fixture
def sent(galaxy_folder, tmp_path, checkpoint, monkeypatch):
    """Give a job and its plan, whose outline and first part are there; paths are relative."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "_PREPARED", {})
    folder = galaxy_folder.relative_to(tmp_path)
    explain_at(Path("maps.h5"), folder, checkpoint, "0", shard_size=5)
    parts = Parts.beside(Path("maps.h5"))
    with open_outline(parts.outline) as (_, outline):
        way = outline.engine
    galaxies, settings = load_with_settings(folder, shard_size=5)
    plan = replace(make_plan(galaxies, settings, checkpoint, "all"), engine=way)
    engines = [SimpleNamespace(precision="float32")]
    work = Work(plan, checkpoint, engines, parts, CPU, guard=lambda: None)
    return _describe_job(work, plan, NetworkFile(Path("model.safetensors"))), plan


def test_a_task_makes_its_parts(sent):
    """Those that are missing, with the digests of the plan; twice is once."""
    job, plan = sent
    for _ in range(2):
        outcome = explain_portion(*pickle.loads(pickle.dumps((job, cut_portion(plan, [0, 4])))))
        assert (outcome.n_galaxies, outcome.busy, outcome.message) == (9, (), "")
    for number in (0, 4):
        assert read_digest(job.parts.name(number)) == plan.digest_part(number)
    assert not job.parts.name(1).exists()


def test_the_network_is_loaded_once_for_each_build(sent, monkeypatch):
    """However many tasks; another build reads it again."""
    job, plan = sent
    loaded, load = [], tasks.load_networks

    def note(path, **options):
        loaded.append(path)
        return load(path, **options)

    monkeypatch.setattr(tasks, "load_networks", note)
    for number in (1, 2):
        assert not explain_portion(job, cut_portion(plan, [number])).message
    assert len(loaded) == 1
    assert not explain_portion(replace(job, token="other"), cut_portion(plan, [3])).message
    assert len(loaded) == 2


def test_a_worker_elsewhere_finds_relative_paths(sent, tmp_path_factory, monkeypatch):
    """Network, images and parts are where they are for the process that sent the task."""
    job, plan = sent
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    outcome = explain_portion(job, cut_portion(plan, [2]))
    assert (outcome.n_galaxies, outcome.message) == (5, "")
    assert list(Path().iterdir()) == []
    assert read_digest(job.folder / job.parts.name(2)) == plan.digest_part(2)


def test_another_network_there(sent):
    """A file that was replaced meanwhile is not explained."""
    job, plan = sent
    make_checkpoint(Path("other.safetensors"), image_size=24)
    Path("other.safetensors").replace("model.safetensors")
    outcome = explain_portion(job, cut_portion(plan, [1]))
    assert outcome.error == "CheckpointError"
    assert "finds another network there" in outcome.message
    assert not job.parts.name(1).exists()


def test_another_way_of_computing(sent):
    """As another kind of processor may have, whose maps would have other bits."""
    job, plan = sent
    outcome = explain_portion(replace(job, way="plain contiguous 0 0"), cut_portion(plan, [1]))
    assert outcome.error == "EngineError"
    assert "expected one kind of processor" in outcome.message
    assert not job.parts.name(1).exists()


def test_parts_that_were_merged_meanwhile(sent):
    """A worker that nobody waits for any more leaves nothing behind."""
    job, plan = sent
    job.parts.remove()
    outcome = explain_portion(job, cut_portion(plan, [1]))
    assert outcome.error == "LockError"
    assert "was merged or replaced by another process meanwhile" in outcome.message
    assert not job.parts.folder.exists()


def test_a_part_that_another_process_is_making(sent):
    """Is passed over, and named."""
    from galfig.runtime.lock import hold_lock

    job, plan = sent
    with hold_lock(job.parts.name(1)):
        outcome = explain_portion(job, cut_portion(plan, [1, 2]))
    assert (outcome.n_galaxies, outcome.busy, outcome.message) == (5, (1,), "")


def test_what_a_worker_meets_is_its_answer(sent, monkeypatch):
    """An error of galfig by name and in its words; any other with its traceback."""
    job, plan = sent
    portion = cut_portion(plan, [1])
    lost = portion.take(1).paths[2]
    lost.rename(lost.with_suffix(".away"))
    outcome = explain_portion(job, portion)
    assert outcome.error == "LostCutoutError"
    assert outcome.message.startswith(f"{lost}: ")

    def fail(*args, **options):
        raise MemoryError("no more")

    monkeypatch.setattr(tasks, "make_parts", fail)
    outcome = explain_portion(job, portion)
    assert outcome.error == ""
    assert outcome.message.startswith(f"worker {os.getpid()} on ")
    assert outcome.message.rstrip().endswith("MemoryError: no more")
