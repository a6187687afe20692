from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from scenepalette.common.errors import TrainingError
from scenepalette.training.fabric import make_fabric
from scenepalette.training.trainee import Trainee, frozen, require_finite, require_finite_gradients, take_step

SGD = partial(torch.optim.SGD, lr=0.5)


def make_trainee(name: str = "generator", weight: float = 3.0, averaged: bool = False) -> Trainee[nn.Linear]:
    """A network of one weight."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, weight)
    return Trainee(name, network, SGD, make_fabric(), averaged=averaged)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_is_named_with_its_step(value: float) -> None:
    with pytest.raises(
        TrainingError, match=f"The loss discriminator became {value} at step 12, and nothing was learned"
    ):
        require_finite(12, generator=1.0, discriminator=torch.tensor(value, requires_grad=True))


def test_finite_losses_pass() -> None:
    require_finite(0, generator=torch.tensor(-3e38), discriminator=0.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -3e19])
def test_a_gradient_that_is_not_finite_is_named_with_its_network_and_step(value: float) -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 1)
    for module in (first, second):
        module(torch.ones(1, 2)).sum().backward()
    require_finite_gradients(3, generator=first, discriminator=second, unused=nn.Linear(1, 1))
    assert second.bias.grad is not None
    second.bias.grad[0] = value
    message = r"gradient of the discriminator is not finite at step 3 \(first in bias\)"
    with pytest.raises(TrainingError, match=message):
        require_finite_gradients(3, generator=first, discriminator=second)


def test_a_step_goes_down_a_loss_that_networks_share() -> None:
    first, second = make_trainee(weight=3.0), make_trainee("other", weight=-1.0)
    for step in range(2):
        loss = (first.forward(torch.ones(1, 1)) + second.forward(torch.ones(1, 1))).square().sum()
        take_step(step, loss, first, second)
    # The slope is 2 (a + b): 3 - 1 = 2 goes to 1 and -3, whose sum of -2 takes both back.
    assert (first.module.weight.item(), second.module.weight.item()) == (3.0, -1.0)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda loss: loss * float("nan"), "loss generator and other became nan at step 7"),
        (lambda loss: loss + (0 * loss).sqrt(), r"gradient of the generator is not finite at step 7 \(first in weight"),
    ],
)
def test_no_network_takes_a_step_along_numbers_that_are_not_finite(broken: object, message: str) -> None:
    first, second = make_trainee(), make_trainee("other")
    loss = (first.forward(torch.ones(1, 1)) + second.forward(torch.ones(1, 1))).sum()
    with pytest.raises(TrainingError, match=message):
        take_step(7, broken(loss), first, second)  # type: ignore[operator]
    assert first.module.weight.item() == second.module.weight.item() == 3.0


def test_the_average_follows_the_weights_and_is_the_network_itself_if_none_is_taken() -> None:
    averaged, plain = make_trainee(averaged=True), make_trainee()
    take_step(0, averaged.forward(torch.ones(1, 1)).sum(), averaged)
    assert (averaged.module.weight.item(), averaged.average.weight.item()) == (2.5, 3.0)
    averaged.update_average(0.75)
    assert averaged.average.weight.item() == 2.875
    assert plain.average is plain.module


def test_steps_have_the_learning_rate_that_was_set_last() -> None:
    trainee = make_trainee()
    trainee.set_learning_rate(0.25)
    take_step(0, trainee.forward(torch.ones(1, 1)).sum(), trainee)
    assert trainee.module.weight.item() == 2.75


def test_gradients_pass_through_frozen_networks_but_not_into_them() -> None:
    generator, opponent = make_trainee(), make_trainee("discriminator")
    with frozen(opponent.module):
        loss = opponent.forward(generator.forward(torch.ones(1, 1))).sum()
    loss.backward()
    assert generator.module.weight.grad is not None and generator.module.weight.grad.item() == 3.0
    assert opponent.module.weight.grad is None
    assert opponent.module.weight.requires_grad


def test_gradients_whose_squares_fit_one_by_one_but_not_together_are_finite() -> None:
    network = nn.Linear(20, 20)
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 1.8e19)
    require_finite_gradients(3, network=network)
    network.bias.grad[7] = -1.9e19  # type: ignore[index]
    with pytest.raises(TrainingError, match="first in bias"):
        require_finite_gradients(3, network=network)
