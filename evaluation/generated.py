"""The metrics of generated layouts and images, measured together."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from scenepalette.common.errors import AbsentError, DataError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.registry import PACKAGE
from scenepalette.data.arrays import PairSource, images_to_uint8
from scenepalette.evaluation.evidence import DRAWS, Draws, Evidence
from scenepalette.evaluation.images.diversity import LPIPS_SMALLEST_SIDE, WINDOW
from scenepalette.evaluation.images.precision_recall import NEIGHBORS
from scenepalette.evaluation.miou import mean_of_defined
from scenepalette.evaluation.registry import METRICS, Metric, absence
from scenepalette.training.device.fitting import in_fitting_batches

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scenepalette.data.classes import ClassTable

ImageMetrics = dict[str, float | int | str | None]

# Schönfeld et al., 2021, 4.1.
DRAWS_PER_LAYOUT = 20
SMALLEST_SIDE = max(WINDOW, LPIPS_SMALLEST_SIDE)
"""Least height and width of images whose diversity is measured."""
LEAST_PAIRS = NEIGHBORS + 1
"""Least number of real, and of generated, pairs that are compared."""


def evaluate_images(
    images_of_layouts: Callable[[Tensor, int], Tensor],
    layouts: np.ndarray,
    real: PairSource,
    generated: PairSource,
    segmenter: nn.Module,
    *,
    batch_size: int,
    fabric: Fabric,
    draws: int = DRAWS_PER_LAYOUT,
    inception_weights: Path | None = None,
    alexnet_weights: Path | None = None,
    given: Mapping[str, Any] | None = None,
    progress: Progress = NO_PROGRESS,
) -> ImageMetrics:
    """Measure generated images, and layouts where `given` says something of them, by every metric of the comparison.

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
        inception_weights: Local file for FID, precision and recall; None to find or download it.
        alexnet_weights: Local file for LPIPS; None to find or download it.
        given: What else metrics may need, by the names of `evaluation.evidence.NEEDS`.
        progress: Counts images.

    Returns:
        The result of `measure`, and `real_images`, `generated_images`, `layouts` and `draws_per_layout`.

    Raises:
        DataError: The inputs do not suit the metrics; all problems at once.
    """
    _check(layouts, real, generated, draws)

    def draws_by_layout() -> Iterator[Draws]:
        progress.start("Diversity of images of one layout", len(layouts) * draws)
        # No more than one batch of layouts is in memory at once.
        for first in range(0, len(layouts), batch_size):
            labels = layouts[first : first + batch_size]
            drawn = []
            for draw in range(draws):
                drawn.append(_draw(images_of_layouts, labels, draw, fabric))
                progress.advance(len(labels))
            for position, label in enumerate(labels):
                yield Draws(np.stack([batch[position] for batch in drawn]), label)  # N H W 3
        progress.finish()

    evidence = Evidence(
        real,
        generated,
        segmenter,
        batch_size=batch_size,
        fabric=fabric,
        draws=draws_by_layout,
        inception_weights=inception_weights,
        alexnet_weights=alexnet_weights,
        given={"layout_size": layouts.shape[1:], **(given or {})},
        progress=progress,
    )
    sizes: ImageMetrics = {
        "real_images": len(real),
        "generated_images": len(generated),
        "layouts": len(layouts),
        "draws_per_layout": draws,
    }
    return sizes | measure("comparison", evidence)


def measure(place: Literal["report", "comparison"], evidence: Evidence) -> ImageMetrics:
    """Measure what a page shows, and what the comparison keeps beside it.

    Args:
        place: The page.
        evidence: What metrics need; a metric of which something is not there is left out.

    Returns:
        Values by the metrics' names, plain numbers that JSON can hold. A metric with a value per class also has
        `METRIC/CLASS` for each class with one. A metric that cannot be had is None, and `METRIC_absent_because` says
        why in one line; of a metric from elsewhere this may be any exception that it raised.

    Raises:
        DataError: The inputs do not suit a metric of this package.
    """
    chosen = {
        name: metric
        for name, metric in METRICS.items()
        if all(need in evidence for need in metric.needs)
        and (place in metric.shown or (place == "comparison" and not metric.shown))
    }
    measured = {
        name: [_attempt(name, metric, evidence)] for name, metric in chosen.items() if DRAWS not in metric.needs
    }
    over_layouts: dict[str, list[Any]] = {name: [] for name in chosen if name not in measured}
    if over_layouts:
        for draws in evidence.draws():
            for name, so_far in over_layouts.items():
                if not (so_far and isinstance(so_far[-1], AbsentError)):
                    so_far.append(_attempt(name, chosen[name], evidence, draws))
    values: ImageMetrics = {}
    for name, metric in chosen.items():
        values |= _entries(name, metric, (measured | over_layouts)[name], evidence["table"])
    return values


def _attempt(name: str, metric: Metric, evidence: Evidence, draws: Draws | None = None) -> Any:
    """Return what a metric's function returns, or why it is absent."""
    try:
        value = metric.function(*(draws if need == DRAWS else evidence[need] for need in metric.needs))
    except AbsentError as absent:
        return absent
    except Exception as error:
        # A stranger's metric may raise anything, and must not cost the user the others.
        if METRICS.source(name) == PACKAGE:
            raise
        return AbsentError(" ".join(f"{METRICS.source(name)} failed ({type(error).__name__}: {error}).".split()))
    classes = evidence["table"].num_classes
    if isinstance(value, Tensor):
        value = value.detach().float().cpu().numpy()
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, numbers.Real):
        return value
    if isinstance(value, np.ndarray) and value.shape == (classes,) and value.dtype.kind in "fiu":
        return value
    return AbsentError(
        f"{METRICS.source(name)} returned {type(value).__name__}; required is a number or an array of {classes}, one "
        "per class."
    )


def _entries(name: str, metric: Metric, values: list[Any], table: ClassTable) -> ImageMetrics:
    """Return what metrics.json holds of a metric, from its value or its value for each layout."""
    absent = values[-1] if isinstance(values[-1], AbsentError) else None
    if len({np.shape(value) for value in values}) > 1:
        absent = absent or f"{METRICS.source(name)} returned a number for some layouts and an array for others."
    if absent:
        return {name: None, f"{name}_absent_because": absence(metric.heading, absent)}
    if isinstance(values[0], int) and len(values) == 1:
        return {name: values[0]}
    mean = mean_of_defined(np.asarray(values, dtype=np.float64), axis=0)
    of_classes = {}
    if mean.ndim:
        of_classes = {key: float(each) for key, each in zip(table.names, mean, strict=True) if np.isfinite(each)}
        mean = np.mean(list(of_classes.values())) if of_classes else np.float64("nan")
    entries: ImageMetrics = {name: float(mean)}
    if not np.isfinite(mean):
        entries = {name: None, f"{name}_absent_because": absence(name, f"{metric.undefined}.")}
    return entries | {f"{name}/{key}": each for key, each in of_classes.items()}


def _check(layouts: np.ndarray, real: PairSource, generated: PairSource, draws: int) -> None:
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
    if problems:
        raise DataError("These images cannot be evaluated.", problems)


def _draw(
    images_of_layouts: Callable[[Tensor, int], Tensor], labels: np.ndarray, draw: int, fabric: Fabric
) -> np.ndarray:
    """Return one image of each layout, uint8 [B, H, W, 3]."""

    def of_rows(rows: range) -> Tensor:
        layouts = torch.from_numpy(labels[rows.start : rows.stop].astype(np.int64)).to(fabric.device)
        with torch.inference_mode(), fabric.autocast():
            return images_of_layouts(layouts, draw)

    images = torch.cat([images for _, images in in_fitting_batches(len(labels), len(labels), of_rows, "layouts")])
    expected = (len(labels), 3, *labels.shape[1:])
    if tuple(images.shape) != expected:
        raise DataError(
            f"The generator returned images {list(images.shape)} for {len(labels)} layouts; required are "
            f"{list(expected)}."
        )
    return images_to_uint8(images)
