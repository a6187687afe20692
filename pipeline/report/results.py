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
LONGER_ARM = "real-long"
"""Real pairs for twice the steps: whether real data alone would have gained from further training."""


@dataclass(frozen=True)
class ArmRun:
    """One segmenter: an arm (a way to compose the training data) trained with one seed.

    Attributes:
        name: The arm; runs of one arm share it and differ in `seed`. The arm "real" is what the others are set against.
        description: What the arm trains on, in a few words.
        seed: Seed of this training.
        steps: Optimizer steps of this training, equal for all seeds of an arm.
        confusion: int64 [N, K, K], pixel counts per image of the reported split; rows are the truth, columns the
            prediction.
        metrics_path: JSON lines with "step" and losses, or None.
        images_per_step: Images of all kinds together in one optimizer step; None where it is not known.
        generator_seed: Seed of the generators whose pairs it took, where a run trains generators with several; an arm
            has a run for each pair of its generator seeds and seeds.
        validation: The same as `confusion` of validation images, where others are reported; it chooses arms.
        kind: Kind of generated pairs that the arm adds to real labels; None for every other arm.
    """

    name: str
    description: str
    seed: int
    steps: int
    confusion: np.ndarray
    metrics_path: Path | None = None
    images_per_step: int | None = None
    generator_seed: int | None = None
    validation: np.ndarray | None = None
    kind: str | None = None


@dataclass(frozen=True)
class ArmCost:
    """Seconds of this machine that an arm costs beside the training on real pairs; nan where it is not known.

    Attributes:
        generators: Training of the generators that its pairs come from, and the fit of their palettes.
        pairs: Production of its pairs.
        training: Mean training of its segmenter beyond that of the arm "real", at least 0.
    """

    generators: float
    pairs: float
    training: float


@dataclass(frozen=True)
class WorstPair:
    """A generated pair of which the reference segmenter sees the least as its layout says.

    Attributes:
        image: uint8 [H, W, 3].
        label: uint8 [H, W], the layout that it was made for.
        prediction: uint8 [H, W], the reference segmenter's.
        agreement: Share of labelled pixels that agree.
        row: Its number in the shards.
    """

    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    agreement: float
    row: int


@dataclass(frozen=True)
class ChangedImage:
    """A reported image on which an arm gains or loses much against real.

    Attributes:
        image: uint8 [H, W, 3].
        label: uint8 [H, W], the truth.
        real: uint8 [H, W], prediction of the arm "real".
        arm: uint8 [H, W], prediction of the other arm.
        difference: mIoU of this image, the arm's minus that of "real", mean over seeds.
        name: Id of the image.
    """

    image: np.ndarray
    label: np.ndarray
    real: np.ndarray
    arm: np.ndarray
    difference: float
    name: str


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
        evaluated_on: Name of the split that confusions are of.
        blocks: int64 [N], block of consecutive frames of each of its images; None if they are independent.
        train_pixels: Labelled pixels of each class in the training split [K]; None where they were not counted.
        rare_ids: Class ids that the mIoU of rare classes is over.
        treatments: Arms that the primary contrast's arm is chosen among.
        controls: Arms that its control is chosen among.
        pairs: Kind -> number of generated pairs that arms were trained with.
        costs: Arm -> what it costs, of arms that add generated pairs to real labels.
        hourly_price: Price of an hour of this machine, or None.
        smallest_gain: Gain in mIoU below which generated pairs are not worth their trouble.
        worst_pairs: Kind -> generated pairs that look least like their layouts, the worst first.
        changed_images: Images with the largest gain of the primary contrast's arm, then those with the largest loss.
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
    provenance: Mapping[str, Any] = field(default_factory=dict)
    training_logs: Mapping[str, Path] = field(default_factory=dict)
    bootstrap_samples: int = 2000
    seed: int = 0
    evaluated_on: str = "validation"
    blocks: np.ndarray | None = None
    train_pixels: np.ndarray | None = None
    rare_ids: Sequence[int] = ()
    treatments: Sequence[str] = ()
    controls: Sequence[str] = ()
    pairs: Mapping[str, int] = field(default_factory=dict)
    costs: Mapping[str, ArmCost] = field(default_factory=dict)
    hourly_price: float | None = None
    smallest_gain: float = 0.01
    worst_pairs: Mapping[str, Sequence[WorstPair]] = field(default_factory=dict)
    changed_images: Sequence[ChangedImage] = ()


def check_inputs(inputs: ReportInputs) -> None:
    """Refuse inputs that cannot be compared, with all problems at once.

    Raises:
        DataError: No arm "real", confusions of different images or classes, seeds of one arm with different steps, a
            repeated or missing run, an arm of a contrast that was not run, blocks of other images, a missing curve, or
            a metric absent without a reason.
    """
    classes = inputs.table.num_classes
    problems = [f"dataset: {key!r} is missing" for key in ("name", "train", "val", "size") if key not in inputs.dataset]
    if not any(run.name == REAL_ARM for run in inputs.arms):
        problems.append(f"arms: no arm named {REAL_ARM!r}, which every other arm is compared with; add it")
    images = len(inputs.arms[0].confusion) if inputs.arms else 0
    steps: dict[str, int] = {}
    seen: set[tuple[str, int | None, int]] = set()
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
        if run.validation is not None:
            problems += _confusion_problems(f"{where}, validation", run.validation, classes)
        if (run.name, run.generator_seed, run.seed) in seen:
            problems.append(f"{where}: given twice")
        seen.add((run.name, run.generator_seed, run.seed))
        if run.metrics_path is not None and not run.metrics_path.is_file():
            problems.append(f"{where}: no file {run.metrics_path}")
    for name in steps:
        generators, seeds = ({key[part] for key in seen if key[0] == name} for part in (1, 2))
        runs = sum(key[0] == name for key in seen)
        if runs != len(generators) * len(seeds):
            problems.append(
                f"arm {name!r}: {runs} runs for {len(generators)} generator seeds and {len(seeds)} seeds; train every "
                "seed with the pairs of every generator seed"
            )
    for role, names in (("treatments", inputs.treatments), ("controls", inputs.controls)):
        problems += [
            f"{role}: no arm named {name!r}; the arms are {', '.join(steps)}" for name in names if name not in steps
        ]
    if inputs.blocks is not None and np.shape(inputs.blocks) != (images,):
        problems.append(f"blocks: shape {np.shape(inputs.blocks)}, but there are {images} images; give one number each")
    if inputs.train_pixels is not None and np.shape(inputs.train_pixels) != (classes,):
        problems.append(f"train_pixels: shape {np.shape(inputs.train_pixels)}, but there are {classes} classes")
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
