"""The first page: answers, classes, what to change, and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.pipeline.report.document import build_document, compare_inputs, write_report
from scenepalette.pipeline.report.page import Table
from scenepalette.pipeline.report.results import ArmCost, EvaluatedSplit, ReportInputs
from scenepalette.pipeline.report.sections import page_one

MakeInputs = Callable[..., ReportInputs]


def _document(inputs: ReportInputs) -> dict[str, Any]:
    return build_document(inputs, compare_inputs(inputs), [])


def _answers(document: dict[str, Any]) -> dict[str, str]:
    table = page_one.first_page(document)[0]
    assert isinstance(table, Table)
    return {str(question): str(answer) for question, answer in table.rows}


def test_the_first_lines_answer_what_to_do(make_inputs: MakeInputs, tmp_path: Path) -> None:
    write_report(tmp_path, make_inputs(hourly_price=2.0))
    text = (tmp_path / "report.md").read_text(encoding="utf-8").replace("\\", "")
    page = text[: text.index("## Failures")]
    assert page.index("**Try more seeds: real+full against real, +") < page.index("scenepalette run demo --set")
    for part in (
        "300 generated pairs of the kind full",
        "2 h 36 min of this machine (training of the generators 2 h 00 min, the pairs 30 min, extra training 6 min). "
        "At 2 an hour: 5.20.",
        "A true gain of",
        "Not known: add the arm real-long",
        "scenepalette run demo --set 'segmenters.seeds=[0,1,2,3,4]'",
        "Not measured: fid (no Inception weights <here>).",
        "| car_<b>|x (rare) | 300 | 12 |",
    ):
        assert part in page, part


def test_one_seed_is_said_in_the_headline(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    document = _document(replace(inputs, arms=[run for run in inputs.arms if run.seed == 0]))
    assert page_one.decision_headline(document).startswith("Try more seeds: real+full against real, +")
    assert page_one.decision_headline(document).endswith("], on these images; seed unknown.")
    assert _answers(document)["What could be seen"].startswith("Not known: ")


def test_a_run_without_a_contrast_says_so(make_inputs: MakeInputs) -> None:
    document = _document(make_inputs(treatments=[], costs={}))
    assert page_one.decision_headline(document).startswith("Do not adopt: no arm adds generated pairs")
    assert list(_answers(document)) == ["Why"]


def test_a_choice_on_the_reported_images_is_called_flattered(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    copies = [replace(run, name="real+semi", kind="semi") for run in inputs.arms if run.name == "real+full"]
    several = replace(inputs, arms=[*inputs.arms, *copies], treatments=["real+semi", "real+full"])
    chosen = _answers(_document(several))["How it was chosen"]
    assert "real+semi is the best of real+semi and real+full" in chosen
    assert "the gain is flattered" in chosen and "widened to hold for every pair" in chosen
    apart = replace(several, arms=[replace(run, validation=run.confusion) for run in several.arms])
    chosen = _answers(_document(apart))["How it was chosen"]
    assert chosen.startswith("By mIoU on validation images, which are not those reported") and "flattered" not in chosen
    assert _answers(_document(inputs))["How it was chosen"] == "Both arms were named before the run."


def test_costs_that_are_not_known_are_not_invented(make_inputs: MakeInputs) -> None:
    borrowed = _document(make_inputs(costs={"real+full": ArmCost(float("nan"), 1800.0, 0.0)}))
    text = _answers(borrowed)["What it costs"]
    assert text.startswith("30 min of this machine (the pairs 30 min") and "they come from elsewhere" in text
    assert _answers(_document(make_inputs(costs={})))["What it costs"] == "Not recorded."


def test_a_flat_curve_alone_does_not_show_that_real_data_was_trained_enough(make_inputs: MakeInputs) -> None:
    document = _document(make_inputs())
    for converged, answer in ((True, "Not known: its curve is flat at the end"), (False, "No, by its own curve")):
        document["convergence"] = [{"seed": 0, "converged": converged, "text": "flat"}]
        assert _answers(document)["Was real data trained enough"].startswith(answer)


def test_twice_the_steps_show_whether_real_data_was_trained_enough(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    real = [run for run in inputs.arms if run.name == "real"]
    same = [replace(run, name="real-long", steps=200) for run in real]
    document = _document(replace(inputs, arms=[*inputs.arms, *same]))
    assert _answers(document)["Was real data trained enough"].startswith("Yes: twice the steps")
    better = [replace(run, name="real-long", kind=None) for run in inputs.arms if run.name == "real+full"]
    document = _document(replace(inputs, arms=[*inputs.arms, *better]))
    assert _answers(document)["Was real data trained enough"].startswith("No: twice the steps")
    assert "has not converged" in _answers(document)["Why"]


def test_one_training_on_one_recording_does_not_show_whether_real_data_was_trained_enough(
    make_inputs: MakeInputs,
) -> None:
    inputs = make_inputs()
    arms = [run for run in inputs.arms if run.seed == 0]
    longer = [replace(run, name="real-long", kind=None) for run in arms if run.name == "real+full"]
    split = EvaluatedSplit("validation", None, [f"drive_{frame}" for frame in range(len(arms[0].confusion))], True)
    document = _document(replace(inputs, arms=[*arms, *longer], split=split))
    enough = _answers(document)["Was real data trained enough"]
    assert enough.startswith("Not known: twice the steps (real-long) change its mIoU by +")
    assert _answers(document)["Why"].startswith("One training on frames of one recording")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("absent from training", "The training split has no pixel of car_<b>|x, so that no arm can learn it"),
        ("absent from the images", "The validation images have no pixel of car_<b>|x, so nothing can be said of it"),
        ("never predicted", "The real arm never predicts car_<b>|x; an image that shows it has fewer than 144"),
        ("never predicted though large", "images show enough of it, so that size is not the cause"),
        ("short of it", "hold less than 50 % of the real share of car_<b>|x, as was asked for. Ask for more"),
        ("shorter than asked", "of the real share of car_<b>|x, less than was asked for. Train the layout generator"),
        ("loses it", "The arm real+full loses car_<b>|x"),
    ],
)
def test_what_to_change_for_a_class_follows_from_what_is_known(
    make_inputs: MakeInputs, change: str, expected: str
) -> None:
    inputs = make_inputs(class_shares={"real": np.full(4, 0.25), "full": np.full(4, 0.25)})
    assert page_one.class_advice(_document(inputs)) == []
    if change == "absent from training":
        inputs = replace(inputs, train_pixels=np.array([1500, 700, 0, 60]))
    elif change.startswith("short"):
        reached = {"full": np.array([1.6, 1.0, 1.0 if change == "short of it" else 0.4, 1.0])}
        shares = {**inputs.class_shares, "full": np.array([0.4, 0.25, 0.1, 0.25])}
        inputs = replace(inputs, class_shares=shares, palette_reached=reached)
    else:
        arms = []
        for run in inputs.arms:
            confusion = run.confusion.copy()
            if change == "absent from the images":
                confusion[:, 2, :] = 0
            elif change != "loses it" or run.name == "real+full":
                confusion[:, 2, 0] += confusion[:, 2, 2]
                confusion[:, :, 2] = 0
                confusion[:, 2, 1] += change.endswith("large") * 500
            arms.append(replace(run, confusion=confusion))
        inputs = replace(inputs, arms=arms)
    assert expected in " ".join(page_one.class_advice(_document(inputs)))


def test_advice_on_several_classes_speaks_of_them(make_inputs: MakeInputs) -> None:
    inputs = make_inputs(class_shares={})
    arms = []
    for run in inputs.arms:
        confusion = run.confusion.copy()
        confusion[:, 1:3, 0] += confusion[:, 1:3, 1:3].sum(axis=2)
        confusion[:, :, 1:3] = 0
        arms.append(replace(run, confusion=confusion))
    assert page_one.class_advice(_document(replace(inputs, arms=arms))) == [
        "The real arm never predicts sky and car_<b>|x; an image that shows one of them has fewer than 144 of its "
        "pixels, too few for coarse features: raise data.size, or take a segmenter with a smaller decoder stride."
    ]
    unseen = _document(replace(inputs, train_pixels=np.array([1500, 0, 0, 60])))
    assert page_one.class_advice(unseen) == [
        "The training split has no pixel of sky and car_<b>|x, so that no arm can learn them: add labelled images that "
        "show them."
    ]


def test_missing_metrics_are_one_sentence(make_inputs: MakeInputs) -> None:
    reason = "Inception weights could not be had."
    metrics = {
        "fsd": 1.0,
        "fid": None,
        "fid_absent_because": f"FID is absent: {reason}",
        "inception_precision": None,
        "inception_precision_absent_because": f"Precision is absent: {reason}",
    }
    document = _document(make_inputs())
    document["images"] = {key: value for key, value in metrics.items() if key != "fsd"}
    assert page_one.missing_metrics(document) == "Not measured: FID and Precision (Inception weights could not be had)."
    document["images"] = {"fid": 3.0}
    assert page_one.missing_metrics(document) == ""


@pytest.mark.parametrize(("copies", "expected"), [(True, "Yes: full pairs repeat training images."), (False, "")])
def test_copies_are_told_on_the_first_page(make_inputs: MakeInputs, copies: bool, expected: str) -> None:
    document = _document(make_inputs()) | {"memorisation": {"full": {"copies": copies}}}
    text = str(page_one.first_page(document))
    assert ("Does the generator copy" in text) == copies and expected in text


def test_seeds_of_generators_stand_beside_those_of_segmenters(make_inputs: MakeInputs, tmp_path: Path) -> None:
    inputs = make_inputs()
    arms = [
        replace(run, generator_seed=generator)
        for run in inputs.arms
        for generator in ((None,) if run.name == "real" else (0, 1))
    ]
    document = write_report(tmp_path, replace(inputs, arms=arms))
    answers = _answers(document)
    assert "2 paired seeds, 2 generator seeds)." in answers["What it gains"]
    assert (
        "if only trainings of segmenters differed by chance, not generators or images" in answers["What could be seen"]
    )
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| Generators x seeds x steps |" in text and "| 2 x 2 x 100 |" in text and "| 2 x 100 |" in text
    alone = _answers(_document(replace(inputs, arms=[run for run in arms if run.generator_seed != 1])))
    assert "2 paired seeds, 1 generator seed)." in alone["What it gains"]
    assert "not images)" in alone["What could be seen"]
