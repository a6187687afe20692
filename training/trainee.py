"""A network under training: its optimizer, its average, and steps that are taken only along finite numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from scenepalette.training.average import Module, averaged_copy, update_average
from scenepalette.training.device.compiling import compiled
from scenepalette.training.device.finite import LARGEST_GRADIENT, DeferredChecks, gradient_error, loss_error
from scenepalette.training.device.speed import speed_of
from scenepalette.training.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def require_finite(step: int, **losses: Tensor | float) -> None:
    """Stop a training before an optimizer step is taken from a loss that is not finite.

    Raises:
        TrainingError: Names the loss and the step.
    """
    for name, loss in losses.items():
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
        if not math.isfinite(value):
            raise loss_error(name, value, step)


def require_finite_gradients(step: int, **modules: nn.Module) -> None:
    """Stop a training before an optimizer step is taken along a gradient that is not finite, or cannot be squared.

    Args:
        step: Optimizer step, from 0.
        modules: Networks by name, after the backward pass and before the optimizer's step.

    Raises:
        TrainingError: Names the network, the first such parameter and the step. A loss may be finite all the same.
    """
    for name, module in modules.items():
        gradients = {key: value.grad for key, value in module.named_parameters() if value.grad is not None}
        # No value is larger than the root of the sum of squares, NaN if there is one, which CPUs find ten times as fast
        # as the largest value. Only where that is too large is each value looked at.
        if float(nn.utils.get_total_norm(list(gradients.values()))) < LARGEST_GRADIENT:
            continue
        large = (key for key, gradient in gradients.items() if not (gradient.abs() < LARGEST_GRADIENT).all())
        first = next(large, None)
        if first is None:
            continue
        raise gradient_error(name, first, step)


class Trainee(Generic[Module]):
    """A network with the optimizer that trains it.

    Attributes:
        name: What errors call the network.
        module: The bare network, whose state checkpoints hold.
        average: The average of its weights; the network itself if none is taken.
        forward: The network as Fabric set it up, for losses.
        optimizer: The bare optimizer, whose state checkpoints hold.
        checks: Where losses and gradients are noted to be looked at later, if the device is not to be waited for.
    """

    def __init__(
        self,
        name: str,
        module: Module,
        optimizer: Callable[..., Optimizer],
        fabric: Fabric,
        *,
        ranks: Ranks = ALONE,
        averaged: bool = False,
        compiles: bool = True,
    ) -> None:
        """Set up a network for training.

        Args:
            name: What errors call it.
            module: The network, moved to the fabric's device.
            optimizer: Makes the optimizer of its parameters; one of torch's own.
            fabric: Device and precision.
            ranks: The processes that share its batches.
            averaged: Whether an average of its weights is taken.
            compiles: Whether it is compiled where that is chosen; not if its arguments change from step to step.
        """
        speed = speed_of(fabric)
        self.name, self.module, self.fabric, self.ranks = name, channels_last(module), fabric, ranks
        self.average: Module = averaged_copy(module).to(fabric.device) if averaged else module
        # Kept: to collect them takes longer than to average them in a step of a small network.
        self._parameters, self._averages = list(module.parameters()), list(self.average.parameters())
        ranks.join(module)
        # What other processes wait for is looked at in every step.
        self.checks = DeferredChecks() if speed.deferred and ranks.count == 1 else None
        self.optimizer = optimizer(module.parameters(), **({"fused": True} if speed.fused else {}))
        called = compiled(module, speed.compile if compiles else "off", fabric.device)
        self.forward, self.fabric_optimizer = fabric.setup(called, self.optimizer, _reapply_compile=False)

    def update_average(self, decay: float) -> None:
        """Move the average towards the weights after a step; `decay` is in [0, 1)."""
        update_average(self.average, self.module, decay, self._averages, self._parameters)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the steps from now on."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate


def take_step(step: int, loss: Tensor, *trainees: Trainee[Any]) -> None:
    """Take one optimizer step down a loss, unless the loss or a gradient is not finite.

    Where the first trainee has `checks`, the step is taken, and `Training` looks at the numbers before it logs or
    saves.

    Args:
        step: Optimizer step, from 0.
        loss: Scalar, this process's.
        trainees: The networks that learn from it, on one fabric; gradients are averaged over all processes.

    Raises:
        TrainingError: Names the network and the step.
    """
    name = " and ".join(trainee.name for trainee in trainees)
    checks = trainees[0].checks
    if checks is None:
        require_finite(step, **{name: loss})
    else:
        checks.note_losses(step, **{name: loss})
    for trainee in trainees:
        trainee.fabric_optimizer.zero_grad()
    trainees[0].fabric.backward(loss)
    trainees[0].ranks.average_gradients(*(trainee.module for trainee in trainees))
    modules = {trainee.name: trainee.module for trainee in trainees}
    if checks is None:
        require_finite_gradients(step, **modules)
    else:
        checks.note_gradients(step, **modules)
    for trainee in trainees:
        trainee.fabric_optimizer.step()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients of losses computed in a block pass through a network, but not into its weights."""
    parameters = list(module.parameters())
    for parameter in parameters:
        parameter.requires_grad_(False)
    yield
    for parameter in parameters:
        parameter.requires_grad_(True)


def channels_last(module: Module) -> Module:
    """Lay out a network's convolutions channels last, which CPUs and GPUs compute faster; return it."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
