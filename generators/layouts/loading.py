"""Trained layout generators, loaded from their weights files."""

from __future__ import annotations

from pathlib import Path

from scenepalette.data.classes import ClassTable
from scenepalette.generators.layouts.networks.progressive import LayoutNetwork
from scenepalette.generators.layouts.registry import layout_system
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.training.checkpoint import load_weights, system_identity

WEIGHTS = "weights.safetensors"
FINE_TUNED_WEIGHTS = "layouts.safetensors"


def load_layout_generator(
    path: Path, name: str, table: ClassTable, size: tuple[int, int], settings: LayoutSettings
) -> LayoutNetwork:
    """Load the averaged generator that a training wrote to a weights file, in eval mode.

    Raises:
        ConfigError: There is no such system, or the settings do not fit it.
        CheckpointError: The weights are damaged or of another class table, system or size.
    """
    network = layout_system(name).build_generator(table, size, settings)
    load_weights(path, network, system_identity(name, table, size))
    return network.eval().requires_grad_(False)
