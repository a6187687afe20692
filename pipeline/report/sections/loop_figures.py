"""The figure of a loop's page: mIoU by the number of generated pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scenepalette.pipeline.report.figures import BLUE, INK, MUTED, ORANGE, WIDTH, tidy
from scenepalette.pipeline.report.statistics import Estimate


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
