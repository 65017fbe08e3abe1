"""Normalisation: a batch that is spread over processes is normalised as one batch."""

import copy

import pytest
import torch
from threads import run_together
from torch import nn

from galfig.networks.normalisation import measure, normalising_together
from galfig.networks.processes import ALONE, Processes


def make_network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).double()


@pytest.mark.parametrize("count", [2, 3])
def test_layers_of_processes_are_one_layer(count):
    """Outputs, gradients and running statistics are those of the whole batch, in float64."""
    torch.manual_seed(0)
    images, wanted = torch.randn(7, 3, 6, 6) * 3 + 5, torch.randn(7, 4 * 16)

    whole = make_network()
    start = copy.deepcopy(whole).float()
    expected = whole(images.double())
    (expected * wanted).sum().backward()

    def work(processes):
        network = copy.deepcopy(start)
        own = processes.share(len(images))
        with normalising_together(network, processes):
            outputs = network(images[own])
            (outputs * wanted[own]).sum().backward()
        assert "forward" not in vars(network)
        return outputs.detach(), network

    found = run_together(count, work)
    outputs = torch.cat([one for one, _ in found])
    torch.testing.assert_close(outputs.double(), expected, rtol=0, atol=2e-5)
    for name, parameter in whole.named_parameters():
        total = sum(network.get_parameter(name).grad.double() for _, network in found)
        torch.testing.assert_close(total, parameter.grad, rtol=1e-4, atol=2e-4)
    for name in ("running_mean", "running_var"):
        for _, network in found:
            torch.testing.assert_close(
                getattr(network[1], name).double(), getattr(whole[1], name), rtol=1e-5, atol=1e-6
            )


def test_statistics_of_large_values_keep_their_digits():
    """A mean of 10 000 times the deviation costs none of the digits of the variance."""
    torch.manual_seed(0)
    images = torch.randn(6, 2, 5, 5) + 1e4

    def work(processes):
        return measure(images[processes.share(6)], processes)

    for mean, var, count in run_together(2, work):
        exact = images.double().transpose(0, 1).flatten(1)
        torch.testing.assert_close(mean.double(), exact.mean(dim=1), rtol=1e-6, atol=0)
        torch.testing.assert_close(var.double(), exact.var(dim=1, correction=0), rtol=1e-4, atol=0)
        assert count == 6 * 25


def test_validation_waits_for_nobody():
    """In evaluation mode without gradients, a process that is alone in it does not hang."""
    network = make_network().float().eval()
    images = torch.randn(2, 3, 6, 6)

    class Nobody(Processes):
        def add_up(self, tensors):
            raise AssertionError("asked for other processes")

    with torch.no_grad():
        expected = network(images)
        with normalising_together(network, Nobody(0, 2)):
            assert torch.equal(network(images), expected)


def test_single_process_keeps_the_batch_norm_of_torch():
    network = make_network()
    with normalising_together(network, ALONE):
        assert "forward" not in vars(network)


def test_norm_of_timm_is_found():
    """Its class has a batch norm of its own, which torch does not convert."""
    norm_act = pytest.importorskip("timm.layers.norm_act")
    images = torch.randn(4, 3, 5, 5)
    torch.manual_seed(0)
    expected = norm_act.BatchNormAct2d(3)(images)

    def work(processes):
        layer = norm_act.BatchNormAct2d(3)
        with normalising_together(layer, processes):
            return layer(images[processes.share(4)]).detach()

    found = torch.cat(run_together(2, work))
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-5)
