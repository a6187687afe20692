"""The metrics of the report and of the comparison of systems, each declared once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scenepalette.common.errors import ConfigError
from scenepalette.common.registry import PACKAGE, Registry
from scenepalette.evaluation.evidence import NEEDS
from scenepalette.evaluation.images.appearance import color_distance, texture_distance
from scenepalette.evaluation.images.diversity import (
    class_variance,
    mean_pairwise_difference,
    mean_pairwise_lpips,
    mean_pairwise_ms_ssim,
    number_of_scales,
)
from scenepalette.evaluation.images.frechet import frechet_distance, fsd
from scenepalette.evaluation.miou import mean_iou
from scenepalette.generators.palettes import palette_divergence, reached_shares

BOTH = frozenset({"report", "comparison"})
REPORT = frozenset({"report"})
COMPARISON = frozenset({"comparison"})
TERMINAL = frozenset({"terminal"})
"""Where `scenepalette compare` prints, to a width that holds few columns."""
KEPT = frozenset[str]()
"""Of a metric that stands in the comparison's metrics.json alone."""
PLACES = BOTH | TERMINAL
PARTS = ("layouts", "images", "noise")


@dataclass(frozen=True)
class Metric:
    """A number that says something about generated layouts or images.

    Attributes:
        heading: Its name, short enough for a column.
        meaning: What it says, in a few words without a full stop.
        needs: What `function` is given, in this order; names from `evaluation.evidence.NEEDS`. A metric of which
            something is not there, such as a palette for a generator that takes none, is left out.
        function: Returns a number; or float64 [K], one per class and nan for those without a value, of which the mean
            is taken. A metric of "draws" is called once per layout.
        better: Which values are better; "" where neither is.
        unit: "%" for fractions that are shown in percent, or the name of a unit.
        shown: Where it is a row or column: in the report, in the comparison of systems, in what the latter prints.
        of: What it measures, "layouts", "images" or "noise": the part of report.json that holds it.
        title: Its name in full; by default the heading.
        note: A sentence for the report alone.
        undefined: Why it has no value where it is nan.
    """

    heading: str
    meaning: str
    needs: tuple[str, ...]
    function: Callable[..., Any]
    better: Literal["lower", "higher", ""] = ""
    unit: str = ""
    shown: frozenset[str] = BOTH
    of: Literal["layouts", "images", "noise"] = "images"
    title: str = ""
    note: str = ""
    undefined: str = "it is not a finite number"

    def __post_init__(self) -> None:
        """Refuse what no report could show.

        Raises:
            ConfigError: A need or a place that there is not, or a function that cannot be called.
        """
        problems = [f"needs: {need!r}; known are {', '.join(NEEDS)}" for need in self.needs if need not in NEEDS]
        problems += [f"shown: {place!r}; use {', '.join(sorted(PLACES))}" for place in set(self.shown) - PLACES]
        if self.better not in ("lower", "higher", ""):
            problems.append(f"better: {self.better!r}; use 'lower', 'higher' or ''")
        if self.of not in PARTS:
            problems.append(f"of: {self.of!r}; use {', '.join(map(repr, PARTS))}")
        if not callable(self.function):
            problems.append(f"function: {self.function!r} cannot be called")
        if problems:
            raise ConfigError(f"The metric '{self.heading}' cannot be used.", problems)

    @property
    def scale(self) -> int:
        """Factor by which a value is shown."""
        return 100 if self.unit == "%" else 1


def _check(name: str, entry: Metric) -> str | None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name.endswith("_absent_because"):
        return "its name, a key of reports, must be lower-case letters, digits and _, not ending in _absent_because"
    return None


_NO_CLASS_SHOWN = "no generated pair shows a class that counts, nor is one predicted"
_NO_COMMON_CLASS = "no class is in both real and generated pairs"

METRICS: Registry[Metric] = Registry(
    "scenepalette.metrics",
    {
        "palette_kl": Metric(
            "KL",
            "how far layouts are from the palettes asked for; no palette, no value",
            ("requested_palettes", "achieved_palettes"),
            lambda requested, achieved: palette_divergence(requested, achieved).mean(),
            better="lower",
            shown=COMPARISON | TERMINAL,
            of="layouts",
            title="Palette KL",
        ),
        "palette_shortfall": Metric(
            "least share",
            "what the class that lacks most gets of the share that was asked for",
            ("requested_palettes", "achieved_palettes"),
            lambda requested, achieved: np.nanmin(reached_shares(requested, achieved)),
            better="higher",
            unit="%",
            shown=REPORT,
            of="layouts",
            title="Least achieved share",
        ),
        "fsd": Metric(
            "FSD",
            "class shares of generated layouts against real training layouts",
            ("real_palettes", "achieved_palettes"),
            fsd,
            better="lower",
            shown=BOTH | TERMINAL,
            of="layouts",
            title="FSD (Fréchet segmentation distance)",
        ),
        "fid": Metric(
            "FID",
            "generated against real validation images, Inception features",
            ("inception_features",),
            lambda features: frechet_distance(*features),
            better="lower",
            title="FID (Fréchet Inception distance)",
        ),
        "precision": Metric(
            "Precision",
            "share of generated images near real ones, Inception features",
            ("inception_shares",),
            lambda shares: shares.precision,
            better="higher",
            unit="%",
            shown=KEPT,
        ),
        "recall": Metric(
            "Recall",
            "share of real images near generated ones, Inception features",
            ("inception_shares",),
            lambda shares: shares.recall,
            better="higher",
            unit="%",
            shown=KEPT,
        ),
        "segmenter_frechet": Metric(
            "segm. Fréchet",
            "the same on features of the segmenter trained on real",
            ("segmenter_features",),
            lambda features: frechet_distance(*features),
            better="lower",
            shown=BOTH | TERMINAL,
            title="Segmenter Fréchet distance",
            note="Comparable within this report only, not with any FID.",
        ),
        "gan_test_miou": Metric(
            "GAN-test",
            "mIoU of the real segmenter on generated pairs, %",
            ("gan_test", "table"),
            lambda confusion, table: mean_iou(confusion, table.eval_ids),
            better="higher",
            unit="%",
            shown=COMPARISON | TERMINAL,
            undefined=_NO_CLASS_SHOWN,
        ),
        "gan_test_miou_all": Metric(
            "GAN-test, all classes",
            "mIoU of the real segmenter on generated pairs over all classes, %",
            ("gan_test", "table"),
            lambda confusion, table: mean_iou(confusion, range(table.num_classes)),
            better="higher",
            unit="%",
            shown=KEPT,
            undefined=_NO_CLASS_SHOWN,
        ),
        "gan_train_miou": Metric(
            "GAN-train",
            "mIoU on real images after training on generated pairs, %",
            ("gan_train", "table"),
            lambda confusion, table: mean_iou(confusion, table.eval_ids),
            better="higher",
            unit="%",
            shown=COMPARISON | TERMINAL,
        ),
        "gan_train_miou_all": Metric(
            "GAN-train, all classes",
            "mIoU on real images after training on generated pairs over all classes, %",
            ("gan_train", "table"),
            lambda confusion, table: mean_iou(confusion, range(table.num_classes)),
            better="higher",
            unit="%",
            shown=KEPT,
        ),
        "discriminator_miou": Metric(
            "Discriminator as segmenter",
            "mIoU on real images of a discriminator that labels pixels, % (Schönfeld et al., 2021, App. B.4)",
            ("discriminator", "table"),
            lambda confusion, table: mean_iou(confusion, table.eval_ids),
            better="higher",
            unit="%",
            shown=KEPT,
        ),
        "ms_ssim": Metric(
            "MS-SSIM",
            "likeness of images of one layout; lower is more diverse, 1 is one image",
            ("draws", "device"),
            lambda draws, device: mean_pairwise_ms_ssim(draws.images, device=device),
            better="lower",
            shown=COMPARISON | TERMINAL,
        ),
        "ms_ssim_scales": Metric(
            "Scales of MS-SSIM",
            "how many scales MS-SSIM has at this size",
            ("layout_size",),
            lambda size: number_of_scales(*size),
            shown=KEPT,
        ),
        "lpips": Metric(
            "LPIPS",
            "perceptual distance of images of one layout; higher is more diverse",
            ("draws", "lpips"),
            lambda draws, network: mean_pairwise_lpips(draws.images, network),
            better="higher",
            shown=COMPARISON,
        ),
        "class_variance": Metric(
            "variance",
            "variance of a class's pixels over images of one layout",
            ("draws", "table"),
            lambda draws, table: class_variance(draws.images, draws.label, table.num_classes),
            better="higher",
            shown=COMPARISON,
            undefined="the layouts have no labelled pixel",
        ),
        "color_distance": Metric(
            "colour",
            "earth mover's distance of LAB histograms per class",
            ("histograms",),
            lambda histograms: color_distance(*histograms),
            better="lower",
            shown=COMPARISON,
            undefined=_NO_COMMON_CLASS,
        ),
        "texture_distance": Metric(
            "texture",
            "chi-square distance of local binary patterns per class",
            ("histograms",),
            lambda histograms: texture_distance(*histograms),
            better="lower",
            shown=COMPARISON,
            undefined=_NO_COMMON_CLASS,
        ),
        "segmenter_precision": Metric(
            "precision*",
            "share of generated images near real ones, %",
            ("segmenter_shares",),
            lambda shares: shares.precision,
            better="higher",
            unit="%",
            shown=COMPARISON,
        ),
        "segmenter_recall": Metric(
            "recall*",
            "share of real images near generated ones, %",
            ("segmenter_shares",),
            lambda shares: shares.recall,
            better="higher",
            unit="%",
            shown=COMPARISON,
        ),
        "memorisation_ratio": Metric(
            "distance to training images",
            "median distance to the nearest training image, over that of validation images; near 0 means copies",
            ("memorisation",),
            lambda measured: measured.ratio,
            shown=REPORT,
            title="Distance to training images",
            undefined="validation images are training images",
        ),
        "near_copies": Metric(
            "near-copies",
            "share of generated images whose pixels are nearly those of a training image, %",
            ("memorisation",),
            lambda measured: measured.near_copies,
            better="lower",
            unit="%",
            shown=REPORT,
            title="Near-copies of training images",
        ),
        "mean_absolute_difference": Metric(
            "noise",
            "mean absolute difference between images of one layout under different noise, of 255 grey levels; near 0 "
            "means one image per layout",
            ("draws",),
            lambda draws: mean_pairwise_difference(draws.images),
            shown=REPORT,
            of="noise",
            title="Noise difference",
        ),
    },
    Metric,
    _check,
)
"""Metrics by name, in the order of tables; packages add theirs under the entry-point group "scenepalette.metrics"."""


def columns_of_comparison(place: Literal["comparison", "terminal"] = "comparison") -> list[dict[str, Any]]:
    """Return the columns of the comparison's table, on its page or in the terminal, as JSON values."""
    return [
        {
            "key": name,
            "title": f"{metric.heading}, {metric.unit}" if metric.unit not in ("", "%") else metric.heading,
            "better": metric.better,
            "scale": metric.scale,
            "meaning": metric.meaning,
        }
        for name, metric in _shown_in(place)
    ]


def rows_of_report() -> list[dict[str, Any]]:
    """Return the rows of the report's table that metrics are, as JSON values."""
    return [
        {
            "key": name,
            "title": metric.title or metric.heading,
            "better": metric.better,
            "scale": metric.scale,
            "unit": metric.unit,
            "meaning": f"{metric.meaning[:1].upper()}{metric.meaning[1:]}. {metric.note}".strip(),
            "of": metric.of,
        }
        for name, metric in _shown_in("report")
    ]


def keys_of_metric(name: str, classes: Sequence[str]) -> list[str]:
    """Return the keys under which a metric may stand in JSON: its value, why there is none, and values of classes."""
    return [name, f"{name}_absent_because", *(f"{name}/{each}" for each in classes)]


_ABSENT = " is absent: "


def absence(name: str, reason: object) -> str:
    """Return the sentence under `NAME_absent_because`."""
    return f"{name}{_ABSENT}{reason}"


def name_and_reason(sentence: str) -> tuple[str, str]:
    """Return what `absence` made a sentence of; of another sentence no name, and all of it as the reason."""
    name, found, reason = sentence.partition(_ABSENT)
    return (name, reason) if found else ("", sentence)


def metrics_from_elsewhere() -> dict[str, Any]:
    """Return what a finished page depends on beside this package: plug-ins by name with their packages, or nothing."""
    plugins = {name: source for name in METRICS if (source := METRICS.source(name)) != PACKAGE}
    return {"metrics": plugins} if plugins else {}


def _shown_in(page: str) -> Iterator[tuple[str, Metric]]:
    return ((name, metric) for name, metric in METRICS.items() if page in metric.shown)
