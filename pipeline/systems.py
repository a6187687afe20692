"""The generators that can be trained, by name: their papers and sizes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.layouts.settings import LayoutSettings


@dataclass(frozen=True)
class System:
    """A generator that can be trained.

    Attributes:
        name: Name in run directories and tables.
        kind: "layout" (noise and palette to label map) or "image" (label map to picture).
        paper: Where it comes from.
        generator_parameters: Of the generator at the paper's settings.
        discriminator_parameters: Of the network that it is trained against; 0 if there is none.
    """

    name: str
    kind: str
    paper: str
    generator_parameters: int
    discriminator_parameters: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def systems(num_classes: int, size: tuple[int, int]) -> list[System]:
    """Return all systems with their parameter counts at the papers' settings.

    Args:
        num_classes: K.
        size: Height and width, pixels.

    Raises:
        ConfigError: No base grid reaches the size.
    """
    entries = []
    # Nothing is computed: on the meta device networks have shapes and no memory.
    with torch.device("meta"):
        for layout in LAYOUT_SYSTEMS.values():
            numbers = LayoutSettings()
            generator = layout.build_generator(num_classes, size, numbers)
            discriminator = layout.build_discriminator(num_classes, size, numbers)
            entries.append(
                System(layout.name, "layout", layout.paper, _parameters(generator), _parameters(discriminator))
            )
        for system in IMAGE_SYSTEMS.values():
            settings = system.settings()
            generator = system.build_generator(num_classes, size, settings)
            discriminator = system.build_objective(num_classes, size, settings, None).discriminator
            entries.append(
                System(system.name, "image", system.paper, _parameters(generator), _parameters(discriminator))
            )
    return entries


def _parameters(module: nn.Module | None) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) if module is not None else 0
