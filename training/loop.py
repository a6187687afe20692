"""Parts of a training loop: progress, metrics log, step seeding, batches of indices, finite losses."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from data.errors import TrainingError
from data.files import explain_write_error, write_atomically
from data.randomness import derive_seed, numpy_generator


class Progress(Protocol):
    """Where long work reports how far it is."""

    def start(self, description: str, total: int, done: int = 0) -> None:
        """Begin a piece of work of `total` units, of which `done` were finished earlier."""
        ...

    def advance(self, count: int = 1, **values: float) -> None:
        """Report `count` more finished units and current values such as losses."""
        ...

    def finish(self) -> None:
        """End the piece of work."""
        ...


class NoProgress:
    """Progress that nobody watches."""

    def start(self, description: str, total: int, done: int = 0) -> None:
        """Do nothing."""

    def advance(self, count: int = 1, **values: float) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


NO_PROGRESS = NoProgress()


class MetricsLog:
    """Appends one JSON line per report; on resuming, lines of steps that will be repeated are dropped."""

    def __init__(self, path: Path, finished_steps: int) -> None:
        """Open the log and drop lines of steps after `finished_steps`.

        Args:
            path: File of JSON lines, created with its folder.
            finished_steps: Steps that are not repeated.
        """
        self.path = path
        kept = [line for line in read_metrics(path) if line["step"] <= finished_steps]
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, **values: float | str) -> None:
        """Append the values reached after `step` steps.

        Raises:
            ScenepaletteError: The file cannot be written, for example because the disk is full.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise explain_write_error(self.path, error) from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a metrics log; a last line that was cut short by a kill is left out."""
    lines: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
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


def require_finite(step: int, **losses: Tensor | float) -> None:
    """Stop a training before an optimizer step is taken from a loss that is not finite.

    Raises:
        TrainingError: Names the loss and the step.
    """
    for name, loss in losses.items():
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss {name} became {value} at step {step}; the weights of the step before are kept in the last "
                "checkpoint. Lower the learning rate, use precision 32-true, or look at the data of this step."
            )


class PlainProgress:
    """Progress as plain lines for logs and pipes: at most one line per `interval` seconds, with time left."""

    def __init__(self, interval: float = 15.0) -> None:
        """Print at most one line per `interval` seconds."""
        self.interval = interval
        self._description, self._total, self._done, self._first = "", 0, 0, 0
        self._began = self._printed = time.monotonic()

    def start(self, description: str, total: int, done: int = 0) -> None:
        """Begin a piece of work and say so."""
        self._description, self._total, self._done, self._first = description, total, done, done
        self._began = self._printed = time.monotonic()
        print(f"{description}: {done} of {total}" if done else f"{description}: {total}", file=sys.stderr, flush=True)

    def advance(self, count: int = 1, **values: float) -> None:
        """Count, and print a line if the last one is old enough."""
        self._done += count
        now = time.monotonic()
        if now - self._printed >= self.interval and self._done > self._first:
            self._printed = now
            left = (now - self._began) / (self._done - self._first) * (self._total - self._done)
            shown = "".join(f" {name}={value:.3g}" for name, value in values.items())
            print(
                f"{self._description}: {self._done} of {self._total}, {left:.0f} s left{shown}",
                file=sys.stderr,
                flush=True,
            )

    def finish(self) -> None:
        """Say how long the piece of work took."""
        print(f"{self._description}: done in {time.monotonic() - self._began:.0f} s", file=sys.stderr, flush=True)
