"""Tokens: where the elements of a transformer's sequence lie in the image, found by trying."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from galfig.attribution.gradcam import Tokens
from galfig.attribution.variants import copy_network
from galfig.networks.layers import Output

# The most elements that lie nowhere: a class token, one of distillation, and registers.
MAX_PREFIX = 16
# Of fewer elements there is no grid.
LEAST_TOKENS = 4
# Patches may be as much longer than wide.
MAX_ASPECT = 4
# The most bands of rows that are changed, and of columns, where a sequence begins, and deeper.
MAX_BANDS, MAX_BANDS_DEEP = 32, 8
# Least correlation of the places that were measured with those of a grid, along either axis, where
# a sequence begins, and deeper; and how far they may lie from it where it begins [cells, rms]. The
# grids of 40 networks of timm have 0.97 and 0.6 or better; a stem of strided convolutions shifts
# them by half a cell.
LEAST_CORRELATION, LEAST_CORRELATION_DEEP, MOST_AWAY = 0.9, 0.8, 0.75
# Images of noise whose responses are added up, there and there.
N_DRAWS, N_DRAWS_DEEP = 2, 1
# Images at a time.
CHUNK = 8


class Located(NamedTuple):
    """Where the elements of a sequence lie, or why that is not known.

    Attributes
    ----------
    tokens : Tokens or None
        The grid; None if it is none that galfig can read.
    reason : str
        What was found instead, to follow "whose tokens"; "" with a grid.
    """

    tokens: Tokens | None
    reason: str = ""


# What to say of sequences whose elements do not stay in their places, to follow "whose tokens".
MOVED = "are not, or not measurably, where they began"
# And of those behind the last attention of a transformer with a class token.
UNREAD = "do not change the logits where they lie in the image"


class _Stopped(Exception):
    """The layer was reached, so that the rest of the network need not run."""


def find_tokens(
    model: nn.Module,
    output: Output,
    outputs: Sequence[Output],
    image_size: int,
    n_channels: int = 3,
) -> Located:
    """Find where the elements of a sequence lie, by changing rows and columns of an image.

    Where an element looks is the mean place of the bands of rows, and of the bands of columns,
    whose change changes it. The first sequence of the network that is as long is looked at, before
    attention mixes its elements, and every grid is compared with it that the number of elements
    allows, also those that galfig cannot read: column by column, mirrored, or with the elements
    that lie nowhere at the end. `find_in_place` looks whether they are still there deeper down.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode. On the "meta" device, a copy with random weights runs.
    output : Output
        What the layer returns, a sequence (N, T, K).
    outputs : sequence of Output
        What all submodules return; see `galfig.networks.layers.trace_outputs`.
    image_size : int
        Side of the images [pixels].
    n_channels : int, default 3
        Channels of the images.

    Returns
    -------
    Located
        The tokens are a grid, row by row from the upper left, behind a few that lie nowhere.
    """
    n_tokens = output.shape[1]
    first = next(
        one.name
        for one in outputs
        if one.kind == "tokens" and one.n_runs == 1 and one.shape[1] == n_tokens
    )
    n_bands = min(MAX_BANDS, image_size, max(2, isqrt(n_tokens)))
    shape = (n_channels, image_size, image_size)
    reason = "are no grid of the image"
    for network in _iter_networks(model):
        located = _fit(_measure_places(network, [first], n_bands, N_DRAWS, shape)[first])
        if located.tokens is not None:
            return located
        reason = located.reason or reason
    return Located(None, reason)


def find_in_place(
    model: nn.Module, layers: Mapping[str, Tokens], image_size: int, n_channels: int = 3
) -> set[str]:
    """Find the sequences deep in a network whose elements lie where they began.

    Each element there depends on all of the image, but mostly on its own place. A network that
    sorts them into windows on the way, or mixes them until no place is left, is told by that.

    Parameters
    ----------
    model : torch.nn.Module
        The network, as for `find_tokens`.
    layers : mapping of str to Tokens
        Names of layers that return sequences, and where `find_tokens` found their elements.
    image_size, n_channels : int
        As for `find_tokens`.

    Returns
    -------
    set of str
        Some of the names.
    """
    shape = (n_channels, image_size, image_size)
    found: set[str] = set()
    for network in _iter_networks(model):
        left = {name: tokens for name, tokens in layers.items() if name not in found}
        if not left:
            break
        n_bands = min(MAX_BANDS_DEEP, max(max(tokens[1:]) for tokens in left.values()))
        places = _measure_places(network, left, n_bands, N_DRAWS_DEEP, shape)
        for name, (n_prefix, *grid) in left.items():
            inside = places[name][:, n_prefix:]
            if _compare(inside, grid, LEAST_CORRELATION_DEEP, most_away=None) is not None:
                found.add(name)
    return found


class Reach(NamedTuple):
    """Which elements of a sequence change the logits.

    Attributes
    ----------
    prefix : bool
        Whether those do that lie nowhere in the image.
    grid : bool
        Whether those do that lie in it.
    """

    prefix: bool
    grid: bool


def find_reach(
    model: nn.Module, layers: Mapping[str, Tokens], image_size: int, n_channels: int = 3
) -> dict[str, Reach]:
    """Find which elements of sequences change the logits.

    Behind the last attention of a transformer with a class token, those in the image do not; behind
    that of one which averages over patches, those before the patches do not.

    Parameters
    ----------
    model : torch.nn.Module
        The network, as for `find_tokens`.
    layers : mapping of str to Tokens
        Names of layers that return sequences, and where their elements lie.
    image_size, n_channels : int
        As for `find_tokens`.

    Returns
    -------
    dict of str to Reach
    """
    found = {
        name: torch.zeros(tokens.n_prefix + tokens.height * tokens.width, dtype=torch.bool)
        for name, tokens in layers.items()
    }
    # The last layer of an untrained network may be zero.
    for network in _iter_networks(model):
        if all(reaching.all() for reaching in found.values()):
            break
        for name, slope in _find_slopes(network, found, image_size, n_channels).items():
            found[name] |= slope > 0
    return {
        name: Reach(*(bool(part.any()) for part in found[name].tensor_split([tokens.n_prefix])))
        for name, tokens in layers.items()
    }


def _find_slopes(
    model: nn.Module, names: Iterable[str], image_size: int, n_channels: int
) -> dict[str, Tensor]:
    """Return the absolute gradient (T,) of a sum of logits at the elements of sequences."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> Tensor:
        # The network may run the layer under a torch.no_grad() of its own.
        torch.set_grad_enabled(True)
        leaf = output if output.requires_grad else output.detach().requires_grad_()
        outputs[name] = leaf
        # The layers above may write to it.
        return leaf.clone()

    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, n_channels, image_size, image_size, generator=generator)
    images = images.to(next(model.parameters()))
    with ExitStack() as stack, torch.inference_mode(False), torch.enable_grad():
        for name in names:
            hook = model.get_submodule(name).register_forward_hook(partial(keep, name))
            stack.callback(hook.remove)
        logits = model(images)
        weights = torch.randn(logits.shape, generator=generator).to(logits)
        total = (logits * weights).sum()
        if not total.requires_grad:
            return {}
        slopes = torch.autograd.grad(total, list(outputs.values()), allow_unused=True)
    return {
        name: slope[0].abs().sum(dim=1).cpu()
        for name, slope in zip(outputs, slopes, strict=True)
        if slope is not None
    }


def fill_weights(model: nn.Module) -> nn.Module:
    """Return a copy of a network, which may be on the "meta" device, with random weights."""
    model = copy_network(model).to_empty(device="cpu").requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.1, generator=generator)
            # Norms and scales, which would otherwise leave little of a signal.
            if parameter.ndim == 1 and not name.endswith("bias"):
                parameter.add_(1)
        for name, buffer in model.named_buffers():
            # Ones divide and mask nothing, such as periods of rotary embeddings; zeros are indices.
            is_one = buffer.is_floating_point() and not name.endswith("running_mean")
            buffer.fill_(1 if is_one else 0)
    return model


def _iter_networks(model: nn.Module) -> Iterator[nn.Module]:
    """Iterate over the network itself, if it has weights, and a copy with random ones."""
    if not next(model.parameters()).is_meta:
        yield model
    yield fill_weights(model)


def _measure_places(
    model: nn.Module,
    names: Collection[str],
    n_bands: int,
    n_draws: int,
    shape: tuple[int, int, int],
) -> dict[str, Tensor]:
    """Return the row and the column (2, T), in [0, 1], where each element of sequences looks.

    Those of elements that look nowhere are not finite.
    """
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for axis in (1, 2):
        draws: dict[str, list[Tensor]] = {name: [] for name in names}
        for _ in range(n_draws):
            image, other = torch.randn(2, *shape, generator=generator)
            images = _change_bands(image, other, n_bands, axis)
            for name, response in _measure_responses(model, names, images).items():
                draws[name].append(response)
        for name, responses in draws.items():
            found[name].append(_find_middle(torch.stack(responses).square().mean(dim=0).sqrt()))
    return {name: torch.stack(places) for name, places in found.items()}


def _find_middle(response: Tensor) -> Tensor:
    """Return the mean place (T,) of the bands that change each element, given (B, T)."""
    # Some bands change everything more than others do. Attention adds a part that is common.
    relative = response / response.mean(dim=1, keepdim=True)
    own = (relative - relative.min(dim=0).values).square()
    middle = (torch.arange(len(own), dtype=own.dtype) + 0.5) / len(own)
    return (own * middle[:, None]).sum(dim=0) / own.sum(dim=0)


def _fit(places: Tensor) -> Located:
    """Return the grid that the places (2, T) are nearest to, among the largest that they allow.

    A smaller one, without the first row of patches, may be nearer where a stem shifts all places.
    """
    n_tokens = places.shape[1]
    best, least, least_other = Located(None), float("inf"), n_tokens
    for height, width, n_prefix in _list_grids(n_tokens):
        n_other = n_tokens - height * width
        if n_other > least_other:
            break
        n_suffix = n_tokens - n_prefix - height * width
        inside = places[:, n_prefix : n_tokens - n_suffix]
        for reason, seen, sides in (
            ("", inside, (height, width)),
            ("run column by column", inside.flip(0), (height, width)),
            ("run from right to left", _mirror(inside, 1), (height, width)),
            ("run from the bottom to the top", _mirror(inside, 0), (height, width)),
            ("run backwards", 1 - inside, (height, width)),
        ):
            away = _compare(seen, sides, LEAST_CORRELATION, MOST_AWAY)
            if away is None or away >= least:
                continue
            least, least_other = away, n_other
            if n_suffix:
                reason = f"lie nowhere in the image at the end, the last {n_suffix} of them"
            best = Located(None if reason else Tokens(n_prefix, height, width), reason)
    return best


def _list_grids(n_tokens: int) -> Iterator[tuple[int, int, int]]:
    """Iterate over the height, width and number of elements before each grid; large ones first."""
    for n_other in range(min(MAX_PREFIX, n_tokens) + 1):
        n_inside = n_tokens - n_other
        for height in range(2, n_inside // 2 + 1):
            width, rest = divmod(n_inside, height)
            if not rest and max(height, width) <= MAX_ASPECT * min(height, width):
                # Before the grid or behind it, but not both.
                yield height, width, n_other
                if n_other:
                    yield height, width, 0


def _mirror(places: Tensor, axis: int) -> Tensor:
    mirrored = places.clone()
    mirrored[axis] = 1 - mirrored[axis]
    return mirrored


def _compare(
    places: Tensor, grid: Sequence[int], least: float, most_away: float | None
) -> float | None:
    """Return how far places (2, h·w) are from those of a grid, row by row [square of the image].

    None if their correlation is less, or they are more cells away along either axis.
    """
    if not places.isfinite().all():
        return None
    height, width = grid
    rows = (torch.arange(height, dtype=places.dtype) + 0.5) / height - 0.5
    columns = (torch.arange(width, dtype=places.dtype) + 0.5) / width - 0.5
    expected = torch.stack([rows.repeat_interleave(width), columns.repeat(height)])
    away = 0.0
    for seen, wanted, side in zip(places - 0.5, expected, grid, strict=True):
        if not torch.corrcoef(torch.stack([seen, wanted]))[0, 1] >= least:
            return None
        # Elements that see far see less of it beyond the edges, so that their middle is inside.
        scale = (seen * wanted).sum() / wanted.square().sum()
        squared = float((seen / scale - wanted).square().mean())
        if most_away is not None and squared**0.5 * side > most_away:
            return None
        away += squared
    return away


def _change_bands(image: Tensor, other: Tensor, n_bands: int, axis: int) -> Tensor:
    """Return an image, and copies of it of which each has one band of another image."""
    size = image.shape[axis]
    images = [image]
    for band in range(n_bands):
        start, stop = (i * size // n_bands for i in (band, band + 1))
        changed = image.clone()
        changed.narrow(axis, start, stop - start).copy_(other.narrow(axis, start, stop - start))
        images.append(changed)
    return torch.stack(images)


def _measure_responses(
    model: nn.Module, names: Collection[str], images: Tensor
) -> dict[str, Tensor]:
    """Return how far the elements of sequences change (B, T) from the first image to each other.

    What follows the last of the layers does not run.
    """
    reference: dict[str, Tensor] = {}
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    waiting: set[str] = set()

    def note(name: str, module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> None:
        output = output.detach().double()
        # The first run is of the first image alone.
        if name in reference:
            found[name].append((output - reference[name]).norm(dim=2).cpu())
        else:
            reference[name] = output.clone()
        waiting.discard(name)
        if not waiting:
            raise _Stopped

    with ExitStack() as stack, torch.no_grad():
        for name in names:
            hook = model.get_submodule(name).register_forward_hook(partial(note, name))
            stack.callback(hook.remove)
        for chunk in (images[:1], *images[1:].split(CHUNK)):
            waiting.update(names)
            with suppress(_Stopped):
                model(chunk.to(next(model.parameters())))
    return {name: torch.cat(responses) for name, responses in found.items()}
