"""What every arm reaches and how it differs from others, with intervals: a bootstrap over seeds and blocks of frames.

Images are drawn once per resample for all arms, so that an image that is hard for every arm cancels from a difference.
So do seeds: arms of equal seed start from the same weights and see the same real batches, hence arms that were trained
with the same seeds draw them together. Generator seeds are drawn for arms that take generated pairs; any other arm is
the same training whatever the generators, and has one run for each segmenter seed. Hence what varies from resample to
resample is the difference within each generator seed and segmenter seed. `scenepalette.evaluation.contrasts` says how
each level is drawn.

Legend of shapes: N test images, K classes, G generator seeds and S segmenter seeds of an arm, R resamples, C = 3 + K
scores (mIoU, mIoU*, mIoU of rare classes, IoU of each class).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scenepalette.common.randomness import numpy_generator
from scenepalette.evaluation.contrasts import (
    LEVEL,
    block_weights,
    bootstrap_p_value,
    degrees_of_freedom,
    detectable_by_seeds,
    draws_of_level,
    holm,
    percentile_interval,
    simultaneous_interval,
)
from scenepalette.evaluation.miou import intersection_over_union, mean_iou, mean_of_defined, overlaps
from scenepalette.pipeline.report.results import REAL_ARM, ArmRun

MIOU, MIOU_ALL, RARE, CLASSES = range(4)
# Of double precision, with room: what is left of sums that cancel is no difference.
ROUNDING = 1e-12

Undecided = Literal["no difference that this evaluation can show"]
Verdict = Literal["reference", "gains", "loses"] | Undecided
UNDECIDED: Undecided = "no difference that this evaluation can show"


@dataclass(frozen=True)
class Difference:
    """A difference of two means with its 95 % interval; fractions, nan where undefined."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Return what reports say of it."""
        return {"mean": self.mean, "ci95": [self.low, self.high]}


@dataclass(frozen=True)
class Estimate(Difference):
    """A mean over seeds with its 95 % interval, and the value of each seed on all images."""

    values: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what reports say of it."""
        return {"values": self.values, **super().to_dict()}


@dataclass(frozen=True)
class ArmStatistics:
    """What the evaluation says of one arm.

    Attributes:
        name: The arm.
        description: What it trains on.
        seeds: Its seeds, in the order of `Estimate.values`.
        generator_seeds: Seeds of the generators whose pairs it took, in the same order; None where there are none.
        steps: Optimizer steps of each seed.
        images_per_step: Images in one step, or None where it is not known.
        miou: Mean IoU over the evaluated classes.
        miou_all: Mean IoU over all classes (mIoU* of the papers).
        miou_rare: Mean IoU over the rare classes, of pixels as in `miou`; nan if there are none.
        per_class: IoU of each of the K classes: of an evaluated class as in `miou`, of another as in `miou_all`.
        delta: `miou` minus that of the arm "real", paired.
        delta_all: The same for `miou_all`.
        delta_rare: The same for `miou_rare`.
        per_class_delta: The same for each class.
        p_value: Two-sided p-value of `delta`; nan for "real".
        p_adjusted: The same by Holm's procedure among all contrasts but a primary one that these images did not choose;
            nan for "real".
    """

    name: str
    description: str
    seeds: tuple[int, ...]
    generator_seeds: tuple[int | None, ...]
    steps: int
    images_per_step: int | None
    miou: Estimate
    miou_all: Estimate
    miou_rare: Estimate
    per_class: tuple[Estimate, ...]
    delta: Difference
    delta_all: Difference
    delta_rare: Difference
    per_class_delta: tuple[Difference, ...]
    p_value: float
    p_adjusted: float

    @property
    def verdict(self) -> Verdict:
        """What the interval of `delta` and its adjusted p-value allow to say together."""
        if self.name == REAL_ARM:
            return "reference"
        return verdict(self.delta, self.p_adjusted)


@dataclass(frozen=True)
class PrimaryContrast:
    """The one contrast that was named before the run: an arm with generated pairs against what a user would do instead.

    Attributes:
        treatment: The arm with generated pairs; the best of `treatments` by `chosen_on`.
        control: The best of `controls` by `chosen_on`.
        treatments: Arms that it could have been.
        controls: Arms that it could have been.
        chosen_on: "nothing" if there was no choice; "validation" if other images decided than those reported; "these
            images" if the same ones did, whereupon the intervals are widened to hold for every pair of arms.
        miou: Difference of mIoU.
        miou_rare: Difference of mIoU over the rare classes.
        per_class: Difference of each class.
        p_value: Two-sided p-value of `miou`; where these images chose, it holds for every pair of arms as well.
        seeds: Seeds that both arms were trained with.
        generator_seeds: Seeds of the generators whose pairs the treatment took; none where they are not known.
        seed_deviation: Standard deviation of `miou` between paired seeds; nan with one.
        other_error: Standard error of `miou` that more segmenter seeds do not lower: of the blocks of images, and of
            generator seeds where there are several.
        generator_error: The part of `other_error` that is of generator seeds; nan where there are not several.
        detectable: Smallest difference that this run could have shown (`detectable_effect`); nan with one seed.
        detectable_by_seeds: The same if images and generators were no source of chance.
    """

    treatment: str
    control: str
    treatments: tuple[str, ...]
    controls: tuple[str, ...]
    chosen_on: Literal["nothing", "validation", "these images"]
    miou: Difference
    miou_rare: Difference
    per_class: tuple[Difference, ...]
    p_value: float
    seeds: tuple[int, ...]
    generator_seeds: tuple[int, ...]
    seed_deviation: float
    other_error: float
    generator_error: float
    detectable: float
    detectable_by_seeds: float


@dataclass(frozen=True)
class Comparison:
    """Every arm in order of first occurrence, and the primary contrast; None if arms for it are missing."""

    arms: list[ArmStatistics]
    primary: PrimaryContrast | None


def verdict(difference: Difference, p_value: float = 0.0) -> Verdict:
    """Read an interval: a gain or a loss only where it lies on one side of zero, and a p-value is below 0.05.

    With two or three seeds no percentile lies as far out as Student's t, which the p-value is by.
    """
    if p_value < 1 - LEVEL and difference.low > ROUNDING:
        return "gains"
    if p_value < 1 - LEVEL and difference.high < -ROUNDING:
        return "loses"
    return UNDECIDED


def compare(
    runs: Sequence[ArmRun],
    eval_ids: Sequence[int],
    bootstrap_samples: int,
    seed: int,
    *,
    blocks: np.ndarray | None = None,
    rare_ids: Sequence[int] = (),
    treatments: Sequence[str] = (),
    controls: Sequence[str] = (),
) -> Comparison:
    """Estimate every arm, its difference from the arm "real", and the primary contrast.

    Where one seed or one block is all there is, that source of chance is in no interval.

    Args:
        runs: Segmenters with confusions of the same N images; the arm "real" among them. An arm has a run for each
            pair of its generator seeds and segmenter seeds.
        eval_ids: Class ids of `miou`.
        bootstrap_samples: R.
        seed: Seed of the resampling; an arm's draws do not depend on which other arms there are.
        blocks: int64 [N], number of the block of consecutive frames of each image, as `blocks_of` gives it; None if
            images are independent of each other.
        rare_ids: Class ids of `miou_rare`.
        treatments: Arms that the primary contrast's arm is chosen among.
        controls: Arms that its control is chosen among.
    """
    scores = Scores(runs, eval_ids, rare_ids, blocks, bootstrap_samples, seed)
    primary = _primary_contrast(scores, runs, eval_ids, treatments, controls)
    others = [name for name in scores.samples if name != REAL_ARM]
    p_values = {name: scores.p_value(name, REAL_ARM) for name in others}
    # The best of several arms by the images that judge it is no single contrast: it stays in the family.
    apart = None if primary is None or primary.chosen_on == "these images" else (primary.treatment, primary.control)
    in_family = [name for name in others if (name, REAL_ARM) != apart]
    adjusted = dict(zip(in_family, holm([p_values[name] for name in in_family]), strict=True))
    nan = float("nan")

    arms = []
    for name, members in scores.members.items():
        first, point = members[0], scores.mean(name)
        low, high = percentile_interval(scores.samples[name], scores.degrees(name))
        values = scores.exact[name]
        estimates = [
            Estimate(float(point[i]), float(low[i]), float(high[i]), tuple(map(float, values[:, i])))
            for i in range(len(point))
        ]
        deltas = _differences(point - scores.mean(REAL_ARM), *scores.interval(name, REAL_ARM))
        arms.append(
            ArmStatistics(
                name=name,
                description=first.description,
                seeds=tuple(run.seed for run in members),
                generator_seeds=tuple(run.generator_seed for run in members),
                steps=first.steps,
                images_per_step=first.images_per_step,
                miou=estimates[MIOU],
                miou_all=estimates[MIOU_ALL],
                miou_rare=estimates[RARE],
                per_class=tuple(estimates[CLASSES:]),
                delta=deltas[MIOU],
                delta_all=deltas[MIOU_ALL],
                delta_rare=deltas[RARE],
                per_class_delta=tuple(deltas[CLASSES:]),
                p_value=p_values.get(name, nan),
                p_adjusted=adjusted.get(name, p_values.get(name, nan)),
            )
        )
    return Comparison(arms, primary)


def choose(runs: Sequence[ArmRun], names: Sequence[str], eval_ids: Sequence[int]) -> str:
    """Return which of some arms has the largest mean mIoU over its seeds on validation images; the first of equals.

    Args:
        runs: Runs of these arms, and of others; without a confusion of validation images the reported ones decide.
        names: One arm or more.
        eval_ids: Class ids of the mean.
    """

    def reached(name: str) -> float:
        confusions = [run.confusion if run.validation is None else run.validation for run in runs if run.name == name]
        value = float(mean_of_defined(np.array([mean_iou(each, eval_ids) for each in confusions])))
        return -math.inf if math.isnan(value) else value

    return max(names, key=reached)


def estimate_miou(
    confusion: np.ndarray, eval_ids: Sequence[int], bootstrap_samples: int, seed: int, name: str
) -> Estimate:
    """Mean IoU of one segmenter on N independent images [N, K, K], with the interval over images.

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
    resampled = _resampled_iou([counts], np.arange(len(counts)), bootstrap_samples, seed, name)[0]  # [R, 2K]
    low, high = percentile_interval(
        mean_of_defined(resampled[:, index], axis=-1)[:, None], np.array([max(1, len(counts) - 1)])
    )
    return Estimate(value, float(low[0]), float(high[0]), (value,))


class Scores:
    """Scores of every arm, on all images and resampled.

    Attributes:
        members: Runs of each arm.
        exact: Scores on all images of each run of an arm [runs, C].
        samples: Resampled scores of each arm [R, C]; the same rows are the same resample in every arm.
        images_alone: The same where only images are resampled, and every seed takes part.
        seeds_alone: The same where only segmenter seeds are resampled, and every image and generator takes part.
        generators_alone: The same where only generator seeds are resampled.
    """

    def __init__(
        self,
        runs: Sequence[ArmRun],
        eval_ids: Sequence[int],
        rare_ids: Sequence[int],
        blocks: np.ndarray | None,
        resamples: int,
        seed: int,
    ) -> None:
        counts = [_counts(run.confusion, eval_ids) for run in runs]
        blocks = np.arange(len(counts[0])) if blocks is None else blocks
        resampled = _resampled_iou(counts, blocks, resamples, seed, "images")  # [runs, R, 2K]
        eval_index, rare_index = np.asarray(eval_ids, dtype=np.intp), np.asarray(rare_ids, dtype=np.intp)
        self._blocks = int(blocks.max()) + 1
        self.members: dict[str, list[ArmRun]] = {}
        self.exact: dict[str, np.ndarray] = {}
        self.samples: dict[str, np.ndarray] = {}
        self.images_alone: dict[str, np.ndarray] = {}
        self.seeds_alone: dict[str, np.ndarray] = {}
        self.generators_alone: dict[str, np.ndarray] = {}
        replicate = np.arange(resamples)[:, None]
        for name in dict.fromkeys(run.name for run in runs):
            indices = [index for index, run in enumerate(runs) if run.name == name]
            self.members[name] = [runs[index] for index in indices]
            exact = np.stack([intersection_over_union(counts[index].sum(0)) for index in indices])
            self.exact[name] = _scores(exact, eval_index, rare_index)
            per_run = _scores(resampled[indices], eval_index, rare_index)  # [runs, R, C]
            self.images_alone[name] = mean_of_defined(per_run, axis=0)
            generators, seeds = _levels(self.members[name])
            place = {(run.generator_seed, run.seed): row for row, run in enumerate(self.members[name])}
            grid = np.array([[place[generator, each] for each in seeds] for generator in generators])  # [G, S]
            drawn_generators = _draws("generator seeds", generators, resamples, seed)
            drawn_seeds = _draws("seeds", seeds, resamples, seed)
            cells = grid[drawn_generators[:, :, None], drawn_seeds[:, None, :]]  # [R, G', S']
            cells = cells.reshape(resamples, -1)
            self.samples[name] = mean_of_defined(per_run[cells, replicate], axis=1)
            self.seeds_alone[name] = self._mean_of_cells(name, grid[:, drawn_seeds].swapaxes(0, 1))
            self.generators_alone[name] = self._mean_of_cells(name, grid[drawn_generators])
            if grid.size == 1 and blocks.max() == 0:
                self.samples[name][:] = np.nan  # one training, one block: nothing varies that an interval could show

    def _mean_of_cells(self, name: str, cells: np.ndarray) -> np.ndarray:
        """Scores on all images of the runs that each resample draws [R, C], from their places [R, G', S']."""
        return mean_of_defined(self.exact[name][cells.reshape(len(cells), -1)], axis=1)

    def degrees(self, name: str, other: str | None = None) -> np.ndarray:
        """Degrees of freedom of an arm's scores, or of the difference of two arms [C]."""
        names = [name] if other is None else [name, other]
        generators, seeds = zip(*(_levels(self.members[each]) for each in names), strict=True)
        parts = [self.generators_alone, self.seeds_alone, self.images_alone]
        samples = [part[name] if other is None else part[name] - part[other] for part in parts]
        variances = [
            np.nan_to_num(mean_of_defined((each - mean_of_defined(each, axis=0)) ** 2, axis=0)) for each in samples
        ]
        return degrees_of_freedom(variances, [_fewest(generators), _fewest(seeds), self._blocks])

    def interval(self, name: str, other: str) -> tuple[np.ndarray, np.ndarray]:
        """Interval of the difference of two arms, low and high ends [C]."""
        return percentile_interval(self.samples[name] - self.samples[other], self.degrees(name, other))

    def p_value(self, name: str, other: str) -> float:
        """P-value of the difference of two arms in mIoU."""
        difference = float(self.mean(name)[MIOU] - self.mean(other)[MIOU])
        samples = self.samples[name][:, MIOU] - self.samples[other][:, MIOU]
        return bootstrap_p_value(difference, samples, float(self.degrees(name, other)[MIOU]))

    def mean(self, name: str) -> np.ndarray:
        """Scores of an arm on all images, mean over its runs [C]."""
        return mean_of_defined(self.exact[name], axis=0)

    def by(self, key: Literal["seed", "generator_seed"], name: str) -> dict[int | None, float]:
        """Return the mIoU of an arm's runs of each seed, or of each generator seed."""
        keys = [getattr(run, key) for run in self.members[name]]
        values = self.exact[name][:, MIOU]
        return {each: float(values[[other == each for other in keys]].mean()) for each in dict.fromkeys(keys)}


def _primary_contrast(
    scores: Scores, runs: Sequence[ArmRun], eval_ids: Sequence[int], treatments: Sequence[str], controls: Sequence[str]
) -> PrimaryContrast | None:
    if not treatments or not controls:
        return None
    treatment, control = choose(runs, treatments, eval_ids), choose(runs, controls, eval_ids)
    pairs = [(each, other) for each in treatments for other in controls]
    chosen = pairs.index((treatment, control))
    differences = np.stack([scores.samples[each] - scores.samples[other] for each, other in pairs])  # [P, R, C]
    means = np.stack([scores.mean(each) - scores.mean(other) for each, other in pairs])
    separate = all(run.validation is not None for run in runs if run.name in {*treatments, *controls})
    chosen_on = "nothing" if len(pairs) == 1 else "validation" if separate else "these images"
    if chosen_on == "these images":
        low, high, p_values = simultaneous_interval(differences, means, chosen, scores.degrees(treatment, control))
        p_value = float(p_values[MIOU])
    else:
        low, high = scores.interval(treatment, control)
        p_value = scores.p_value(treatment, control)
    deltas = _differences(means[chosen], low, high)

    first, second = scores.by("seed", treatment), scores.by("seed", control)
    seeds = tuple(each for each in first if each is not None and each in second)
    deviation = _deviation([first[each] - second[each] for each in seeds])
    images = scores.images_alone[treatment][:, MIOU] - scores.images_alone[control][:, MIOU]
    image_error = float(np.nanstd(images)) if not np.isnan(images).all() else float("nan")
    by_generator = scores.by("generator_seed", treatment)
    generator_error = _deviation(list(by_generator.values())) / math.sqrt(len(by_generator))
    of_generators = 0.0 if math.isnan(generator_error) else generator_error
    other_error = math.hypot(image_error, of_generators)
    return PrimaryContrast(
        treatment=treatment,
        control=control,
        treatments=tuple(treatments),
        controls=tuple(controls),
        chosen_on=chosen_on,
        miou=deltas[MIOU],
        miou_rare=deltas[RARE],
        per_class=tuple(deltas[CLASSES:]),
        p_value=p_value,
        seeds=seeds,
        generator_seeds=tuple(each for each in by_generator if each is not None),
        seed_deviation=deviation,
        other_error=other_error,
        generator_error=generator_error,
        detectable=detectable_by_seeds(
            len(seeds), deviation, other_error, generator_error=of_generators, generators=len(by_generator)
        ),
        detectable_by_seeds=detectable_by_seeds(len(seeds), deviation, 0.0),
    )


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _differences(means: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[Difference]:
    return [Difference(*map(float, each)) for each in zip(means, low, high, strict=True)]


def _levels(runs: Sequence[ArmRun]) -> tuple[list[int | None], list[int]]:
    """Generator seeds and segmenter seeds of an arm, each in ascending order: equal sets are drawn alike."""
    generators = {run.generator_seed for run in runs}
    return sorted(generators, key=lambda each: -1 if each is None else each), sorted({run.seed for run in runs})


def _fewest(levels: Iterable[Sequence[object]]) -> int:
    """Units of the smallest of some arms' levels that varies at all; 1 if none does."""
    return min((len(level) for level in levels if len(level) > 1), default=1)


def _draws(level: str, units: Sequence[int | None], samples: int, seed: int) -> np.ndarray:
    """Draws of a level [R, draws]; they depend on its units and on nothing else of the arm."""
    return draws_of_level(len(units), samples, numpy_generator(seed, "report", level, *map(str, units)))


def _counts(confusion: np.ndarray, eval_ids: Sequence[int]) -> np.ndarray:
    """Counts of `overlaps` [..., 3, 2K]: K columns of the official protocol, then K that count every labelled pixel."""
    return np.concatenate([overlaps(confusion, eval_ids), overlaps(confusion)], axis=-1)


def _resampled_iou(counts: Sequence[np.ndarray], blocks: np.ndarray, samples: int, seed: int, name: str) -> np.ndarray:
    """IoU [runs, R, 2K] of every run on the same resampled images; the counts of a resample are weights @ counts."""
    images, _, columns = counts[0].shape
    stacked = np.concatenate(counts, axis=1).reshape(images, -1)  # [N, runs * 3 * 2K]
    resampled = np.empty((len(counts), samples, columns))
    start = 0
    for weights in block_weights(blocks, samples, stacked.shape[1], numpy_generator(seed, "report", name)):
        summed = (weights @ stacked).reshape(len(weights), len(counts), 3, columns)
        resampled[:, start : start + len(weights)] = intersection_over_union(summed).swapaxes(0, 1)
        start += len(weights)
    return resampled


def _scores(iou: np.ndarray, eval_index: np.ndarray, rare_index: np.ndarray) -> np.ndarray:
    """Put mIoU, mIoU*, that of the rare classes, and the classes side by side: [..., 2K] -> [..., 3 + K]."""
    official, everything = np.split(iou, 2, axis=-1)
    per_class = everything.copy()
    per_class[..., eval_index] = official[..., eval_index]
    means = [official[..., eval_index], everything, per_class[..., rare_index]]
    return np.concatenate([*(mean_of_defined(each)[..., None] for each in means), per_class], axis=-1)
