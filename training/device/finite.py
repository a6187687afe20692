"""Numbers that are not finite: the errors that name them, and looking for them without waiting at every step."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scenepalette.common.errors import TrainingError

# Adam keeps squares of gradients, which float32 holds up to this one; an infinite square stops a weight for good.
LARGEST_GRADIENT = math.sqrt(torch.finfo(torch.float32).max)
_GO_ON = (
    "The same command would resume from the last checkpoint, if there is one, and may come to the same: give it with "
    "compute.precision=32-true, or start again with a lower learning rate and another --out folder, or look at the "
    "data."
)


def loss_error(name: str, value: float, step: int) -> TrainingError:
    """Return the error of a loss that is not finite."""
    return TrainingError(f"The loss {name} became {value} at step {step}, and nothing was learned from it. {_GO_ON}")


def gradient_error(name: str, parameter: str, step: int) -> TrainingError:
    """Return the error of a gradient that is not finite, or whose square is not."""
    return TrainingError(
        f"The gradient of the {name} is not finite at step {step} (first in {parameter}), or its square is not, though "
        f"its loss is; nothing was learned from it. {_GO_ON}"
    )


class _Noted(NamedTuple):
    """Numbers of one step, on the device.

    Attributes:
        step: Optimizer step, from 0.
        name: What errors call the loss or the network.
        parameters: Names of the parameters, or nothing for a loss.
        values: [1], the loss; or [P], the largest absolute gradient of each parameter.
    """

    step: int
    name: str
    parameters: tuple[str, ...]
    values: Tensor


class DeferredChecks:
    """Losses and gradients of the last steps, looked at together.

    A step along numbers that are not finite is taken, but never kept: `settle` is called before anything is logged or
    saved, and stops the training, which resumes from the checkpoint before.
    """

    def __init__(self) -> None:
        self._noted: list[_Noted] = []

    def note_losses(self, step: int, **losses: Tensor) -> None:
        """Note losses; see `require_finite` of `training/trainee.py`."""
        self._noted += [_Noted(step, name, (), loss.detach().reshape(1)) for name, loss in losses.items()]

    def note_gradients(self, step: int, **modules: nn.Module) -> None:
        """Note gradients; see `require_finite_gradients` of `training/trainee.py`."""
        for name, module in modules.items():
            gradients = {key: value.grad for key, value in module.named_parameters() if value.grad is not None}
            if gradients:
                largest = torch._foreach_norm(list(gradients.values()), math.inf)  # type: ignore
                self._noted.append(_Noted(step, name, tuple(gradients), torch.stack(largest)))

    def settle(self) -> None:
        """Look at all that was noted since the last call.

        Raises:
            TrainingError: Names the first loss or gradient that is not finite, and its step.
        """
        noted, self._noted = self._noted, []
        if not noted:
            return
        values = torch.cat([entry.values.float() for entry in noted]).tolist()  # waits, once
        first = 0
        for entry in noted:
            own = values[first : first + len(entry.values)]
            first += len(own)
            if not entry.parameters and not math.isfinite(own[0]):
                raise loss_error(entry.name, own[0], entry.step)
            for parameter, largest in zip(entry.parameters, own, strict=False):
                if not largest < LARGEST_GRADIENT:
                    raise gradient_error(entry.name, parameter, entry.step)
