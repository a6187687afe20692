"""The plots of studies: a curve's mIoU by real images and by generated pairs, and a loop's by generated pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from scenepalette.pipeline.report.figures import BLUE, INK, MUTED, ORANGE, WIDTH, Drawing, tidy
from scenepalette.pipeline.report.sections.curve import SECTION
from scenepalette.pipeline.report.statistics import Estimate

SIZE = (6.4, 4.0)  # inches


def draw_curve(curve: Mapping[str, Any] | None) -> Iterator[Drawing]:
    """Draw what the result of `curve_document` has points for; nothing for None."""
    if curve and len(curve["labels"]) > 1:
        yield Drawing(
            "curve-labels.png",
            SECTION,
            "mIoU by the number of real images",
            "Mean over seeds (dot), its 95 % interval and each seed (tick); real images alone, and with generated "
            "pairs whose generators learned from all real images. An arrow leads from a point with generated pairs to "
            "as many labelled images as it is worth, where that is known.",
            draw_labels(curve),
        )
    if curve and len(curve["doses"]) > 1:
        yield Drawing(
            "curve-doses.png",
            SECTION,
            "mIoU by the number of generated pairs",
            "All real images with generated pairs: mean over seeds (dot), its 95 % interval and each seed (tick). The "
            "dashed line and the band are real images alone.",
            draw_doses(curve),
        )


def draw_labels(curve: Mapping[str, Any]) -> Figure:
    """Two lines over the number of real images, on a logarithmic axis: alone, and with generated pairs."""
    figure, axes = _axes()
    images = [entry["images"] for entry in curve["labels"]]
    _line(axes, images, [entry["real"] for entry in curve["labels"]], INK, "real alone", 0.99)
    _line(axes, images, [entry["arm"] for entry in curve["labels"]], BLUE, curve["arm"], 1.01)
    for entry in curve["labels"]:
        if entry["worth"]["state"] == "known":
            height = 100 * entry["arm"]["mean"]
            axes.annotate(
                "",
                xy=(entry["worth"]["images"], height),
                xytext=(entry["images"], height),
                arrowprops={"arrowstyle": "->", "color": BLUE, "linewidth": 0.9, "shrinkA": 6, "shrinkB": 0},
            )
    _finish(axes, images, "real images")
    axes.legend(frameon=False, fontsize=9)
    return figure


def draw_doses(curve: Mapping[str, Any]) -> Figure:
    """A line over the number of generated pairs, on a logarithmic axis, and real images alone as a band."""
    figure, axes = _axes()
    pairs, alone = [each["pairs"] for each in curve["doses"]], curve["labels"][-1]["real"]
    low, mean, high = (
        np.nan if each is None else 100 * each for each in (alone["ci95"][0], alone["mean"], alone["ci95"][1])
    )
    axes.axhspan(low, high, color=INK, alpha=0.08, linewidth=0)
    axes.axhline(mean, color=INK, linestyle="--", linewidth=1, label="real alone")
    _line(axes, pairs, [each["miou"] for each in curve["doses"]], BLUE, curve["arm"], 1.0)
    _finish(axes, pairs, "generated pairs")
    axes.legend(frameon=False, fontsize=9)
    return figure


def draw_rounds(pairs: Sequence[int], found: Sequence[Estimate], control: Estimate) -> Figure:
    """Draw validation mIoU by generated pairs: the rounds as a line, the control as a point beside the last.

    Args:
        pairs: Generated pairs of real pairs alone, 0, and of each round.
        found: mIoU of these, as fractions.
        control: That of as many pairs as the last round has, with random palettes.
    """
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()

    def draw(x: Sequence[float], estimates: Sequence[Estimate], color: str, label: str, style: str) -> None:
        middle = 100 * np.array([each.mean for each in estimates])
        low, high = (100 * np.array([getattr(each, end) for each in estimates]) for end in ("low", "high"))
        beside = np.nan_to_num(np.abs(np.stack([middle - low, high - middle])))
        axes.errorbar(
            x, middle, yerr=beside, fmt=style, color=color, ecolor=color, capsize=3, linewidth=1.6, label=label
        )

    draw(pairs, found, BLUE, "asked for lacking classes", "o-")
    # Beside the last round, where intervals would cover each other.
    draw([pairs[-1] * 1.01], [control], ORANGE, "random palettes", "s")
    axes.axhline(100 * found[0].mean, color=MUTED, linewidth=0.8, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    tidy(axes, "y", "generated pairs", "mIoU, %")
    return figure


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.subplots()


def _line(
    axes: Axes, places: Sequence[int], estimates: Sequence[Mapping[str, Any]], color: str, label: str, shift: float
) -> None:
    """Draw means, intervals and seeds; a factor of the places keeps two lines from covering each other."""
    shifted = [place * shift for place in places]
    means = [np.nan if each["mean"] is None else 100 * each["mean"] for each in estimates]
    axes.plot(shifted, means, "o-", color=color, label=label, linewidth=1.4)
    for place, each in zip(shifted, estimates, strict=True):
        if None not in each["ci95"]:
            axes.plot([place] * 2, [100 * end for end in each["ci95"]], color=color, linewidth=2.2, alpha=0.5)
        seeds = [100 * value for value in each["values"] if value is not None]
        axes.plot([place] * len(seeds), seeds, "_", color=color, markersize=8)


def _finish(axes: Axes, places: Sequence[int], what: str) -> None:
    axes.set_xscale("log")
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.xaxis.set_minor_locator(NullLocator())
    tidy(axes, grid="y", xlabel=what, ylabel="mIoU, %")
