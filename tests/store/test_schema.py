"""The schema: plain HDF5 that says what it holds."""

import subprocess
import sys

import numpy as np
import pytest

from galfig.store.reader import open_store


def test_plain_h5py_is_enough(store_path):
    """Without galfig, in a process of its own, h5py reads the maps by what the file says."""
    code = f"""
import h5py, json, numpy as np
with h5py.File({str(store_path)!r}) as f:
    assert f.attrs["schema_version"] == 2
    names = json.loads(f.attrs["class_names"])
    assert "multiply by cam_scale" in f["cams"].attrs["description"].decode()
    cams = f["cams"][3].astype("f4") * f["cam_scale"][3][:, None, None]
    assert cams.shape == (2, 24, 24) and len(names) == 2
    assert f["objid"].asstr()[0] == "1237665024900858100"
    assert f["cams"].chunks == (1, 2, 24, 24) and f["cams"].compression == "gzip"
    assert f["cams"].shuffle and f["cutouts"].dtype == "u1"
    assert {{"catalog", "rejected"}} <= set(f)
    print(float(abs(cams).max()))
"""
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    with open_store(store_path) as store:
        assert float(result.stdout) == pytest.approx(float(np.abs(store.cams(3)).max()))
