"""Stage compare: measure the pairs of every row, and write the table that sets the systems against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from scenepalette.common.randomness import torch_generator
from scenepalette.common.storage.files import read_json, write_json
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.data.datasets import DATASETS
from scenepalette.data.labels import one_hot
from scenepalette.data.sequences import evenly_spread
from scenepalette.data.shards.pairs import FirstPairs, ShardPairs
from scenepalette.evaluation.generated import LEAST_PAIRS, SMALLEST_SIDE, evaluate_images
from scenepalette.evaluation.miou import confusion_of_batch
from scenepalette.evaluation.registry import metrics_from_elsewhere
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS, OPTIONAL
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.pipeline.comparisons import ROWS
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.report.comparison import PERCEPTUAL, RowResult, write_comparison
from scenepalette.pipeline.stages.generate import PairModels, PairsUnit, model_units
from scenepalette.pipeline.stages.images import image_model
from scenepalette.pipeline.stages.layouts import LayoutModel, layout_model
from scenepalette.pipeline.stages.palettes import real_palettes, stored_palettes
from scenepalette.pipeline.stages.reporting.report import provenance
from scenepalette.pipeline.stages.segment import (
    EVALUATION_BATCH,
    SegmenterUnit,
    load_reference_segmenter,
    read_confusion,
    reference_segmenter_of,
)
from scenepalette.pipeline.trusted import TakenPairs
from scenepalette.pipeline.units.records import seconds_spent
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace, in_order
from scenepalette.training.checkpoint import read_metadata
from scenepalette.training.device.fitting import in_fitting_batches

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VERSION = 1
METRICS = "metrics.json"
STAGE = "comparison"


def row_models(config: RunConfig, name: str) -> PairModels:
    """Return what makes the pairs of a row.

    All layout systems are trained with the numbers of `layouts.full`, as far as these mean something to them.
    """
    row = ROWS[name]
    image = image_model(config, row.images)
    if row.layouts is None:
        return PairModels(PAIR_KINDS["semi"], None, image)
    full = layout_model(config, "full")
    system = LAYOUT_SYSTEMS[row.layouts]
    standard = LayoutSettings()
    idle = {field: getattr(standard, field) for field in OPTIONAL - system.options}
    layout = LayoutModel(
        name if row.changes else row.layouts, row.layouts, replace(full.settings, **{**idle, **row.changes})
    )
    return PairModels(PAIR_KINDS["full"], layout, image, name if row.end_to_end else None)


def _row_problems(config: RunConfig, table: ClassTable | None = None) -> list[str]:
    """Return what keeps models of the rows from being built, each once; see `network_problem`."""
    found = dict[str, str | None]()
    for name in config.compare.rows:
        models = row_models(config, name)
        for model in (models.layout, models.image):
            if model is not None and model.unit not in found:
                text = model.problem(config.generator_size, table)
                found[model.unit] = f"compare.rows: {name}: {text}" if text else None
    return [text for text in found.values() if text]


@dataclass(frozen=True, kw_only=True)
class RowMetricsUnit(Unit):
    """The measurements of one row.

    Attributes:
        row: Name of the row.
        models: What makes its pairs.
        pairs: The unit of its pairs.
        segmenter: The unit of the segmenter trained on them.
    """

    row: str
    models: PairModels
    pairs: str
    segmenter: str

    def make(self, run: Workspace, folder: Path) -> None:
        """Measure the row."""
        config, models = run.config, self.models
        train, filled_labels = run.data.train, run.data.filled_labels
        seen, size = run.segmenter_data.validation, config.segmenter_size  # at the size that segmenters work at
        image_generator = models.image.load(run, models.image_weights(run.run_dir))
        count = train.table.num_classes
        chosen = evenly_spread(len(filled_labels), config.compare.layouts)

        def images_of_layouts(label: Tensor, draw: int) -> Tensor:
            # Noise follows from draw and layout alone, whatever the batch.
            randoms = [
                torch_generator(config.seed, "compare", draw, int(ids.sum()), int(ids[::3, ::3].sum())) for ids in label
            ]
            noise = image_generator.sample_noise(None, label, randoms)
            return image_generator(one_hot(label, count), noise).float()

        # As many pairs as there are validation images are compared with these.
        pairs = FirstPairs(ShardPairs(run.run_dir / self.pairs, size=size), min(len(seen), config.compare.pairs))
        given: dict[str, Any] = {"gan_train": read_confusion(run.run_dir / self.segmenter)}
        if models.layout is not None:
            requested, achieved = stored_palettes(run.run_dir / self.pairs, config.compare.pairs)
            given |= {"real_palettes": real_palettes(train), "achieved_palettes": achieved}
            if LAYOUT_SYSTEMS[models.layout.system].conditional:
                given["requested_palettes"] = requested
        elif IMAGE_SYSTEMS[models.image.system].predict_labels is not None:
            given["discriminator"] = discriminator_confusion(
                models.image.load_discriminator(run), models.image.system, run.data.validation, run.fabric
            )
        metrics = evaluate_images(
            images_of_layouts,
            np.asarray(filled_labels[chosen]),
            seen,
            pairs,
            load_reference_segmenter(run),
            batch_size=EVALUATION_BATCH,
            fabric=run.fabric,
            draws=config.compare.draws,
            inception_weights=config.report.inception_weights,
            alexnet_weights=config.compare.alexnet_weights,
            given=given,
            progress=run.progress,
        )
        trained_on = read_metadata(models.image_weights(run.run_dir)).get(PERCEPTUAL)
        write_json(folder / METRICS, {**metrics, PERCEPTUAL: trained_on})


@dataclass(frozen=True, kw_only=True)
class ComparisonUnit(Unit):
    """The table that sets the systems against each other.

    Attributes:
        measured: The measurements of each row, in the order of the table.
    """

    measured: tuple[RowMetricsUnit, ...]

    @classmethod
    def problems(cls, units: Sequence[ComparisonUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Return what keeps systems from being compared, so that it is said before anything is trained.

        Each model is built once at the size of the data; one text for each that cannot be.
        """
        data, problems = config.data, _row_problems(config)
        if min(*config.generator_size, *config.segmenter_size) < SMALLEST_SIDE:
            problems.append(
                f"data.size: the comparison's measures need at least {SMALLEST_SIDE} pixels each way, got "
                f"{data.size[0]}x{data.size[1]}"
            )
        if DATASETS.get(data.name).drawn and data.val_scenes < LEAST_PAIRS:
            problems.append(f"data.val_scenes: the comparison needs at least {LEAST_PAIRS}, got {data.val_scenes}")
        return problems

    @classmethod
    def problems_of_data(cls, units: Sequence[ComparisonUnit], config: RunConfig, data: PreparedData) -> list[str]:
        """Say if there are too few validation pairs, and which systems of other packages cannot be built."""
        problems, count = _row_problems(config, data.train.table), len(data.validation)
        if count < LEAST_PAIRS:
            problems.append(
                f"data.root: the comparison needs at least {LEAST_PAIRS} validation pairs, got {count}; add some"
            )
        return problems

    def make(self, run: Workspace, folder: Path) -> None:
        """Write the table."""
        units = {name: unit for name, unit in run.planned.comparison.items() if name != self.name}
        results = [
            RowResult(
                name=unit.row,
                row=ROWS[unit.row],
                trained=unit.models.units,
                metrics=read_json(run.run_dir / unit.name / METRICS),
                gan_train=read_confusion(run.run_dir / unit.segmenter),
                pairs=run.run_dir / unit.pairs,
            )
            for unit in self.measured
        ]
        write_comparison(
            folder,
            run.config,
            results,
            real_confusion=read_confusion(run.run_dir / reference_segmenter_of(run.config)),
            train=run.data.train,
            validation=run.data.validation,
            durations={name: seconds_spent(run.run_dir, unit) for name, unit in units.items()},
            provenance=provenance(run),
        )


def comparison_units(config: RunConfig, sources: Sources, run_units: Mapping[str, Unit]) -> dict[str, Unit]:
    """Return the units of the comparison of systems, by name, each after those that it reads.

    Models that a run has as well are the same units, made once for both.
    """
    shared = (*config.data_of_segmenters, "palettes", reference_segmenter_of(config))
    models = [row_models(config, name) for name in config.compare.rows]
    return in_order(
        [
            *(unit for name, unit in run_units.items() if name in shared),
            *model_units(config, sources, models),
            *_units_of_rows(config, sources),
        ]
    )


def _units_of_rows(config: RunConfig, sources: Sources) -> list[Unit]:
    """Return the pairs, segmenter and measurements of every row, and the table; their models are other units."""
    reference, count, seed = reference_segmenter_of(config), config.compare.pairs, {"seed": config.seed}
    units: list[Unit] = []
    measured = []
    for name in config.compare.rows:
        models = row_models(config, name)
        pairs, segmenter, metrics = (f"{STAGE}/{name}/{part}" for part in ("pairs", "segmenter", "metrics"))
        settings = {
            **config.compare.model_dump(mode="json", include={"layouts", "draws"}),
            "alexnet_weights": sources.file(config.compare.alexnet_weights, metrics, "alexnet_weights"),
            "inception_weights": sources.file(config.report.inception_weights, metrics, "inception_weights"),
            "pairs": count,
            **seed,
            **metrics_from_elsewhere(),
        }
        measured.append(
            RowMetricsUnit(
                STAGE,
                f"{name}/metrics",
                VERSION,
                settings,
                (*config.data_of_segmenters, pairs, segmenter, reference, *models.inputs),
                renewed=True,
                resumable=False,
                row=name,
                models=models,
                pairs=pairs,
                segmenter=segmenter,
            )
        )
        steps, first = config.compare.segmenter_steps, config.segmenters.seeds[0]
        units += [
            # Image systems other than the run's own have their usual noise.
            PairsUnit.of(config, f"{name}/pairs", models, count, None, stage=STAGE),
            SegmenterUnit.of(
                config, sources, f"{name}/segmenter", "syn", first, TakenPairs(pairs, count), steps=steps, stage=STAGE
            ),
            measured[-1],
        ]
    settings = {
        "rows": [unit.row for unit in measured],
        **config.report.identity(),
        "inception_weights": sources.file(config.report.inception_weights, f"{STAGE}/report", "inception_weights"),
        "pairs": count,
        **seed,
    }
    inputs = (reference, *(unit.name for unit in measured))
    page = ComparisonUnit(
        STAGE, "report", VERSION, settings, inputs, renewed=True, resumable=False, measured=tuple(measured)
    )
    return [*units, page]


def discriminator_confusion(discriminator: nn.Module, system: str, validation: Pairs, fabric: Fabric) -> np.ndarray:
    """Use a discriminator that labels pixels as a segmenter (Schönfeld et al., 2021, App. B.4).

    Args:
        discriminator: The trained discriminator.
        system: Name of its image system.
        validation: Real validation pairs.
        fabric: Device and precision.

    Returns:
        int64 [K, K], rows the truth, columns the prediction.
    """
    predict = IMAGE_SYSTEMS[system].predict_labels
    assert predict is not None
    discriminator = fabric.to_device(discriminator)
    total = np.zeros((validation.table.num_classes,) * 2, dtype=np.int64)

    def of_rows(rows: range) -> np.ndarray:
        image, label = validation.batch(rows)
        with torch.inference_mode(), fabric.autocast():
            prediction = predict(discriminator, image.to(fabric.device)).cpu()
        return confusion_of_batch(prediction, label, validation.table.num_classes).sum(dim=0).numpy()

    for _, confusion in in_fitting_batches(len(validation), EVALUATION_BATCH, of_rows):
        total += confusion
    return total
