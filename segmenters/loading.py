"""Trained segmenters, loaded from their weights files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from scenepalette.data.classes import ClassTable
from scenepalette.segmenters.model import build_deeplabv3
from scenepalette.segmenters.settings import SegmenterSettings
from scenepalette.training.checkpoint import load_weights
from scenepalette.training.trainee import channels_last

WEIGHTS_FILE = "weights.safetensors"


def build_segmenter(settings: SegmenterSettings, table: ClassTable, encoder_weights: str | None = None) -> nn.Module:
    """Return an untrained segmenter; pre-trained weights of its encoder are fetched only if they are named."""
    return build_deeplabv3(
        table.num_classes,
        encoder=settings.encoder,
        encoder_weights=encoder_weights,
        decoder_channels=settings.decoder_channels,
        atrous_rates=settings.atrous_rates,
        output_stride=settings.output_stride,
    )


def load_segmenter(folder: Path, settings: SegmenterSettings, table: ClassTable) -> nn.Module:
    """Load what a training left in its folder.

    Args:
        folder: The training's folder.
        settings: The settings that it was trained with.
        table: The classes that it was trained on.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        CheckpointError: The weights are missing, damaged, or of other settings or classes.
    """
    model = build_segmenter(settings, table)
    load_weights(folder / WEIGHTS_FILE, model, model_identity(settings, table))
    return channels_last(model).eval()


def model_identity(settings: SegmenterSettings, table: ClassTable) -> dict[str, Any]:
    """Return the metadata by which weights of a segmenter are recognised."""
    return {
        "model": f"deeplabv3-{settings.encoder}",
        "decoder_channels": settings.decoder_channels,
        "atrous_rates": list(settings.atrous_rates),
        "output_stride": settings.output_stride,
        "classes": table.fingerprint,
    }
