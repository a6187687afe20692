"""Stage compare: measure the pairs of every row, and write the table that sets the systems against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from scenepalette.common.files import read_json, write_json
from scenepalette.common.progress import Progress
from scenepalette.common.randomness import torch_generator
from scenepalette.data.arrays import Pairs
from scenepalette.data.labels import one_hot
from scenepalette.data.shards.pairs import FirstPairs
from scenepalette.evaluation.generated import evaluate_images
from scenepalette.evaluation.miou import confusion_of_batch
from scenepalette.generators.images.base import ImageGenerator
from scenepalette.generators.images.loading import load_image_discriminator
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.pipeline.comparisons import ROWS
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.models import PairModels
from scenepalette.pipeline.report import comparison as report
from scenepalette.pipeline.report.comparison import PERCEPTUAL, RowResult
from scenepalette.pipeline.stages.palettes import real_palettes
from scenepalette.pipeline.stages.segment import EVALUATION_BATCH, read_confusion
from scenepalette.training.checkpoint import read_metadata

VERSION = 1
METRICS = "metrics.json"


def measure_row(
    folder: Path,
    models: PairModels,
    config: RunConfig,
    *,
    run_dir: Path,
    pairs: FirstPairs,
    train: Pairs,
    validation: Pairs,
    filled_labels: np.ndarray,
    image_generator: ImageGenerator,
    judge: nn.Module,
    palettes: tuple[np.ndarray, np.ndarray],
    confusion: np.ndarray,
    fabric: Fabric,
    progress: Progress,
) -> None:
    """Measure one row and write metrics.json.

    Args:
        folder: Output folder.
        models: What made the pairs.
        config: The run's configuration.
        run_dir: The run directory.
        pairs: The row's pairs; as many as there are validation images are compared with these.
        train: Real training pairs.
        validation: Real validation pairs.
        filled_labels: uint8 [N, H, W], training labels with ignored pixels filled.
        image_generator: The row's image generator, in eval mode on the fabric's device.
        judge: Segmenter trained on real pairs.
        palettes: Requested and achieved palettes [M, K] of the pairs.
        confusion: Confusion matrices [N, K, K] of the segmenter that was trained on the row's pairs (GAN-train).
        fabric: Device and precision.
        progress: Watches the evaluations.
    """
    count = train.table.num_classes
    chosen = np.linspace(0, len(filled_labels) - 1, min(config.compare.layouts, len(filled_labels))).round().astype(int)

    def images_of_layouts(label: Tensor, draw: int) -> Tensor:
        # Noise follows from draw and layout alone, whatever the batch.
        randoms = [
            torch_generator(config.seed, "compare", draw, int(ids.sum()), int(ids[::3, ::3].sum())) for ids in label
        ]
        noise = image_generator.sample_noise(None, label, randoms)
        return image_generator(one_hot(label, count), noise).float()

    given: dict[str, Any] = {"gan_train": confusion}
    if models.layout is not None:
        given |= {"real_palettes": real_palettes(train), "achieved_palettes": palettes[1]}
        if LAYOUT_SYSTEMS[models.layout.system].conditional:
            given["requested_palettes"] = palettes[0]
    elif IMAGE_SYSTEMS[models.image.system].predict_labels is not None:
        discriminator = load_image_discriminator(
            models.discriminator_weights(run_dir), models.image.system, train.table, train.size, models.image.settings
        )
        given["discriminator"] = discriminator_confusion(discriminator, models.image.system, validation, fabric)
    metrics = evaluate_images(
        images_of_layouts,
        np.asarray(filled_labels[chosen]),
        validation,
        FirstPairs(pairs, len(validation)),
        judge,
        batch_size=EVALUATION_BATCH,
        fabric=fabric,
        draws=config.compare.draws,
        inception_weights=config.report.inception_weights,
        alexnet_weights=config.compare.alexnet_weights,
        seed=config.seed,
        given=given,
        progress=progress,
    )
    trained_on = read_metadata(models.image_weights(run_dir)).get(PERCEPTUAL)
    write_json(folder / METRICS, {**metrics, PERCEPTUAL: trained_on})


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
    for first in range(0, len(validation), EVALUATION_BATCH):
        image, label = validation.batch(range(first, min(first + EVALUATION_BATCH, len(validation))))
        with torch.inference_mode(), fabric.autocast():
            prediction = predict(discriminator, image.to(fabric.device)).cpu()
        total += confusion_of_batch(prediction, label, validation.table.num_classes).sum(dim=0).numpy()
    return total


def write_comparison(
    folder: Path,
    config: RunConfig,
    *,
    run_dir: Path,
    train: Pairs,
    validation: Pairs,
    real_confusion: np.ndarray,
    durations: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> None:
    """Write comparison.json, comparison.md, comparison.html and the sample strips."""
    home = run_dir / "comparison"
    results = [
        RowResult(
            name=name,
            row=ROWS[name],
            metrics=read_json(home / name / "metrics" / METRICS),
            gan_train=read_confusion(home / name / "segmenter"),
            pairs=home / name / "pairs",
        )
        for name in config.compare.rows
    ]
    report.write_comparison(
        folder,
        config,
        results,
        real_confusion=real_confusion,
        train=train,
        validation=validation,
        durations=durations,
        provenance=provenance,
    )
