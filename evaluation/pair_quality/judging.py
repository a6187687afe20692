"""Teachers judge the labels of pairs that they did not see in their training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from scenepalette.common.progress import Progress
from scenepalette.data.classes import IGNORE_ID
from scenepalette.evaluation.pair_quality.quality import QualityRow
from scenepalette.evaluation.pair_quality.trust import (
    FREEMASK_FACTOR,
    count_levels,
    level_of_factor,
    levels_of,
    quantised_confidence,
    shares_of_classes,
)
from scenepalette.training.device.fitting import in_fitting_batches

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scenepalette.data.arrays import PairSource

_LEAST_PROBABILITY = 1e-7


class Judgement(NamedTuple):
    """What the teachers that judge a pair make of it.

    Attributes:
        label: uint8 [H, W], the pair's own.
        losses: float32 [H, W], cross-entropy of the mean of their probabilities against the label; 0 without a label.
        predicted: uint8 [H, W], the class of the highest mean probability.
        confidence: float32 [H, W], that probability.
    """

    label: np.ndarray
    losses: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray


def mean_probabilities(teachers: Sequence[nn.Module], images: Tensor, judges: Sequence[Sequence[int]]) -> Tensor:
    """Return the mean of the probabilities that an image's judges give each class.

    Args:
        teachers: Segmenters, in evaluation mode and on the images' device.
        images: B3HW in [-1, 1].
        judges: For each image the numbers of the teachers that judge it, one at least.

    Returns:
        float32 BKHW.
    """
    parts, places = [], []
    for number, teacher in enumerate(teachers):
        rows = [row for row, numbers in enumerate(judges) if number in numbers]
        if rows:
            parts.append(teacher(images[rows]).float().softmax(dim=1))
            places += rows
    found = torch.cat(parts)
    total = found.new_zeros((len(images), *found.shape[1:]))
    total.index_add_(0, torch.tensor(places, device=total.device), found)
    return total / torch.tensor([len(numbers) for numbers in judges], device=total.device).view(-1, 1, 1, 1)


def judge_pairs(
    teachers: Sequence[nn.Module],
    pairs: PairSource,
    judges: Sequence[Sequence[int]],
    batch_size: int,
    fabric: Fabric,
    progress: Progress,
    description: str,
) -> Iterator[Judgement | None]:
    """Yield what teachers make of each pair, in order; None for a pair without a judge.

    Args:
        teachers: Segmenters; they are moved to the device and put into evaluation mode.
        pairs: The pairs.
        judges: For each pair the numbers of the teachers that may judge it.
        batch_size: Images at once.
        fabric: Device and precision.
        progress: Counts pairs.
        description: What the work is called.
    """
    for teacher in teachers:
        teacher.to(fabric.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    progress.start(description, len(pairs))

    def of_rows(rows: range) -> dict[int, Judgement]:
        judged = [row for row in rows if judges[row]]
        if not judged:
            return {}
        images, labels = pairs.batch(judged)
        images = images.to(fabric.device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), fabric.autocast():
            probabilities = mean_probabilities(teachers, images, [judges[row] for row in judged])
        return dict(zip(judged, _judgements(probabilities, labels.to(fabric.device)), strict=True))

    for rows, found in in_fitting_batches(len(pairs), batch_size, of_rows, "pairs"):
        for row in rows:
            yield found.get(row)
        progress.advance(len(rows))
    progress.finish()


def _judgements(probabilities: Tensor, labels: Tensor) -> Iterator[Judgement]:
    labelled = labels != IGNORE_ID
    of_label = probabilities.gather(1, torch.where(labelled, labels, 0)[:, None])[:, 0]
    losses = -of_label.clamp(min=_LEAST_PROBABILITY).log() * labelled
    confidence, predicted = probabilities.max(dim=1)
    for values in zip(labels, losses, predicted, confidence, strict=True):
        label, loss, of_teachers, sure = (value.cpu().numpy() for value in values)
        yield Judgement(label.astype(np.uint8), loss, of_teachers.astype(np.uint8), sure)


def judged_row(row: QualityRow, judgement: Judgement, class_means: np.ndarray) -> QualityRow:
    """Return a row with the scores that its judges give it.

    Args:
        row: What is known of it without them.
        judgement: What they make of it.
        class_means: float [K], mean loss of each class in real images.
    """
    label, losses = judgement.label, judgement.losses
    levels, limit = levels_of(losses, label, class_means), level_of_factor(FREEMASK_FACTOR)
    counts = count_levels(levels, label, len(class_means))
    share, of_classes = shares_of_classes(counts, limit)
    labelled = label != IGNORE_ID
    trusted = labelled & (levels <= limit)
    return replace(
        row,
        trusted=share,
        trusted_per_class=of_classes,
        agreement=_mean(judgement.predicted[labelled] == label[labelled]),
        mean_loss=_mean(losses[labelled]),
        trusted_loss=_mean(losses[trusted]),
        levels=levels,
        predicted=judgement.predicted,
        confidence=quantised_confidence(judgement.confidence),
        level_counts=counts,
    )


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean(dtype=np.float64)) if values.size else None
