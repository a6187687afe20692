"""All metrics of generated images at once, for comparing image generators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from scenepalette.common.errors import DataError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.randomness import derive_seed
from scenepalette.data.arrays import images_to_uint8
from scenepalette.evaluation.appearance import (
    AppearanceHistograms,
    appearance_histograms,
    color_distance,
    texture_distance,
)
from scenepalette.evaluation.diversity import (
    LPIPS_SMALLEST_SIDE,
    WINDOW,
    ClassVariance,
    distinct_images,
    load_lpips,
    mean_pairwise_lpips,
    mean_pairwise_ms_ssim,
    number_of_scales,
)
from scenepalette.evaluation.features import inception_features, load_inception, segmenter_features
from scenepalette.evaluation.frechet import frechet_distance
from scenepalette.evaluation.miou import confusion_per_image, mean_iou, mean_over_classes
from scenepalette.evaluation.precision_recall import NEIGHBORS, precision_recall

if TYPE_CHECKING:
    from scenepalette.data.arrays import Pairs
    from scenepalette.data.classes import ClassTable
    from scenepalette.data.shards.pairs import ShardPairs

ImageMetrics = dict[str, float | int | str | None]

# Schönfeld et al., 2021, 4.1.
DRAWS = 20
# Li et al., 2019, 4.3: how often one image of each cluster is chosen.
CHOICES_OF_CLUSTERS = 10
SMALLEST_SIDE = max(WINDOW, LPIPS_SMALLEST_SIDE)
"""Least height and width of images whose diversity is measured."""
LEAST_PAIRS = NEIGHBORS + 1
"""Least number of real, and of generated, pairs that are compared."""


def evaluate_images(
    images_of_layouts: Callable[[Tensor, int], Tensor],
    layouts: np.ndarray,
    real: Pairs | ShardPairs,
    generated: Pairs | ShardPairs,
    segmenter: nn.Module,
    *,
    batch_size: int,
    fabric: Fabric,
    draws: int = DRAWS,
    variance_clusters: int | None = None,
    inception_weights: Path | None = None,
    alexnet_weights: Path | None = None,
    seed: int = 0,
    progress: Progress = NO_PROGRESS,
) -> ImageMetrics:
    """Measure generated images in every way that needs no further training.

    Args:
        images_of_layouts: Draws one image of each layout: from label maps BHW int64 on the fabric's device and the
            number of the draw, 0 to `draws` - 1, to images B3HW in [-1, 1]. Must be a function of its arguments alone;
            called in inference mode under the fabric's precision. Let its noise follow from the draw and the layout,
            not from the position in the batch, and no result depends on the batch size.
        layouts: Label maps uint8 [L, H, W] for the metrics of diversity; ignored pixels are passed on as they are.
        real: Real pairs, as a rule of the validation split.
        generated: Generated pairs; as many as `real`, or values cannot be compared with other systems'.
        segmenter: Segmenter trained on real pairs.
        batch_size: Layouts or images at once.
        fabric: Device and precision.
        draws: Images per layout, at least 2.
        variance_clusters: If set, the variance per class is taken over this many images, one at random from each
            cluster of the draws, ten times over (Li et al., 2019, 4.3); None takes it over all draws.
        inception_weights: Local file for FID, precision and recall; None to find or download it.
        alexnet_weights: Local file for LPIPS; None to find or download it.
        seed: What the choice from clusters depends on.
        progress: Counts images.

    Returns:
        Values by name, with plain numbers, so that JSON can hold them:

        - `fid`, `precision`, `recall` (Inception features)
        - `segmenter_frechet`, `segmenter_precision`, `segmenter_recall` (the segmenter's features)
        - `gan_test_miou` over the evaluated classes, `gan_test_miou_all` over all: the segmenter on generated pairs
        - `color_distance`, `texture_distance`: means over classes
        - `color_distance/CLASS`, `texture_distance/CLASS` for the classes that both sets show
        - `ms_ssim` with `ms_ssim_scales`, `lpips`: means over layouts of the mean over pairs of draws
        - `class_variance`: mean over classes, and `class_variance/CLASS` for the classes that the layouts show
        - `real_images`, `generated_images`, `layouts`, `draws_per_layout`

        A metric that cannot be had is None, and `METRIC_absent_because` says why in one line.

    Raises:
        DataError: The inputs do not suit the metrics; all problems at once.
    """
    _check(layouts, real, generated, draws, variance_clusters)
    table = real.table
    metrics: ImageMetrics = {
        "real_images": len(real),
        "generated_images": len(generated),
        "layouts": len(layouts),
        "draws_per_layout": draws,
    }
    metrics |= _of_inception(real, generated, inception_weights, batch_size, fabric, progress)
    metrics |= _of_segmenter(segmenter, real, generated, batch_size, fabric, progress)
    metrics |= _of_appearance(real, generated, table, batch_size, progress)
    metrics |= _of_diversity(
        images_of_layouts,
        layouts,
        table,
        draws=draws,
        variance_clusters=variance_clusters,
        alexnet_weights=alexnet_weights,
        seed=seed,
        batch_size=batch_size,
        fabric=fabric,
        progress=progress,
    )
    return metrics


def _check(
    layouts: np.ndarray,
    real: Pairs | ShardPairs,
    generated: Pairs | ShardPairs,
    draws: int,
    variance_clusters: int | None,
) -> None:
    problems = []
    if layouts.dtype != np.uint8 or layouts.ndim != 3 or len(layouts) == 0:
        problems.append(f"The layouts are {layouts.dtype} {list(layouts.shape)}; give uint8 [L, H, W] with L >= 1.")
    elif min(layouts.shape[1:]) < SMALLEST_SIDE:
        problems.append(
            f"The layouts are {layouts.shape[1]}x{layouts.shape[2]}; MS-SSIM and LPIPS need at least "
            f"{SMALLEST_SIDE} pixels each way."
        )
    for what, pairs in (("real", real), ("generated", generated)):
        if len(pairs) < LEAST_PAIRS:
            problems.append(f"There are {len(pairs)} {what} pairs; precision and recall need at least {LEAST_PAIRS}.")
    if real.table.fingerprint != generated.table.fingerprint:
        problems.append(
            f"The real pairs have the class table {real.table.name!r}, the generated ones {generated.table.name!r}, "
            "and the two differ; use one table."
        )
    if draws < 2:
        problems.append(f"{draws} draws per layout were asked for; diversity needs at least 2.")
    if variance_clusters is not None and not 2 <= variance_clusters <= draws:
        problems.append(f"{variance_clusters} clusters of {draws} draws were asked for; use 2 to {draws}.")
    if problems:
        raise DataError("These images cannot be evaluated.", problems)


def _of_inception(
    real: Pairs | ShardPairs,
    generated: Pairs | ShardPairs,
    weights: Path | None,
    batch_size: int,
    fabric: Fabric,
    progress: Progress,
) -> ImageMetrics:
    """Return FID, precision and recall, or why they are absent."""
    network, reason = load_inception(weights)
    if network is None:
        metrics: ImageMetrics = {}
        for name, title in (("fid", "FID"), ("precision", "Precision"), ("recall", "Recall")):
            metrics |= {name: None, f"{name}_absent_because": f"{title} is absent: {reason}"}
        return metrics

    def features(pairs: Pairs | ShardPairs, description: str) -> np.ndarray:
        images = (image for image, _ in _batches(pairs, batch_size, progress, description))
        return inception_features(network, images, fabric.device)

    of_real = features(real, "Inception features of real images")
    of_generated = features(generated, "Inception features of generated images")
    shares = precision_recall(of_real, of_generated)
    return {
        "fid": frechet_distance(of_real, of_generated),
        "precision": shares.precision,
        "recall": shares.recall,
    }


def _of_segmenter(
    segmenter: nn.Module,
    real: Pairs | ShardPairs,
    generated: Pairs | ShardPairs,
    batch_size: int,
    fabric: Fabric,
    progress: Progress,
) -> ImageMetrics:
    """Return the metrics that the segmenter trained on real pairs gives."""
    of_real = segmenter_features(segmenter, real, batch_size, fabric, progress, "Segmenter features of real images")
    of_generated = segmenter_features(
        segmenter, generated, batch_size, fabric, progress, "Segmenter features of generated images"
    )
    shares = precision_recall(of_real, of_generated)
    confusion = confusion_per_image(segmenter, generated, batch_size, fabric, progress)
    metrics: ImageMetrics = {
        "segmenter_frechet": frechet_distance(of_real, of_generated),
        "segmenter_precision": shares.precision,
        "segmenter_recall": shares.recall,
    }
    unlabelled = "no generated pair shows a class that counts, nor is one predicted"
    metrics |= _value("gan_test_miou", mean_iou(confusion, generated.table.eval_ids), unlabelled)
    return metrics | _value("gan_test_miou_all", mean_iou(confusion, range(generated.table.num_classes)), unlabelled)


def _of_appearance(
    real: Pairs | ShardPairs,
    generated: Pairs | ShardPairs,
    table: ClassTable,
    batch_size: int,
    progress: Progress,
) -> ImageMetrics:
    """Return the distances of colours and textures."""

    def histograms(pairs: Pairs | ShardPairs, description: str) -> AppearanceHistograms:
        return appearance_histograms(_batches(pairs, batch_size, progress, description), table.num_classes)

    of_real = histograms(real, "Colours and textures of real images")
    of_generated = histograms(generated, "Colours and textures of generated images")
    metrics: ImageMetrics = {}
    for name, function in (("color_distance", color_distance), ("texture_distance", texture_distance)):
        distances = function(of_real, of_generated)
        metrics |= _value(name, mean_over_classes(distances), "no class is in both real and generated pairs")
        metrics |= _per_class(name, distances, table)
    return metrics


def _of_diversity(
    images_of_layouts: Callable[[Tensor, int], Tensor],
    layouts: np.ndarray,
    table: ClassTable,
    *,
    draws: int,
    variance_clusters: int | None,
    alexnet_weights: Path | None,
    seed: int,
    batch_size: int,
    fabric: Fabric,
    progress: Progress,
) -> ImageMetrics:
    """Return the metrics of several images per layout; no more than one batch of layouts is in memory at once."""
    lpips, reason = load_lpips(alexnet_weights)
    if lpips is not None:
        lpips = lpips.to(fabric.device)
    similarities, distances, variance = [], [], ClassVariance(table.num_classes)
    progress.start("Diversity of images of one layout", len(layouts) * draws)
    for first in range(0, len(layouts), batch_size):
        labels = layouts[first : first + batch_size]
        drawn = []
        for draw in range(draws):
            drawn.append(_draw(images_of_layouts, labels, draw, fabric))
            progress.advance(len(labels))
        for position, label in enumerate(labels):
            images = np.stack([batch[position] for batch in drawn])  # N H W 3
            similarities.append(mean_pairwise_ms_ssim(images, device=fabric.device))
            if lpips is not None:
                distances.append(mean_pairwise_lpips(images, lpips))
            if variance_clusters is None:
                variance.add(images, label)
            else:
                for choice in range(CHOICES_OF_CLUSTERS):
                    chosen = derive_seed(seed, "variance", first + position, choice)
                    variance.add(distinct_images(images, variance_clusters, chosen), label)
    progress.finish()
    of_classes = variance.result()
    metrics: ImageMetrics = {
        "ms_ssim": float(np.mean(similarities)),
        "ms_ssim_scales": number_of_scales(*layouts.shape[1:]),
    }
    if lpips is None:
        metrics |= {"lpips": None, "lpips_absent_because": f"LPIPS is absent: {reason}"}
    else:
        metrics["lpips"] = float(np.mean(distances))
    metrics |= _value("class_variance", of_classes.mean, "the layouts have no labelled pixel")
    return metrics | _per_class("class_variance", of_classes.per_class, table)


def _draw(
    images_of_layouts: Callable[[Tensor, int], Tensor], labels: np.ndarray, draw: int, fabric: Fabric
) -> np.ndarray:
    """Return one picture of each layout, uint8 [B, H, W, 3]."""
    with torch.inference_mode(), fabric.autocast():
        images = images_of_layouts(torch.from_numpy(labels.astype(np.int64)).to(fabric.device), draw)
    expected = (len(labels), 3, *labels.shape[1:])
    if tuple(images.shape) != expected:
        raise DataError(
            f"The generator returned images {list(images.shape)} for {len(labels)} layouts; required are "
            f"{list(expected)}."
        )
    return images_to_uint8(images)


def _batches(
    pairs: Pairs | ShardPairs, batch_size: int, progress: Progress, description: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pictures uint8 [B, H, W, 3] and label maps int64 [B, H, W] of all pairs in order."""
    progress.start(description, len(pairs))
    for first in range(0, len(pairs), batch_size):
        images, labels = pairs.batch(range(first, min(first + batch_size, len(pairs))))
        yield images_to_uint8(images), labels.numpy()
        progress.advance(len(images))
    progress.finish()


def _value(name: str, value: float, reason: str) -> ImageMetrics:
    """Return a metric, or why it is absent where it is nan."""
    if np.isnan(value):
        return {name: None, f"{name}_absent_because": f"{name} is absent: {reason}."}
    return {name: value}


def _per_class(name: str, values: np.ndarray, table: ClassTable) -> ImageMetrics:
    return {
        f"{name}/{class_name}": float(value)
        for class_name, value in zip(table.names, values, strict=True)
        if not np.isnan(value)
    }
