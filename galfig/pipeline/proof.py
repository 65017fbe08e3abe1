"""Proof: engines of networks, whose maps agree with the exact ones on the first images."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from galfig.attribution.engine import Engine, make_engine
from galfig.catalog.galaxies import Galaxies
from galfig.config import Settings
from galfig.errors import CheckpointError, CutoutError, LostCutoutError
from galfig.images.cutouts import choose_decoding, read_cutout, scale_cutout
from galfig.networks.architectures import LayerTraits
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.device import choose_device
from galfig.runtime.options import RunOptions

# Number of galaxies on which an engine is compared with the exact maps.
N_FIRST = 6


def read_proof_images(
    galaxies: Galaxies, checkpoint: Checkpoint, settings: Settings
) -> Tensor | None:
    """Read the images on which the network is examined.

    They are always the first of the plan, so that a build that resumes chooses the same way of
    computing.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies of the plan, or the first of them.
    checkpoint : Checkpoint
        The network, for its sizes and statistics.
    settings : Settings
        How image files become pixels.

    Returns
    -------
    (N, n_channels, H, W) Tensor of float32 or None
        At most `N_FIRST` normalised images; None if none of eight times as many can be read.
    """
    decoding = choose_decoding(settings.catalog, checkpoint.n_channels)
    cutouts: list[NDArray[np.uint8]] = []
    for path in galaxies.paths[: 8 * N_FIRST]:
        # Whoever explains the galaxies says what is wrong with the others.
        with suppress(CutoutError, LostCutoutError):
            cutouts.append(read_cutout(path, checkpoint.cutout_size, decoding))
        if len(cutouts) == N_FIRST:
            break
    return prepare_images(cutouts, checkpoint)


def prepare_images(cutouts: Sequence[NDArray[np.uint8]], checkpoint: Checkpoint) -> Tensor | None:
    """Return cutouts as a network sees them, scaled and normalised; None if there are none.

    Parameters
    ----------
    cutouts : sequence of (S, S, n_channels) ndarray of uint8
        The N cutouts.
    checkpoint : Checkpoint
        The network.

    Returns
    -------
    (N, n_channels, H, W) Tensor of float32 or None
    """
    if not cutouts:
        return None
    scaled = np.stack([scale_cutout(cutout, checkpoint.image_size) for cutout in cutouts])
    return checkpoint.normalise(scaled)


def prove_engines(
    checkpoint: Checkpoint,
    images: Tensor | None,
    settings: Settings,
    layer_name: str,
    layer: LayerTraits,
    run: RunOptions,
) -> list[Engine]:
    """Prepare each network, and compare its maps with the exact ones on noise and on galaxies.

    Parameters
    ----------
    checkpoint : Checkpoint
        The network, or an ensemble of several.
    images : (N, n_channels, H, W) Tensor of float32 or None
        Images from `read_proof_images`.
    settings : Settings
        How to explain.
    layer_name : str
        The layer to explain.
    layer : LayerTraits
        What is known of it.
    run : RunOptions
        The device.

    Returns
    -------
    list of Engine
        The engine of each network; in float32, where the precision is to be chosen by measuring.

    Raises
    ------
    CheckpointError
        If a network cannot be explained; see `galfig.attribution.engine.Engine.verify`.
    """
    return [
        _prove_engine(network, images, settings, layer_name, layer, run)
        for network in checkpoint.networks
    ]


def _prove_engine(
    checkpoint: Checkpoint,
    images: Tensor | None,
    settings: Settings,
    layer_name: str,
    layer: LayerTraits,
    run: RunOptions,
) -> Engine:
    model = checkpoint.model.to(choose_device(run.device))
    precision = settings.maps.precision
    try:
        engine = make_engine(
            model,
            model.get_submodule(layer_name),
            method=settings.maps.method,
            shape=(checkpoint.n_channels, checkpoint.image_size, checkpoint.image_size),
            precision="float32" if precision == "auto" else precision,
            micro_batch=settings.maps.micro_batch,
            channels_last=layer.channels_last,
            tokens=layer.tokens,
        )
        if images is not None:
            engine.verify(images)
    except ValueError as exc:
        raise CheckpointError(f"{checkpoint.record.arch}: cannot be explained; {exc}") from exc
    return engine


def name_way(engines: Sequence[Engine], settings: Settings) -> str:
    """Return what decides in which order engines compute, for the digests of parts.

    Parameters
    ----------
    engines : sequence of Engine
        The engine of each network.
    settings : Settings
        How to explain. The precision is named where it was chosen by measuring.

    Returns
    -------
    str
        The precision, if it is named, and `galfig.attribution.engine.EngineRecord.way` of each.
    """
    ways = ["" if engine.record is None else engine.record.way for engine in engines]
    if settings.maps.precision == "auto":
        ways.insert(0, engines[0].precision)
    return "; ".join(ways)
