"""The sample of an audit: galaxies of a store, and the networks that explain them again."""

import copy
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn

from galfig.attribution.engine import Engine, make_engine
from galfig.attribution.gradcam import CamBatch
from galfig.attribution.orientations import explain_averaged
from galfig.config import NONLINEAR_METHODS, PIXEL_METHODS
from galfig.errors import CheckpointError, SelectionError
from galfig.images.cutouts import scale_cutout
from galfig.networks.architectures import LayerTraits, describe_layer
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.device import choose_device
from galfig.networks.receptive import Field, measure_fields
from galfig.runtime.options import Device
from galfig.store.reader import Store
from galfig.store.selection import find_in_split

# Fewer galaxies give no interval that means anything.
MIN_GALAXIES = 10
# Galaxies that are held in memory at a time.
CHUNK = 32
# Galaxies whose logits are compared with those of the store, and the difference, relative to the
# largest, up to which it is rounding: bfloat16 keeps eight bits.
N_COMPARED, AGREEMENT = 8, 0.02

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Sample:
    """Galaxies of a store, and the networks that its maps explain.

    Attributes
    ----------
    store : Store
        The open store.
    networks : tuple of Checkpoint
        The network, or the K networks of an ensemble.
    rows : (n,) ndarray of int
        Positions of the galaxies in the store.
    seed : int
        Seed of everything that a measure draws.
    device : {"auto", "cpu", "cuda", "cuda:1", ...}
        Where the networks run.
    """

    store: Store
    networks: tuple[Checkpoint, ...]
    rows: NDArray[np.intp]
    seed: int
    device: Device = "auto"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def checkpoint(self) -> Checkpoint:
        """The network; the first of an ensemble."""
        return self.networks[0]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, (C,)."""
        return self.store.class_names

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """True class of each galaxy, (n,); -1 where it is unknown."""
        return self.store.label[self.rows].astype(np.int64)

    @cached_property
    def predicted(self) -> NDArray[np.intp]:
        """Predicted class of each galaxy, (n,), by the store."""
        return self.store.predicted[self.rows]

    @property
    def layer_name(self) -> str:
        """Name of the layer that the store explains."""
        return self.store.record.target_layer

    @property
    def method(self) -> str:
        """Method of the maps, by name."""
        return self.store.record.method

    @property
    def is_of_pixels(self) -> bool:
        """Whether the maps explain the pixels of the image, and no layer."""
        return self.method in PIXEL_METHODS

    @property
    def has_averaged(self) -> bool:
        """Whether the store explains the network averaged over eight orientations."""
        return self.store.settings.maps.tta

    def make_rng(self, purpose: str) -> np.random.Generator:
        """Return a generator of random numbers that depends on the seed and a purpose only."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])

    def iter_chunks(self, size: int = CHUNK) -> Iterator[slice]:
        """Iterate over the galaxies, a few at a time, by slices of their numbers 0 to n - 1."""
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def read_pixels(self, chosen: slice | Sequence[int]) -> NDArray[np.uint8]:
        """Read the images of some galaxies, scaled to the input of the network.

        Parameters
        ----------
        chosen : slice or sequence of int
            Numbers of galaxies within the sample, 0 to n - 1.

        Returns
        -------
        (m, S, S, n_channels) ndarray of uint8
        """
        cutouts = self.store.pixels(self.rows[chosen])
        return np.stack([scale_cutout(one, self.checkpoint.image_size) for one in cutouts])

    def images(self, chosen: slice | Sequence[int]) -> Tensor:
        """Read the normalised images of some galaxies.

        Parameters
        ----------
        chosen : slice or sequence of int
            Numbers of galaxies within the sample, 0 to n - 1.

        Returns
        -------
        (m, n_channels, S, S) Tensor of float32
        """
        return self.checkpoint.normalise(self.read_pixels(chosen))

    def read_maps(self, chosen: slice | Sequence[int]) -> NDArray[np.float32]:
        """Read the maps under test: those of the predicted class, as the store holds them.

        Parameters
        ----------
        chosen : slice or sequence of int
            Numbers of galaxies within the sample, 0 to n - 1.

        Returns
        -------
        (m, h, w) ndarray of float32
        """
        cams = self.store.cams(self.rows[chosen])
        return cams[np.arange(len(cams)), self.predicted[chosen]]

    def read_evidence(self, chosen: slice | Sequence[int]) -> NDArray[np.float32] | None:
        """Read the evidence for the predicted class; None where the maps hold it, or cannot.

        Parameters
        ----------
        chosen : slice or sequence of int
            Numbers of galaxies within the sample, 0 to n - 1.

        Returns
        -------
        (m, h, w) ndarray of float32 or None
            None for maps of evidence, and for those of methods that are not linear in the target.
        """
        if self.method == "evidence" or self.method in NONLINEAR_METHODS:
            return None
        found = self.store.evidence(self.rows[chosen])
        predicted = self.predicted[chosen]
        if len(self.class_names) == 2:
            return found * np.where(predicted == 1, 1, -1)[:, None, None].astype(np.float32)
        return found[np.arange(len(found)), predicted]

    def spread(self, n: int) -> list[int]:
        """Return the numbers of at most n galaxies, spread evenly over the sample."""
        return spread_evenly(len(self), n)

    def iter_layers(self) -> Iterator[tuple[Checkpoint, LayerTraits]]:
        """Iterate over the networks, each with what must be known of the layer explained."""
        for one in self.networks:
            yield (
                one,
                describe_layer(
                    one.model, self.layer_name, one.image_size, one.record.arch, one.n_channels
                ),
            )

    @cached_property
    def field(self) -> Field:
        """Receptive field of the central cell of the maps, by the first network."""
        one, traits = next(self.iter_layers())
        name, model = self.layer_name, copy.deepcopy(one.model).cpu()
        return measure_fields(model, {name: traits}, one.image_size, one.n_channels)[name]

    @cached_property
    def _engines(self) -> list[Engine]:
        return [self.make_engine(one.model) for one in self.networks]

    def make_engine(self, model: nn.Module) -> Engine:
        """Prepare a network of the same architecture to explain the layer of the store.

        Parameters
        ----------
        model : torch.nn.Module
            The network, in evaluation mode.

        Returns
        -------
        Engine

        Raises
        ------
        CheckpointError
            If the network cannot be explained.
        """
        one = self.checkpoint
        model = model.to(choose_device(self.device))
        try:
            layer = model.get_submodule(self.layer_name)
            traits = describe_layer(
                model, self.layer_name, one.image_size, one.record.arch, one.n_channels
            )
            return make_engine(
                model,
                layer,
                method=self.method,
                shape=(one.n_channels, one.image_size, one.image_size),
                precision=self.store.record.precision,
                channels_last=traits.channels_last,
                tokens=traits.tokens,
            )
        except (ValueError, AttributeError) as exc:
            raise CheckpointError(f"{one.record.arch}: cannot be explained; {exc}") from exc

    def explain(self, images: Tensor, engine: Engine | None = None) -> CamBatch:
        """Explain images as the store does: by its layer, and averaged as it is.

        Parameters
        ----------
        images : (m, n_channels, S, S) Tensor of float32
            Normalised.
        engine : Engine, optional
            Another network's; by default, the mean over `networks`.

        Returns
        -------
        CamBatch
            ``cams`` (m, C, h, w) and ``logits`` (m, C), on the CPU.
        """
        if engine is not None:
            return self._explain(engine, images)
        batches = self.explain_each(images)
        if len(batches) == 1:
            return batches[0]
        return CamBatch(
            cams=torch.stack([batch.cams for batch in batches]).mean(dim=0),
            logits=torch.stack([batch.logits for batch in batches]).mean(dim=0),
        )

    def explain_each(self, images: Tensor) -> list[CamBatch]:
        """Explain images by each of the networks; see `explain`."""
        return [self._explain(engine, images) for engine in self._engines]

    def _explain(self, engine: Engine, images: Tensor) -> CamBatch:
        explain = engine.explain_averaged if self.has_averaged else engine
        batch = explain(images)
        return CamBatch(cams=batch.cams.cpu(), logits=batch.logits.cpu())

    def predict(self, images: Tensor) -> NDArray[np.float64]:
        """Return the probability of each class for each image, (m, C); see `predict_logits`."""
        return softmax(self.predict_logits(images).astype(np.float64), axis=1)

    def predict_logits(self, images: Tensor) -> NDArray[np.float32]:
        """Return the logits of each image, (m, C), as the mean over `networks`.

        They are those of the engine where its maps cost nothing; otherwise, the network runs as it
        is, and no gradient is taken.

        Parameters
        ----------
        images : (m, n_channels, S, S) Tensor of float32
            Normalised.
        """
        found = [self._predict_by(number, images) for number in range(len(self.networks))]
        return np.mean(found, axis=0)

    def _predict_by(self, number: int, images: Tensor) -> NDArray[np.float32]:
        engine, model = self._engines[number], self.networks[number].model

        def run(batch: Tensor) -> CamBatch:
            if engine.record is not None and engine.record.path == "closed form":
                return engine(batch)
            with torch.inference_mode():
                parts = [model(part.to(engine.device)) for part in batch.split(CHUNK)]
            logits = torch.cat(parts).float()
            return CamBatch(cams=logits[..., None, None], logits=logits)

        batch = explain_averaged(run, images) if self.has_averaged else run(images)
        return batch.logits.cpu().numpy()


def draw_sample(
    store: Store,
    networks: Sequence[Checkpoint],
    *,
    n: int | None = 500,
    seed: int = 256,
    device: Device = "auto",
) -> Sample:
    """Draw galaxies of a store that did not train the network, and check that it is the network.

    Parameters
    ----------
    store : Store
        The open store.
    networks : sequence of Checkpoint
        The network whose maps the store holds, the ensemble, or all networks of it.
    n : int, optional
        Number of galaxies to draw; all of them if there are fewer, or if it is None.
    seed : int, default 256
        Seed of the draw, and of what the measures draw.
    device : {"auto", "cpu", "cuda", "cuda:1", ...}, default "auto"
        Where the networks run.

    Returns
    -------
    Sample
        Its galaxies are in the order of the store. They are those that `Store.score` counts:
        where all of the store's galaxies trained the network, they are taken all the same.

    Raises
    ------
    CheckpointError
        If the networks are not those of the store: other classes, or other logits.
    SelectionError
        If there are fewer than `MIN_GALAXIES`.
    """
    if not networks:
        raise CheckpointError("no network, expected the one whose maps the store holds")
    rows = np.flatnonzero(find_in_split(store))
    if len(rows) < MIN_GALAXIES:
        raise SelectionError(
            f"{store.path}: {len(rows)} galaxies that did not train the network, expected at least "
            f"{MIN_GALAXIES} to measure anything; build a store of more galaxies"
        )
    if n is not None and n < MIN_GALAXIES:
        raise SelectionError(f"`n`: {n}, expected at least {MIN_GALAXIES} galaxies")
    if n is not None and n < len(rows):
        rows = np.random.default_rng(seed).choice(rows, n, replace=False)
    each = tuple(network for one in networks for network in one.networks)
    sample = Sample(store, each, np.sort(rows).astype(np.intp), seed, device)
    _check_networks(sample)
    return sample


def spread_evenly(n_all: int, n: int) -> list[int]:
    """Return at most n of the numbers 0 to n_all - 1, the first and the last among them."""
    return [int(i) for i in np.linspace(0, n_all - 1, min(n, n_all)).round()]


def _check_networks(sample: Sample) -> None:
    """Raise CheckpointError if networks do not give the logits that the store holds."""
    store = sample.store
    if len(sample.networks) != store.n_networks:
        raise CheckpointError(
            f"{store.path}: made with {store.n_networks} networks, found {len(sample.networks)}; "
            "give those that made it"
        )
    size = store.pixels(int(sample.rows[0])).shape
    for one in sample.networks:
        if one.class_names != store.class_names:
            raise CheckpointError(
                f"{store.path}: its classes are {', '.join(store.class_names)}, but the network "
                f"tells {', '.join(one.class_names)}; give the network that made it"
            )
        if size != (one.cutout_size, one.cutout_size, one.n_channels):
            raise CheckpointError(
                f"{store.path}: its cutouts are {size}, but the network takes "
                f"{(one.cutout_size, one.cutout_size, one.n_channels)}; give the network that made "
                "it"
            )
    first = slice(0, N_COMPARED)
    found = sample.predict_logits(sample.images(first))
    expected = store.logits[sample.rows[first]]
    difference = np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1.0)
    if not difference <= AGREEMENT:
        raise CheckpointError(
            f"{store.path}: the network gives other logits than the store holds, by "
            f"{difference:.2g} of the largest; give the network that made it"
        )
