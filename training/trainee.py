"""A network under training: its optimizer, its average, and steps that are taken only along finite numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from scenepalette.common.errors import TrainingError
from scenepalette.training.average import Module, averaged_copy, update_average
from scenepalette.training.ranks import ALONE, Ranks

# Adam keeps squares of gradients, which float32 holds up to this one; an infinite square stops a weight for good.
LARGEST_GRADIENT = math.sqrt(torch.finfo(torch.float32).max)
_GO_ON = (
    "The same command would resume from the last checkpoint, if there is one, and may come to the same: give it with "
    "compute.precision=32-true, or start again with a lower learning rate and another --out folder, or look at the "
    "data."
)


def require_finite(step: int, **losses: Tensor | float) -> None:
    """Stop a training before an optimizer step is taken from a loss that is not finite.

    Raises:
        TrainingError: Names the loss and the step.
    """
    for name, loss in losses.items():
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss {name} became {value} at step {step}, and nothing was learned from it. {_GO_ON}"
            )


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
        # The largest absolute value is one number a network, NaN if there is one.
        if float(nn.utils.get_total_norm(list(gradients.values()), math.inf)) < LARGEST_GRADIENT:
            continue
        first = next(key for key, gradient in gradients.items() if not (gradient.abs() < LARGEST_GRADIENT).all())
        raise TrainingError(
            f"The gradient of the {name} is not finite at step {step} (first in {first}), or its square is not, though "
            f"its loss is; nothing was learned from it. {_GO_ON}"
        )


class Trainee(Generic[Module]):
    """A network with the optimizer that trains it.

    Attributes:
        name: What errors call the network.
        module: The bare network, whose state checkpoints hold.
        average: The average of its weights; the network itself if none is taken.
        forward: The network as Fabric set it up, for losses.
        optimizer: The bare optimizer, whose state checkpoints hold.
    """

    def __init__(
        self,
        name: str,
        module: Module,
        optimizer: Callable[[Iterator[Parameter]], Optimizer],
        fabric: Fabric,
        *,
        ranks: Ranks = ALONE,
        averaged: bool = False,
    ) -> None:
        """Set up a network for training.

        Args:
            name: What errors call it.
            module: The network, moved to the fabric's device.
            optimizer: Makes the optimizer of its parameters.
            fabric: Device and precision.
            ranks: The processes that share its batches.
            averaged: Whether an average of its weights is taken.
        """
        self.name, self.module, self.fabric, self.ranks = name, channels_last(module), fabric, ranks
        self.average: Module = averaged_copy(module).to(fabric.device) if averaged else module
        ranks.join(module)
        self.optimizer = optimizer(module.parameters())
        self.forward, self.fabric_optimizer = fabric.setup(module, self.optimizer)

    def update_average(self, decay: float) -> None:
        """Move the average towards the weights after a step; `decay` is in [0, 1)."""
        update_average(self.average, self.module, decay)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the steps from now on."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate


def take_step(step: int, loss: Tensor, *trainees: Trainee[Any]) -> None:
    """Take one optimizer step down a loss, unless the loss or a gradient is not finite.

    Args:
        step: Optimizer step, from 0.
        loss: Scalar, this process's.
        trainees: The networks that learn from it, on one fabric; gradients are averaged over all processes.

    Raises:
        TrainingError: Names the network and the step.
    """
    require_finite(step, **{" and ".join(trainee.name for trainee in trainees): loss})
    for trainee in trainees:
        trainee.fabric_optimizer.zero_grad()
    trainees[0].fabric.backward(loss)
    trainees[0].ranks.average_gradients(*(trainee.module for trainee in trainees))
    require_finite_gradients(step, **{trainee.name: trainee.module for trainee in trainees})
    for trainee in trainees:
        trainee.fabric_optimizer.step()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients of losses computed in a block pass through a network, but not into its weights."""
    module.requires_grad_(False)
    yield
    module.requires_grad_(True)


def channels_last(module: Module) -> Module:
    """Lay out a network's convolutions channels last, which CPUs and GPUs compute faster; return it."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
