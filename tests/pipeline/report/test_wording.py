"""What the report says: verdicts, and the cautions that go with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.pipeline.report import wording
from scenepalette.pipeline.report.document import build_document, compare_inputs
from scenepalette.pipeline.report.results import EvaluatedSplit, ReportInputs

MakeInputs = Callable[..., ReportInputs]


def _frames(recordings: str) -> EvaluatedSplit:
    """Validation images, each of the recording of its letter."""
    return EvaluatedSplit("validation", None, [f"{name}_{i}" for i, name in enumerate(recordings)], recordings=True)


def _document(inputs: ReportInputs) -> dict[str, Any]:
    return build_document(inputs, compare_inputs(inputs), [])


def _swapped(inputs: ReportInputs) -> ReportInputs:
    """The better arm as real, and real's confusions as the arm with generated pairs."""
    names = {"real": ("real+full", "full"), "real+full": ("real", None)}
    arms = []
    for run in inputs.arms:
        name, kind = names.get(run.name, (run.name, run.kind))
        arms.append(replace(run, name=name, kind=kind))
    return replace(inputs, arms=arms)


def test_a_better_arm_gains(make_inputs: MakeInputs) -> None:
    document = _document(make_inputs())
    assert [arm["verdict"] for arm in document["arms"]] == ["reference", "gains", "loses"]
    assert "real+full gains over real data alone" in wording.headline(document)
    assert any(sentence.startswith("real+full: gains (+") for sentence in wording.findings(document))


def test_the_same_data_the_other_way_round_lose(make_inputs: MakeInputs) -> None:
    document = _document(_swapped(make_inputs()))
    assert "real+full loses against real data alone" in wording.headline(document)
    assert ": gains" not in " ".join(wording.findings(document))


def test_an_arm_equal_to_real_shows_no_difference(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    real = [run for run in inputs.arms if run.name == "real"]
    copies = [replace(run, name="copy", kind="full") for run in real]
    document = _document(replace(inputs, arms=[*inputs.arms, *copies]))
    assert wording.arm_named(document, "copy")["verdict"] == "no difference that this evaluation can show"
    headline = wording.headline(document)
    assert "of 2 arms" in headline and "1 gains, 0 lose, and for 1" in headline
    assert "Largest gain: real+full" in headline


def test_arms_of_gan_train_are_not_counted_against_real(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    assert [arm["name"] for arm in wording.augmentation_arms(_document(inputs))] == ["real+full"]
    others = [replace(run, name="real-long", kind=None) if run.name == "real+full" else run for run in inputs.arms]
    only_real = replace(inputs, arms=others, treatments=[])
    assert wording.augmentation_arms(_document(only_real)) == []
    assert "no arm added generated pairs" in wording.headline(_document(only_real))


def test_weak_generated_data_are_called_weak(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    assert "less than half, so these pairs cannot stand in" in " ".join(wording.findings(_document(inputs)))
    strong = " ".join(wording.findings(_document(replace(inputs, gan_train={"full": "real+full"}))))
    assert "less than half" not in strong and "as much as real data or more" in strong
    unreadable = replace(inputs, gan_test={"full": next(run for run in inputs.arms if run.name == "full").confusion})
    assert "often do not show what their labels say" in " ".join(wording.findings(_document(unreadable)))
    assert "one layout gives nearly one image" in " ".join(
        wording.findings(_document(replace(inputs, metrics={**inputs.metrics, "mean_absolute_difference": 0.4})))
    )


@pytest.mark.parametrize(("right", "enough"), [(True, True), (False, False)])
def test_nothing_is_set_against_a_real_arm_that_learned_nothing(
    make_inputs: MakeInputs, right: bool, enough: bool
) -> None:
    inputs = make_inputs()
    arms = []
    for run in inputs.arms:
        confusion = run.confusion
        if run.name == "real" and not right:
            confusion = np.zeros_like(confusion)
            confusion[:, :, 0] = run.confusion.sum(axis=2)  # road everywhere
        arms.append(replace(run, confusion=confusion))
    reference = next(run.confusion for run in arms if run.name == "real")
    document = _document(replace(inputs, arms=arms, gan_test_real=reference))
    text = " ".join(wording.findings(document))
    assert ("of the real arm's" in text) is enough and ("learned too little for a comparison" in text) is not enough
    if not right:
        assert document["gan_test_real"]["mean"] == pytest.approx(wording.least_miou(document))
        assert "often do not show what their labels say" not in text


def test_cautions_name_single_seeds_unequal_budgets_and_lost_classes(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    usual = " ".join(wording.cautions(_document(inputs)))
    assert "full was trained with one seed" in usual
    assert "Not the same training budget" not in usual and "hardly finds" not in usual

    single = replace(inputs, arms=[run for run in inputs.arms if run.seed == 0])
    assert "Every arm was trained with one seed" in " ".join(wording.cautions(_document(single)))

    longer = [replace(run, steps=900) if run.name == "real+full" else run for run in inputs.arms]
    text = " ".join(wording.cautions(_document(replace(inputs, arms=longer))))
    assert "Not the same training budget: real+full" in text

    blind = []
    for run in inputs.arms:
        confusion = run.confusion.copy()
        confusion[:, 2, 0] += confusion[:, 2, 2]
        confusion[:, 2, 2] = 0
        blind.append(replace(run, confusion=confusion))
    assert "hardly finds car" in " ".join(wording.cautions(_document(replace(inputs, arms=blind))))
    assert "largest number of components" in " ".join(
        wording.cautions(_document(replace(inputs, palette_components=4)))
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0123, "+1.2"),
        (-0.0123, "\N{MINUS SIGN}1.2"),
        (0.0001, "+0.01"),
        (-0.00049, "\N{MINUS SIGN}0.05"),
        (-0.0000012, "\N{MINUS SIGN}0.0001"),
        (0.0, "0.0"),
        (-1e-17, "0.0"),
        (None, wording.NO_VALUE),
    ],
)
def test_points_have_a_sign(value: float | None, expected: str) -> None:
    assert wording.points(value) == expected


@pytest.mark.parametrize(
    ("value", "threshold", "expected"),
    [(0.0104, 0.01, "+1.04"), (0.00996, 0.01, "+0.996"), (0.01, 0.01, "+1.0"), (0.0123, 0.01, "+1.2")],
)
def test_points_never_seem_to_equal_what_they_differ_from(value: float, threshold: float, expected: str) -> None:
    assert wording.points(value, (threshold,)) == expected


@pytest.mark.parametrize(
    ("low", "mean", "high", "expected"),
    [
        (-0.026, -0.000005, 0.026, "0.0"),
        (-0.026, 0.0007, 0.026, "+0.1"),
        (0.000001, 0.00001, 0.02, "+0.001"),
        (None, None, None, wording.NO_VALUE),
    ],
)
def test_a_mean_is_told_from_zero_where_its_interval_is(
    low: float | None, mean: float | None, high: float | None, expected: str
) -> None:
    assert wording.estimated({"mean": mean, "ci95": [low, high]}) == expected


def test_no_interval_of_a_gain_or_a_loss_seems_to_reach_zero() -> None:
    for exponent in range(1, 11):
        for sign in (1, -1):
            ends = sorted((sign * 0.4 * 10.0**-exponent, sign * 0.05))
            low, high = (
                float(end.replace("\N{MINUS SIGN}", "-"))
                for end in wording.interval({"ci95": ends}, True)[1:-1].split(", ")
            )
            assert low * high > 0 and (low > 0) == (sign > 0)


def test_one_seed_holds_for_these_images_alone(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    single = _document(replace(inputs, arms=[run for run in inputs.arms if run.seed == 0]))
    arm = wording.arm_named(single, "real+full")
    assert wording.verdict_of(arm) == "gains, on these images; seed unknown"
    assert "gains, on these images; seed unknown (+" in " ".join(wording.findings(single))
    assert "on these images; seed unknown" in wording.headline(single)
    several = _document(inputs)
    assert wording.verdict_of(wording.arm_named(several, "real+full")) == "gains"
    assert "seed unknown" not in wording.headline(several) + " ".join(wording.findings(several)[:1])


def test_a_verdict_that_the_correction_takes_back_says_so(make_inputs: MakeInputs) -> None:
    document = _document(make_inputs())
    arm = wording.arm_named(document, "real+full")
    arm |= {"p_adjusted": 0.061, "verdict": "no difference that this evaluation can show"}
    assert "not after Holm's correction, p = 0.061" in wording.findings(document)[0]


@pytest.mark.parametrize(("control", "family"), [("real", "1 arm (Holm)"), ("full", "2 arms (Holm)")])
def test_the_primary_contrast_does_not_count_among_what_is_corrected(
    make_inputs: MakeInputs, control: str, family: str
) -> None:
    document = _document(make_inputs(controls=[control]))
    assert f"verdicts are corrected for {family}" in " ".join(wording.cautions(document))
    assert wording.method(document).endswith("The primary contrast was named before the run and is not adjusted.")


def test_a_primary_contrast_that_was_chosen_is_not_said_to_have_been_named(make_inputs: MakeInputs) -> None:
    inputs = make_inputs(controls=["real", "full"])
    chosen = _document(inputs)
    assert "verdicts are corrected for 2 arms (Holm)" in " ".join(wording.cautions(chosen))
    assert wording.method(chosen).endswith("on these images; its interval on page one is widened for the choice.")
    seen = [replace(run, validation=run.confusion) for run in inputs.arms]
    apart = _document(replace(inputs, arms=seen))
    assert wording.method(apart).endswith("were chosen on other images; it is not adjusted.")
    alone = _document(replace(inputs, treatments=[]))
    assert "primary" not in wording.method(alone)


def test_blocks_are_named_in_method_and_cautions(make_inputs: MakeInputs) -> None:
    grouped = _document(make_inputs(split=_frames("aaabbb")))
    assert "2 blocks of consecutive frames" in wording.method(grouped)
    assert "count as 2 blocks of consecutive frames. So few say little" in " ".join(wording.cautions(grouped))
    one = " ".join(wording.cautions(_document(make_inputs(split=_frames("aaaaaa")))))
    assert "frames of one short recording" in one
    alone = _document(make_inputs())
    assert "resamples of the 6 images" in wording.method(alone)
    assert "independent of each other" in " ".join(wording.cautions(alone))


@pytest.mark.parametrize(
    ("seconds", "expected"), [(5.25, "5.2 s"), (61.5, "62 s"), (600, "10 min"), (7000, "1 h 57 min")]
)
def test_durations_are_readable(seconds: float, expected: str) -> None:
    assert wording.duration(seconds) == expected


def test_arms_that_see_more_images_a_step_are_named(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    sizes = {"real": 8, "real+full": 16}
    known = [replace(run, images_per_step=sizes.get(run.name, 8)) for run in inputs.arms]
    words = " ".join(wording.cautions(_document(replace(inputs, arms=known))))
    assert "Steps are equal, images are not: real+full draw" in words and "than the 8 of real" in words
    equal = [replace(run, images_per_step=8) for run in inputs.arms]
    assert "images are not" not in " ".join(wording.cautions(_document(replace(inputs, arms=equal))))


@pytest.mark.parametrize(("end", "still"), [(0.45, True), (0.405, False)])
def test_a_real_arm_that_still_improves_is_a_caution(
    end: float, still: bool, make_inputs: MakeInputs, tmp_path: Path
) -> None:
    log = tmp_path / "real.jsonl"
    curve = [{"step": 80, "validation_miou": 0.4, "real_loss": 1.0}, {"step": 100, "validation_miou": end}]
    log.write_text("".join(json.dumps(line) + "\n" for line in curve))
    inputs = make_inputs()
    arms = [replace(run, metrics_path=log) if run.name == "real" else run for run in inputs.arms]
    document = _document(replace(inputs, arms=arms))
    cautions, trainings = " ".join(wording.cautions(document)), " ".join(wording.training(document))
    assert ("The real arm was still improving when its training ended (seed 0: " in cautions) is still
    assert ("The real arm had converged (seed 0: validation mIoU went from 40.0" in trainings) is not still


def test_trainings_are_described_with_what_was_warned_of(make_inputs: MakeInputs, tmp_path: Path) -> None:
    fine, collapsed = tmp_path / "fine.jsonl", tmp_path / "collapsed.jsonl"
    fine.write_text('{"step": 100, "layout_diversity": 0.81, "layout_noise_diversity": 0.32}\n')
    lines = [{"step": step, "image_noise_difference": 0.25, "warnings": ["it collapses"]} for step in (200, 300)]
    collapsed.write_text("".join(json.dumps(line) + "\n" for line in [{"step": 100}, *lines]))
    inputs = make_inputs(training_logs={"layouts/sb-gan": fine, "images/oasis": collapsed})
    document = json.loads(json.dumps(_document(inputs)))
    assert wording.training(document) == [
        "layouts/sb-gan: no sign of a collapse or of a stalled discriminator in 100 steps. When last measured, layouts "
        "of different samples differ 81% as much as real ones; noise alone changes 32% of what real layouts differ in.",
        "images/oasis: it collapses (from step 200 to the end). When last measured, noise alone changes an image by "
        "0.2 of 255 grey levels.",
    ]
    del document["training"]
    assert wording.training(document) == []  # a report of an earlier version


def test_numbers_have_three_digits_and_rounding_is_no_figure() -> None:
    shown = [wording.number(value) for value in (None, 1234.5, 0.01234, -7.2e-34, 0.0)]
    assert shown == [wording.NO_VALUE, "1.23e+03", "0.0123", "0", "0"]


def test_p_values_are_bounded_below_one_in_a_thousand() -> None:
    shown = [wording.p_value(value) for value in (None, 0.0, 5e-14, 9.99e-4, 1e-3, 0.0123456)]
    assert shown == [wording.NO_VALUE, "< 0.001", "< 0.001", "< 0.001", "0.001", "0.0123"]


def _with_generators(inputs: ReportInputs, *generators: int) -> ReportInputs:
    """The same arms, those with generated pairs trained for each of some generators."""
    arms = [
        replace(run, generator_seed=generator)
        for run in inputs.arms
        for generator in (generators if run.name != "real" else (None,))
    ]
    return replace(inputs, arms=arms, pooled_runs={"runs/a": 0, "/b": 1}, pooling_notes=["/b lacks an arm."])


def test_one_generator_seed_is_said_to_be_in_no_interval(make_inputs: MakeInputs) -> None:
    document = _document(_with_generators(make_inputs(), 3))
    (caution,) = [text for text in wording.cautions(document) if "generators" in text]
    assert caution.startswith(
        "Every arm with generated pairs has pairs of generators that were trained once: no interval"
    )
    assert caution.endswith("Run it all again with another seed, and name that run in report.runs.")
    assert wording.design(wording.arm_named(document, "real+full")).startswith("2 x ")
    assert "generator" not in wording.method(document)


def test_two_generator_seeds_are_counted_apart_from_those_of_segmenters(make_inputs: MakeInputs) -> None:
    inputs = _with_generators(make_inputs(), 3, 4)
    document = _document(inputs)
    text = " ".join(wording.cautions(document))
    assert "Every arm with generated pairs has pairs of generators of 2 seeds: intervals hold that" in text
    assert "trained once" not in text and "/b lacks an arm." in text
    assert "of the 2 generator seeds of arms that take generated pairs, and of the seeds" in wording.method(document)
    arm = wording.arm_named(document, "real+full")
    assert (len(arm["seeds"]), wording.seeds_of(arm), wording.generator_seeds_of(arm)) == (4, [0, 1], [3, 4])
    assert wording.design(arm) == f"2 x 2 x {arm['steps']}"
    single = replace(inputs, arms=[run for run in inputs.arms if run.seed == 0])
    assert _document(single)["bootstrap"]["arms_with_one_seed"] == [arm["name"] for arm in document["arms"]]
    lacking = replace(inputs, arms=[run for run in inputs.arms if run.name != "real+full" or run.generator_seed == 3])
    text = " ".join(wording.cautions(_document(lacking)))
    assert (
        "real+full has pairs of generators that were trained once" in text
        and " full has pairs of generators of 2" in text
    )
