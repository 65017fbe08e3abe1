"""Sharing: the shares of processes are, together, the batches of one process."""

from types import SimpleNamespace

import pytest
import torch
from fastai.losses import CrossEntropyLossFlat
from samples import make_settings
from threads import run_together

from galfig.catalog.galaxies import load_galaxies
from galfig.networks.architectures import build_network
from galfig.networks.learner import make_learner, seeded
from galfig.networks.processes import ALONE, Processes
from galfig.networks.sharing import SharedSteps
from galfig.networks.training_set import (
    channel_statistics,
    read_training_set,
    take_centres,
)


def draw_batches(settings, processes):
    """Return the batches of two epochs, and those of the validation set."""
    training = settings.training
    galaxies, cutouts = read_training_set(load_galaxies(settings), settings)
    mean, std = channel_statistics(take_centres(cutouts, training), galaxies.in_train)
    with seeded(5):
        model = build_network("conv3", 2)
        learner = make_learner(model, galaxies, cutouts, training, mean, std, processes=processes)
        epochs = [list(learner.dls.train), list(learner.dls.train)]
        assert len(learner.dls.train) == len(epochs[0])
        drawn = torch.rand(1)
    return [batch for epoch in epochs for batch in epoch], list(learner.dls.valid), drawn


@pytest.mark.parametrize(
    "recipe", [{}, {"crop_margin": 3}, {"sampler": "balanced"}, {"batch_size": 7}], ids=str
)
def test_shares_make_up_the_batches(galaxy_folder, recipe):
    """Every galaxy is there once, turned and cropped as it would be in a single process."""
    settings = make_settings(galaxy_folder, **recipe)
    train, valid, drawn = draw_batches(settings, ALONE)
    found = [draw_batches(settings, Processes(rank, 3)) for rank in range(3)]
    for index, (images, labels) in enumerate(train):
        shares = [one[0][index] for one in found]
        assert max(len(one) for one, _ in shares) < len(images)
        torch.testing.assert_close(
            torch.cat([torch.Tensor(one) for one, _ in shares]),
            torch.Tensor(images),
            rtol=0,
            atol=1e-6,
        )
        assert torch.cat([torch.Tensor(own) for _, own in shares]).tolist() == labels.tolist()
    # The batches of the validation are dealt out as they are.
    for index, (images, labels) in enumerate(valid):
        own_images, own_labels = found[index % 3][1][index // 3]
        torch.testing.assert_close(torch.Tensor(own_images), torch.Tensor(images), rtol=0, atol=0)
        assert own_labels.tolist() == labels.tolist()
    assert sum(len(one[1]) for one in found) == len(valid)
    # All are in step: what is drawn next is the same in each.
    assert {float(one[2]) for one in found} == {float(drawn)}


@pytest.mark.parametrize("weights", [None, torch.tensor([2 / 3, 2.0])], ids=["equal", "balanced"])
def test_loss_and_gradients_are_those_of_the_whole_batch(weights):
    """Also where classes weigh differently, and one process has more of the heavy one."""
    loss = CrossEntropyLossFlat(weight=weights, label_smoothing=0.1)
    logits = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 0, 1, 0, 1, 1, 1])
    whole = logits.clone().requires_grad_()
    expected = loss(whole, labels)
    expected.backward()

    def work(processes):
        own = processes.share(8)
        part = torch.nn.Parameter(logits[own].clone())
        found = loss(part, labels[own])
        learner = SimpleNamespace(
            training=True, loss_func=loss, y=labels[own], loss_grad=found, loss=found.clone()
        )
        step = SharedSteps(processes)
        step.learn = learner
        step.after_loss()
        learner.loss_grad.backward()
        return float(learner.loss), part.grad

    found = run_together(3, work)
    for total, _ in found:
        assert total == pytest.approx(float(expected.detach()), rel=1e-6)
    gradients = torch.cat([gradient for _, gradient in found])
    torch.testing.assert_close(gradients, whole.grad, rtol=1e-5, atol=1e-7)


def test_gradients_are_added_up():
    def work(processes):
        model = torch.nn.Linear(2, 1)
        model.weight.grad = torch.tensor([[1.0, 10.0 * processes.rank]])
        step = SharedSteps(processes)
        step.learn = SimpleNamespace(model=model)
        step.after_backward()
        return model.weight.grad.tolist(), model.bias.grad

    assert run_together(3, work) == [([[3.0, 30.0]], None)] * 3
