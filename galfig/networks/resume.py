"""Where a training run stands after an epoch: all that its next epoch follows from, in a file.

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
from galfig.networks.checkpoint import digest_content, read_header
from galfig.networks.recipe import describe_difference
from galfig.runtime.files import replace_file
from galfig.runtime.messages import CHECKSUM_MISMATCH

FORMAT = 1
_TENSOR = "__tensor__"


def resume_path(checkpoint: Path) -> Path:
    """Return the file that holds where the training of a checkpoint stands."""
    return checkpoint.with_name(f"{checkpoint.stem}.resume{checkpoint.suffix}")


def save_progress(path: Path, recipe: Mapping[str, Any], state: Any) -> None:
    """Write a state, after an epoch.

    Parameters
    ----------
    path : Path
        The file, by `resume_path`; another that is there is replaced.
    recipe : mapping
        What the run follows from, for JSON.
    state : nested dict, list and tuple of Tensor, number, str, bool and None
        Where the run stands.
    """
    tensors: dict[str, torch.Tensor] = {}
    # As it is read again: JSON has no tuples, and no keys but texts.
    found = json.loads(
        json.dumps({"format": FORMAT, "recipe": recipe, "state": _pack(state, tensors)})
    )
    found["digest"] = digest_content(found, tensors)
    data = save_tensors(tensors, {"galfig-resume": json.dumps(found)})
    with replace_file(path, if_exists="replace") as temporary:
        temporary.write_bytes(data)


def load_progress(path: Path, recipe: Mapping[str, Any]) -> Any:
    """Read a state that `save_progress` wrote; tuples come back as lists.

    Raises
    ------
    CheckpointError
        A file that is damaged, or of another recipe.
    """
    try:
        data = path.read_bytes()
        found = json.loads(read_header(data)["galfig-resume"])
        tensors = load_tensors(data)
        is_sound = found["digest"] == digest_content(found, tensors)
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror})") from exc
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise CheckpointError(f"{path}: not the state of a training") from exc
    if not is_sound:
        raise CheckpointError(f"{path}: {CHECKSUM_MISMATCH}")
    wanted = json.loads(json.dumps(recipe))
    if found["format"] != FORMAT or found["recipe"] != wanted:
        raise CheckpointError(
            f"{path}: the state of a training with another recipe "
            f"({describe_difference(found['recipe'], wanted)}), expected the same recipe"
        )
    return _unpack(found["state"], tensors)


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Move the tensors of a nested state aside, and leave their names."""
    if isinstance(value, torch.Tensor):
        name = f"{len(tensors):06d}"
        # A copy: safetensors takes no two tensors that share memory.
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
