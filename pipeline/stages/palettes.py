"""Stage palettes: fit the palette sampler to the training layouts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from scenepalette.common.storage.files import write_atomically
from scenepalette.data.arrays import Pairs
from scenepalette.data.shards.reading import tables_of_folder
from scenepalette.generators.layouts.inputs import palettes_of
from scenepalette.generators.palettes import PaletteSampler, fit_palette_sampler
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.units.workspace import Unit, Workspace

VERSION = 1
SAMPLER = "sampler.json"
FILES = (SAMPLER, "aic.png")


@dataclass(frozen=True)
class PalettesUnit(Unit):
    """The sampler of class shares."""

    computes: ClassVar[bool] = False

    @classmethod
    def of(cls, config: RunConfig) -> PalettesUnit:
        """Return the unit."""
        settings = {**config.palettes.model_dump(mode="json"), "seed": config.seed}
        return cls("palettes", "", VERSION, settings, ("data",), FILES, resumable=False)

    def make(self, run: Workspace, folder: Path) -> None:
        """Fit the sampler to the training layouts."""
        fit_palettes(folder, run.config.palettes.max_components, run.data.train, run.config.seed)


def real_palettes(pairs: Pairs) -> np.ndarray:
    """Return the class shares of all label maps, [N, K]."""
    return palettes_of(pairs.labels, pairs.table.num_classes).numpy()


def fit_palettes(folder: Path, max_components: int, train: Pairs, seed: int) -> None:
    """Fit the sampler, save it, and plot the AIC of the numbers of components."""
    from scenepalette.pipeline.report.figures import draw_aic, figure_to_png  # with matplotlib, slow to import

    sampler = fit_palette_sampler(real_palettes(train), train.table.names, max_components, seed)
    sampler.save(folder / SAMPLER)
    write_atomically(folder / "aic.png", figure_to_png(draw_aic(sampler.aic, sampler.num_components)))


def load_sampler(folder: Path) -> PaletteSampler:
    """Load the sampler that `fit_palettes` saved."""
    return PaletteSampler.load(folder / SAMPLER)


def stored_palettes(folder: Path, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return requested and achieved palettes [M, K] of a folder's first rows, without decoding an image.

    Args:
        folder: A folder of shards.
        count: Rows that are wanted, by default all; M is smaller if there are fewer.
    """
    columns = ["palette_target", "palette_achieved"]
    parts: dict[str, list[np.ndarray]] = {column: [] for column in columns}
    for table in tables_of_folder(folder, columns):
        for column in columns:
            # As one array of numbers: a Python object for each share would take several times as much memory.
            values = table[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            parts[column].append(values.reshape(table.num_rows, -1))
    target, achieved = (np.concatenate(parts[column])[:count].astype(np.float64) for column in columns)
    return target, achieved
