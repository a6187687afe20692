"""Everything a report is made from, gathered by the report stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scenepalette.data.classes import ClassTable
from scenepalette.pipeline.report.memorisation import CopyCheck

REAL_ARM = "real"


@dataclass(frozen=True)
class ArmRun:
    """One segmenter: an arm (a way to compose the training data) trained with one seed.

    Attributes:
        name: The arm; runs of one arm share it and differ in `seed`. The arm "real" is what the others are set against.
        description: What the arm trains on, in a few words.
        seed: Seed of this training.
        steps: Optimizer steps of this training, equal for all seeds of an arm.
        confusion: int64 [N, K, K], pixel counts per validation image; rows are the truth, columns the prediction.
        metrics_path: JSON lines with "step" and losses, or None.
        images_per_step: Images of all kinds together in one optimizer step; None where it is not known.
    """

    name: str
    description: str
    seed: int
    steps: int
    confusion: np.ndarray
    metrics_path: Path | None = None
    images_per_step: int | None = None


@dataclass(frozen=True)
class PairSample:
    """One layout-image pair to show.

    Attributes:
        image: uint8 [H, W, 3].
        label: uint8 [H, W], class ids, 255 where unlabelled.
        palette_target: Requested class shares [K].
        palette_achieved: Class shares of `label` [K].
        source_image: uint8 [H, W, 3], the real image behind a partial, semi or pseudo pair.
        source_label: uint8 [H, W], the real layout behind a partial or semi pair.
        edit_box: top, left, height, width in pixels of the region drawn again.
    """

    image: np.ndarray
    label: np.ndarray
    palette_target: np.ndarray
    palette_achieved: np.ndarray
    source_image: np.ndarray | None = None
    source_label: np.ndarray | None = None
    edit_box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class ReportInputs:
    """All results of a run.

    Attributes:
        dataset: "name", "train" and "val" (numbers of images), "size" (height, width) and "licence".
        table: The classes.
        arms: Every segmenter, in the order in which the report lists the arms.
        gan_train: Kind of generated pairs -> name of the arm trained on them alone.
        gan_test: Kind -> confusion [M, K, K] of the real segmenter on generated pairs.
        gan_test_real: Confusion [N, K, K] of that same segmenter on the real validation split, for reference.
        palette_components: Components of the fitted palette mixture.
        aic: Akaike criterion of mixtures of 1, 2, ... components; empty for a sampler that has none.
        palette_kl: Kind -> KL(requested, achieved palette) in nats of each row.
        metrics: Result of `evaluation.generated.measure`.
        samples: Kind -> generated pairs to show.
        real_samples: Real pairs to show.
        noise_samples: (layout uint8 [H, W], images uint8 [H, W, 3] made from it with different noise).
        class_shares: "real", and the kind of which nothing is real -> class shares [K] over all pixels.
        training_curves: Name of a generator -> its JSON lines of losses.
        training_logs: Unit of a generator's training -> its JSON lines.
        durations: Stage -> seconds.
        provenance: Version, config hash, seed, hardware, command and the like; JSON values.
        bootstrap_samples: Resamples behind every interval.
        seed: Seed of the resampling.
        copy_checks: Kind of pairs whose images are generated whole -> whether they copy training images.
    """

    dataset: Mapping[str, Any]
    table: ClassTable
    arms: Sequence[ArmRun]
    gan_train: Mapping[str, str]
    gan_test: Mapping[str, np.ndarray]
    gan_test_real: np.ndarray
    palette_components: int
    aic: Sequence[float]
    palette_kl: Mapping[str, np.ndarray]
    metrics: Mapping[str, float | int | str | None]
    samples: Mapping[str, Sequence[PairSample]]
    real_samples: Sequence[PairSample]
    noise_samples: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]]
    class_shares: Mapping[str, np.ndarray]
    training_curves: Mapping[str, Path]
    durations: Mapping[str, float]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    training_logs: Mapping[str, Path] = field(default_factory=dict)
    bootstrap_samples: int = 2000
    seed: int = 0
    copy_checks: Mapping[str, CopyCheck] = field(default_factory=dict)
