"""Probes: what mixes images or depends on chance is refused; kinks are told from mistakes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from galfig.attribution.engine import make_engine
from galfig.attribution.gradcam import CamBatch, differ
from galfig.attribution.probe import (
    check_function_of_one_image,
    explain_one_by_one,
    find_disagreement,
    make_probes,
    measure_interference,
    measure_kinks,
)
from galfig.attribution.variants import Variant, prepare


class Head(nn.Module):
    """A convolution, and a head that does something to its features."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.fc, self.function = nn.Conv2d(3, 8, 3), nn.Linear(8, 2), function

    def forward(self, x):
        return self.fc(self.function(self.body(x).relu().mean((2, 3))))


GENERATOR = torch.Generator()
RANDOM = {
    "dropout left on": lambda x: functional.dropout(x, 0.5),
    "noise": lambda x: x + 0.01 * torch.randn_like(x),
    "own generator": lambda x: x + 0.1 * torch.rand(x.shape, generator=GENERATOR),
}
MIXED = {
    "batch mean": lambda x: x - x.mean(0),
    "batch norm by function": lambda x: functional.batch_norm(x, None, None, training=True),
    "maximum over the batch": lambda x: x / x.max(),
    "neighbour": lambda x: x + 0.1 * x.roll(1, 0),
    "sorted by brightness": lambda x: x[x.sum(1).argsort()],
    "one image at a time": lambda x: x.reshape(1, 8),
}


@pytest.fixture
def images():
    return make_probes((3, 16, 16), torch.empty(0))


def test_probes_are_the_same_each_time_and_about_normal(images):
    """Five images, the last three of them smooth, of the dtype of the network."""
    torch.manual_seed(5)
    assert torch.equal(images, make_probes((3, 16, 16), torch.empty(0)))
    assert make_probes((1, 8, 9), torch.empty(0).double()).dtype == torch.float64
    assert 0.3 < images.std() < 1.2
    steps = images.diff(dim=3).std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    assert (steps[:2] > 1.2).all()
    assert (steps[2:] < 0.8).all()


@pytest.mark.parametrize("fault", RANDOM)
def test_chance_is_refused(fault, images):
    """Another result at each run, whatever draws the numbers."""
    with pytest.raises(ValueError, match="each time for the same image"):
        check_function_of_one_image(Head(RANDOM[fault]).eval(), images)


@pytest.mark.parametrize("fault", MIXED)
def test_images_that_mix_are_refused(fault, images):
    """An image alone gets other logits than among others, or none at all."""
    with pytest.raises(ValueError, match="alone than among others"):
        check_function_of_one_image(Head(MIXED[fault]).eval(), images)


@pytest.mark.parametrize("fault", ["dropout left on", "batch mean"])
def test_engine_refuses_them_at_the_first_images(fault, images):
    """And with the shape of the images, before any."""
    model = Head((RANDOM | MIXED)[fault]).eval()
    with pytest.raises(ValueError, match="gives other logits"):
        make_engine(model, model.body)(images)
    with pytest.raises(ValueError, match="gives other logits"):
        make_engine(model, model.body, shape=(3, 16, 16))


def test_function_of_one_image_passes(tiny_cnn, images):
    """Its logits are those of each image alone."""
    found = check_function_of_one_image(tiny_cnn, images)
    torch.testing.assert_close(found, tiny_cnn(images).detach(), rtol=1e-4, atol=1e-5)


def make_batch(n=5):
    generator = torch.Generator().manual_seed(0)
    cams = torch.randn(n, 2, 4, 4, generator=generator)
    return CamBatch(cams, torch.randn(n, 2, generator=generator))


def change(batch, cams=1.0, logits=1.0, images=slice(None)):
    changed = CamBatch(batch.cams.clone(), batch.logits.clone())
    changed.cams[images] *= cams
    changed.logits[images] *= logits
    return changed


def test_what_is_wrong_disagrees():
    """All maps by a thousandth, one by a fifth, logits of one image, a shape, a NaN."""
    batch = make_batch()

    def kinks(index):
        return 0.2

    assert find_disagreement(change(batch, 1 + 1e-6), batch, kinks) == ""
    assert "maps differ by 0.001" in find_disagreement(change(batch, 1.001), batch, kinks)
    assert "maps differ by 0.2" in find_disagreement(change(batch, 1.2, 1, [0]), batch, kinks)
    wrong = change(batch, 1, 1.01, [int(batch.logits.abs().max(1).values.argmax())])
    assert "logits differ by 0.01" in find_disagreement(wrong, batch, kinks)
    transposed = CamBatch(batch.cams.reshape(5, 2, 2, 8), batch.logits)
    assert "maps of shape (5, 2, 2, 8)" in find_disagreement(transposed, batch, kinks)
    assert "inf" in find_disagreement(change(batch, torch.nan, 1, [0]), batch, kinks)
    nothing = change(batch, 0.0)
    assert "maps differ by" in find_disagreement(batch, nothing, kinks)
    assert find_disagreement(nothing, nothing, kinks) == ""


def test_a_minority_at_a_kink_agrees_only_if_the_exact_path_jumps_there():
    """By no more than four times as much as it."""
    batch = make_batch()
    wrong = change(batch, 1.01, 1, [0, 1])
    assert find_disagreement(wrong, batch, lambda index: 0.01) == ""
    assert find_disagreement(wrong, batch, lambda index: 1e-6) != ""
    assert find_disagreement(change(batch, 1.01, 1, [0, 1, 2]), batch, lambda index: 0.01) != ""


def test_nothing_finite_proves_nothing():
    """Only the plain path is taken then."""
    batch = change(make_batch(), torch.nan)
    assert "nothing can be compared" in find_disagreement(batch, batch, lambda index: 0)
    assert find_disagreement(batch, batch, lambda index: 0, is_plain=True) == ""


def test_kinks_are_measured():
    """An activation at zero makes the map jump; away from it, it does not."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 16, 2)).eval()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    at_kink = torch.ones(1, 1, 4, 4)
    at_kink[0, 0, 0, 0] = -1  # 0.5 · -1 + 0.5
    away = torch.ones(1, 1, 4, 4)

    def explain(images):
        return explain_one_by_one(model, images, model[0])

    assert measure_kinks(explain, model, away, explain(away), 0) < 1e-4
    assert measure_kinks(explain, model, at_kink, explain(at_kink), 0) > 1e-2


def test_kinks_are_measured_where_the_image_does_not_reach():
    """In a saturated sky no change of the image moves an activation; rounding in between does."""
    head = [nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)]
    model = nn.Sequential(nn.Hardtanh(), nn.Conv2d(1, 1, 1), *head).eval()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    nn.init.constant_(model[2].bias, -0.5)  # 0.5 · (0.5 · 1 + 0.5) - 0.5
    images = torch.full((1, 1, 4, 4), 3.0)

    def explain(images):
        return explain_one_by_one(model, images, model[1])

    assert measure_kinks(explain, model, images, explain(images), 0) > 1e-2


class Recalling(nn.Module):
    """A convolution whose output a head uses too, from where it was put."""

    kept = None

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        self.recall = lambda: None
        first = self.body[0]
        if kind == "dictionary of a hook":
            found = {}
            first.register_forward_hook(lambda module, inputs, out: found.update(first=out))
            self.recall = lambda: found["first"]
        elif kind == "function on the object":
            forward = first.forward

            def keep(x):
                self.kept = forward(x)
                return self.kept

            first.forward = keep
        elif kind == "its class":
            first.register_forward_hook(
                lambda module, inputs, out: setattr(Recalling, "kept", out.detach())
            )
        else:
            first.register_forward_hook(self.note)

    def note(self, module, inputs, out):
        self.kept = out

    def forward(self, x):
        maps = self.body(x)
        kept = self.recall()
        return self.head(maps + (self.kept if kept is None else kept))


@pytest.mark.parametrize(
    ("kind", "is_copied"),
    [
        ("dictionary of a hook", False),
        ("function on the object", False),
        ("its class", False),
        ("method of the copy", True),
    ],
)
def test_copies_that_disturb_each_other_are_not_used(kind, is_copied, images):
    """Threads would read what another one keeps there; an image would get a galaxy's map."""
    model = Recalling(kind).eval()
    engine = make_engine(model, model.body[2], shape=(3, 16, 16), micro_batch=1)
    assert engine.record.copies is is_copied
    assert engine.record.path == ("cut graph" if is_copied else "plain")
    many = torch.cat([images, images.flip(0), -images])
    expected = explain_one_by_one(model, many, model.body[2])
    found = engine(many)
    assert differ(found.logits, expected.logits) <= 1e-5
    assert differ(found.cams, expected.cams) <= 1e-5


def test_interference_is_measured(images):
    """A copy that another one disturbs at one place changes by as much as it is disturbed."""
    for kind, is_right in (("dictionary of a hook", False), ("method of the copy", True)):
        model = Recalling(kind).eval()
        variant = Variant("plain", "contiguous")
        prepared = prepare(model, "body.2", variant, images)
        change = measure_interference(prepared.make_copy(), prepared.make_copy(), images)
        assert (change == 0) if is_right else (change > 0.01)
