"""Everything a report is made from, gathered by the report stage, and its checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.data.classes import ClassTable

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
        edit_box: top, left, height, width in pixels of the region drawn anew.
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
        palette_reached: Kind whose layouts are made for palettes -> achieved against asked share of each class [K].
        metrics: Result of `evaluation.generated.measure`.
        samples: Kind -> generated pairs to show.
        real_samples: Real pairs to show.
        noise_samples: (layout uint8 [H, W], images uint8 [H, W, 3] made from it with different noise).
        noise_difference: Mean absolute difference between images of one layout, on the scale 0..255.
        class_shares: "real" and "full" -> class shares [K] over all pixels.
        training_curves: Name of a generator -> its JSON lines of losses.
        training_logs: Unit of a generator's training -> its JSON lines.
        durations: Stage -> seconds.
        provenance: Version, config hash, seed, hardware, command and the like; JSON values.
        bootstrap_samples: Resamples behind every interval.
        seed: Seed of the resampling.
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
    noise_difference: float
    class_shares: Mapping[str, np.ndarray]
    training_curves: Mapping[str, Path]
    durations: Mapping[str, float]
    palette_reached: Mapping[str, np.ndarray] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    training_logs: Mapping[str, Path] = field(default_factory=dict)
    bootstrap_samples: int = 2000
    seed: int = 0


def check_inputs(inputs: ReportInputs) -> None:
    """Refuse inputs that cannot be compared, with all problems at once.

    Raises:
        DataError: No arm "real", confusions of different images or classes, seeds of one arm with different steps, a
            repeated run, a GAN-train arm that was not run, a missing curve, or a metric absent without a reason.
    """
    classes = inputs.table.num_classes
    problems = [f"dataset: {key!r} is missing" for key in ("name", "train", "val", "size") if key not in inputs.dataset]
    if not any(run.name == REAL_ARM for run in inputs.arms):
        problems.append(f"arms: no arm named {REAL_ARM!r}, which every other arm is compared with; add it")
    images = len(inputs.arms[0].confusion) if inputs.arms else 0
    steps: dict[str, int] = {}
    seen: set[tuple[str, int]] = set()
    for run in inputs.arms:
        where = f"arm {run.name!r}, seed {run.seed}"
        problems += _confusion_problems(where, run.confusion, classes)
        if len(run.confusion) != images:
            problems.append(
                f"{where}: evaluated on {len(run.confusion)} images, but {inputs.arms[0].name!r} on {images}; "
                "all arms need the same validation images in the same order"
            )
        if steps.setdefault(run.name, run.steps) != run.steps:
            problems.append(
                f"{where}: {run.steps} steps, but {steps[run.name]} with an earlier seed; train them equally"
            )
        if (run.name, run.seed) in seen:
            problems.append(f"{where}: given twice")
        seen.add((run.name, run.seed))
        if run.metrics_path is not None and not run.metrics_path.is_file():
            problems.append(f"{where}: no file {run.metrics_path}")
    for kind, name in inputs.gan_train.items():
        if name not in steps:
            problems.append(f"gan_train {kind!r}: no arm named {name!r}; the arms are {', '.join(steps) or 'none'}")
    for kind, confusion in inputs.gan_test.items():
        problems += _confusion_problems(f"gan_test {kind!r}", confusion, classes)
    problems += _confusion_problems("gan_test_real", inputs.gan_test_real, classes)
    for kind, values in inputs.palette_kl.items():
        if np.size(values) == 0:
            problems.append(f"palette_kl {kind!r}: no rows; leave out a kind that was not generated")
    for name, shares in inputs.class_shares.items():
        if np.shape(shares) != (classes,):
            problems.append(f"class_shares {name!r}: shape {np.shape(shares)}, but there are {classes} classes")
    for name, path in inputs.training_curves.items():
        if not path.is_file():
            problems.append(f"training_curves {name!r}: no file {path}")
    for name, value in inputs.metrics.items():
        if value is None and not inputs.metrics.get(f"{name}_absent_because"):
            problems.append(f"{name}: absent without a reason; say why in {name}_absent_because")
    if inputs.bootstrap_samples < 1:
        problems.append(f"bootstrap_samples: {inputs.bootstrap_samples}, but at least 1 is required")
    if problems:
        raise DataError("The report cannot be made from these results:", problems)


def _confusion_problems(where: str, confusion: np.ndarray, classes: int) -> list[str]:
    if confusion.ndim != 3 or confusion.shape[1:] != (classes, classes) or len(confusion) == 0:
        return [f"{where}: confusion of shape {confusion.shape}, but [images, {classes}, {classes}] is required"]
    if not np.issubdtype(confusion.dtype, np.integer) or confusion.min() < 0:
        return [f"{where}: confusion must hold pixel counts, integers from 0"]
    return []
