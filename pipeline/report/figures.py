"""The figures of a report, drawn without a display or global state, so that threads may draw at once.

Plots of arms and metrics use the colour-blind-safe colours of Okabe and Ito; layouts use the colours of the class
table.
"""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from scenepalette.common.errors import DataError
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.pipeline.report.memorisation import SECTION, draw_closest
from scenepalette.pipeline.report.results import REAL_ARM, ChangedImage, PairSample, ReportInputs, WorstPair
from scenepalette.pipeline.report.statistics import ArmStatistics, Difference, verdict
from scenepalette.pipeline.report.wording import points
from scenepalette.training.monitor import COLLAPSES

INK = "#1f2933"
MUTED = "#6b7785"
RULE = "#d5dbe1"
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREY = "#8a94a0"
COLORS = {"reference": INK, "gains": BLUE, "loses": ORANGE}
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8a94a0")
LINE_STYLES = ("-", "--", ":", "-.")

WIDTH = 10.0  # inches
DPI = 110
ROWS_PER_SHEET = 6
_GAP = 0.06  # inches between images
CLASS_PANELS = 40
CLASSES_PER_LEGEND = 40
BARS_PER_PALETTE = 24
SERIES_PER_CURVE = 8
POINTS_PER_CURVE = 250
POINTS_PER_SEGMENTER = 80
SMALLEST_SHARE = 1e-4


@dataclass(frozen=True)
class Drawing:
    """A figure with its place in the report.

    Attributes:
        file: Name of the PNG.
        section: "arms", "classes", "failures", "samples" or "generators".
        title: Heading.
        caption: How to read it.
        figure: The drawing.
    """

    file: str
    section: str
    title: str
    caption: str
    figure: Figure


def draw_figures(inputs: ReportInputs, arms: Sequence[ArmStatistics]) -> Iterator[Drawing]:
    """Draw every figure that the inputs have something for, one at a time."""
    table = inputs.table
    yield Drawing(
        "arms.png",
        "arms",
        "Arms against real data",
        "Left: mIoU of each arm (dot) with its 95 % interval and each seed (tick); the dashed line is real data "
        "alone. Right: paired difference from real; a number at the edge stands for an arm far outside. Blue gains, "
        "orange loses, grey shows no difference.",
        draw_arms(arms, set(inputs.gan_train.values())),
    )
    yield Drawing(
        "per-class.png",
        "classes",
        "IoU per class",
        "Mean IoU over seeds with its 95 % interval; the dashed line is real data alone. Blue bars lie above "
        "real and orange bars below it by a paired interval that leaves out zero. * marks classes that mIoU "
        "leaves out.",
        draw_classes(arms, table, inputs.arms[0].confusion),
    )
    for kind, worst in inputs.worst_pairs.items():
        if worst:
            yield Drawing(
                f"failures-{kind}.png",
                "failures",
                f"Worst generated pairs: {kind}",
                "The pairs in which the segmenter trained on real pairs agrees with the layout on the fewest pixels, "
                "of those that GAN-test looked at; the share that agrees stands beside.",
                draw_worst_pairs(worst, table),
            )
    if inputs.changed_images:
        yield Drawing(
            "failures-images.png",
            "failures",
            "Images with the largest gain and loss",
            f"Real {inputs.evaluated_on} images with the largest gain of the chosen arm against real, then those with "
            "the largest loss; the number is the difference of this image's mIoU in points, mean over seeds. "
            "Predictions are those of the first seed.",
            draw_changed_images(inputs.changed_images, table),
        )
    if inputs.real_samples:
        yield Drawing(
            "samples-real.png",
            "samples",
            "Real pairs",
            "Real images and layouts with the class shares that the palette sampler learns from.",
            draw_pairs(inputs.real_samples, table, real=True),
        )
    for kind, samples in inputs.samples.items():
        if not samples:
            continue
        yield Drawing(
            f"samples-{kind}.png",
            "samples",
            f"Generated pairs: {kind}",
            PAIR_KINDS[kind].caption,
            draw_pairs(samples, table),
        )
        edits = [each for each in samples if each.edit_box is not None and each.source_label is not None]
        if edits:
            yield Drawing(
                f"edits-{kind}.png",
                "samples",
                f"Edits: {kind}",
                "The source with the edited box outlined, and what came of it.",
                draw_edits(edits, table),
            )
    if inputs.noise_samples:
        yield Drawing(
            "noise.png",
            "samples",
            "One layout, different noise",
            "Each row holds images made from the same layout; their mean absolute difference is "
            f"{inputs.metrics['mean_absolute_difference']:.3g} of 255 grey levels.",
            draw_noise(inputs.noise_samples, table),
        )
    for kind, check in inputs.copy_checks.items():
        yield Drawing(
            f"nearest-{kind}.png",
            SECTION,
            f"Nearest training images: {kind}",
            "The generated images that are nearest to a training image, each beside it; the numbers are their distance "
            "in units of the median validation image's, and the correlation of their pixels.",
            draw_closest(check.closest),
        )
    if inputs.class_shares:
        real, generated = inputs.class_shares.values()
        yield Drawing(
            "class-shares.png",
            "generators",
            "Class shares, real and generated",
            "Share of all pixels per class; shares below 0.01 % are drawn at the left edge.",
            draw_class_shares(real, generated, table),
        )
    if len(inputs.aic) > 1:
        yield Drawing(
            "palette-components.png",
            "generators",
            "Choice of palette components",
            "Akaike criterion of the palette mixture by its number of components; lower is better, the chosen "
            "one is marked.",
            draw_aic(inputs.aic, inputs.palette_components),
        )
    if inputs.training_curves:
        yield Drawing(
            "training-generators.png",
            "generators",
            "Training of the generators",
            "Losses by step, averaged over short windows. Losses of adversarial training show stability, not quality.",
            draw_generator_curves(inputs.training_curves),
        )
    curves = [(run.name, run.metrics_path) for run in inputs.arms if run.metrics_path is not None]
    if curves:
        yield Drawing(
            "training-segmenters.png",
            "arms",
            "Training of the segmenters",
            "Training loss by step, averaged over short windows; one colour per arm. Arms train "
            "on different data, so that their losses are no ranking.",
            draw_segmenter_curves(curves),
        )


def figure_to_png(figure: Figure) -> bytes:
    """Render a figure; the bytes depend on nothing but the figure."""
    buffer = io.BytesIO()
    figure.set_dpi(DPI)
    figure.set_facecolor("white")
    # Figure.savefig would draw all of it twice, the first time for its layout alone.
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def draw_arms(arms: Sequence[ArmStatistics], alone: Collection[str] = ()) -> Figure:
    """Dots with intervals: mIoU of each arm, and its difference from real.

    Args:
        arms: The arms, "real" among them.
        alone: Arms trained on generated pairs alone; they do not widen the axis of differences.
    """
    figure = Figure(figsize=(WIDTH, 1.3 + 0.42 * len(arms)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    reach = _reach(arms, alone)
    for position, arm in enumerate(arms):
        color = COLORS.get(arm.verdict, GREY)
        _dot(left, position, arm.miou, color)
        values = 100 * np.asarray(arm.miou.values)
        left.plot(values, np.full(len(values), position + 0.24), "|", color=color, markersize=7, markeredgewidth=1.4)
        if arm.name != REAL_ARM and abs(arm.delta.mean) <= reach:
            _dot(right, position, arm.delta, color)
        elif arm.name != REAL_ARM and not math.isnan(arm.delta.mean):
            # Far from every arm that is set against real: a number at the edge, so that it does not squeeze the others.
            above, text = arm.delta.mean > 0, points(arm.delta.mean)
            right.text(
                1.0 if above else 0.0,
                position,
                f"{text} ▶" if above else f"◀ {text}",
                transform=right.get_yaxis_transform(),
                ha="right" if above else "left",
                va="center",
                color=color,
                fontsize=9,
            )
    left.axvline(100 * _real(arms).miou.mean, color=INK, linestyle="--", linewidth=1, zorder=0)
    right.axvline(0, color=INK, linestyle="--", linewidth=1, zorder=0)
    right.set_xlim(-100 * reach, 100 * reach)
    tidy(left, grid="x", xlabel="mIoU, %", rows=[arm.name for arm in arms])
    tidy(right, grid="x", xlabel="difference from real, points of mIoU")
    right.tick_params(axis="y", length=0)
    return figure


def draw_classes(arms: Sequence[ArmStatistics], table: ClassTable, confusion: np.ndarray) -> Figure:
    """A panel per class with a bar per arm; the most frequent classes where there are many."""
    frequency = confusion.sum(axis=(0, 2))
    shown = [int(index) for index in sorted(np.argsort(-frequency, kind="stable")[:CLASS_PANELS])]
    positions, names = np.arange(len(arms)), [arm.name for arm in arms]
    figure, panels = _grid(len(shown), 4, 0.62 + 0.2 * len(arms), 0.5, sharey=True)
    for panel, index in zip(panels, shown, strict=True):
        estimates = [arm.per_class[index] for arm in arms]
        colors = [_color(arm.per_class_delta[index], arm.name) for arm in arms]
        means = 100 * np.array([each.mean for each in estimates])
        panel.barh(positions, np.nan_to_num(means), color=colors, height=0.68, alpha=0.85)
        for position, estimate in zip(positions, estimates, strict=True):
            panel.plot([100 * estimate.low, 100 * estimate.high], [position] * 2, color=INK, linewidth=1.1)
        panel.axvline(100 * _real(arms).per_class[index].mean, color=INK, linestyle="--", linewidth=0.8)
        mark = "" if index in table.eval_ids else " *"
        share = 100 * frequency[index] / max(1, frequency.sum())
        text = f"{share:.2g} %" if share < 10 else f"{share:.0f} %"
        panel.set_title(f"{table.names[index]}{mark}", fontsize=9, loc="left", color=INK, fontweight="bold")
        panel.set_title(f"{text} of pixels", fontsize=7, loc="right", color=MUTED)
        panel.set_xlim(0, 100)
        tidy(panel, grid="x", rows=names if panel is panels[0] else ())
        panel.tick_params(axis="x", labelsize=7, colors=MUTED)
        panel.tick_params(axis="y", length=0, labelsize=8)
    figure.supxlabel("IoU, %", fontsize=9, color=MUTED)
    return figure


def draw_pairs(samples: Sequence[PairSample], table: ClassTable, real: bool = False) -> Figure:
    """A row per pair: source if there is one, layout, image, palettes; a legend of the classes below."""
    shown = list(samples[:ROWS_PER_SHEET])
    sources = any(sample.source_image is not None for sample in shown)
    rows = [
        [*([sample.source_image] if sources else []), table.colorize(sample.label), sample.image] for sample in shown
    ]
    # The classes with the largest shares, in the order of the table.
    largest = np.max([np.maximum(each.palette_target, each.palette_achieved) for each in shown], axis=0)
    classes = np.sort(np.argsort(-largest, kind="stable")[:BARS_PER_PALETTE])
    titles = [*(["real image"] if sources else []), "layout", "image", "class shares"]
    sheet = _sheet(rows, titles, table, [classes, *(sample.label for sample in shown)])
    top = min(1.0, 1.08 * math.sqrt(largest.max()))
    for axes, sample in zip(sheet.plots, shown, strict=True):
        _palette(axes, sample, table, classes, top, requested=not real)
    sheet.plots[-1].set_xlabel("classes in the order of the legend; root scale", fontsize=7, color=MUTED)
    return sheet.figure


def draw_edits(samples: Sequence[PairSample], table: ClassTable) -> Figure:
    """A row per partial edit: source image and layout with the box, edited layout and image."""
    shown = list(samples[:ROWS_PER_SHEET])
    sources = [None if sample.source_label is None else table.colorize(sample.source_label) for sample in shown]
    rows = [
        [sample.source_image, source, table.colorize(sample.label), sample.image]
        for sample, source in zip(shown, sources, strict=True)
    ]
    labels = [each for sample in shown for each in (sample.label, sample.source_label) if each is not None]
    titles = ["real image", "real layout", "edited layout", "generated image"]
    sheet = _sheet(rows, titles, table, labels)
    for row, (images, sample) in enumerate(zip(rows, shown, strict=True)):
        for column, image in enumerate(images):
            if image is not None and sample.edit_box is not None:
                sheet.outline(row, column, sample.edit_box)
    return sheet.figure


def draw_worst_pairs(worst: Sequence[WorstPair], table: ClassTable) -> Figure:
    """A row per pair: its layout, its image, and what the reference segmenter sees in it."""
    rows = [[table.colorize(pair.label), pair.image, table.colorize(pair.prediction)] for pair in worst]
    labels = [label for pair in worst for label in (pair.label, pair.prediction)]
    sheet = _sheet(rows, ["layout", "image", "seen by the reference segmenter"], table, labels)
    for row, pair in enumerate(worst):
        sheet.name_row(row, f"row {pair.row}\n{100 * pair.agreement:.0f} % agree", MUTED)
    return sheet.figure


def draw_changed_images(changed: Sequence[ChangedImage], table: ClassTable) -> Figure:
    """A row per image: the image, its truth, and the predictions of real and of the other arm."""
    rows = [
        [each.image, table.colorize(each.label), table.colorize(each.real), table.colorize(each.arm)]
        for each in changed
    ]
    labels = [label for each in changed for label in (each.label, each.real, each.arm)]
    sheet = _sheet(rows, ["image", "truth", "real", "chosen arm"], table, labels)
    for row, each in enumerate(changed):
        text = f"{each.name}\n{points(each.difference)} points"
        sheet.name_row(row, text, BLUE if each.difference > 0 else ORANGE)
    return sheet.figure


def draw_noise(noise_samples: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]], table: ClassTable) -> Figure:
    """A row per layout with the images made from it."""
    shown = list(noise_samples[:ROWS_PER_SHEET])
    columns = min(5, max(len(images) for _, images in shown))
    titles = ["layout", *(f"noise {index + 1}" for index in range(columns))]
    rows = [[table.colorize(label), *images[:columns]] for label, images in shown]
    return _sheet(rows, titles, table, [label for label, _ in shown]).figure


def draw_class_shares(real: np.ndarray, full: np.ndarray, table: ClassTable) -> Figure:
    """Real and generated share of each class, on a logarithmic axis, most frequent first."""
    order = np.argsort(-np.asarray(real), kind="stable")[:CLASS_PANELS]
    figure, (axes,) = _grid(1, 1, 1.3 + 0.27 * len(order))
    positions = np.arange(len(order))
    shares = [np.maximum(np.asarray(each, dtype=np.float64)[order], SMALLEST_SHARE) for each in (real, full)]
    axes.hlines(positions, np.minimum(*shares), np.maximum(*shares), color=RULE, linewidth=3, zorder=1)
    axes.plot(shares[0], positions, "o", color=INK, markersize=7, label="real", zorder=2)
    axes.plot(shares[1], positions, "D", color=BLUE, markersize=6, label="generated (full)", zorder=3)
    axes.set_xscale("log")
    axes.set_xlim(0.8 * SMALLEST_SHARE, 1.0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    tidy(axes, grid="x", xlabel="share of pixels, logarithmic", rows=[table.names[index] for index in order])
    return figure


def draw_aic(aic: Sequence[float], components: int) -> Figure:
    """Akaike criterion by number of components with the chosen one marked."""
    figure, (axes,) = _grid(1, 1, 3.0, width=0.7 * WIDTH)
    axes.plot(np.arange(1, len(aic) + 1), aic, "-o", color=BLUE, markersize=4, linewidth=1.5)
    if 1 <= components <= len(aic):
        axes.plot(components, aic[components - 1], "o", color=ORANGE, markersize=9)
        axes.axvline(components, color=ORANGE, linestyle="--", linewidth=1, zorder=0)
        axes.set_title(f"{components} chosen", fontsize=9, color=ORANGE, loc="right")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(axes, grid="y", xlabel="components", ylabel="AIC")
    return figure


def draw_generator_curves(curves: Mapping[str, Path]) -> Figure:
    """A panel per generator with its losses."""
    figure, panels = _grid(len(curves), 2, 2.9)
    for panel, (name, path) in zip(panels, curves.items(), strict=True):
        series = dict(itertools.islice(read_losses(path).items(), SERIES_PER_CURVE))
        for color, (key, (steps, values)) in zip(CYCLE, series.items(), strict=False):
            panel.plot(steps, values, color=color, linewidth=1.3, label=key)
        _limit_robustly(panel, [values for _, values in series.values()])
        panel.set_title(name, fontsize=10, loc="left", color=INK, fontweight="bold")
        tidy(panel, grid="y", xlabel="step")
        if series:
            panel.legend(fontsize=7, frameon=False, ncols=2, loc="upper right")
        else:
            panel.text(0.5, 0.5, "no losses logged", transform=panel.transAxes, ha="center", color=MUTED)
    return figure


def draw_segmenter_curves(curves: Sequence[tuple[str, Path]]) -> Figure:
    """Training loss of every segmenter; one colour and line style per arm."""
    figure, (axes,) = _grid(1, 1, 3.6)
    styles = dict(zip(dict.fromkeys(name for name, _ in curves), itertools.product(LINE_STYLES, CYCLE), strict=False))
    drawn: dict[str, list[np.ndarray]] = {}
    for name, path in curves:
        series = read_losses(path, POINTS_PER_SEGMENTER)
        if not series:
            continue
        steps, values = series.get("loss", next(iter(series.values())))
        line, color = styles[name]
        label = "_" if name in drawn else name
        axes.plot(steps, values, color=color, linestyle=line, linewidth=1.2, alpha=0.85, label=label)
        drawn.setdefault(name, []).append(values)
    _limit_robustly(axes, list(itertools.chain(*drawn.values())))
    if drawn:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    tidy(axes, grid="y", xlabel="step", ylabel="training loss")
    return figure


def read_losses(path: Path, most: int = POINTS_PER_CURVE) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the losses of a metrics log as (steps, values), averaged over windows to a bounded number of points.

    Args:
        path: JSON lines with "step" and numbers; the keys with "loss" in their name are read, or all but the measures
            of diversity if there are none.
        most: Points per loss.

    Raises:
        DataError: A line is not a JSON object with a step.
    """
    columns: dict[str, list[tuple[float, float]]] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                step = float(entry.pop("step"))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise DataError(
                    f"{path}, line {number}: expected a JSON object with a step, got {line.strip()[:60]!r}. "
                    "Run the training stage again to write its log again."
                ) from None
            for key, value in entry.items():
                if isinstance(value, int | float) and not isinstance(value, bool) and key not in COLLAPSES:
                    columns.setdefault(key, []).append((step, float(value)))
    losses = {key: rows for key, rows in columns.items() if "loss" in key} or columns
    return {key: _window_means(np.array(rows), most) for key, rows in losses.items()}


def _window_means(rows: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    windows = np.array_split(rows, min(most, len(rows)))
    means = np.array([window.mean(axis=0) for window in windows])
    return means[:, 0], means[:, 1]


def _limit_robustly(axes: Axes, series: Sequence[np.ndarray]) -> None:
    """Keep a few spikes from flattening every curve."""
    values = np.concatenate([each[np.isfinite(each)] for each in series]) if series else np.empty(0)
    if len(values):
        low, high = np.quantile(values, [0.005, 0.995])
        margin = 0.06 * (high - low) or 0.5
        axes.set_ylim(low - margin, high + margin)


def _color(delta: Difference, name: str) -> str:
    return INK if name == REAL_ARM else COLORS.get(verdict(delta), GREY)


def _reach(arms: Sequence[ArmStatistics], alone: Collection[str]) -> float:
    """Largest distance from real that an interval of an arm set against real reaches, with a margin; a fraction."""
    ends = [abs(end) for arm in arms if arm.name not in alone for end in (arm.delta.low, arm.delta.high)]
    if not any(ends):
        ends = [abs(end) for arm in arms for end in (arm.delta.low, arm.delta.high)]
    return max([0.01, *(end for end in ends if not math.isnan(end))]) * 1.1


def _dot(axes: Axes, position: float, estimate: Difference, color: str) -> None:
    axes.plot(
        [100 * estimate.low, 100 * estimate.high], [position] * 2, color=color, linewidth=2.2, solid_capstyle="butt"
    )
    axes.plot(100 * estimate.mean, position, "o", color=color, markersize=8, markeredgecolor="white")


def _real(arms: Sequence[ArmStatistics]) -> ArmStatistics:
    return next(arm for arm in arms if arm.name == REAL_ARM)


def _grid(
    count: int, columns: int, height: float, margin: float = 0.0, width: float = WIDTH, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels in up to so many columns; heights are of a row and of what is beside the rows."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width, rows * height + margin), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharey=sharey, squeeze=False).flat)
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels[:count]


def tidy(axes: Axes, grid: Literal["x", "y"], xlabel: str = "", ylabel: str = "", rows: Sequence[str] = ()) -> None:
    """Give a plot its labels, and quiet lines; `rows` are named downwards from the top."""
    if rows:
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(colors=INK, labelsize=9)
    if rows:
        axes.tick_params(axis="y", length=0)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
    axes.grid(axis=grid, color=RULE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)


@dataclass(frozen=True)
class _Sheet:
    """Rows of images of one size, and a plot beside each row if there is one.

    All images are in one panel, since each panel of matplotlib costs as much as dozens of images.

    Attributes:
        figure: The drawing.
        images: The panel of the images, in pixels.
        step: Pixels from one image to the next, down and across.
        size: Height and width of an image.
        plots: An empty plot for each row, or none.
    """

    figure: Figure
    images: Axes
    step: tuple[float, float]
    size: tuple[int, int]
    plots: Sequence[Axes]

    def show(self, row: int, column: int, image: np.ndarray) -> None:
        """Draw an image, or another of its shape, in its place."""
        top, left = row * self.step[0] - 0.5, column * self.step[1] - 0.5
        extent = (left, left + self.size[1], top + self.size[0], top)
        self.images.imshow(image, extent=extent, interpolation="nearest")

    def name_row(self, row: int, text: str, color: str) -> None:
        """Write upwards, to the left of a row."""
        middle = row * self.step[0] + (self.size[0] - 1) / 2
        at = {"ha": "right", "va": "center", "rotation": 90, "fontsize": 8, "multialignment": "center"}
        self.images.text(-0.5 - self.step[1] + self.size[1], middle, text, color=color, parse_math=False, **at)

    def outline(self, row: int, column: int, box: tuple[int, int, int, int]) -> None:
        """Outline a box, top, left, height and width, of an image."""
        top, left, height, width = box
        self.images.add_patch(
            Rectangle(
                (column * self.step[1] + left - 0.5, row * self.step[0] + top - 0.5),
                width,
                height,
                fill=False,
                edgecolor="white",
                linewidth=1.8,
                path_effects=[matplotlib.patheffects.withStroke(linewidth=3.6, foreground="black")],
            )
        )


def _sheet(
    rows: Sequence[Sequence[np.ndarray | None]], titles: Sequence[str], table: ClassTable, labels: Iterable[np.ndarray]
) -> _Sheet:
    """A grid of images, titled on top, with a legend of the classes in `labels`; a cell may stay empty.

    A title more than there are images in a row is that of a plot beside each row.
    """
    columns, images = len(titles), max(map(len, rows))
    height, width = next(image for image in rows[0] if image is not None).shape[:2]
    cell_width = (WIDTH - 0.4) / columns
    gap = _GAP / cell_width * width  # pixels
    down, across = height + gap, width + gap
    spacing = ConstrainedLayoutEngine(w_pad=_GAP / 2, h_pad=_GAP / 2, wspace=0.0, hspace=0.0)
    figure = Figure(figsize=(WIDTH, len(rows) * (cell_width * height / width + _GAP) + 0.9), layout=spacing)
    grid = figure.add_gridspec(len(rows), columns)
    panel = figure.add_subplot(grid[:, :images])
    panel.set_axis_off()
    plots = [figure.add_subplot(grid[row, images]) for row in range(len(rows)) if columns > images]
    for plot in plots:
        plot.set_xticks([])
    sheet = _Sheet(figure, panel, (down, across), (height, width), plots)
    for row, cells in enumerate(rows):
        for column, image in enumerate(cells):
            if image is not None:
                sheet.show(row, column, image)
    if plots:
        panel.set_aspect("auto")  # images stay beside their plots, at the cost of some per cent of height
    panel.set_xlim(-0.5, images * across - gap - 0.5)
    panel.set_ylim(len(rows) * down - gap - 0.5, -0.5)
    for column, title in enumerate(titles[:images]):
        middle = column * across + (width - 1) / 2
        panel.annotate(title, (middle, -0.5), (0, 4), textcoords="offset points", ha="center", fontsize=9, color=MUTED)
    for plot, title in zip(plots, titles[images:], strict=False):
        plot.set_title(title, fontsize=9, color=MUTED)
    draw_legend(figure, table, labels)
    return sheet


def _palette(
    axes: Axes, sample: PairSample, table: ClassTable, classes: np.ndarray, top: float, requested: bool
) -> None:
    """Achieved shares as bars in the colours of the classes, requested shares as black lines; root scale."""
    positions = np.arange(len(classes))
    colors = table.colors[classes] / 255.0
    achieved = np.asarray(sample.palette_achieved)[classes]
    axes.bar(positions, np.sqrt(achieved), color=colors, width=0.8, edgecolor=INK, linewidth=0.4)
    if requested:
        target = np.sqrt(np.asarray(sample.palette_target)[classes])
        axes.hlines(target, positions - 0.5, positions + 0.5, color="black", linewidth=1.8)
    axes.set_ylim(0, top)
    axes.set_xlim(-0.7, len(classes) - 0.3)
    axes.yaxis.tick_right()
    ticks = [share for share in (0.01, 0.1, 0.25, 0.5) if math.sqrt(share) <= top]
    axes.set_yticks(np.sqrt(ticks), [f"{100 * share:.0f} %" for share in ticks], fontsize=6, color=MUTED)
    axes.tick_params(axis="y", length=0, pad=2)
    axes.grid(axis="y", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_legend(figure: Figure, table: ClassTable, labels: Iterable[np.ndarray], most_columns: int = 8) -> None:
    """Name the classes that occur in the layouts of a sheet."""
    present = np.unique(np.concatenate([np.unique(label) for label in labels]))
    handles = [
        Patch(facecolor=tuple(table.colors[index] / 255.0), edgecolor=INK, linewidth=0.4, label=table.names[index])
        for index in present
        if index < table.num_classes
    ][:CLASSES_PER_LEGEND]
    if IGNORE_ID in present:
        handles.append(Patch(facecolor="black", label="unlabelled"))
    columns = max(1, min(len(handles), most_columns))
    figure.legend(
        # A legend fills its columns first; dealt out like this it reads along its rows.
        handles=[handle for column in range(columns) for handle in handles[column::columns]],
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
        handlelength=1.2,
        handleheight=1.0,
        columnspacing=1.2,
    )
