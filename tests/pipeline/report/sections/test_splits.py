"""What a report says of the images that it is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.evaluation.miou import mean_iou
from scenepalette.pipeline.report.document import write_report
from scenepalette.pipeline.report.report_page import report_page
from scenepalette.pipeline.report.results import EvaluatedSplit, ReportInputs

MakeInputs = Callable[..., ReportInputs]
FRAMES = ["a_01", "a_02", "a_03", "b_01", "b_02", "b_03"]


@pytest.fixture
def tested(make_inputs: MakeInputs) -> ReportInputs:
    """Inputs of a held-out test split of six frames, with validation and a night set that are found worse."""
    inputs = make_inputs()
    arms = [
        replace(run, validation=run.confusion[:4], extra_tests={"night": run.confusion[::-1]}) for run in inputs.arms
    ]
    split = EvaluatedSplit("test", "held out", FRAMES, True, ["no test label shows trams."])
    night = EvaluatedSplit("night", "extra", FRAMES, False)
    return replace(
        inputs, dataset={**inputs.dataset, "val": 4, "test": 6}, arms=arms, split=split, extra_tests={"night": night}
    )


def test_the_split_and_its_recordings_stand_in_document_and_page(tested: ReportInputs, tmp_path: Path) -> None:
    document = write_report(tmp_path, tested)
    split = document["dataset"]["split"]
    assert {key: split[key] for key in ("name", "origin", "images", "recordings", "blocks")} == {
        "name": "test",
        "origin": "held out",
        "images": 6,
        "recordings": 2,
        "blocks": 2,
    }
    shares = tested.arms[0].confusion.sum(axis=(0, 2))
    assert list(split["class_shares"].values()) == pytest.approx(shares / shares.sum())
    for form in ("report.md", "report.html"):
        text = (tmp_path / form).read_text(encoding="utf-8")
        assert "20 training, 4 validation and 6 test images" in text
        assert "6 images of 2 recordings, 2 blocks of consecutive frames" in text
        assert "no test label shows trams." in text
        assert "of the test split" in text and "6 test images are frames of recordings and count as 2 blocks" in text


def test_validation_and_extra_sets_have_numbers_of_their_own(tested: ReportInputs, tmp_path: Path) -> None:
    document = write_report(tmp_path, tested)
    eval_ids = tested.table.eval_ids
    for arm in document["arms"]:
        runs = [run for run in tested.arms if run.name == arm["name"]]
        expected = np.mean([mean_iou(run.confusion[:4], eval_ids) for run in runs])
        assert arm["validation_miou"]["mean"] == pytest.approx(expected) != pytest.approx(arm["miou"]["mean"])
        assert document["extra_tests"]["night"]["arms"][arm["name"]]["miou"]["mean"] == pytest.approx(
            arm["miou"]["mean"]
        )
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| Arm | night, mIoU % [95 %] |" in text and "night: 6 images." in text


def test_a_report_of_an_earlier_version_is_of_validation(make_inputs: MakeInputs, tmp_path: Path) -> None:
    document: dict[str, Any] = write_report(tmp_path, make_inputs())
    now = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "20 training and 6 validation images" in now and "Validation mIoU" not in now
    assert document["extra_tests"] == {} and document["arms"][0]["validation_miou"] is None
    page = report_page(document)
    del document["dataset"]["split"], document["dataset"]["test"], document["extra_tests"]
    for arm in document["arms"]:
        del arm["validation_miou"]
    assert report_page(document) == page
