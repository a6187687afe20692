"""The figures of a report, drawn without a display or global state, so that threads may draw at once.

Plots of arms and metrics use the colour-blind-safe colours of Okabe and Ito; layouts use the colours of the class
table.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from scenepalette.common.errors import DataError
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.pipeline.report.results import REAL_ARM, PairSample, ReportInputs
from scenepalette.pipeline.report.statistics import ArmStatistics, Difference, verdict
from scenepalette.pipeline.report.wording import points
from scenepalette.training.monitor import COLLAPSES

INK = "#1f2933"
MUTED = "#6b7785"
RULE = "#d5dbe1"
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREY = "#8a94a0"
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8a94a0")
LINE_STYLES = ("-", "--", ":", "-.")

WIDTH = 10.0  # inches
DPI = 110
ROWS_PER_SHEET = 6
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
        section: "arms", "classes", "samples" or "generators".
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
            f"{inputs.noise_difference:.3g} of 255 grey levels.",
            draw_noise(inputs.noise_samples, table),
        )
    if {"real", "full"} <= set(inputs.class_shares):
        yield Drawing(
            "class-shares.png",
            "generators",
            "Class shares, real and generated",
            "Share of all pixels per class; shares below 0.01 % are drawn at the left edge.",
            draw_class_shares(inputs.class_shares["real"], inputs.class_shares["full"], table),
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
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def draw_arms(arms: Sequence[ArmStatistics], alone: Collection[str] = ()) -> Figure:
    """Dots with intervals: mIoU of each arm, and its difference from real.

    Args:
        arms: The arms, "real" among them.
        alone: Arms trained on generated pairs alone; they do not widen the axis of differences.
    """
    figure = Figure(figsize=(WIDTH, 1.3 + 0.42 * len(arms)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    positions = [float(position) for position in range(len(arms))]
    reach = _reach(arms, alone)
    for position, arm in zip(positions, arms, strict=True):
        color = _color(arm.delta, arm.name)
        _dot(left, position, arm.miou, color)
        left.plot(
            100 * np.asarray(arm.miou.values),
            np.full(len(arm.miou.values), position + 0.24),
            "|",
            color=color,
            markersize=7,
            markeredgewidth=1.4,
        )
        if arm.name != REAL_ARM and abs(arm.delta.mean) <= reach:
            _dot(right, position, arm.delta, color)
        elif arm.name != REAL_ARM and not math.isnan(arm.delta.mean):
            # Far from every arm that is set against real: a number at the edge, so that it does not squeeze the others.
            side = 1.0 if arm.delta.mean > 0 else 0.0
            text = points(arm.delta.mean)
            right.text(
                side,
                position,
                f"{text} ▶" if side else f"◀ {text}",
                transform=right.get_yaxis_transform(),
                ha="right" if side else "left",
                va="center",
                color=color,
                fontsize=9,
            )
    real = next(arm for arm in arms if arm.name == REAL_ARM)
    left.axvline(100 * real.miou.mean, color=INK, linestyle="--", linewidth=1, zorder=0)
    right.axvline(0, color=INK, linestyle="--", linewidth=1, zorder=0)
    right.set_xlim(-100 * reach, 100 * reach)
    left.set_yticks(positions, [arm.name for arm in arms])
    left.set_ylim(len(arms) - 0.4, -0.6)
    left.set_xlabel("mIoU, %")
    right.set_xlabel("difference from real, points of mIoU")
    for axes in (left, right):
        _tidy(axes, grid="x")
        axes.tick_params(axis="y", length=0)
    return figure


def draw_classes(arms: Sequence[ArmStatistics], table: ClassTable, confusion: np.ndarray) -> Figure:
    """A panel per class with a bar per arm; the most frequent classes where there are many."""
    frequency = confusion.sum(axis=(0, 2))
    shown = [int(index) for index in sorted(np.argsort(-frequency, kind="stable")[:CLASS_PANELS])]
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(WIDTH, rows * (0.62 + 0.2 * len(arms)) + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    positions = np.arange(len(arms))
    evaluated = set(table.eval_ids)
    for panel, index in zip(panels.flat, shown, strict=False):
        estimates = [arm.per_class[index] for arm in arms]
        colors = [_color(arm.per_class_delta[index], arm.name) for arm in arms]
        means = 100 * np.array([each.mean for each in estimates])
        panel.barh(positions, np.nan_to_num(means), color=colors, height=0.68, alpha=0.85)
        for position, estimate in zip(positions, estimates, strict=True):
            panel.plot([100 * estimate.low, 100 * estimate.high], [position] * 2, color=INK, linewidth=1.1)
        real = next(arm for arm in arms if arm.name == REAL_ARM).per_class[index].mean
        panel.axvline(100 * real, color=INK, linestyle="--", linewidth=0.8)
        share = frequency[index] / max(1, frequency.sum())
        mark = "" if index in evaluated else " *"
        panel.set_title(f"{table.names[index]}{mark}", fontsize=9, loc="left", color=INK, fontweight="bold")
        panel.set_title(f"{_share_text(share)} of pixels", fontsize=7, loc="right", color=MUTED)
        panel.set_xlim(0, 100)
        _tidy(panel, grid="x")
        panel.tick_params(axis="x", labelsize=7, colors=MUTED)
        panel.tick_params(axis="y", length=0, labelsize=8)
    for panel in list(panels.flat)[len(shown) :]:
        panel.set_visible(False)
    panels[0, 0].set_yticks(positions, [arm.name for arm in arms])
    panels[0, 0].set_ylim(len(arms) - 0.4, -0.6)
    figure.supxlabel("IoU, %", fontsize=9, color=MUTED)
    return figure


def draw_pairs(samples: Sequence[PairSample], table: ClassTable, real: bool = False) -> Figure:
    """A row per pair: source if there is one, layout, image, palettes; a legend of the classes below."""
    shown = list(samples[:ROWS_PER_SHEET])
    has_source = any(sample.source_image is not None for sample in shown)
    titles = [*(["real image"] if has_source else []), "layout", "image", "class shares"]
    figure, panels = _sheet(len(shown), titles, shown[0].label.shape, wide_last=True)
    classes = _palette_classes(shown)
    top = min(1.0, 1.08 * max(math.sqrt(max(*each.palette_target, *each.palette_achieved)) for each in shown))
    for row, sample in zip(panels, shown, strict=True):
        cells = list(row)
        if has_source:
            _picture(cells.pop(0), sample.source_image)
        _picture(cells[0], table.colorize(sample.label))
        _picture(cells[1], sample.image)
        _palette(cells[2], sample, table, classes, top, requested=not real)
    panels[-1][-1].set_xlabel("classes in the order of the legend; root scale", fontsize=7, color=MUTED)
    _legend(figure, table, [classes, *(sample.label for sample in shown)])
    return figure


def draw_edits(samples: Sequence[PairSample], table: ClassTable) -> Figure:
    """A row per partial edit: source image and layout with the box, edited layout and image."""
    shown = list(samples[:ROWS_PER_SHEET])
    titles = ["real image", "real layout", "edited layout", "generated image"]
    figure, panels = _sheet(len(shown), titles, shown[0].label.shape)
    for row, sample in zip(panels, shown, strict=True):
        source_layout = None if sample.source_label is None else table.colorize(sample.source_label)
        for cell, picture in zip(
            row, (sample.source_image, source_layout, table.colorize(sample.label), sample.image), strict=True
        ):
            _picture(cell, picture)
            if picture is not None and sample.edit_box is not None:
                _outline(cell, sample.edit_box)
    _legend(
        figure, table, [each for sample in shown for each in (sample.label, sample.source_label) if each is not None]
    )
    return figure


def draw_noise(noise_samples: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]], table: ClassTable) -> Figure:
    """A row per layout with the images made from it."""
    shown = list(noise_samples[:ROWS_PER_SHEET])
    columns = min(5, max(len(images) for _, images in shown))
    titles = ["layout", *(f"noise {index + 1}" for index in range(columns))]
    figure, panels = _sheet(len(shown), titles, shown[0][0].shape)
    for row, (label, images) in zip(panels, shown, strict=True):
        _picture(row[0], table.colorize(label))
        for index, cell in enumerate(row[1:]):
            _picture(cell, images[index] if index < len(images) else None)
    _legend(figure, table, [label for label, _ in shown])
    return figure


def draw_class_shares(real: np.ndarray, full: np.ndarray, table: ClassTable) -> Figure:
    """Real and generated share of each class, on a logarithmic axis, most frequent first."""
    order = np.argsort(-np.asarray(real), kind="stable")[:CLASS_PANELS]
    figure = Figure(figsize=(WIDTH, 1.3 + 0.27 * len(order)), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(order))
    shares = [np.maximum(np.asarray(each, dtype=np.float64)[order], SMALLEST_SHARE) for each in (real, full)]
    axes.hlines(positions, np.minimum(*shares), np.maximum(*shares), color=RULE, linewidth=3, zorder=1)
    axes.plot(shares[0], positions, "o", color=INK, markersize=7, label="real", zorder=2)
    axes.plot(shares[1], positions, "D", color=BLUE, markersize=6, label="generated (full)", zorder=3)
    axes.set_xscale("log")
    axes.set_xlim(0.8 * SMALLEST_SHARE, 1.0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.set_yticks(positions, [table.names[index] for index in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlabel("share of pixels, logarithmic")
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    _tidy(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    return figure


def draw_aic(aic: Sequence[float], components: int) -> Figure:
    """Akaike criterion by number of components with the chosen one marked."""
    figure = Figure(figsize=(0.7 * WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    numbers = np.arange(1, len(aic) + 1)
    axes.plot(numbers, aic, "-o", color=BLUE, markersize=4, linewidth=1.5)
    if 1 <= components <= len(aic):
        axes.plot(components, aic[components - 1], "o", color=ORANGE, markersize=9)
        axes.axvline(components, color=ORANGE, linestyle="--", linewidth=1, zorder=0)
        axes.set_title(f"{components} chosen", fontsize=9, color=ORANGE, loc="right")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("components")
    axes.set_ylabel("AIC")
    _tidy(axes, grid="y")
    return figure


def draw_generator_curves(curves: Mapping[str, Path]) -> Figure:
    """A panel per generator with its losses."""
    columns = min(2, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(WIDTH, 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel, (name, path) in zip(panels.flat, curves.items(), strict=False):
        series = read_losses(path)
        for index, (key, (steps, values)) in enumerate(list(series.items())[:SERIES_PER_CURVE]):
            panel.plot(steps, values, color=CYCLE[index % len(CYCLE)], linewidth=1.3, label=key)
        _limit_robustly(panel, [values for _, values in list(series.values())[:SERIES_PER_CURVE]])
        panel.set_title(name, fontsize=10, loc="left", color=INK, fontweight="bold")
        panel.set_xlabel("step")
        _tidy(panel, grid="y")
        if series:
            panel.legend(fontsize=7, frameon=False, ncols=2, loc="upper right")
        else:
            panel.text(0.5, 0.5, "no losses logged", transform=panel.transAxes, ha="center", color=MUTED)
    for panel in list(panels.flat)[len(curves) :]:
        panel.set_visible(False)
    return figure


def draw_segmenter_curves(curves: Sequence[tuple[str, Path]]) -> Figure:
    """Training loss of every segmenter; one colour and line style per arm."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(name for name, _ in curves))
    labelled: set[str] = set()
    drawn = []
    for name, path in curves:
        series = read_losses(path, POINTS_PER_SEGMENTER)
        if not series:
            continue
        steps, values = series.get("loss", next(iter(series.values())))
        index = names.index(name)
        axes.plot(
            steps,
            values,
            color=CYCLE[index % len(CYCLE)],
            linestyle=LINE_STYLES[index // len(CYCLE) % len(LINE_STYLES)],
            linewidth=1.2,
            alpha=0.85,
            label="_" if name in labelled else name,
        )
        labelled.add(name)
        drawn.append(values)
    _limit_robustly(axes, drawn)
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    if labelled:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    _tidy(axes, grid="y")
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
                    "Run the training stage again to write its log anew."
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
    if name == REAL_ARM:
        return INK
    return {"gains": BLUE, "loses": ORANGE}.get(verdict(delta), GREY)


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


def _tidy(axes: Axes, grid: str) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
    axes.grid(axis="x" if grid == "x" else "y", color=RULE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)


def _sheet(
    rows: int,
    titles: Sequence[str],
    size: tuple[int, ...],
    wide_last: bool = False,
) -> tuple[Figure, list[list[Axes]]]:
    """A grid of cells with the aspect of the pictures, titled on top."""
    columns = len(titles)
    cell_height = (WIDTH - 0.4) / columns * size[0] / size[1]
    spacing = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    figure = Figure(figsize=(WIDTH, rows * (cell_height + 0.06) + 0.9), layout=spacing)
    panels = figure.subplots(rows, columns, squeeze=False)
    for cell, title in zip(panels[0], titles, strict=True):
        cell.set_title(title, fontsize=9, color=MUTED)
    for cell in panels.flat:
        cell.set_xticks([])
        cell.set_yticks([])
    for cell in panels[:, : columns - 1 if wide_last else columns].flat:
        cell.set_frame_on(False)
    return figure, [list(row) for row in panels]


def _picture(axes: Axes, picture: np.ndarray | None) -> None:
    if picture is not None:
        axes.imshow(picture, interpolation="nearest")


def _outline(axes: Axes, box: tuple[int, int, int, int]) -> None:
    top, left, height, width = box
    axes.add_patch(
        Rectangle(
            (left - 0.5, top - 0.5),
            width,
            height,
            fill=False,
            edgecolor="white",
            linewidth=1.8,
            path_effects=[matplotlib.patheffects.withStroke(linewidth=3.6, foreground="black")],
        )
    )


def _palette_classes(samples: Sequence[PairSample]) -> np.ndarray:
    """Ids of the classes with the largest shares, in the order of the table."""
    largest = np.max([np.maximum(each.palette_target, each.palette_achieved) for each in samples], axis=0)
    return np.sort(np.argsort(-largest, kind="stable")[:BARS_PER_PALETTE])


def _palette(
    axes: Axes,
    sample: PairSample,
    table: ClassTable,
    classes: np.ndarray,
    top: float,
    requested: bool,
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


def _legend(figure: Figure, table: ClassTable, labels: Iterable[np.ndarray]) -> None:
    """Name the classes that occur in the layouts of a sheet."""
    present = np.unique(np.concatenate([np.unique(label) for label in labels]))
    handles = [
        Patch(facecolor=tuple(table.colors[index] / 255.0), edgecolor=INK, linewidth=0.4, label=table.names[index])
        for index in present
        if index < table.num_classes
    ][:CLASSES_PER_LEGEND]
    if IGNORE_ID in present:
        handles.append(Patch(facecolor="black", label="unlabelled"))
    columns = max(1, min(len(handles), 8))
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


def _share_text(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
