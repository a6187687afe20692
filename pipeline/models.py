"""Which models a run has: the folder, system and settings of each, and which of them make which pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scenepalette.common.errors import ConfigError
from scenepalette.common.untrusted import short
from scenepalette.data.classes import ClassTable
from scenepalette.generators.images import loading as image_loading
from scenepalette.generators.images.base import ImageSettings
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts import loading as layout_loading
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS, OPTIONAL
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.pair_maker import Kind
from scenepalette.pipeline.comparisons import ROWS, Row
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.units import Unit

LAYOUT_OF_KIND = {"full": "full", "partial": "partial"}


@dataclass(frozen=True)
class LayoutModel:
    """A layout generator of a run.

    Attributes:
        unit: Its folder in the run directory.
        system: Name of its system.
        settings: Numbers of its training.
    """

    unit: str
    system: str
    settings: LayoutSettings


@dataclass(frozen=True)
class ImageModel:
    """An image generator of a run; the fields are those of LayoutModel."""

    unit: str
    system: str
    settings: ImageSettings


@dataclass(frozen=True)
class PairModels:
    """The models that make pairs of one kind.

    Attributes:
        kind: Kind of pairs.
        layout: Makes or edits layouts; None where the layouts are real or predicted.
        image: Makes images.
        finetuned: Folder of the end-to-end fine-tuning of both, or None.
    """

    kind: Kind
    layout: LayoutModel | None
    image: ImageModel
    finetuned: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Units that the pairs are made from, beside data and palettes."""
        if self.finetuned is not None:
            return (self.finetuned,)
        return (*([self.layout.unit] if self.layout else []), self.image.unit)

    def layout_weights(self, run_dir: Path) -> Path | None:
        """Return the weights of the layout generator, or None."""
        if self.layout is None:
            return None
        if self.finetuned:
            return run_dir / self.finetuned / layout_loading.FINE_TUNED_WEIGHTS
        return run_dir / self.layout.unit / layout_loading.WEIGHTS

    def image_weights(self, run_dir: Path) -> Path:
        """Return the weights of the image generator."""
        if self.finetuned:
            return run_dir / self.finetuned / image_loading.FINE_TUNED_WEIGHTS
        return run_dir / self.image.unit / image_loading.WEIGHTS

    def discriminator_weights(self, run_dir: Path) -> Path:
        """Return the weights of the discriminator that the image generator was trained against."""
        return run_dir / self.image.unit / image_loading.DISCRIMINATOR_WEIGHTS


def layout_model(config: RunConfig, section: str) -> LayoutModel:
    """Return the layout generator of a section, "full" or "partial"."""
    layout = getattr(config.layouts, section)
    return LayoutModel(f"layouts/{layout.system}", layout.system, layout.settings())


def image_model(config: RunConfig, system: str | None = None) -> ImageModel:
    """Return the run's image generator, or another one of its configuration by the name of its system."""
    name = system or config.images.system
    return ImageModel(f"images/{name}", name, config.images.settings(name))


def pair_models(config: RunConfig, kind: Kind) -> PairModels:
    """Return what makes a kind of pairs."""
    section = LAYOUT_OF_KIND.get(kind)
    return PairModels(
        kind,
        layout_model(config, section) if section else None,
        image_model(config),
        f"finetuned/{kind}" if kind in config.finetune.kinds else None,
    )


def row_models(config: RunConfig, name: str, row: Row) -> PairModels:
    """Return what makes the pairs of a row of the comparison.

    All layout systems are trained with the numbers of `layouts.full`, as far as these mean something to them.
    """
    image = image_model(config, row.images)
    if row.layouts is None:
        return PairModels("semi", None, image)
    full = layout_model(config, "full")
    system = LAYOUT_SYSTEMS[row.layouts]
    standard = LayoutSettings()
    idle = {field: getattr(standard, field) for field in OPTIONAL - system.options}
    layout = LayoutModel(
        f"layouts/{name}" if row.changes else f"layouts/{row.layouts}",
        row.layouts,
        replace(full.settings, **{**idle, **row.changes}),
    )
    return PairModels("full", layout, image, f"finetuned/{name}" if row.end_to_end else None)


def trained_mark(unit: Unit) -> dict[str, Any]:
    """Return what the manifest of a unit says beside its settings: whether its system came trained."""
    stage, _, name = unit.name.partition("/")
    trained = (stage == "images" and IMAGE_SYSTEMS[name].build_objective is None) or (
        stage == "layouts" and LAYOUT_SYSTEMS[unit.settings["system"]].losses is None
    )
    return {"comes_trained": True} if trained else {}


def row_problems(config: RunConfig) -> list[str]:
    """Return what keeps rows of the comparison from being made, so that it is said before anything is trained.

    Each model is built once, without memory, at the size of the data; one text for each that cannot be.
    """
    problems: dict[str, str] = {}
    for row in config.compare.rows:
        models = row_models(config, row, ROWS[row])
        for model in (models.layout, models.image):
            if model is not None and model.unit not in problems:
                problems[model.unit] = f"compare.rows: {row}: {text}" if (text := model_problem(model, config)) else ""
    return [problem for problem in problems.values() if problem]


def model_problem(model: LayoutModel | ImageModel, config: RunConfig, table: ClassTable | None = None) -> str | None:
    """Return what keeps a model from being made at the size of the data; it is built without memory.

    Args:
        model: The model.
        config: The run's configuration.
        table: The data's classes, once they are known.
    """
    table = table or ClassTable.unnamed(2)
    table = table or ClassTable.unnamed(2)
    size = config.data.size
    try:
        with torch.device("meta"):
            if isinstance(model, LayoutModel):
                layout_system = LAYOUT_SYSTEMS[model.system]
                layout_system.build_generator(table, size, model.settings)
                layout_system.build_discriminator(table, size, model.settings)
            else:
                image_system = IMAGE_SYSTEMS[model.system]
                image_system.build_generator(table, size, model.settings).choose_scheme(model.settings.noise_scheme)
                if model.settings.augment and not image_system.augmentable:
                    return f"images.augment: {model.system} compares images pixel by pixel; leave it out"
    except ConfigError as error:
        return f"{model.system}: {error}"
    except (RuntimeError, OverflowError, MemoryError, TypeError) as error:
        # torch's ways of saying that no tensor has so many numbers.
        return f"{model.system}: no network can be built of these numbers ({short(str(error))})"
    return None
