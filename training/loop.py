"""Parts of a training loop: progress, metrics log, step seeding, batches of indices, finite losses."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from scenepalette.common.errors import TrainingError
from scenepalette.common.files import explain_write_error, write_atomically
from scenepalette.common.randomness import derive_seed, numpy_generator

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

LOG_EVERY = 20  # optimizer steps between lines of a generator's metrics log
TENSORBOARD_FOLDER = "tensorboard"


NON_IDENTIFYING = ("checkpoint_every", "log_every")


def settings_of_result(settings: Any) -> dict[str, Any]:
    """Return the numbers that decide what a training ends with; how often it is kept or logged does not.

    Args:
        settings: A dataclass of settings.
    """
    return {name: value for name, value in asdict(settings).items() if name not in NON_IDENTIFYING}


Line = Mapping[str, Any]
Watch = Callable[[Sequence[Line]], list[str]]


class MetricsLog:
    """Appends one JSON line per report; on resuming, lines of steps that will be repeated are dropped.

    What watches a training looks at the lines alone, so that a resumed training is judged as an uninterrupted one is.
    """

    def __init__(
        self,
        path: Path,
        finished_steps: int,
        *,
        watch: Watch | None = None,
        tensorboard: bool = False,
    ) -> None:
        """Open the log and drop lines of steps after `finished_steps`.

        Args:
            path: File of JSON lines, created with its folder.
            finished_steps: Steps that are not repeated.
            watch: Returns what is to be warned of, given all lines with the new one at the end. It goes into the line
                as "warnings", and is printed when it appears.
            tensorboard: Whether numbers are also written for TensorBoard, into the folder `tensorboard` beside the log.

        Raises:
            ScenepaletteError: The folder cannot be written.
        """
        self.path = path
        kept = [line for line in read_metrics(path) if line["step"] <= finished_steps]
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._lines: list[Line] = list(kept)
        self._watch = watch
        self._writer = _tensorboard_writer(path.parent / TENSORBOARD_FOLDER, finished_steps) if tensorboard else None

    def write(self, step: int, **values: float | str) -> None:
        """Append the values reached after `step` steps.

        Raises:
            ScenepaletteError: The file cannot be written, for example because the disk is full.
        """
        line: dict[str, Any] = {"step": step, **values}
        if self._watch is not None:
            warnings = self._watch([*self._lines, line])
            before = self._lines[-1].get("warnings", []) if self._lines else []
            for text in warnings:
                if text not in before:
                    print(f"Warning: {self.path.parent.name}, step {step}: {text}", file=sys.stderr, flush=True)
            if warnings:
                line["warnings"] = warnings
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            if self._writer is not None:
                for name, value in values.items():
                    if not isinstance(value, str):
                        self._writer.add_scalar(name, value, step)
                self._writer.flush()
        except OSError as error:
            raise explain_write_error(self.path, error) from error
        self._lines.append(line)

    def close(self) -> None:
        """Close what was opened for TensorBoard."""
        if self._writer is not None:
            self._writer.close()


def _tensorboard_writer(folder: Path, finished_steps: int) -> SummaryWriter:
    from torch.utils.tensorboard.writer import SummaryWriter  # optional, and slow to import

    try:
        return SummaryWriter(str(folder), purge_step=finished_steps + 1)
    except OSError as error:
        raise explain_write_error(folder, error) from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a metrics log; a last line that was cut short by a kill is left out."""
    lines: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                break
            if not isinstance(line, dict) or "step" not in line:
                break
            lines.append(line)
    return lines


def seed_step(seed: int, stage: str, step: int) -> None:
    """Seed torch's global generators for one step, so that its randomness is a function of (seed, stage, step)."""
    torch.manual_seed(derive_seed(seed, stage, step))


def epoch_batch(count: int, batch_size: int, step: int, seed: int, stage: str) -> np.ndarray:
    """Return the indices of batch `step`: epochs of random order, each index once an epoch, every batch full.

    Args:
        count: Number of samples, at least 1.
        batch_size: Indices to return; may be larger than `count`.
        step: Number of the batch from 0.
        seed: The run's seed.
        stage: Name that tells this stream of batches from others.

    Returns:
        int64 [batch_size]; a function of the arguments alone.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = positions // count, positions % count
    orders = {epoch: numpy_generator(seed, stage, "epoch", int(epoch)).permutation(count) for epoch in set(epochs)}
    return np.array([orders[epoch][offset] for epoch, offset in zip(epochs, offsets, strict=True)], dtype=np.int64)


# Adam keeps squares of gradients, which float32 holds up to this one; an infinite square stops a weight for good.
LARGEST_GRADIENT = math.sqrt(torch.finfo(torch.float32).max)
_GO_ON = (
    "The same command would go on from the last checkpoint, if there is one, and may come to the same: give it with "
    "compute.precision=32-true, or begin anew with a lower learning rate and another --out folder, or look at the data."
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
