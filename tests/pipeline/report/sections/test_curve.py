from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.storage.files import read_json
from scenepalette.pipeline.report.document import write_report
from scenepalette.pipeline.report.figures import figure_to_png
from scenepalette.pipeline.report.page import Page, to_markdown
from scenepalette.pipeline.report.results import ArmRun, ReportInputs
from scenepalette.pipeline.report.sections.curve import CurvePoint, curve_blocks, curve_document, curve_sentences
from scenepalette.pipeline.report.sections.study_figures import draw_curve

IMAGES = {0.25: 100, 0.5: 200, 1.0: 400}
REAL = {(0.25, 0): 60, (0.5, 0): 80, (1.0, 0): 100}
DOSES = {(1.0, 0.5): 90, (1.0, 2): 90}


def confusion(right: int, spread: int = 0, seed: int = 0) -> np.ndarray:
    """Twelve images of two classes of 100 pixels each, of which so many are right: IoU is right / (200 - right)."""
    rights = np.clip(right + np.random.default_rng(seed).integers(-spread, spread + 1, 12), 0, 100)
    return np.array([[[found, 100 - found], [100 - found, found]] for found in rights])


def document_of(rights: Mapping[tuple[float, float], int], seeds: int = 3, spread: int = 0) -> dict[str, Any]:
    """Return the curve of points whose segmenters are right about so many pixels of 100."""
    points = []
    for number, ((labels, dose), right) in enumerate(rights.items()):
        runs = [
            ArmRun(f"{labels} {dose}", "", seed, 50, confusion(right, spread, 31 * number + seed), images_per_step=8)
            for seed in range(seeds)
        ]
        points.append(CurvePoint(labels, IMAGES[labels], dose, round(1000 * dose * labels), runs))
    return curve_document(
        arm="semi",
        kind="semi",
        control="real",
        points=points,
        eval_ids=(0, 1),
        blocks=None,
        bootstrap_samples=300,
        seed=1,
        evaluated_on="validation",
        seconds=75.0,
        judged=False,
    )


def worth_of(document: Mapping[str, Any], fraction: float) -> dict[str, Any]:
    return next(entry["worth"] for entry in document["labels"] if entry["fraction"] == fraction)


def test_worth_by_hand() -> None:
    """70 of 100 are an IoU of 70 / 130, 46.15 % of the way from 60 / 140 to 80 / 120: 100 x 2^0.4615 = 137.7."""
    document = document_of({**REAL, (0.25, 1): 70, (0.5, 1): 80, (1.0, 1): 99, **DOSES})
    quarter = worth_of(document, 0.25)
    assert quarter["state"] == "known" and quarter["images"] == pytest.approx(100 * 2 ** (0.10989011 / 0.23809524))
    assert quarter["ci95"] == pytest.approx([quarter["images"]] * 2)  # nothing varies here
    assert worth_of(document, 0.5)["images"] == pytest.approx(200)
    first, half, _, doses = curve_sentences(document)
    assert first == (
        "100 real images with 250 generated semi pairs are worth 138 labelled images (95 % interval: 138 to 138)."
    )
    assert half.endswith("(95 % interval: 200 to 200), which is no difference from 200 that this evaluation can show.")
    assert doses.startswith("From 500 to 2,000 generated pairs with all 400 real ones, mIoU changes by 0.0 points")
    assert document["doses"][1]["delta_vs_real"]["mean"] == pytest.approx(99 / 101 - 1)


def test_a_worth_outside_of_the_curve_is_not_known() -> None:
    rights = {(0.25, 0): 60, (0.5, 0): 70, (1.0, 0): 80, (0.25, 1): 50, (0.5, 1): 70, (1.0, 1): 90}
    document = document_of(rights)
    assert [worth_of(document, fraction)["state"] for fraction in IMAGES] == ["below", "known", "above"]
    assert worth_of(document, 0.25) == {"state": "below", "images": None, "ci95": [None, 100]}
    assert worth_of(document, 1.0) == {"state": "above", "images": None, "ci95": [400, None]}
    below, _, above = curve_sentences(document)
    assert "reach less than the fewest, 100 real images alone; how many labelled images that is worth lies" in below
    assert "400 real images with 1,000 generated semi pairs reach more than all 400 real images alone; how" in above
    assert below.endswith("(95 % interval: fewer than 100).") and above.endswith("(95 % interval: more than 400).")
    assert "| not known [< 100] |" in markdown_of(document).replace("\\", "")
    # What is above by chance alone reaches down into the curve.
    noisy = document_of({**rights, (1.0, 1): 84}, spread=15)
    low, high = worth_of(noisy, 1.0)["ci95"]
    assert worth_of(noisy, 1.0)["state"] == "above" and 200 < low < 400 and high is None
    assert curve_sentences(noisy)[-1].endswith(f"(95 % interval: {low:,.0f} to more than 400).")


def test_a_curve_that_does_not_rise_beyond_noise_tells_no_worth() -> None:
    rights = {(0.25, 0): 80, (0.5, 0): 80, (1.0, 0): 80, (0.25, 1): 80, (0.5, 1): 80, (1.0, 1): 80}
    document = document_of(rights, spread=15)
    assert {worth_of(document, fraction)["state"] for fraction in IMAGES} == {"flat"}
    (sentence,) = curve_sentences(document)
    assert sentence.startswith("How many labelled images generated pairs are worth is not known: from 100 to 400 real")
    assert sentence.endswith("which is within noise.")


def test_intervals_of_a_worth_may_be_open_and_one_seed_is_said() -> None:
    rights = {(0.25, 0): 60, (0.5, 0): 70, (1.0, 0): 80, (0.25, 1): 61, (0.5, 1): 70, (1.0, 1): 79}
    document = document_of(rights, spread=9)
    assert worth_of(document, 0.25)["ci95"][0] is None and worth_of(document, 1.0)["ci95"][1] is None
    first, _, last = curve_sentences(document)
    assert "(95 % interval: fewer than 100 to " in first and " to more than 400)" in last
    low, high = worth_of(document, 0.5)["ci95"]
    assert 100 < low < worth_of(document, 0.5)["images"] < high < 400
    for sentence in curve_sentences(document_of(rights, seeds=1, spread=9)):
        assert sentence.endswith("(on these images; seed unknown).")


def test_a_worth_whose_interval_spans_the_whole_curve_is_not_known() -> None:
    rights = {(0.25, 0): 66, (0.5, 0): 70, (1.0, 0): 76, (0.25, 1): 70, (0.5, 1): 70, (1.0, 1): 70}
    document = document_of(rights, seeds=2, spread=16)
    assert document["rise"]["ci95"][0] > 0
    assert "open" in {entry["worth"]["state"] for entry in document["labels"]}
    sentences = [text for text in curve_sentences(document) if "noise spans the whole curve" in text]
    assert sentences and all("fewer than 100 to more than 400" in text for text in sentences)


def test_doses_alone_are_a_curve_too() -> None:
    document = document_of({(1.0, 0): 80, (1.0, 0.5): 80, (1.0, 1): 85, (1.0, 4): 90})
    (sentence,) = curve_sentences(document)
    assert "From 500 to 4,000 generated pairs" in sentence and sentence.endswith("more of them help.")
    assert worth_of(document, 1.0)["state"] == "undefined"
    text = markdown_of(document)
    assert "Worth in labelled images" not in text and "| 4,000 | 4 |" in text
    assert [drawing.file for drawing in draw_curve(document)] == ["curve-doses.png"]


def markdown_of(document: Mapping[str, Any]) -> str:
    blocks = curve_blocks({"curve": document, "figures": []})
    return to_markdown(Page("Title", "", "Introduction", blocks))


def test_the_page_says_that_generators_saw_all_labels_and_how_to_do_without() -> None:
    document = document_of({**REAL, (0.25, 1): 70, (0.5, 1): 80, (1.0, 1): 99, **DOSES})
    text = markdown_of(document).replace("\\", "")
    assert "The generators saw all 400 labels. Generators with fewer would be worse" in text
    assert "A run of its own with --set data.train_part=0.25 trains everything on the same 100 images alone" in text
    assert (
        "| 100 (25 %) | 42.9 [42.9, 42.9] | 53.8 [53.8, 53.8] | +11.0 [+11.0, +11.0] | 250 | 138 [138, 138] |" in text
    )
    assert (
        "Real alone is the arm real. Every point takes 50 steps of 8 images, with 3 paired seeds" in text
        and "took 75 s beside the run" in text
    )
    judged = markdown_of({**document, "judged": True})
    assert "The generators and the teachers saw all 400 labels." in judged
    assert curve_blocks({"figures": []}) == []


def test_figures_are_drawn_and_do_not_depend_on_when() -> None:
    document = document_of({**REAL, (0.25, 1): 70, (0.5, 1): 90, (1.0, 1): 99, **DOSES}, spread=6)
    for drawing, again in zip(draw_curve(document), draw_curve(document), strict=True):
        png = figure_to_png(drawing.figure)
        assert png == figure_to_png(again.figure)
        with Image.open(io.BytesIO(png)) as image:
            assert min(image.size) > 300


def test_points_whose_miou_is_not_defined_are_drawn_and_worded() -> None:
    document = document_of({**REAL, (0.25, 1): 70, (0.5, 1): 80, (1.0, 1): 99, **DOSES})
    nothing = {"values": [None], "mean": None, "ci95": [None, None]}
    nowhere = {"state": "undefined", "images": None, "ci95": [None, None]}
    document["labels"][0] |= {"real": nothing, "arm": nothing, "worth": nowhere}
    document["doses"][0]["miou"] = nothing
    for drawing in draw_curve(document):
        figure_to_png(drawing.figure)
    assert "| 100 (25 %) | – [–, –] |" in markdown_of(document)


@pytest.mark.slow
def test_the_report_has_the_section_and_its_figures(make_inputs: Callable[..., ReportInputs], tmp_path: Path) -> None:
    curve = document_of({**REAL, (0.25, 1): 70, (0.5, 1): 80, (1.0, 1): 99, **DOSES})
    write_report(tmp_path, make_inputs(curve=curve))
    assert read_json(tmp_path / "report.json")["curve"] == curve
    text = (tmp_path / "report.md").read_text()
    assert "## What generated pairs are worth" in text and "(figures/curve-labels.png)" in text
    assert (tmp_path / "figures/curve-doses.png").is_file()
    assert "are worth 138 labelled images" in (tmp_path / "report.html").read_text()
    write_report(tmp_path, make_inputs())
    assert "curve" not in read_json(tmp_path / "report.json") and not (tmp_path / "figures/curve-doses.png").exists()
