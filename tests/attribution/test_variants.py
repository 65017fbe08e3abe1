"""Variants: from the fastest to the plainest, each on a copy that shares what it may."""

import copy
import warnings

import pytest
import torch
from reference import make_cases, reference_cams, relative_error
from torch import nn

from galfig.attribution.variants import (
    Variant,
    copy_network,
    list_variants,
    prepare,
    set_arithmetic,
)

CASES = make_cases()


@pytest.fixture
def images():
    return torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def test_order_is_from_fast_to_plain():
    """No variant twice; the last is the network itself."""
    variants = list_variants()
    assert len(set(variants)) == len(variants)
    assert str(variants[0]) == (
        "closed form, channels-last, batch norms folded, convolutions packed"
    )
    assert [variant.path for variant in variants[-2:]] == ["plain", "plain"]
    assert [variant.copies for variant in variants[-2:]] == [True, False]


@pytest.mark.parametrize("case", ["pooling and linear", "shared ReLU", "two linear layers"])
def test_every_variant_gives_the_maps_of_the_reference(case, images):
    """Whichever the engine takes."""
    model, layer_name = CASES[case]
    expected = reference_cams(model, images, layer_name)
    tried = 0
    for variant in list_variants():
        prepared = prepare(model, layer_name, variant, images)
        if prepared is not None:
            assert relative_error(prepared.make_copy().explain(images).cams, expected) <= 1e-5
            tried += 1
    assert tried >= 4


def test_variant_without_effect_is_none(images):
    """Nothing to fold, and no head with a closed form."""
    model, layer_name = CASES["shared ReLU"]
    assert (
        prepare(model, layer_name, Variant("cut graph", "contiguous", folds=True), images) is None
    )
    model, layer_name = CASES["two linear layers"]
    assert prepare(model, layer_name, Variant("closed form", "contiguous"), images) is None


def test_copies_of_threads_share_tensors_and_no_modules(tiny_cnn, images):
    """The weights are in memory once; what a module notes on itself stays with its thread."""
    variant = Variant("cut graph", "channels-last", folds=True, packs=True)
    prepared = prepare(tiny_cnn, "1", variant, images)
    first, second = (prepared.make_copy().model for _ in range(2))
    assert first is not second
    for own, other in zip(first.parameters(), second.parameters(), strict=True):
        assert own is other
    modules = {*first.modules()}
    assert not any(module in modules for module in second.modules())
    mine = {id(tensor) for tensor in tiny_cnn.state_dict().values()}
    assert all(tensor.data_ptr() not in mine for tensor in first.parameters())
    assert all(parameter.is_contiguous() for parameter in tiny_cnn.parameters())


def test_computed_tensors_can_be_copied(images):
    """The old weight norm keeps a tensor of a graph, which deepcopy refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        conv = nn.utils.weight_norm(nn.Conv2d(3, 8, 3))
    model = nn.Sequential(conv, nn.ReLU()).eval()
    with pytest.raises(RuntimeError):
        copy.deepcopy(model)
    assert torch.equal(copy_network(model)(images), model(images))


def read_arithmetic():
    cudnn = torch.backends.cudnn
    tf32 = cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    return *tf32, cudnn.deterministic, cudnn.benchmark


def test_arithmetic_of_threads_that_leave_in_any_order():
    """What was set before comes back when the last has left, whoever entered first."""
    before, cpu = read_arithmetic(), torch.device("cpu")
    first, second = set_arithmetic("tf32", cpu), set_arithmetic("float32", cpu)
    first.__enter__()
    assert read_arithmetic() == (True, True, True, False)
    second.__enter__()
    assert read_arithmetic() == (False, False, True, False)
    first.__exit__(None, None, None)
    assert read_arithmetic() == (False, False, True, False)
    second.__exit__(None, None, None)
    assert read_arithmetic() == before


def test_arithmetic_within_another():
    """The inner one ends, and the outer one goes on as it began."""
    cpu = torch.device("cpu")
    with set_arithmetic("tf32", cpu):
        with set_arithmetic("float32", cpu):
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32
