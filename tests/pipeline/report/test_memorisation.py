from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scenepalette.evaluation.images.memorisation import Memorisation
from scenepalette.pipeline.report.document import write_report
from scenepalette.pipeline.report.memorisation import ClosestPair, CopyCheck, copy_document, copy_sentences
from scenepalette.pipeline.report.results import ReportInputs

Inputs = Callable[..., ReportInputs]


def check(ratio: float, near: float = 0.0, sources: int = 0) -> CopyCheck:
    """Ten generated images that are `ratio` times as far as validation images."""
    distances = ratio * np.linspace(1, 3, 10)
    alike = np.where(np.arange(10) < 10 * near, 0.999, 0.3)
    measured = Memorisation(
        "network <of> tests",
        distances,
        np.arange(10),
        np.zeros(10, bool),
        np.linspace(1, 3, 12),
        alike,
        np.full(12, 0.3),
        np.full(sources, 0.5),
    )
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 16, 3), dtype=np.uint8)
    pairs = [
        ClosestPair(images[row], images[row], row, f"train-{row}", float(distances[row] / 2), float(alike[row]))
        for row in measured.closest(4).tolist()
    ]
    return CopyCheck(measured, pairs)


def test_a_report_says_of_a_copier_that_it_copies_and_shows_the_closest_pairs(
    make_inputs: Inputs, tmp_path: Path
) -> None:
    write_report(tmp_path, make_inputs(copy_checks={"full": check(0.01, near=1.0)}))
    page, html = (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()
    assert "## Does the generator copy?" in page and "The generator copies: images of the kind full" in page
    assert "network \\<of> tests" in page and "network &lt;of&gt; tests" in html
    assert "figures/nearest-full.png" in page and (tmp_path / "figures/nearest-full.png").stat().st_size > 1000
    document = json.loads((tmp_path / "report.json").read_text())["memorisation"]["full"]
    assert document["copies"] is True and document["images"] == 10 and document["near_copies"] == 1.0
    assert [pair["train_id"] for pair in document["closest"]] == [f"train-{row}" for row in range(4)]


def test_a_report_says_of_another_generator_that_there_is_no_sign(make_inputs: Inputs, tmp_path: Path) -> None:
    write_report(tmp_path, make_inputs(copy_checks={"full": check(1.0)}))
    page = (tmp_path / "report.md").read_text()
    assert "No sign of copies among 10 images of the kind full" in page and "The generator copies" not in page


def test_a_report_without_checks_has_no_such_section(make_inputs: Inputs, tmp_path: Path) -> None:
    write_report(tmp_path, make_inputs())
    assert "copy?" not in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "figures/nearest-full.png").exists()


@pytest.mark.parametrize("sources", [0, 3])
def test_sentences_hold_the_numbers(sources: int) -> None:
    sentences = copy_sentences("semi", copy_document(check(1.0, near=0.1, sources=sources)))
    assert "is 1 times that of validation images" in sentences[0] and "10 % are near-copies" in sentences[0]
    # Validation's 5th percentile is 1.1: the first image alone is nearer.
    assert "10 % are nearer than all but 5 % of validation images" in sentences[0]
    assert len(sentences) == (2 if sources else 1)
    if sources:
        assert "their median distance to these is 0.25 times" in sentences[1]


def test_without_any_distance_between_real_images_nothing_is_claimed() -> None:
    measured = check(1.0).measured
    same = replace(measured, validation=np.zeros(12), distances=np.zeros(10))
    document = {**copy_document(CopyCheck(same, [])), "ratio": None}
    assert "not comparable with that of validation images" in copy_sentences("full", document)[0]
