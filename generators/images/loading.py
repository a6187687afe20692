"""Trained image generators and their discriminators, loaded from their weights files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.files import content_hash
from scenepalette.data.classes import ClassTable
from scenepalette.generators.images.base import ImageGenerator, ImageSettings
from scenepalette.generators.images.registry import find_image_system
from scenepalette.generators.kernels.passes import accelerate
from scenepalette.training.checkpoint import load_weights, system_identity

WEIGHTS = "weights.safetensors"
FINE_TUNED_WEIGHTS = "images.safetensors"
DISCRIMINATOR_WEIGHTS = "critic.safetensors"


def load_image_generator(
    path: Path, name: str, table: ClassTable, size: tuple[int, int], settings: ImageSettings
) -> ImageGenerator:
    """Load the averaged generator that a training wrote to a weights file, in eval mode.

    Args:
        path: The weights file.
        name: Name of the system.
        table: Class table that it was trained on.
        size: Height and width, pixels.
        settings: Settings that it was trained with.

    Raises:
        CheckpointError: The weights are damaged or of another class table, system or size.
        ConfigError: There is no such system, or no base grid reaches the size.
    """
    network = find_image_system(name).build_generator(table, size, settings)
    load_weights(path, network, {**system_identity(name, table, size), **files_identity(name, settings)})
    return network.eval().requires_grad_(False)


def files_identity(name: str, settings: ImageSettings) -> dict[str, Any]:
    """Return what the weights of a system say of the files that its settings name: the SHA-256 of those that exist."""
    named_files = find_image_system(name).named_files
    if named_files is None:
        return {}
    return {"files": {file: content_hash(path) for file, path in named_files(settings).items() if path.is_file()}}


def load_image_discriminator(
    path: Path, name: str, table: ClassTable, size: tuple[int, int], settings: ImageSettings
) -> nn.Module:
    """Load the discriminator that a training wrote to a weights file, in eval mode; the arguments are as above.

    Raises:
        CheckpointError: The weights are damaged or of another class table, system or size.
        ConfigError: There is no such system, or it has no discriminator.
    """
    build = find_image_system(name).build_objective
    discriminator = None if build is None else build(table, size, settings, None).discriminator
    if discriminator is None:
        raise ConfigError(f"The image system {name!r} is trained without a discriminator. Choose another one.")
    load_weights(path, discriminator, system_identity(name, table, size))
    accelerate(discriminator)
    return discriminator.eval().requires_grad_(False)
