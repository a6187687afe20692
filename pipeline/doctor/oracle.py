"""What no segmenter of the chosen stride can find at the chosen size, however well it is trained."""

from __future__ import annotations

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.processors import map_in_order
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.data.arrays import resize_label
from scenepalette.data.fitting.geometry import Box, crop_box, tiles_of
from scenepalette.data.sample import SegmentationDataset
from scenepalette.data.sequences import evenly_spread
from scenepalette.evaluation.miou import intersection_over_union, mean_iou, overlaps
from scenepalette.evaluation.oracle import oracle_confusion
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.doctor.findings import Check
from scenepalette.pipeline.stages.segment import arm_settings, size_field
from scenepalette.segmenters.model import title_of
from scenepalette.segmenters.stride import decoder_stride

UNREACHABLE = 0.3
"""IoU of the oracle below which a class is named."""
MOST_LABELS = 200


def _finer(stride: int) -> str:
    known = "deeplabv3plus, fpn and upernet have 4; unet and linknet 1" if stride > 4 else "unet and linknet have 1"
    return f"a segmenters.architecture of a finer stride ({known}), or " if stride > 1 else ""


def _worked_at(config: RunConfig, label: np.ndarray) -> list[np.ndarray]:
    """Return what segmenters see of a label, by `data.fit` and at their size."""
    shape, data = (label.shape[0], label.shape[1]), config.data
    if data.fit == "stretch":
        boxes = [Box(0, 0, *shape)]
    elif data.fit == "crop":
        boxes = [crop_box(shape, data.size)]
    else:
        boxes = [tile.box for tile in tiles_of(shape, data.size, data.tile_height)]
    return [resize_label(label[box.top : box.bottom, box.left : box.right], config.segmenter_size) for box in boxes]


def check_oracle(config: RunConfig, dataset: SegmentationDataset, progress: Progress = NO_PROGRESS) -> Check | None:
    """Compute the best IoU of each class for `data.size` and the stride of `segmenters.architecture`.

    Up to 200 labels, evenly spread, are coarsened to the stride and enlarged again (`oracle_confusion`). Evaluated
    classes whose IoU stays below 0.3 are a warning: they count as nearly 0 in every arm, so that no arm can gain there.

    Args:
        config: The run's configuration.
        dataset: The split that is reported.
        progress: Watches the labels.

    Returns:
        The finding; None if the segmenter's stride cannot be told, or a label can no longer be read.
    """
    settings, size, table = arm_settings(config.segmenters, "real"), config.segmenter_size, dataset.table
    stride = decoder_stride(settings, size)
    if stride is None:
        return None
    chosen = evenly_spread(len(dataset), MOST_LABELS)
    labels = []
    progress.start("best possible IoU", len(chosen))
    try:
        for parts in map_in_order(lambda index: _worked_at(config, dataset[index].label), chosen):
            labels += parts
            progress.advance()
    except DataError:  # changed since it was scanned, which is reported elsewhere
        return None
    finally:
        progress.finish()
    confusion = oracle_confusion(labels, table.num_classes, stride)
    best = intersection_over_union(overlaps(confusion, table.eval_ids))
    lost = sorted((best[index], table.names[index]) for index in table.eval_ids if best[index] < UNREACHABLE)
    where = f"at {size[0]} x {size[1]} with {title_of(settings.architecture)}, whose scores have stride {stride}"
    summary = f"A perfect segmenter reaches mIoU {100 * mean_iou(confusion, table.eval_ids):.1f} {where}."
    if not lost:
        return Check("best possible IoU", "ok", summary)
    few = f"{len(lost)} of {len(table.eval_ids)} classes {'stays' if len(lost) == 1 else 'stay'}"
    return Check(
        "best possible IoU",
        "warning",
        f"{summary} {few} below IoU {100 * UNREACHABLE:.0f} in every arm, however well it is trained.",
        f"Choose {_finer(stride)}a larger {size_field(config)}.",
        tuple(f"{name}: IoU {100 * value:.0f} at most" for value, name in lost),
    )
