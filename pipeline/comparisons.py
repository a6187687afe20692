"""The rows of the comparison of systems: which layout generator meets which image generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        description: What it is, in a few words.
        layouts: Name of the layout system; None for the real layouts of the training split.
        images: Name of the image system.
        end_to_end: Whether both are fine-tuned together.
        changes: Switches of the layout generator that differ from its system's own.
    """

    description: str
    layouts: str | None
    images: str
    end_to_end: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)


_SAA_ALONE = {"residual_fusion": False, "multi_scale": False, "soft_layouts": False, "palettes": "real"}

ROWS: dict[str, Row] = {
    "pcgan": Row("ProGAN layouts, pix2pixHD images (Semantic Palette, Table 2)", "sb-gan", "pix2pixhd"),
    "sb-gan": Row("unconditional layouts, GauGAN images", "sb-gan", "gaugan"),
    "sb-gan-e2e": Row("SB-GAN, fine-tuned end to end", "sb-gan", "gaugan", end_to_end=True),
    "semantic-palette": Row("layouts by palette, GauGAN images", "semantic-palette", "gaugan"),
    "semantic-palette-e2e": Row(
        "Semantic Palette, fine-tuned end to end", "semantic-palette", "gaugan", end_to_end=True
    ),
    "semantic-palette-oasis": Row("layouts by palette, OASIS images", "semantic-palette", "oasis"),
    "baseline-1": Row("palette by a matching loss, GauGAN images", "baseline-1", "gaugan"),
    "baseline-2": Row("palette shown to the discriminator, GauGAN images", "baseline-2", "gaugan"),
    **{f"real-layouts-{name}": Row(f"{name} on real layouts", None, name) for name in IMAGE_SYSTEMS},
    "ablation-saa": Row("SAA alone (Semantic Palette, Table 4)", "semantic-palette", "gaugan", changes=_SAA_ALONE),
    "ablation-fusion": Row(
        "SAA and residual fusion", "semantic-palette", "gaugan", changes={**_SAA_ALONE, "residual_fusion": True}
    ),
    "ablation-multi-scale": Row(
        "SAA, residual fusion and multi-scale losses",
        "semantic-palette",
        "gaugan",
        changes={"soft_layouts": False, "palettes": "real"},
    ),
    "ablation-soft": Row(
        "all but the palette generator: real palettes", "semantic-palette", "gaugan", changes={"palettes": "real"}
    ),
}
"""Rows by name. A layout system that no row names gets one with GauGAN images, an image system one on real layouts."""
_named = {row.layouts for row in ROWS.values()}
ROWS |= {
    name: Row(f"{name} layouts, GauGAN images", name, "gaugan")
    for name, system in LAYOUT_SYSTEMS.items()
    if not system.partial and name not in _named
}

DEFAULT_ROWS = tuple(name for name in ROWS if not name.startswith("ablation-"))
