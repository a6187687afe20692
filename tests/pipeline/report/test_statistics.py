"""The bootstrap against a plain loop, and cases whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

import scenepalette.evaluation.contrasts as contrasts
import scenepalette.pipeline.report.statistics as statistics
from scenepalette.common.randomness import numpy_generator
from scenepalette.evaluation.contrasts import holm
from scenepalette.evaluation.miou import intersection_over_union
from scenepalette.pipeline.report.results import ArmRun
from scenepalette.pipeline.report.statistics import ArmStatistics, Difference, compare, estimate_miou, verdict

CLASSES = 3
EVAL_IDS = (0, 2)


def _confusion(seed: int, images: int = 7, classes: int = CLASSES) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 40, (images, classes, classes)) + 30 * np.eye(classes, dtype=np.int64)


def compare_arms(*args: Any, **options: Any) -> list[ArmStatistics]:
    return compare(*args, **options).arms


def _run(name: str, seed: int, confusion: np.ndarray) -> ArmRun:
    return ArmRun(name, name, seed, 10, confusion)


def _loop_iou(confusion: np.ndarray, class_id: int) -> float:
    """IoU of one class, counted cell by cell."""
    hit = miss = false = 0
    for truth in range(len(confusion)):
        for prediction in range(len(confusion)):
            if truth == class_id and prediction == class_id:
                hit += int(confusion[truth, prediction])
            elif truth == class_id:
                miss += int(confusion[truth, prediction])
            elif prediction == class_id:
                false += int(confusion[truth, prediction])
    return hit / (hit + miss + false) if hit + miss + false else float("nan")


def _loop_miou(confusion: np.ndarray, eval_ids: tuple[int, ...] = EVAL_IDS) -> float:
    """Pixels whose true class is not evaluated do not count."""
    counted = np.array([row if truth in eval_ids else 0 * row for truth, row in enumerate(confusion)])
    return float(np.nanmean([_loop_iou(counted, class_id) for class_id in eval_ids]))


def test_iou_equals_a_count_by_cells_and_is_nan_for_an_absent_class() -> None:
    confusion = _confusion(1)
    confusion[:, 1, :] = 0
    confusion[:, :, 1] = 0
    iou = intersection_over_union(statistics._counts(confusion, (0,)).sum(0))
    everything = [_loop_iou(confusion.sum(0), class_id) for class_id in range(CLASSES)]
    np.testing.assert_allclose(iou[CLASSES:], everything)
    assert np.isnan(everything[1])
    assert iou[0] == pytest.approx(_loop_miou(confusion.sum(0), (0,)))
    assert iou[0] > everything[0]


def _loop_value(confusions: list[np.ndarray], images: list[int]) -> float:
    """Mean over runs of the mIoU of some images, each as often as it is named."""
    values = []
    for confusion in confusions:
        total = np.zeros((CLASSES, CLASSES), dtype=np.int64)
        for image in images:
            total += confusion[image]
        values.append(_loop_miou(total))
    return float(np.mean(values))


def _welch(*levels: tuple[float, int]) -> float:
    """Satterthwaite's degrees of freedom, from the variance and the units of each level."""
    total = sum(variance for variance, _ in levels)
    return total**2 / sum(variance**2 / (units - 1) for variance, units in levels if units > 1)


def _ends(samples: np.ndarray, degrees: float) -> list[float]:
    beyond = stats.norm.sf(stats.t.ppf(0.975, degrees))
    return [float(end) for end in np.quantile(samples, [beyond, 1 - beyond])]


def test_intervals_equal_a_loop_over_paired_seeds_generators_and_blocks() -> None:
    """Every level by the same draws, with whole confusions added up; the two arms have the same segmenter seeds."""
    samples, seed, blocks = 80, 5, np.array([0, 0, 1, 1, 1, 2, 3])
    real = {each: _confusion(each) for each in (1, 2, 3)}
    other = {(generator, each): _confusion(10 * generator + each) for generator in (4, 5) for each in (1, 2, 3)}
    runs = [_run("real", each, confusion) for each, confusion in real.items()]
    runs += [
        replace(_run("other", each, confusion), generator_seed=generator)
        for (generator, each), confusion in other.items()
    ]
    arms = {arm.name: arm for arm in compare_arms(runs, EVAL_IDS, samples, seed, blocks=blocks)}

    drawn_blocks = numpy_generator(seed, "report", "images").multinomial(3, [0.25] * 4, size=samples)
    drawn_seeds = numpy_generator(seed, "report", "seeds", "1", "2", "3").integers(3, size=(samples, 2)) + 1
    drawn_generators = numpy_generator(seed, "report", "generator seeds", "4", "5").integers(2, size=(samples, 1)) + 4
    every = list(range(7))
    values, generators_alone, seeds_alone, images_alone = {}, {}, {}, {}
    for sample in range(samples):
        images = [image for image in every for _ in range(drawn_blocks[sample, blocks[image]])]
        for name, whole in (("real", {(0, each): found for each, found in real.items()}), ("other", other)):
            generators = drawn_generators[sample] if name == "other" else [0]
            seeds = drawn_seeds[sample]
            drawn = [whole[generator, each] for generator in generators for each in seeds]
            of_generators = [found for (generator, _), found in whole.items() if generator in generators]
            of_seeds = [found for drawn_one in seeds for (_, each), found in whole.items() if each == drawn_one]
            values.setdefault(name, []).append(_loop_value(drawn, images))
            generators_alone.setdefault(name, []).append(_loop_value(of_generators, every))
            seeds_alone.setdefault(name, []).append(_loop_value(of_seeds, every))
            images_alone.setdefault(name, []).append(_loop_value(list(whole.values()), images))

    def check(measured: Difference, difference: dict[str, list[float]], generators: int) -> None:
        columns = [np.array(difference[key]) for key in ("all", "generators", "seeds", "images")]
        degrees = _welch((columns[1].var(), generators), (columns[2].var(), 3), (columns[3].var(), 4))
        assert [measured.low, measured.high] == pytest.approx(_ends(columns[0], degrees))

    parts = {"all": values, "generators": generators_alone, "seeds": seeds_alone, "images": images_alone}
    for name, group, generators in (("real", real, 1), ("other", other, 2)):
        arm = arms[name]
        exact = [_loop_miou(each.sum(0)) for each in group.values()]
        np.testing.assert_allclose(arm.miou.values, exact)
        assert arm.miou.mean == pytest.approx(np.mean(exact))
        totals = [each.sum(0) for each in group.values()]
        per_class = [[_loop_iou(total, class_id) for class_id in range(CLASSES)] for total in totals]
        np.testing.assert_allclose(arm.miou_all.values, np.mean(per_class, axis=1))
        assert arm.per_class[1].mean == pytest.approx(np.mean(per_class, axis=0)[1])
        official = np.mean([arm.per_class[class_id].mean for class_id in EVAL_IDS])
        assert arm.miou.mean == pytest.approx(official)
        check(arm.miou, {key: part[name] for key, part in parts.items()}, generators)
    differences = {key: list(np.array(part["other"]) - np.array(part["real"])) for key, part in parts.items()}
    delta = arms["other"].delta
    check(delta, differences, 2)
    assert delta.mean == pytest.approx(arms["other"].miou.mean - arms["real"].miou.mean)


def test_equal_seeds_cancel_from_a_difference_and_others_do_not() -> None:
    """Seeds are worth ten points, the arm one: only seeds drawn in pairs show it."""
    level = {0: 60, 1: 70, 2: 80, 3: 90}

    def confusion(right: int) -> np.ndarray:
        return np.array([[[right, 100 - right], [100 - right, right]]] * 4)

    real = [_run("real", each, confusion(right)) for each, right in level.items()]
    paired = [_run("paired", each, confusion(right + 1)) for each, right in level.items()]
    apart = [_run("apart", each + 10, confusion(right + 1)) for each, right in level.items()]
    _, first, second = compare_arms([*real, *paired, *apart], (0, 1), 400, 0)
    assert first.verdict == "gains" and 0 < first.delta.low < first.delta.high < 0.03
    assert second.delta.mean == pytest.approx(first.delta.mean)
    assert second.delta.low < 0 < second.delta.high and second.verdict.startswith("no difference")


def test_frames_of_a_block_are_one_observation() -> None:
    """Twelve copies of each of four scenes: as independent images they seem to say far more than they do."""
    scenes = _confusion(3, images=4)
    copies, blocks = np.repeat(scenes, 12, axis=0), np.repeat(np.arange(4), 12)
    (alone,) = compare_arms([_run("real", 0, copies)], EVAL_IDS, 400, 0)
    (grouped,) = compare_arms([_run("real", 0, copies)], EVAL_IDS, 400, 0, blocks=blocks)
    (scene,) = compare_arms([_run("real", 0, scenes)], EVAL_IDS, 400, 0)
    assert (grouped.miou.low, grouped.miou.high) == pytest.approx((scene.miou.low, scene.miou.high))
    assert grouped.miou.high - grouped.miou.low > 2 * (alone.miou.high - alone.miou.low)


def test_one_training_on_one_block_has_no_interval() -> None:
    runs = [_run("real", 0, _confusion(1)), _run("other", 0, _confusion(2))]
    _, other = compare_arms(runs, EVAL_IDS, 100, 0, blocks=np.zeros(7, dtype=np.int64))
    assert np.isnan([other.delta.low, other.delta.high, other.p_adjusted]).all()
    assert not np.isnan(other.delta.mean) and other.verdict.startswith("no difference")


def test_rare_classes_have_a_mean_of_their_own() -> None:
    runs = [_run("real", 0, _confusion(1)), _run("other", 0, _confusion(2))]
    real, other = compare_arms(runs, (0, 1, 2), 100, 0, rare_ids=(1, 2))
    assert real.miou_rare.mean == pytest.approx(np.mean([_loop_iou(_confusion(1).sum(0), each) for each in (1, 2)]))
    assert other.delta_rare.mean == pytest.approx(other.miou_rare.mean - real.miou_rare.mean)
    (without,) = compare_arms(runs[:1], (0, 1, 2), 100, 0)
    assert np.isnan(without.miou_rare.mean)


def _with_validation(run: ArmRun, confusion: np.ndarray) -> ArmRun:
    return replace(run, validation=confusion)


def _graded(right: int, blocks: int = 8, seed: int = 0) -> np.ndarray:
    """Two classes, of which about `right` of 100 pixels each are found."""
    hits = right + np.random.default_rng(seed).integers(-3, 4, blocks)
    return np.stack([[[hit, 100 - hit], [100 - hit, hit]] for hit in hits])


def test_validation_chooses_the_arms_and_the_reported_images_judge_them() -> None:
    """By the reported images it would be b against d."""
    validation = {"real": 50, "a": 80, "b": 70, "c": 60, "d": 55}
    reported = {"real": 50, "a": 70, "b": 90, "c": 61, "d": 68}
    runs = [
        _with_validation(_run(name, seed, _graded(reported[name], seed=seed)), _graded(validation[name], seed=seed))
        for name in reported
        for seed in range(3)
    ]
    found = compare(runs, (0, 1), 200, 0, treatments=("b", "a"), controls=("c", "d"))
    assert found.primary is not None
    assert (found.primary.treatment, found.primary.control, found.primary.chosen_on) == ("a", "c", "validation")
    point = {arm.name: arm.miou.mean for arm in found.arms}
    assert found.primary.miou.mean == pytest.approx(point["a"] - point["c"])
    same = compare([replace(run, validation=None) for run in runs], (0, 1), 200, 0, treatments="ab", controls="cd")
    assert same.primary is not None
    assert (same.primary.treatment, same.primary.control, same.primary.chosen_on) == ("b", "d", "these images")


def test_a_choice_on_the_reported_images_widens_the_interval() -> None:
    confusions = {"real": 50, "a": 60, "b": 61, "c": 62}
    runs = [
        _run(name, seed, _graded(each, seed=100 * each + seed))
        for name, each in confusions.items()
        for seed in (1, 2, 3)
    ]
    only = compare(runs, (0, 1), 600, 0, treatments=("c",), controls=("real",)).primary
    best = compare(runs, (0, 1), 600, 0, treatments=("a", "b", "c"), controls=("real",)).primary
    assert only is not None and best is not None
    assert only.chosen_on == "nothing" and best.treatment == only.treatment == "c"
    assert best.miou.mean == only.miou.mean
    assert best.miou.high - best.miou.low > only.miou.high - only.miou.low
    assert best.p_value > only.p_value


def test_the_primary_contrast_is_in_no_family() -> None:
    runs = [
        _run(name, seed, _graded(each, seed=seed + each))
        for name, each in (("real", 50), ("a", 52), ("b", 53))
        for seed in range(4)
    ]
    every = {arm.name: arm for arm in compare_arms(runs, (0, 1), 300, 0)}
    fixed = compare(runs, (0, 1), 300, 0, treatments=("b",), controls=("real",))
    assert fixed.primary is not None
    arms = {arm.name: arm for arm in fixed.arms}
    assert arms["a"].p_adjusted == arms["a"].p_value
    assert fixed.primary.p_value == arms["b"].p_value == arms["b"].p_adjusted
    family = holm([every["a"].p_value, every["b"].p_value])
    assert [every["a"].p_adjusted, every["b"].p_adjusted] == pytest.approx(family)
    assert compare(runs, (0, 1), 300, 0, treatments=(), controls=("real",)).primary is None


def test_the_best_arm_by_the_reported_images_is_corrected_like_the_others() -> None:
    runs = [
        _run(name, seed, _graded(each, seed=seed + each))
        for name, each in (("real", 50), ("a", 52), ("b", 53))
        for seed in range(4)
    ]
    found = compare(runs, (0, 1), 300, 0, treatments=("a", "b"), controls=("real",))
    assert found.primary is not None
    assert found.primary.chosen_on == "these images"
    _, *arms = found.arms
    assert [arm.p_adjusted for arm in arms] == pytest.approx(holm([arm.p_value for arm in arms]))
    seen = [_with_validation(run, run.confusion) for run in runs]
    named = {arm.name: arm for arm in compare(seen, (0, 1), 300, 0, treatments=("a", "b"), controls=("real",)).arms}
    assert [named[arm.name].p_adjusted for arm in arms] == [arm.p_value for arm in arms]


def test_the_detectable_effect_holds_seeds_and_images() -> None:
    """Two classes of 1000 pixels on one image each: mIoU of a and of real differ by exact amounts from seed to seed."""
    gains = {0: 10, 1: 16, 2: 22, 3: 40}

    def confusion(right: int) -> np.ndarray:
        return np.array([[[right, 1000 - right], [1000 - right, right]]] * 3)

    runs = [_run("real", each, confusion(500)) for each in gains]
    runs += [_run("a", each, confusion(500 + more)) for each, more in gains.items()]
    primary = compare(runs, (0, 1), 200, 0, treatments=("a",), controls=("real",)).primary
    assert primary is not None
    differences = [(500 + more) / (1500 - more) - 500 / 1500 for more in gains.values()]
    assert primary.seed_deviation == pytest.approx(np.std(differences, ddof=1))
    assert primary.other_error == pytest.approx(0.0, abs=1e-12)
    # t of 3 degrees of freedom: 3.1824 at 0.975 and 0.9785 at 0.8.
    expected = (3.1824 + 0.9785) * np.std(differences, ddof=1) / 2
    assert primary.detectable == pytest.approx(expected, rel=1e-3) and primary.detectable_by_seeds == primary.detectable
    single = compare(runs[::4], (0, 1), 200, 0, treatments=("a",), controls=("real",)).primary
    assert single is not None and single.seeds == (0,)
    assert np.isnan([single.detectable, single.seed_deviation]).all()


def test_generator_seeds_are_a_source_of_chance_that_segmenter_seeds_do_not_lower() -> None:
    runs = [_run("real", each, _graded(50, seed=each)) for each in range(3)]
    for generator, right in ((0, 55), (1, 65)):
        runs += [replace(_run("a", each, _graded(right, seed=each)), generator_seed=generator) for each in range(3)]
    two = compare(runs, (0, 1), 300, 0, treatments=("a",), controls=("real",)).primary
    one = compare(runs[:6], (0, 1), 300, 0, treatments=("a",), controls=("real",)).primary
    assert one is not None and two is not None
    assert two.other_error > 5 * one.other_error
    assert two.miou.high - two.miou.low > 3 * (one.miou.high - one.miou.low)


def _certain(right: int) -> np.ndarray:
    """Equal images of two classes of 1000 pixels each: IoU is right / (2000 - right) for both."""
    return np.array([[[right, 1000 - right], [1000 - right, right]]] * 3)


def test_two_generator_seeds_by_hand() -> None:
    """Equal images and two segmenter seeds; every number follows from the mIoU of six trainings."""
    real = {0: 500, 1: 540}
    other = {(7, 0): 520, (7, 1): 550, (8, 0): 600, (8, 1): 640}
    runs = [_run("real", each, _certain(right)) for each, right in real.items()]
    runs += [
        replace(_run("a", each, _certain(right)), generator_seed=generator)
        for (generator, each), right in other.items()
    ]
    found = compare(runs, (0, 1), 400, 0, treatments=("a",), controls=("real",))
    arm, primary = found.arms[1], found.primary
    assert primary is not None
    iou = {key: right / (2000 - right) for key, right in {**real, **other}.items()}
    gain = {key: iou[key] - iou[key[1]] for key in other}
    assert (arm.seeds, arm.generator_seeds) == ((0, 1, 0, 1), (7, 7, 8, 8))
    assert (found.arms[0].seeds, found.arms[0].generator_seeds) == ((0, 1), (None, None))
    assert primary.miou.mean == pytest.approx(np.mean(list(gain.values())))
    # One generator of two and one seed of two are drawn: a resample is one of the four differences. One degree of
    # freedom or little more puts the ends at the outermost of them.
    assert (primary.miou.low, primary.miou.high) == (
        pytest.approx(min(gain.values())),
        pytest.approx(max(gain.values())),
    )
    assert (primary.seeds, primary.generator_seeds) == ((0, 1), (7, 8))

    by_seed = [np.mean([gain[generator, each] for generator in (7, 8)]) for each in (0, 1)]
    by_generator = [np.mean([iou[generator, each] for each in (0, 1)]) for generator in (7, 8)]
    of_seeds = abs(by_seed[0] - by_seed[1]) / 2  # standard deviation / sqrt(2)
    of_generators = abs(by_generator[0] - by_generator[1]) / 2
    assert primary.seed_deviation == pytest.approx(of_seeds * np.sqrt(2))
    assert primary.generator_error == pytest.approx(of_generators)
    assert primary.other_error == pytest.approx(of_generators)  # images are equal
    error = np.hypot(of_seeds, of_generators)
    degrees = error**4 / (of_seeds**4 + of_generators**4)
    expected = (stats.t.ppf(0.975, degrees) + stats.t.ppf(0.8, degrees)) * error
    assert primary.detectable == pytest.approx(expected)
    one = compare(runs[:4], (0, 1), 100, 0, treatments=("a",), controls=("real",)).primary
    assert one is not None and one.generator_seeds == (7,) and np.isnan(one.generator_error)


def test_a_control_without_generated_pairs_counts_once_for_all_generators() -> None:
    """Whether its training is repeated for each generator or taken once: the differences are the same."""
    real = {each: _confusion(each) for each in (1, 2, 3)}
    other = [
        replace(_run("a", each, _confusion(10 * generator + each)), generator_seed=generator)
        for generator in (4, 5)
        for each in real
    ]
    once = [_run("real", each, confusion) for each, confusion in real.items()]
    repeated = [replace(run, generator_seed=generator) for generator in (4, 5) for run in once]
    taken, again = (compare_arms([*each, *other], EVAL_IDS, 200, 0)[1] for each in (once, repeated))
    assert (taken.delta.low, taken.delta.high) == (pytest.approx(again.delta.low), pytest.approx(again.delta.high))
    assert taken.p_value == pytest.approx(again.p_value)


def test_generators_that_do_not_differ_cost_no_degrees_of_freedom() -> None:
    """Two generators of equal results leave the interval of one of them."""
    runs = [_run("real", each, _graded(50, seed=each)) for each in range(5)]
    one = [replace(_run("a", each, _graded(55, seed=20 + each)), generator_seed=0) for each in range(5)]
    two = [*one, *(replace(run, generator_seed=1) for run in one)]
    single, double = (compare_arms([*runs, *each], (0, 1), 300, 0)[1] for each in (one, two))
    assert (double.delta.low, double.delta.high) == (pytest.approx(single.delta.low), pytest.approx(single.delta.high))
    assert double.p_value == pytest.approx(single.p_value)


def test_identical_arms_differ_by_exactly_nothing() -> None:
    confusion = _confusion(1)
    real, other = compare_arms([_run("real", 0, confusion), _run("copy", 0, confusion)], EVAL_IDS, 100, 0)
    assert (other.delta.mean, other.delta.low, other.delta.high) == (0.0, 0.0, 0.0)
    assert all((each.low, each.high) == (0.0, 0.0) for each in other.per_class_delta)
    assert other.miou == real.miou
    assert real.miou.low < real.miou.high
    assert other.verdict == "no difference that this evaluation can show"
    assert real.verdict == "reference"


def test_images_are_paired_so_that_a_constant_advantage_has_a_short_interval() -> None:
    """Images differ wildly in difficulty, but one arm is better on each: only a paired difference sees it surely."""
    difficulty = np.random.default_rng(0).integers(5, 90, 40)
    real = np.stack([[[100 - d, d], [d, 100 - d]] for d in difficulty])
    better = np.stack([[[102 - d, d - 2], [d - 2, 102 - d]] for d in difficulty])
    arms = compare_arms([_run("real", 0, real), _run("better", 0, better)], (0, 1), 300, 0)
    delta = arms[1].delta
    assert arms[1].verdict == "gains"
    assert delta.high - delta.low < 0.25 * (arms[0].miou.high - arms[0].miou.low)
    assert arms[0].miou.high > arms[1].miou.low


def test_seed_variation_widens_the_interval_by_the_unbiased_variance() -> None:
    """With identical images only seeds vary: two seeds a and b give the interval [a, b], not half of it."""
    image = np.array([[[90, 10], [10, 90]]] * 5)
    worse = np.array([[[60, 40], [40, 60]]] * 5)
    (arm,) = compare_arms([_run("real", 0, image), _run("real", 1, worse)], (0, 1), 500, 0)
    assert arm.miou.low == pytest.approx(60 / 140)
    assert arm.miou.high == pytest.approx(90 / 110)
    assert arm.miou.mean == pytest.approx((60 / 140 + 90 / 110) / 2)


def test_a_class_in_one_image_is_skipped_in_resamples_without_it() -> None:
    confusion = np.zeros((4, 3, 3), dtype=np.int64)
    confusion[:, 0, 0] = 50
    confusion[:, 0, 1] = 10
    confusion[2, 2, 2] = 5
    confusion[2, 2, 0] = 5
    (arm,) = compare_arms([_run("real", 0, confusion)], (0, 1, 2), 400, 0)
    rare = arm.per_class[2]
    assert (rare.mean, rare.low, rare.high) == (0.5, 0.5, 0.5)
    assert arm.per_class[1].mean == 0.0
    assert np.isfinite([arm.miou.low, arm.miou.high]).all()


def test_a_class_that_never_occurs_is_nan_and_leaves_the_mean_alone() -> None:
    confusion = _confusion(1)
    confusion[:, 1, :] = 0
    confusion[:, :, 1] = 0
    arms = compare_arms([_run("real", 0, confusion), _run("other", 0, confusion)], (0, 1, 2), 50, 0)
    assert np.isnan([arms[1].per_class[1].mean, arms[1].per_class[1].low, arms[1].per_class_delta[1].high]).all()
    assert arms[0].miou.mean == pytest.approx(np.mean([_loop_iou(confusion.sum(0), k) for k in (0, 2)]))


def _unadjusted(arm: ArmStatistics) -> str:
    """All but the p-value that depends on how many arms there are; in text, where nan equals nan."""
    return repr(replace(arm, p_adjusted=0.0))


def test_chunks_and_other_arms_do_not_change_an_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [_run("real", 0, _confusion(1)), _run("a", 0, _confusion(2)), _run("a", 1, _confusion(3))]
    whole = compare_arms(runs, EVAL_IDS, 50, 3)
    monkeypatch.setattr(contrasts, "NUMBERS_PER_CHUNK", 300)
    assert [_unadjusted(arm) for arm in compare_arms(runs, EVAL_IDS, 50, 3)] == [_unadjusted(arm) for arm in whole]
    added = compare_arms([*runs, _run("b", 0, _confusion(4))], EVAL_IDS, 50, 3)
    assert [_unadjusted(arm) for arm in added[:2]] == [_unadjusted(arm) for arm in whole]
    assert [arm.name for arm in added] == ["real", "a", "b"]


def test_estimate_miou_holds_its_value_in_its_interval() -> None:
    confusion = _confusion(8, images=30)
    estimate = estimate_miou(confusion, EVAL_IDS, 200, 0, "gan_test full")
    assert estimate.values == (pytest.approx(_loop_miou(confusion.sum(0))),)
    assert estimate.low < estimate.mean < estimate.high
    assert estimate_miou(confusion, EVAL_IDS, 200, 0, "gan_test semi").low != estimate.low


@pytest.mark.parametrize(
    ("low", "high", "p_value", "expected"),
    [
        (0.001, 0.02, 0.04, "gains"),
        (-0.02, -0.001, 0.04, "loses"),
        (-0.01, 0.02, 0.04, "no difference that this evaluation can show"),
        (0.0, 0.02, 0.04, "no difference that this evaluation can show"),
        (0.001, 0.02, 0.2, "no difference that this evaluation can show"),
        (-0.02, -0.001, 0.2, "no difference that this evaluation can show"),
        (float("nan"), float("nan"), float("nan"), "no difference that this evaluation can show"),
    ],
)
def test_verdict_needs_an_interval_on_one_side_of_zero_and_a_small_p_value(
    low: float, high: float, p_value: float, expected: str
) -> None:
    assert verdict(Difference(0.005, low, high), p_value) == expected
