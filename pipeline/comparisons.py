"""The rows of the comparison of systems: which layout generator meets which image generator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from scenepalette.generators.images import registry as image_systems
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts import registry as layout_systems
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

_BUILT_IN = {
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
    **{f"real-layouts-{name}": Row(f"{name} on real layouts", None, name) for name in image_systems.BUILT_IN},
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


def _rows_of_systems(names: Iterable[str], rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return a row with GauGAN images for each layout system that no row names."""
    named = {row.layouts for row in rows.values()}
    return {
        name: Row(f"{name} layouts, GauGAN images", name, "gaugan")
        for name in names
        if not LAYOUT_SYSTEMS[name].partial and name not in named
    }


_BUILT_IN |= _rows_of_systems(layout_systems.BUILT_IN, _BUILT_IN)


class _Rows(Mapping[str, Row]):
    """The rows of this package, and behind them one for each system that another package adds."""

    def _all(self) -> dict[str, Row]:
        images = {f"real-layouts-{name}": Row(f"{name} on real layouts", None, name) for name in IMAGE_SYSTEMS}
        return _BUILT_IN | images | _rows_of_systems(LAYOUT_SYSTEMS, _BUILT_IN)

    def __getitem__(self, name: str) -> Row:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def refusal(self, name: str) -> str | None:
        """Return why the system of another package that the row is of cannot be used; None if it can or is unknown."""
        image_system = name.removeprefix("real-layouts-")
        return LAYOUT_SYSTEMS.refusal(name) if image_system == name else IMAGE_SYSTEMS.refusal(image_system)


ROWS = _Rows()
"""Rows by name. A layout system that no row names gets one with GauGAN images, an image system one on real layouts."""

DEFAULT_ROWS = tuple(name for name, row in _BUILT_IN.items() if not row.changes)
"""All but the ablations. Those of this package alone, so that a recipe means the same whatever else is installed."""
