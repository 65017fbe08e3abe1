"""The state of a training run after an epoch, in a file from which the run can resume.

The file is safetensors: tensors as they are, everything else as JSON. Nothing in it is executed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from galfig.errors import CheckpointError
from galfig.networks.checkpoint import MAX_BYTES, digest_content, read_header
from galfig.networks.recipe import describe_difference
from galfig.runtime.files import replace_file
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import CHECKSUM_MISMATCH

FORMAT = 1
_TENSOR = "__tensor__"


def resume_path(checkpoint: Path) -> Path:
    """Return the path of the file that holds the state of a checkpoint's training.

    Parameters
    ----------
    checkpoint : Path
        Path of the checkpoint.

    Returns
    -------
    Path
        ``<stem>.resume<suffix>`` beside it.
    """
    return checkpoint.with_name(f"{checkpoint.stem}.resume{checkpoint.suffix}")


def is_progress(path: Path) -> bool:
    """Return whether a file is named as `resume_path` names one."""
    return Path(path.stem).suffix == ".resume"


def save_progress(path: Path, recipe: Mapping[str, Any], state: Any) -> None:
    """Write the state of a training run after an epoch.

    Parameters
    ----------
    path : Path
        The file, from `resume_path`; an existing file is replaced.
    recipe : mapping
        All that the run depends on; values that JSON can hold.
    state : nested dict, list and tuple of Tensor, number, str, bool and None
        All that the next epoch depends on.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    # Digest what will be read back: JSON turns tuples into lists and keys into text.
    found = json.loads(
        json.dumps({"format": FORMAT, "recipe": recipe, "state": _pack(state, tensors)})
    )
    found["digest"] = digest_content(found, tensors)
    data = save_tensors(tensors, {"galfig-resume": json.dumps(found)})
    with replace_file(path, if_exists="replace") as temporary:
        temporary.write_bytes(data)


def load_progress(path: Path, recipe: Mapping[str, Any], data: bytes | None = None) -> Any:
    """Read a state that `save_progress` wrote.

    Parameters
    ----------
    path : Path
        The file.
    recipe : mapping
        All that the run depends on, as it was given to `save_progress`.
    data : bytes, optional
        What the file holds, if another process has read it.

    Returns
    -------
    nested dict and list of Tensor, number, str, bool and None
        The state; tuples have become lists.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is damaged, or belongs to another recipe.
    """
    try:
        data = read_regular(path, MAX_BYTES) if data is None else data
        found = json.loads(read_header(data)[0]["galfig-resume"])
        tensors = load_tensors(data)
        is_sound = found["digest"] == digest_content(found, tensors)
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror})") from exc
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise CheckpointError(f"{path}: not the state of a training") from exc
    if not is_sound:
        raise CheckpointError(f"{path}: {CHECKSUM_MISMATCH}")
    # Whoever writes another file can also write its digest.
    if not {"format", "state"} <= found.keys() or not isinstance(found.get("recipe"), dict):
        raise CheckpointError(f"{path}: not the state of a training")
    wanted = json.loads(json.dumps(recipe))
    if found["format"] != FORMAT or found["recipe"] != wanted:
        raise CheckpointError(
            f"{path}: the state of a training with another recipe "
            f"({describe_difference(found['recipe'], wanted)}), expected the same recipe"
        )
    return _unpack(found["state"], tensors)


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Move the tensors of a nested state to ``tensors``, and leave their names in place."""
    if isinstance(value, torch.Tensor):
        name = f"{len(tensors):06d}"
        # A copy, since safetensors rejects tensors that share memory.
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        return {key: _pack(one, tensors) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return [_pack(one, tensors) for one in value]


def _unpack(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {key: _unpack(one, tensors) for key, one in value.items()}
    return [_unpack(one, tensors) for one in value] if isinstance(value, list) else value
