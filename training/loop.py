"""The frame of every training loop, which keeps checkpoints and a metrics log; the steps stay with each training."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scenepalette.common.errors import CheckpointError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.randomness import seed_step
from scenepalette.common.storage.files import explain_write_error, write_atomically
from scenepalette.training.checkpoint import CheckpointFolder, differing_values
from scenepalette.training.device.speed import speed_of
from scenepalette.training.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

    from scenepalette.training.trainee import Trainee

LOG_EVERY = 20  # optimizer steps between lines of a generator's metrics log
METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"

Line = Mapping[str, Any]
Watch = Callable[[Sequence[Line]], list[str]]


class MetricsLog:
    """Appends one JSON line per report; on resuming, lines of steps that will be repeated are dropped.

    What watches a training looks at the lines alone, so that a resumed training is judged as an uninterrupted one is.
    """

    def __init__(
        self, path: Path, finished_steps: int, *, watch: Watch | None = None, tensorboard: bool = False
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

    def write(self, step: int, **values: Any) -> None:
        """Append the values reached after `step` steps: JSON values, of which TensorBoard gets the numbers.

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
                    if isinstance(value, int | float):
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


class Training:
    """A training in a folder: it resumes from the last checkpoint, reports steps and keeps checkpoints.

    Attributes:
        finished: Number of finished steps; inside the loop the current one counts.
    """

    def __init__(
        self,
        folder: Path,
        stage: str,
        total: int,
        trainees: Mapping[str, Trainee[Any] | None],
        others: Mapping[str, nn.Module | None],
        *,
        seed: int,
        checkpoints: CheckpointFolder | None = None,
        identity: Mapping[str, Any] | None = None,
        watch: Watch | None = None,
        progress: Progress = NO_PROGRESS,
        tensorboard: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        """Load the newest intact checkpoint and, in the first process, open the metrics log.

        Args:
            folder: Receives `metrics.jsonl`.
            stage: Name that tells the randomness of this training from that of others.
            total: Steps of the whole training.
            trainees: Networks under training by their names in checkpoints; what is None is left out.
            others: Further modules of checkpoints, such as averages, likewise.
            seed: The run's seed.
            checkpoints: Where checkpoints lie; None for `folder`.
            identity: JSON values kept in checkpoints; one with others is refused.
            watch: As in `MetricsLog`.
            progress: Watches the steps.
            tensorboard: Whether numbers are also written for TensorBoard.
            ranks: The processes that share the training; the first of them writes.

        Raises:
            CheckpointError: A checkpoint is of another set-up.
        """
        self.stage, self.total, self.seed, self.progress, self.ranks = stage, total, seed, progress, ranks
        self._checkpoints = checkpoints or CheckpointFolder(folder)
        present = {name: trainee for name, trainee in trainees.items() if trainee is not None}
        self._modules: dict[str, nn.Module] = {name: trainee.module for name, trainee in present.items()}
        self._modules |= {name: module for name, module in others.items() if module is not None}
        self._optimizers = {name: trainee.optimizer for name, trainee in present.items()}
        self._checks = [trainee.checks for trainee in present.values() if trainee.checks is not None]
        tuned = any(speed_of(trainee.fabric).tuned for trainee in present.values())
        self._tuning = partial(torch.backends.cudnn.flags, enabled=True, benchmark=True) if tuned else nullcontext
        self._extra = {"identity": dict(identity)} if identity else {}
        self.finished, extra = self._checkpoints.load(self._modules, self._optimizers)
        differing = differing_values(extra.get("identity", {}), identity or {}) if self.finished else []
        if differing:
            raise CheckpointError(
                f"{self._checkpoints.folder} holds checkpoints of another training. Use another folder, or remove the "
                "checkpoints to start again.",
                differing,
            )
        self._log = None
        if ranks.first:
            self._log = MetricsLog(folder / METRICS_FILE, self.finished, watch=watch, tensorboard=tensorboard)

    def steps(self, description: str) -> Iterator[int]:
        """Yield the numbers, from 0, of the steps that are left, each with torch's random numbers seeded for it."""
        self.progress.start(description, self.total, self.finished)
        with self._tuning():
            for step in range(self.finished, self.total):
                seed_step(self.seed, self.stage, step)
                self.finished = step + 1
                yield step
            self.settle()
        self.progress.finish()
        if self._log is not None:
            self._log.close()

    def advance(self, values: Mapping[str, Tensor | float], shown: Iterable[str] | None = None) -> dict[str, Any]:
        """Report a finished step, and return its values averaged over all processes.

        Where the device is not to be waited for, most steps are reported without values, and the values are returned
        as tensors, which `log` turns into numbers.

        Args:
            values: Losses by name, this process's.
            shown: Names of those that progress shows; None for all.
        """
        if self._checks and not self.due(LOG_EVERY, self.total):
            self.progress.advance(1)
            return {name: value.detach() if isinstance(value, Tensor) else value for name, value in values.items()}
        means = self.ranks.means(_numbers(values))
        self.progress.advance(1, **(means if shown is None else {name: means[name] for name in shown}))
        return means

    def settle(self) -> None:
        """Look at losses and gradients that were noted, if the device is not waited for at every step.

        Raises:
            TrainingError: One of them is not finite.
        """
        for checks in self._checks:
            checks.settle()

    def due(self, *intervals: int) -> bool:
        """Tell whether the finished steps are a multiple of any of these numbers of steps."""
        return any(self.finished % interval == 0 for interval in intervals)

    def log(self, values: Line) -> None:
        """Write a line of the metrics log; only the first process does."""
        assert self._log is not None
        self.settle()
        self._log.write(self.finished, **_numbers(values))

    def save(self, score: float | None = None) -> None:
        """Keep a checkpoint; only the first process does. The lower its score, the better it is."""
        self.settle()
        self._checkpoints.save(self.finished, self._modules, self._optimizers, self._extra, score=score)


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with tensors turned into numbers, for which a GPU is waited for once."""
    tensors = {name: value.detach().double().reshape(()) for name, value in values.items() if isinstance(value, Tensor)}
    device = next((value.device for value in tensors.values()), None)
    numbers = torch.stack([value.to(device) for value in tensors.values()]).tolist() if tensors else []
    return {**values, **dict(zip(tensors, numbers, strict=True))}
