"""Statistics of a comparison: resampled blocks and seeds, intervals, p-values, and what a design can detect at all.

Two independent random choices decide what an experiment with generated pairs shows: which scenes the test images
happen to hold, and how training happens to turn out, for the generator's seed and for the segmenter's. Each is a level
of the bootstrap and is redrawn, independently of the others, in every resample (Owen 2007, "The pigeonhole
bootstrap", for levels that are crossed: each segmenter seed meets each generator seed and each image).

A level of n units is resampled by n - 1 draws with replacement: n draws would give the mean only (n - 1) / n of its
variance, half with two seeds, and so intervals that are too short (McCarthy and Snowden 1985, "The bootstrap and
finite population sampling"). A level of one unit cannot show its variation and is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import scipy

LEVEL = 0.95
"""Coverage of every interval, and 1 minus the level of every test."""
POWER = 0.8
"""Probability with which a difference must be found for a design to count as able to detect it."""
# Numbers in one chunk of resampling weights or resampled counts: 32 MB of float64, however many images there are.
NUMBERS_PER_CHUNK = 4_000_000


def draws_of_level(units: int, samples: int, generator: np.random.Generator) -> np.ndarray:
    """Return which units each resample draws, int64 [samples, max(1, units - 1)]."""
    return generator.integers(units, size=(samples, max(1, units - 1)))


def block_weights(
    blocks: np.ndarray, samples: int, columns: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield how often each image occurs in each resample: images of a block come together (Carlstein 1986).

    Args:
        blocks: Number of the block of each of the N images, from 0; every number below the largest occurs.
        samples: R resamples in all.
        columns: Numbers per resample that the caller sums up, for the size of chunks.
        generator: Where randomness comes from; the chunks' size does not change what is drawn.

    Yields:
        float64 [up to R, N].
    """
    count = int(blocks.max()) + 1
    even = np.full(count, 1.0 / count)
    chunk = max(1, NUMBERS_PER_CHUNK // max(len(blocks), columns))
    for start in range(0, samples, chunk):
        drawn = generator.multinomial(max(1, count - 1), even, size=min(chunk, samples - start))
        yield drawn[:, blocks].astype(np.float64)


def degrees_of_freedom(variances: Sequence[np.ndarray], units: Sequence[int]) -> np.ndarray:
    """Return the degrees of freedom of a sum of independent errors (Satterthwaite 1946).

    Args:
        variances: Estimated variance that each level adds, [C] each, for C columns.
        units: Units of each level; one that has a single unit adds nothing.

    Returns:
        float64 [C], at least 1.
    """
    levels = [(variance, count - 1) for variance, count in zip(variances, units, strict=True) if count > 1]
    if not levels:
        return np.ones(np.shape(variances[0]))
    total = np.sum([variance for variance, _ in levels], axis=0)
    parts = np.sum([variance**2 / degrees for variance, degrees in levels], axis=0)
    least = float(min(degrees for _, degrees in levels))
    return np.divide(total**2, parts, out=np.full_like(total, least), where=parts > 0)


def tail(degrees: np.ndarray | float) -> np.ndarray:
    """Return the share of resamples beyond each end of an interval, so that it covers 95 % also with few units.

    Percentiles of the bootstrap are as short as normal quantiles and not as long as those of t: with five seeds they
    cover about 85 %. Hesterberg 2015, "What teachers should know about the bootstrap", takes percentiles further out
    instead ("expanded percentile interval"); the other part of his factor is in the n - 1 draws of a level.

    Args:
        degrees: Degrees of freedom, of any shape.
    """
    return scipy.stats.norm.sf(scipy.stats.t.ppf(0.5 + LEVEL / 2, degrees))


def percentile_interval(samples: np.ndarray, degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of each column of [R, C] over the resamples in which it is defined.

    Args:
        samples: Resampled values; nan where undefined.
        degrees: Degrees of freedom of each column [C]; see `tail`.

    Returns:
        Low and high ends [C].
    """
    ends = np.full((2, samples.shape[1]), np.nan)
    for column, beyond in enumerate(tail(degrees)):
        values = samples[:, column]
        values = values[~np.isnan(values)]
        if len(values):
            ends[:, column] = np.quantile(values, [beyond, 1.0 - beyond])
    return ends[0], ends[1]


def simultaneous_interval(
    samples: np.ndarray, points: np.ndarray, chosen: int, degrees: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an interval and a p-value of one difference that hold although it was picked among several.

    The studentised maximum of the absolute deviations over all candidates takes the place of each one's own
    deviation (single-step max-T: Westfall and Young 1993, "Resampling-based multiple testing").

    Args:
        samples: Resampled differences [P, R, C] of P candidates, C columns.
        points: The differences themselves [P, C].
        chosen: Which candidate was picked.
        degrees: Degrees of freedom of each column [C]; see `tail`.

    Returns:
        Low and high ends [C] and two-sided p-values [C]; nan where the chosen difference is not defined.
    """
    columns = samples.shape[2]
    ends, p_values = np.full((2, columns), np.nan), np.full(columns, np.nan)
    for column in range(columns):
        values, centre = samples[:, :, column], points[:, column]
        rows = ~np.isnan(values).any(axis=0)
        if np.isnan(centre).any() or not rows.any():
            continue
        deviations = np.abs(values[:, rows] - centre[:, None])
        errors = values[:, rows].std(axis=1)
        scaled = np.divide(deviations, errors[:, None], out=np.zeros_like(deviations), where=errors[:, None] > 0)
        largest = scaled.max(axis=0)
        reach = np.quantile(largest, 1.0 - 2.0 * tail(degrees[column])) * errors[chosen]
        ends[:, column] = centre[chosen] - reach, centre[chosen] + reach
        if errors[chosen] > 0:
            beyond = np.count_nonzero(largest >= abs(centre[chosen]) / errors[chosen])
        else:
            beyond = 0 if centre[chosen] else len(largest)
        normal = scipy.stats.norm.isf((beyond + 1) / (len(largest) + 1) / 2)
        p_values[column] = 2.0 * scipy.stats.t.sf(normal, degrees[column])
    return ends[0], ends[1], p_values


def bootstrap_p_value(difference: float, samples: np.ndarray, degrees: float) -> float:
    """Return the two-sided p-value of a difference: by Student's t, with the bootstrap's standard error.

    Efron and Tibshirani 1993, chapter 12. A count of resamples beyond zero could not become small enough to survive a
    correction for many arms, and would take five seeds for as good as a hundred.

    Args:
        difference: The difference itself.
        samples: Resampled differences [R]; undefined ones are left out.
        degrees: Degrees of freedom.

    Returns:
        A value in [0, 1]; nan if the difference or every resample is undefined.
    """
    values = samples[~np.isnan(samples)]
    if len(values) == 0 or np.isnan(difference):
        return float("nan")
    error = float(values.std())
    if error == 0:
        return 0.0 if difference else 1.0
    return float(2.0 * scipy.stats.t.sf(abs(difference) / error, degrees))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down procedure (Holm 1979): one below 0.05 is safe among all of them.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none becomes smaller than one before it.

    Args:
        p_values: One per test, in any order; nan for a test that could not be made, which does not count.

    Returns:
        Adjusted values in the same order, at most 1.
    """
    adjusted = [float("nan")] * len(p_values)
    order = sorted((value, index) for index, value in enumerate(p_values) if value == value)
    largest = 0.0
    for rank, (value, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * value))
        adjusted[index] = largest
    return adjusted


def detectable_effect(standard_error: float, seeds: int, degrees: float | None = None) -> float:
    """Return the smallest true difference that a comparison of paired seeds finds with 80 % power at 5 %, two-sided.

    Bloom 1995, "Minimum detectable effects": the standard error times the sum of the t quantiles of 1 - 0.05 / 2 and of
    0.8, with as many degrees of freedom as there are pairs less one. With the quantiles of the normal distribution in
    place of t, which takes the deviation between seeds as known, five seeds look a quarter more capable than they are.

    Args:
        standard_error: Of the difference, in its unit.
        seeds: Paired seeds.
        degrees: Degrees of freedom of the standard error; by default as many as there are pairs less one.

    Returns:
        The difference in the same unit; nan with fewer than two seeds, from which nothing can be said of it.
    """
    if seeds < 2:
        return float("nan")
    degrees = seeds - 1 if degrees is None else degrees
    return float((scipy.stats.t.ppf(0.5 + LEVEL / 2, degrees) + scipy.stats.t.ppf(POWER, degrees)) * standard_error)


def detectable_by_seeds(
    seeds: int, seed_deviation: float, other_error: float, *, generator_error: float = 0.0, generators: int = 1
) -> float:
    """Return the smallest true difference that so many paired seeds find; see `detectable_effect`.

    The deviation between blocks of images counts as known as well as that between seeds, which there are no more of.

    Args:
        seeds: Paired seeds.
        seed_deviation: Standard deviation of the difference between them.
        other_error: Standard error that more of them do not lower: of the images, and of generator seeds.
        generator_error: The part of it that is of generator seeds; 0 where there are not several.
        generators: Generator seeds.
    """
    if seeds < 2:
        return float("nan")
    variance, of_generators = seed_deviation**2 / seeds + other_error**2, generator_error**2
    levels = [np.array([variance - of_generators]), np.array([of_generators])]
    degrees = degrees_of_freedom(levels, [seeds, generators])
    return detectable_effect(float(np.sqrt(variance)), seeds, float(degrees[0]))


def seeds_to_detect(
    effect: float,
    seed_deviation: float,
    other_error: float,
    most: int,
    *,
    generator_error: float = 0.0,
    generators: int = 1,
) -> int | None:
    """Return how many paired seeds find a difference with 80 % power, or None if even the largest number does not.

    Args:
        effect: The true difference.
        seed_deviation: See `detectable_by_seeds`, as the others.
        other_error: Standard error that more seeds do not lower.
        most: Largest number to consider.
        generator_error: The part of it that is of generator seeds.
        generators: Generator seeds.
    """
    for seeds in range(2, most + 1):
        found = detectable_by_seeds(
            seeds, seed_deviation, other_error, generator_error=generator_error, generators=generators
        )
        if found <= effect:
            return seeds
    return None
