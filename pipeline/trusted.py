"""What finished teachers found, for those who train on it: `quality/real` and the scores of generated rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.storage.files import read_json
from scenepalette.data.arrays import Pairs, open_array
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.evaluation.pair_quality.quality import ROWS_FILE
from scenepalette.evaluation.pair_quality.trust import TrustSettings
from scenepalette.evaluation.pair_quality.trusted_pairs import TrustedPairs

STAGE = "quality"
REAL = "real"
TEACHERS_UNIT = f"{STAGE}/{REAL}"
"""The unit of what the teachers make of the real pairs."""
TEACHERS_FILE = "teachers.json"
TEACHERS_LABELS = "labels.npy"


class Teachers(NamedTuple):
    """What the teachers are good for.

    Attributes:
        class_means: float [K], mean loss of each class in real images that its teacher did not see; nan without one.
        blind: bool [K], classes that a teacher never finds in its fold, or that no real image has.
        overlaps: Of each teacher, its intersection over union of each class in its fold; None where it has none.
        warnings: A sentence for each teacher that never finds a class.
    """

    class_means: np.ndarray
    blind: np.ndarray
    overlaps: list[dict[str, float | None]]
    warnings: list[str]


def read_teachers(folder: Path, names: Sequence[str]) -> Teachers:
    """Return what `LabelsOfTeachersUnit` found of the teachers.

    Raises:
        DataError: The file is missing or damaged.
    """
    path = folder / TEACHERS_FILE
    try:
        document = read_json(path)
        means = np.array([np.nan if (mean := document["mean_loss"][name]) is None else mean for name in names], float)
        found = [{name: values[name] for name in names} for values in document["iou"]]
    except (ScenepaletteError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error!r}). Remove {folder} and rerun the same command.") from error
    never = {fold: [name for name in names if values[name] == 0.0] for fold, values in enumerate(found)}
    warnings = [
        f"teacher {fold} never finds {', '.join(classes)} in the images that it did not see (IoU 0). Of these classes "
        "segmenters.trust_floor alone decides which pixels are trusted; train teachers longer (teachers.steps)."
        for fold, classes in never.items()
        if classes
    ]
    lost = {name for classes in never.values() for name in classes}
    return Teachers(means, np.array([name in lost for name in names]) | ~np.isfinite(means), found, warnings)


def labels_of_teachers(folder: Path, train: Pairs) -> np.ndarray:
    """Return the labels that teachers gave the training images, memory-mapped: uint8 [N, H, W], 255 as in `train`.

    Raises:
        DataError: The file is missing or not what was written.
    """
    labels = open_array(folder / TEACHERS_LABELS)
    if labels.shape != train.labels.shape or labels.dtype != np.uint8:
        raise DataError(
            f"{folder / TEACHERS_LABELS} has {labels.dtype} {labels.shape}; uint8 {train.labels.shape} is required. "
            f"Remove {folder} and rerun the same command."
        )
    return labels


class TakenPairs(NamedTuple):
    """The generated pairs that a segmenter takes.

    Attributes:
        unit: Name of their unit.
        count: How many of them, from the first on.
        scores: Name of the unit of their scores; None if no teacher judges them.
    """

    unit: str
    count: int
    scores: str | None = None


def trusted_pairs(
    run_dir: Path,
    pairs: TakenPairs,
    settings: TrustSettings,
    mode: Literal["mask", "relabel"],
    *,
    size: tuple[int, int] | None = None,
) -> TrustedPairs:
    """Open pairs with labels as far as they are trusted.

    Args:
        run_dir: A run directory with their shards and scores.
        pairs: Which ones; teachers have judged them.
        settings: The thresholds.
        mode: See `TrustedPairs`.
        size: Height and width that the pairs were judged at; by default those of the shards.

    Raises:
        DataError: A file is missing or damaged.
    """
    assert pairs.scores is not None
    shards = ShardPairs(run_dir / pairs.unit, size=size)
    blind = read_teachers(run_dir / TEACHERS_UNIT, shards.table.names).blind
    return TrustedPairs(shards, pairs.count, run_dir / pairs.scores / ROWS_FILE, settings, blind, mode)
