"""Figures: what they show, and that logs are read strictly."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from scenepalette.common.errors import DataError
from scenepalette.pipeline.report import figures
from scenepalette.pipeline.report.results import ReportInputs
from scenepalette.pipeline.report.statistics import compare

MakeInputs = Callable[..., ReportInputs]


def test_the_palette_bars_are_the_achieved_shares_on_a_root_scale(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    sample = inputs.samples["full"][0]
    figure = figures.draw_pairs([sample], inputs.table)
    pictures, plot = figure.axes
    heights = [patch.get_height() for patch in plot.patches if isinstance(patch, Rectangle)]
    np.testing.assert_allclose(np.square(heights), sample.palette_achieved, atol=1e-9)
    layout, image = pictures.images
    np.testing.assert_array_equal(layout.get_array(), inputs.table.colorize(sample.label))
    np.testing.assert_array_equal(image.get_array(), sample.image)


def test_a_figure_that_is_drawn_once_is_the_one_that_matplotlib_saves(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    ours, theirs = (figures.draw_pairs(inputs.samples["full"], inputs.table) for _ in range(2))
    saved = io.BytesIO()
    theirs.savefig(saved, format="png", dpi=figures.DPI, facecolor="white", metadata={"Software": None})
    assert figures.figure_to_png(ours) == saved.getvalue()


def test_an_edit_box_is_outlined_where_it_is(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    figure = figures.draw_edits(inputs.samples["partial"], inputs.table)
    (pictures,) = figure.axes
    boxes = [patch for patch in pictures.patches if isinstance(patch, Rectangle)]
    assert len(boxes) == len(pictures.images) >= 4
    for box, image in zip(boxes, pictures.images, strict=True):
        left, _, _, top = image.get_extent()
        found = (box.get_y() - top, box.get_x() - left, box.get_height(), box.get_width())
        assert found == pytest.approx((1, 2, 4, 6))


def test_an_arm_far_from_real_does_not_squeeze_the_axis(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    arms = compare(inputs.arms, inputs.table.eval_ids, 100, 0).arms
    arms = [arm for arm in arms if arm.name != "real+full"]
    right = figures.draw_arms(arms, alone={"full"}).axes[1]
    assert right.get_xlim()[0] == pytest.approx(100 * 1.1 * min(arms[1].delta.low, arms[1].delta.high))
    near = compare(inputs.arms, inputs.table.eval_ids, 100, 0).arms
    right = figures.draw_arms(near, alone={"full"}).axes[1]
    assert right.get_xlim()[1] == pytest.approx(110 * max(abs(near[1].delta.low), abs(near[1].delta.high)), rel=1e-6)
    assert len(right.texts) == (abs(near[2].delta.mean) * 100 > right.get_xlim()[1])


def test_the_same_figure_gives_the_same_bytes(make_inputs: MakeInputs) -> None:
    inputs = make_inputs()
    first, second = (figures.figure_to_png(figures.draw_aic(inputs.aic, 3)) for _ in range(2))
    assert first == second


def test_losses_are_averaged_to_a_bounded_number_of_points(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps({"step": s, "loss": float(s), "rate": 1.0}) + "\n" for s in range(1000)))
    series = figures.read_losses(log, most=100)
    assert list(series) == ["loss"]
    steps, values = series["loss"]
    np.testing.assert_allclose(values, np.arange(1000).reshape(100, 10).mean(axis=1))
    np.testing.assert_allclose(steps, values)


def test_measures_of_diversity_are_no_losses(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 20, "critic": 1.5, "image_diversity": 0.5, "warnings": ["a"]}\n')
    assert list(figures.read_losses(log)) == ["critic"]


@pytest.mark.parametrize("line", ["{", "[1]", '{"loss": 1}'])
def test_a_broken_log_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 0, "loss": 1}\n' + line + "\n")
    with pytest.raises(DataError, match="line 2"):
        figures.read_losses(log)
