"""Stage segmenters where commands of the user's train: one unit per arm and seed, and the reference segmenter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from scenepalette.common.commands import named_files
from scenepalette.data.arrays import Pairs, PairSource
from scenepalette.data.shards.pairs import ChosenPairs
from scenepalette.evaluation.miou import confusion_of_batch
from scenepalette.evaluation.pair_quality.trust import TrustSettings
from scenepalette.pipeline.arms import ARMS
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.stages.segment import (
    CONFUSION,
    REFERENCE,
    TEST_CONFUSION,
    SegmenterUnit,
    part_of_arm,
    write_confusion,
)
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import PreparedData, Workspace
from scenepalette.segmenters.command import (
    MODEL,
    TRAINED,
    TrainerSettings,
    files_of,
    place_problems,
    predict_by_command,
    train_by_command,
)
from scenepalette.training.settings import fields_of, settings_of_result

VERSION = 1
FILES = (f"{MODEL}/**/*", TRAINED, CONFUSION, TEST_CONFUSION)


@dataclass(frozen=True, kw_only=True)
class CommandSegmenterUnit(SegmenterUnit):
    """A segmenter that the command trains, and its predictions on the real validation and test splits."""

    trains: ClassVar[bool] = False  # how many processors the command takes is not known

    @classmethod
    def of_arms(cls, config: RunConfig, sources: Sources) -> list[SegmenterUnit]:
        """Return the units of all arms and seeds, and that of the reference segmenter, a network of this package."""
        seed = config.segmenters.seeds[0]
        reference = SegmenterUnit.of(config, sources, part_of_arm(REFERENCE, seed), "real", seed, None)
        return [reference, *(cls._of_unit(config, sources, unit) for unit in SegmenterUnit.of_arms(config, sources))]

    @classmethod
    def _of_unit(cls, config: RunConfig, sources: Sources, like: SegmenterUnit) -> SegmenterUnit:
        """Return the unit that takes the place of one of the package's own: the same pairs, steps and seed."""
        commands = config.segmenters.command.settings()
        kept = {"steps", "pairs", "arm", "seed", *fields_of(TrustSettings)}
        shared = {key: value for key, value in like.settings.items() if key in kept}
        settings = {**shared, **settings_of_result(commands), **sources.files(files_of(commands), like.name)}
        return cls(**{**vars(like), "version": VERSION, "settings": settings, "files": FILES})

    @classmethod
    def problems(cls, units: Sequence[SegmenterUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Say which program is not there."""
        return [f"segmenters.command.{text}" for text in place_problems(config.segmenters.command.settings())]

    @classmethod
    def problems_of_data(cls, units: Sequence[SegmenterUnit], config: RunConfig, data: PreparedData) -> list[str]:
        """Return nothing: classes are the command's business."""
        return []

    def of_partial(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Leave out the command that predicts, and files that it alone names: a trained model waits for it."""
        names = named_files(str(settings.get("predict"))).keys() - named_files(str(settings.get("train"))).keys()
        left_out = {"predict", *(f"file {name}" for name in names)}
        return {key: value for key, value in settings.items() if key not in left_out}

    def make(self, run: Workspace, folder: Path) -> None:
        """Have the segmenter trained, and its predictions counted."""
        data, commands = run.data, run.config.segmenters.command.settings()
        train_by_command(
            folder,
            commands,
            real=self.real_pairs(run) if ARMS[self.arm].real != "none" else None,
            synthetic=self.generated_pairs(run),
            table=data.train.table,
            steps=self.steps,
            seed=self.seed,
            arm=self.arm,
            progress=run.progress,
        )
        sized = run.segmenter_data
        splits = {CONFUSION: sized.validation, **({TEST_CONFUSION: sized.test} if sized.test is not None else {})}
        for file, pairs in splits.items():
            write_confusion(folder / file, confusion_by_command(folder, commands, pairs))


def confusion_by_command(folder: Path, commands: TrainerSettings, pairs: PairSource) -> np.ndarray:
    """Return one confusion matrix per image of a trained segmenter's predictions, int64 [N, K, K]."""
    table, counts = pairs.table, []
    predicted = predict_by_command(folder / MODEL, commands, pairs, table)
    for row in range(len(pairs)):
        _, label = pairs.batch([row])
        prediction = torch.from_numpy(predicted[row : row + 1]).long()
        counts.append(confusion_of_batch(prediction, label, len(table)).numpy())
    return np.concatenate(counts)


def predictions_by_command(folder: Path, commands: TrainerSettings, pairs: Pairs, rows: Sequence[int]) -> np.ndarray:
    """Return the predictions of some images, uint8 [rows, H, W]; the arguments are as for `confusion_by_command`."""
    chosen = ChosenPairs(pairs, list(rows))
    return predict_by_command(folder / MODEL, commands, chosen, pairs.table)
