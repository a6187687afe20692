"""Everything a report is made from, gathered by the report stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scenepalette.data.classes import ClassTable
from scenepalette.data.sequences import blocks_of
from scenepalette.pipeline.report.memorisation import CopyCheck

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
        extra_tests: The same of every extra test set, by name.
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
    extra_tests: Mapping[str, np.ndarray] = field(default_factory=dict)
    kind: str | None = None


@dataclass(frozen=True)
class ArmCost:
    """Seconds of this machine that an arm costs beside the training on real pairs; nan where it is not known.

    Attributes:
        generators: Training of the generators that its pairs come from, and the fit of their palettes.
        pairs: Production of its pairs, with the teachers that judge them.
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
class EvaluatedSplit:
    """Images that arms are evaluated on.

    Attributes:
        name: "test" or "validation", or the name of an extra test set.
        origin: How it came about: "published", "held out", "drawn" or "extra"; None for validation.
        ids: Sample ids.
        recordings: Whether images may be frames of recordings, as ids tell; else they are independent.
        warnings: What was found of it before anything was trained.
    """

    name: str
    origin: str | None
    ids: Sequence[str]
    recordings: bool
    warnings: Sequence[str] = ()

    @property
    def blocks(self) -> np.ndarray | None:
        """int64 [N], the block of consecutive frames of each image; None if images are independent."""
        return blocks_of(self.ids) if self.recordings else None


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
        dataset: "name", "train" and "val" (numbers of images), "size" (height, width) and "licence"; where segmenters
            have a size of their own, also "resolution".
        table: The classes.
        arms: Every segmenter, in the order in which the report lists the arms.
        gan_train: Kind of generated pairs -> name of the arm trained on them alone.
        gan_test: Kind -> confusion [M, K, K] of the real segmenter on generated pairs.
        gan_test_real: Confusion [N, K, K] of that same segmenter on the reported split, for reference.
        palette_components: Components of the fitted palette mixture.
        aic: Akaike criterion of mixtures of 1, 2, ... components; empty for a sampler that has none.
        palette_kl: Kind -> KL(requested, achieved palette) in nats of each row.
        palette_reached: Kind whose layouts are made for palettes -> achieved against asked share of each class [K].
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
        train_pixels: Labelled pixels of each class in the training split [K]; None where they were not counted.
        rare_ids: Class ids that the mIoU of rare classes is over.
        treatments: Arms that the primary contrast's arm is chosen among.
        controls: Arms that its control is chosen among.
        pairs: Kind -> number of generated pairs that arms were trained with.
        candidates: Generated rows for each of these pairs; of more than 1 the best were chosen.
        costs: Arm -> what it costs, of arms that add generated pairs to real labels.
        hourly_price: Price of an hour of this machine, or None.
        smallest_gain: Gain in mIoU below which generated pairs are not worth their trouble.
        worst_pairs: Kind -> generated pairs that look least like their layouts, the worst first.
        changed_images: Images with the largest gain of the primary contrast's arm, then those with the largest loss.
        split: What confusions are of; None for validation images of which no more is known.
        validation_blocks: Like `blocks`, of the validation images where others are reported.
        extra_tests: Extra test sets by name; every arm has confusions of them.
        quality: What teachers found, where there are any: "teachers" with the "iou" of each, "kinds" with a summary of
            the scores of each kind, and "warnings"; JSON values.
        copy_checks: Kind of pairs whose images are generated whole -> whether they copy training images.
        curve: Result of `curve_document`, if a curve of labels and doses was made.
        loop: Document of the loop's page, if there was a loop.
        pooled_runs: Run directory -> seed of its generators, of this run and those that are pooled with it; empty if
            none is.
        pooling_notes: What of pooled runs is left out, and what of them differs that should not; sentences.
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
    palette_reached: Mapping[str, np.ndarray] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    training_logs: Mapping[str, Path] = field(default_factory=dict)
    bootstrap_samples: int = 2000
    seed: int = 0
    train_pixels: np.ndarray | None = None
    rare_ids: Sequence[int] = ()
    treatments: Sequence[str] = ()
    controls: Sequence[str] = ()
    pairs: Mapping[str, int] = field(default_factory=dict)
    candidates: int = 1
    costs: Mapping[str, ArmCost] = field(default_factory=dict)
    hourly_price: float | None = None
    smallest_gain: float = 0.01
    worst_pairs: Mapping[str, Sequence[WorstPair]] = field(default_factory=dict)
    changed_images: Sequence[ChangedImage] = ()
    split: EvaluatedSplit | None = None
    validation_blocks: np.ndarray | None = None
    extra_tests: Mapping[str, EvaluatedSplit] = field(default_factory=dict)
    quality: Mapping[str, Any] = field(default_factory=dict)
    copy_checks: Mapping[str, CopyCheck] = field(default_factory=dict)
    curve: Mapping[str, Any] | None = None
    loop: Mapping[str, Any] | None = None
    pooled_runs: Mapping[str, int] = field(default_factory=dict)
    pooling_notes: Sequence[str] = ()

    @property
    def evaluated_on(self) -> str:
        """Name of the split that confusions are of."""
        return "validation" if self.split is None else self.split.name

    @property
    def blocks(self) -> np.ndarray | None:
        """Block of consecutive frames of each of its images; None if they are independent."""
        return None if self.split is None else self.split.blocks
