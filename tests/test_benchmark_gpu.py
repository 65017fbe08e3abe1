"""The benchmark of a GPU: the same code on a processor, which never passes for one."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("torchcam")
pytest.importorskip("pytorch_grad_cam")

import benchmarks.gpu as benchmark
from benchmarks.data import Sample
from benchmarks.roofline import count_work, find_ceiling
from galfig.catalog.simulate import write_simulated
from galfig.networks.architectures import build_network


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_device_is_refused(monkeypatch, tmp_path):
    """In one line, before anything is measured or written."""
    monkeypatch.setattr(benchmark, "measure", lambda *arguments: pytest.fail("measured"))
    with pytest.raises(SystemExit, match=r'benchmarks\.gpu: `device="cuda"`: no CUDA device'):
        benchmark.main(["--out", str(tmp_path / "gpu.json")])
    assert not list(tmp_path.iterdir())


def test_work_of_conv3_is_what_is_known():
    """1.7 GFLOP, and the numbers of three layers of maps, each written and read."""
    size = 96
    flops, numbers = count_work(build_network("conv3", 2).eval(), torch.zeros(2, 3, size, size))
    by_hand = sum(2 * 9 * size**2 * k * m for k, m in ((3, 32), (32, 64), (64, 128)))
    assert flops == pytest.approx(by_hand, rel=1e-3)
    assert numbers == pytest.approx(size**2 * (3 + 32 + 32 + 64 + 64 + 128), rel=1e-3)
    ceiling = find_ceiling(
        {"gflops_bfloat16": 2 * flops / 1e9, "memory_gb_per_s": 6 * numbers / 1e9},
        "bfloat16",
        flops,
        numbers,
    )
    assert ceiling == {"by_arithmetic": pytest.approx(2), "by_bytes": pytest.approx(3)}


@pytest.mark.slow
def test_it_runs_on_a_processor(tmp_path, monkeypatch, capsys):
    """All parts in small; the results say that a processor computed them."""
    folder = tmp_path / "galaxies"
    write_simulated(folder, 12, 0)
    sample = Sample("simulated", folder / "catalog.csv", 96, 32)
    monkeypatch.setattr(benchmark, "find_small", lambda n: sample)
    small = ["--device", "cpu", "--archs", "conv3", "--batch", "2", "--n", "20", "--n-files", "12"]
    small += ["--repeats", "1", "--seconds", "0", "--roofline", "128"]
    monkeypatch.setattr(benchmark, "OUT", tmp_path / "gpu.json")
    benchmark.main([*small, "--out", str(tmp_path / "cpu.json")])
    found = json.loads((tmp_path / "cpu.json").read_text())
    assert found["device"] == found["machine"]["device"] == "cpu"
    usual = found["maps"]["conv3"]["tf32"]
    assert {"captum", "torch-cam", "pytorch-grad-cam"} < set(usual["galaxies_per_second"])
    assert set(found["maps"]["conv3"]) == {"float32", "tf32", "bfloat16"}
    assert usual["disagreement"]["galfig"] < 1e-4
    assert found["maps"]["conv3"]["bfloat16"]["disagreement"]["galfig"] < 1e-1
    assert found["build"]["conv3"]["n"] == 20
    assert len(found["rows"]) == 3
    assert all(row["found"] > 0 for row in found["rows"])
    assert "conv3, JPEG to store" in capsys.readouterr().out
    assert (tmp_path / "cpu.png").stat().st_size > 1000
    # Nothing bears the name of a GPU, and without an `--out` nothing would be written at all.
    assert not (tmp_path / "gpu.json").exists()
    assert not Path(benchmark.__file__).with_name("cpu.json").exists()
