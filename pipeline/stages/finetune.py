"""Stage finetune: train a layout and an image generator together, end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from scenepalette.generators.fine_tuning import TrainedPart, fine_tune
from scenepalette.generators.images.loading import FINE_TUNED_WEIGHTS as IMAGE_WEIGHTS
from scenepalette.generators.layouts.loading import FINE_TUNED_WEIGHTS as LAYOUT_WEIGHTS
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.stages.images import (
    ImageModel,
    feature_inputs,
    feature_problems,
    feature_settings,
    load_features,
)
from scenepalette.pipeline.stages.layouts import LayoutModel
from scenepalette.pipeline.stages.palettes import load_sampler
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import Unit, Workspace
from scenepalette.training.loop import METRICS_FILE
from scenepalette.training.settings import settings_of_result

VERSION = 3
FILES = (LAYOUT_WEIGHTS, IMAGE_WEIGHTS, METRICS_FILE)


@dataclass(frozen=True, kw_only=True)
class FinetunedUnit(Unit):
    """The fine-tuning of two trained generators."""

    shared: ClassVar[bool] = True

    layout: LayoutModel
    image: ImageModel

    @classmethod
    def of(
        cls, config: RunConfig, sources: Sources, part: str, layout: LayoutModel, image: ImageModel
    ) -> FinetunedUnit:
        """Return the unit for two models; `part` is its name within the stage."""
        features = feature_settings(config, sources, image.system, f"finetuned/{part}")
        settings = {**settings_of_result(config.finetune.settings()), **features, "seed": config.seed}
        inputs = ("data", "palettes", layout.unit, image.unit, *feature_inputs(config, image.system))
        return cls("finetuned", part, VERSION, settings, inputs, FILES, layout=layout, image=image)

    @property
    def batch_sizes(self) -> list[int]:
        """Of every step; the same for all fine-tunings of a run."""
        return [int(self.settings["batch_size"])]

    @classmethod
    def problems(cls, units: Sequence[FinetunedUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Say if weights of a perceptual loss are not there."""
        return feature_problems(config, [unit.image.system for unit in units])

    def make(self, run: Workspace, folder: Path) -> None:
        """Fine-tune both generators."""
        data = run.data
        fine_tune(
            folder,
            TrainedPart(self.layout.system, self.layout.settings, run.run_dir / self.layout.unit),
            TrainedPart(self.image.system, self.image.settings, run.run_dir / self.image.unit),
            run.config.finetune.settings(),
            pairs=data.train,
            filled_labels=data.filled_labels,
            sampler=load_sampler(run.run_dir / "palettes"),
            features=load_features(run, self.image.system),
            seed=run.config.seed,
            fabric=run.fabric,
            progress=run.progress,
            tensorboard=run.config.compute.writes_tensorboard,
            ranks=run.ranks,
        )
