"""Mean intersection over union with its uncertainty: a paired hierarchical bootstrap over seeds and images.

Two things vary when an experiment is repeated: which images the validation split happens to hold, and how the training
run with that seed happens to turn out. Each resample draws both again. The images are drawn once per resample for all
arms, so that an image that is hard for every arm cancels from a difference; the seeds are drawn for each arm by itself.

Legend of shapes: N validation images, K classes, S seeds of an arm, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scenepalette.common.randomness import numpy_generator
from scenepalette.evaluation.miou import intersection_over_union, mean_of_defined, overlaps
from scenepalette.pipeline.report.results import REAL_ARM, ArmRun

LEVEL = 0.95
# Numbers in one chunk of resampling weights or resampled counts: 32 MB of float64, however many images there are.
NUMBERS_PER_CHUNK = 4_000_000

Verdict = Literal["reference", "gains", "loses", "no difference that this evaluation can show"]


@dataclass(frozen=True)
class Difference:
    """A difference of two means with its 95 % interval; fractions, nan where undefined."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate(Difference):
    """A mean over seeds with its 95 % interval, and the value of each seed on all images."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class ArmStatistics:
    """What the evaluation says of one arm.

    Attributes:
        name: The arm.
        description: What it trains on.
        seeds: Its seeds, in the order of `Estimate.values`.
        steps: Optimizer steps of each seed.
        images_per_step: Images in one step, or None where it is not known.
        miou: Mean IoU over the evaluated classes.
        miou_all: Mean IoU over all classes (mIoU* of the papers).
        per_class: IoU of each of the K classes: of an evaluated class as in `miou`, of another as in `miou_all`.
        delta: `miou` minus that of the arm "real", paired.
        delta_all: The same for `miou_all`.
        per_class_delta: The same for each class.
    """

    name: str
    description: str
    seeds: tuple[int, ...]
    steps: int
    images_per_step: int | None
    miou: Estimate
    miou_all: Estimate
    per_class: tuple[Estimate, ...]
    delta: Difference
    delta_all: Difference
    per_class_delta: tuple[Difference, ...]

    @property
    def verdict(self) -> Verdict:
        """What the interval of `delta` allows to say."""
        return "reference" if self.name == REAL_ARM else verdict(self.delta)


def verdict(difference: Difference) -> Verdict:
    """Read an interval: a gain or a loss only where it lies on one side of zero."""
    if difference.low > 0:
        return "gains"
    if difference.high < 0:
        return "loses"
    return "no difference that this evaluation can show"


def _counts(confusion: np.ndarray, eval_ids: Sequence[int]) -> np.ndarray:
    """Counts of `overlaps` [..., 3, 2K]: K columns of the official protocol, then K that count every labelled pixel."""
    return np.concatenate([overlaps(confusion, eval_ids), overlaps(confusion)], axis=-1)


def compare_arms(
    runs: Sequence[ArmRun], eval_ids: Sequence[int], bootstrap_samples: int, seed: int
) -> list[ArmStatistics]:
    """Estimate every arm and its difference from the arm "real".

    An arm of S > 1 seeds is resampled by S - 1 draws with replacement: S draws would give the mean over seeds only
    (S - 1) / S of its variance, half with two seeds, and so intervals that are too short (McCarthy and Snowden 1985,
    "The bootstrap and finite population sampling"). An arm of one seed has no seed variance to show: its interval holds
    the variation over images alone.

    Args:
        runs: Segmenters with confusions of the same N images; the arm "real" among them.
        eval_ids: Class ids of `miou`.
        bootstrap_samples: R.
        seed: Seed of the resampling; an arm's draws do not depend on which other arms there are.

    Returns:
        One entry per arm, in order of first occurrence.
    """
    counts = [_counts(run.confusion, eval_ids) for run in runs]  # S_total times [N, 3, 2K]
    resampled = _resampled_iou(counts, bootstrap_samples, seed, "images")  # [S_total, R, 2K]
    exact = np.stack([intersection_over_union(each.sum(0)) for each in counts])  # [S_total, 2K]
    eval_index = np.asarray(eval_ids, dtype=np.intp)

    names = list(dict.fromkeys(run.name for run in runs))
    members = {name: [index for index, run in enumerate(runs) if run.name == name] for name in names}
    samples = {}
    points = {}
    for name in names:
        draws = _seed_draws(len(members[name]), bootstrap_samples, seed, name)  # [R, draws]
        per_seed = _scores(resampled[members[name]], eval_index)  # [S, R, 2 + K]
        replicate = np.arange(bootstrap_samples)[:, None]
        samples[name] = mean_of_defined(per_seed[draws, replicate], axis=1)  # [R, 2 + K]
        points[name] = _scores(exact[members[name]], eval_index)  # [S, 2 + K]

    reference_samples = samples[REAL_ARM]
    reference_point = mean_of_defined(points[REAL_ARM], axis=0)
    statistics = []
    for name in names:
        first = runs[members[name][0]]
        low, high = _interval(samples[name])
        delta_low, delta_high = _interval(samples[name] - reference_samples)
        point = mean_of_defined(points[name], axis=0)
        estimates = [
            Estimate(float(point[i]), float(low[i]), float(high[i]), tuple(float(v) for v in points[name][:, i]))
            for i in range(len(point))
        ]
        deltas = [
            Difference(float(point[i] - reference_point[i]), float(delta_low[i]), float(delta_high[i]))
            for i in range(len(point))
        ]
        statistics.append(
            ArmStatistics(
                name=name,
                description=first.description,
                seeds=tuple(runs[index].seed for index in members[name]),
                steps=first.steps,
                images_per_step=first.images_per_step,
                miou=estimates[0],
                miou_all=estimates[1],
                per_class=tuple(estimates[2:]),
                delta=deltas[0],
                delta_all=deltas[1],
                per_class_delta=tuple(deltas[2:]),
            )
        )
    return statistics


def estimate_miou(
    confusion: np.ndarray, eval_ids: Sequence[int], bootstrap_samples: int, seed: int, name: str
) -> Estimate:
    """Mean IoU of one segmenter on N images [N, K, K], with the interval over images.

    Args:
        confusion: Pixel counts per image.
        eval_ids: Classes that are averaged; pixels of others are left out.
        bootstrap_samples: R.
        seed: Seed of the resampling.
        name: What is estimated: estimates of different names are resampled independently.
    """
    counts = _counts(confusion, eval_ids)
    index = np.asarray(eval_ids, dtype=np.intp)
    value = float(mean_of_defined(intersection_over_union(counts.sum(0))[index], axis=-1))
    resampled = _resampled_iou([counts], bootstrap_samples, seed, name)[0]  # [R, 2K]
    low, high = _interval(mean_of_defined(resampled[:, index], axis=-1)[:, None])
    return Estimate(value, float(low[0]), float(high[0]), (value,))


def _resampled_iou(counts: Sequence[np.ndarray], samples: int, seed: int, name: str) -> np.ndarray:
    """IoU [runs, R, 2K] of every run on the same resampled images; the counts of a resample are weights @ counts."""
    images, _, columns = counts[0].shape
    stacked = np.concatenate(counts, axis=1).reshape(images, -1)  # [N, runs * 3 * 2K]
    resampled = np.empty((len(counts), samples, columns))
    start = 0
    for weights in _image_weights(images, samples, stacked.shape[1], numpy_generator(seed, "report", name)):
        summed = (weights @ stacked).reshape(len(weights), len(counts), 3, columns)
        resampled[:, start : start + len(weights)] = intersection_over_union(summed).swapaxes(0, 1)
        start += len(weights)
    return resampled


def _image_weights(images: int, samples: int, columns: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each image occurs in each resample, float64 [up to R, N], in chunks of bounded size."""
    chunk = max(1, NUMBERS_PER_CHUNK // max(images, columns))
    even = np.full(images, 1.0 / images)
    for start in range(0, samples, chunk):
        yield generator.multinomial(images, even, size=min(chunk, samples - start)).astype(np.float64)


def _seed_draws(seeds: int, samples: int, seed: int, name: str) -> np.ndarray:
    draws = max(1, seeds - 1)
    return numpy_generator(seed, "report", "seeds", name).integers(seeds, size=(samples, draws))


def _scores(iou: np.ndarray, eval_index: np.ndarray) -> np.ndarray:
    """Put mIoU, mIoU* and the classes side by side: [..., 2K] -> [..., 2 + K]."""
    official, everything = np.split(iou, 2, axis=-1)
    miou = mean_of_defined(official[..., eval_index], axis=-1)
    miou_all = mean_of_defined(everything, axis=-1)
    per_class = everything.copy()
    per_class[..., eval_index] = official[..., eval_index]
    return np.concatenate([miou[..., None], miou_all[..., None], per_class], axis=-1)


def _interval(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of each column of [R, columns], over the resamples in which it is defined."""
    ends = np.full((2, samples.shape[1]), np.nan)
    defined = ~np.isnan(samples).all(axis=0)
    tail = (1.0 - LEVEL) / 2.0
    ends[:, defined] = np.nanquantile(samples[:, defined], [tail, 1.0 - tail], axis=0)
    return ends[0], ends[1]
