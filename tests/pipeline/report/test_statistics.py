"""The bootstrap against a plain loop, and cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

import scenepalette.pipeline.report.statistics as statistics
from scenepalette.common.randomness import numpy_generator
from scenepalette.evaluation.miou import intersection_over_union
from scenepalette.pipeline.report.results import ArmRun
from scenepalette.pipeline.report.statistics import Difference, compare_arms, estimate_miou, verdict

CLASSES = 3
EVAL_IDS = (0, 2)


def _confusion(seed: int, images: int = 7, classes: int = CLASSES) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 40, (images, classes, classes)) + 30 * np.eye(classes, dtype=np.int64)


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


def test_intervals_equal_a_loop_that_resamples_whole_confusions() -> None:
    samples, seed, images = 60, 5, 7
    arms = {"real": [_confusion(1), _confusion(2), _confusion(3)], "other": [_confusion(4), _confusion(5)]}
    runs = [_run(name, index, each) for name, group in arms.items() for index, each in enumerate(group)]
    measured = {arm.name: arm for arm in compare_arms(runs, EVAL_IDS, samples, seed)}

    weights = numpy_generator(seed, "report", "images").multinomial(images, [1 / images] * images, size=samples)
    values: dict[str, list[float]] = {}
    for name, group in arms.items():
        draws = numpy_generator(seed, "report", "seeds", name).integers(len(group), size=(samples, len(group) - 1))
        values[name] = []
        for sample in range(samples):
            drawn = []
            for index in draws[sample]:
                total = np.zeros((CLASSES, CLASSES), dtype=np.int64)
                for image in range(images):
                    for _ in range(weights[sample, image]):
                        total += group[index][image]
                drawn.append(_loop_miou(total))
            values[name].append(float(np.mean(drawn)))

    for name, group in arms.items():
        exact = [_loop_miou(each.sum(0)) for each in group]
        arm = measured[name]
        np.testing.assert_allclose(arm.miou.values, exact)
        assert arm.miou.mean == pytest.approx(np.mean(exact))
        totals = [each.sum(0) for each in group]
        per_class = [[_loop_iou(total, class_id) for class_id in range(CLASSES)] for total in totals]
        np.testing.assert_allclose(arm.miou_all.values, np.mean(per_class, axis=1))
        assert arm.per_class[1].mean == pytest.approx(np.mean(per_class, axis=0)[1])
        official = np.mean([arm.per_class[class_id].mean for class_id in EVAL_IDS])
        assert arm.miou.mean == pytest.approx(official)
        np.testing.assert_allclose([arm.miou.low, arm.miou.high], np.quantile(values[name], [0.025, 0.975]))
    difference = np.array(values["other"]) - np.array(values["real"])
    delta = measured["other"].delta
    np.testing.assert_allclose([delta.low, delta.high], np.quantile(difference, [0.025, 0.975]))
    assert delta.mean == pytest.approx(measured["other"].miou.mean - measured["real"].miou.mean)


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
    # Draws of S - 1 seeds: the variance of the resampled mean is that of the mean itself, s^2 / S.
    draws = statistics._seed_draws(4, 40_000, 0, "any")
    values = np.array([0.1, 0.4, 0.5, 0.8])
    assert np.var(values[draws].mean(axis=1)) == pytest.approx(np.var(values, ddof=1) / 4, rel=0.03)


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


def test_chunks_and_other_arms_do_not_change_an_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [_run("real", 0, _confusion(1)), _run("a", 0, _confusion(2)), _run("a", 1, _confusion(3))]
    whole = compare_arms(runs, EVAL_IDS, 50, 3)
    monkeypatch.setattr(statistics, "NUMBERS_PER_CHUNK", 300)
    assert compare_arms(runs, EVAL_IDS, 50, 3) == whole
    added = compare_arms([*runs, _run("b", 0, _confusion(4))], EVAL_IDS, 50, 3)
    assert added[:2] == whole
    assert [arm.name for arm in added] == ["real", "a", "b"]


def test_estimate_miou_holds_its_value_in_its_interval() -> None:
    confusion = _confusion(8, images=30)
    estimate = estimate_miou(confusion, EVAL_IDS, 200, 0, "gan_test full")
    assert estimate.values == (pytest.approx(_loop_miou(confusion.sum(0))),)
    assert estimate.low < estimate.mean < estimate.high
    assert estimate_miou(confusion, EVAL_IDS, 200, 0, "gan_test semi").low != estimate.low


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.02, "gains"),
        (-0.02, -0.001, "loses"),
        (-0.01, 0.02, "no difference that this evaluation can show"),
        (0.0, 0.02, "no difference that this evaluation can show"),
        (float("nan"), float("nan"), "no difference that this evaluation can show"),
    ],
)
def test_verdict_needs_an_interval_on_one_side_of_zero(low: float, high: float, expected: str) -> None:
    assert verdict(Difference(0.005, low, high)) == expected
