from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from scenepalette.training.average import averaged_copy, decay_at, update_average


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))


def test_the_copy_is_apart_from_the_trained_network() -> None:
    network = make_network()
    average = averaged_copy(network)
    assert network.training and not average.training
    assert all(p.requires_grad for p in network.parameters())
    assert not any(p.requires_grad for p in average.parameters())
    with torch.no_grad():
        network[0].weight.add_(1)  # type: ignore[operator]
    assert not torch.equal(network[0].weight, average[0].weight)  # type: ignore[arg-type]


def test_parameters_are_averaged_and_buffers_copied() -> None:
    network = make_network()
    average = averaged_copy(network)
    expected = [parameter.clone() for parameter in average.parameters()]
    for step in range(3):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(4, 2, 3, 3) + step)
        trained = copy.deepcopy(network.state_dict())
        update_average(average, network, 0.75)
        for index, parameter in enumerate(network.parameters()):
            expected[index] = 0.75 * expected[index] + 0.25 * parameter.detach()
            torch.testing.assert_close(list(average.parameters())[index], expected[index])
        for buffer, current in zip(average.buffers(), network.buffers(), strict=True):
            assert torch.equal(buffer, current)
        torch.testing.assert_close(dict(network.state_dict()), dict(trained), rtol=0, atol=0)
    assert int(average[1].num_batches_tracked) == 3  # type: ignore[arg-type]
    assert not any(p.requires_grad for p in average.parameters())


def test_the_decay_grows_to_its_final_value() -> None:
    assert decay_at(0, 0.999) == pytest.approx(0.1)
    assert decay_at(8, 0.999) == pytest.approx(0.5)
    assert decay_at(100_000, 0.999) == 0.999
    values = [decay_at(step, 0.999) for step in range(0, 20_000, 7)]
    assert values == sorted(values)
