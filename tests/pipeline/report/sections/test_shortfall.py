from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from scenepalette.pipeline.report.document import write_report
from scenepalette.pipeline.report.page import Bullets
from scenepalette.pipeline.report.report_page import report_page
from scenepalette.pipeline.report.results import ReportInputs
from scenepalette.pipeline.report.sections.shortfall import shortfall_sentences


def test_classes_below_four_fifths_are_named_and_the_number_is_kept(
    make_inputs: Callable[..., ReportInputs], tmp_path: Path
) -> None:
    reached = {"full": np.array([1.05, 0.799, 0.084, np.nan]), "partial": np.array([0.8, 1.0, 0.97, 1.0])}
    inputs = make_inputs(palette_reached=reached)
    document = write_report(tmp_path, inputs)
    first, second, third, fourth = inputs.table.names
    assert document["palettes"]["reached"]["full"] == {first: 1.05, second: 0.799, third: 0.084, fourth: None}
    sentences = [
        f"full pairs hold less than 80 % of what was asked of: {third} (8 %), {second} (79 %).",
        "partial pairs hold at least 80 % of what was asked of every class.",
    ]
    assert shortfall_sentences(document) == sentences
    assert Bullets(sentences) in report_page(document).blocks


def test_reports_without_the_number_say_nothing(make_inputs: Callable[..., ReportInputs], tmp_path: Path) -> None:
    document = write_report(tmp_path, make_inputs())
    assert shortfall_sentences(document) == []
    del document["palettes"]["reached"]  # a report of an earlier version
    assert shortfall_sentences(document) == []
