"""TensorBoard: settings and sample sheets of trainings, beside the curves that their logs write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scenepalette.training.loop import TENSORBOARD_FOLDER
from scenepalette.training.tracking.base import Status, UnitRun


class TensorBoardTracker:
    """Writes into the folder `tensorboard` of a training; units that train nothing have none."""

    def begin(self, unit: UnitRun, memory: dict[str, Any]) -> None:
        """Take note of the unit."""
        self._unit, self._writer = unit, None

    def _open(self) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard.writer import SummaryWriter  # optional, and slow to import

            self._writer = SummaryWriter(str(self._unit.folder / TENSORBOARD_FOLDER), filename_suffix=".samples")
            if self._unit.is_new:
                rows = "".join(f"| {name} | {value} |\n" for name, value in self._unit.settings.items())
                self._writer.add_text("settings", f"| Setting | Value |\n| --- | --- |\n{rows}")
        return self._writer

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Do nothing but open the folder: the training's own log writes the numbers."""
        self._open()

    def show(self, name: str, path: Path, step: int) -> None:
        """Write an image."""
        with Image.open(path) as image:
            self._open().add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def publish(self, name: str, folder: Path, summary: Mapping[str, float]) -> None:
        """Do nothing: TensorBoard shows no pages."""

    def end(self, status: Status) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
