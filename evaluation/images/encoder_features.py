"""Features of an encoder whose weights lie in a local file, for perceptual losses and for distances between images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.untrusted import short
from scenepalette.generators.images.base import FeatureNetwork
from scenepalette.segmenters.encoder_file import load_encoder
from scenepalette.segmenters.model import is_fetched, to_encoder_range, trial

SETTING = "images.perceptual_encoder"


class EncoderFeatures(FeatureNetwork):
    """An encoder of segmentation-models-pytorch, such as one that its trainer trained on ImageNet."""

    def __init__(self, name: str, description: str) -> None:
        """Create the network with random weights.

        Args:
            name: Name of the encoder, or "tu-" and the name of a timm model.
            description: What it is, as reports name it.

        Raises:
            ConfigError: There is no such encoder.
        """
        import segmentation_models_pytorch as smp

        super().__init__()
        self.description = description
        if is_fetched(name):
            raise ConfigError(f"{SETTING}: {short(repr(name))} would be fetched. Use the name of an encoder.")
        if reason := trial(lambda: smp.encoders.get_encoder(name, weights=None)):
            raise ConfigError(f"{SETTING}: {short(repr(name))} cannot be built ({reason}). Use the name of an encoder.")
        self.encoder: Any = smp.encoders.get_encoder(name, weights=None)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map B3HW in [-1, 1] to at most five feature maps, from fine to coarse, without the image itself."""
        maps = self.encoder(to_encoder_range(image))
        return [one for one in maps if one.numel() and one.shape[1:] != image.shape[1:]][-5:]


def load_encoder_features(name: str, path: Path) -> EncoderFeatures:
    """Load an encoder from a file, ready for inference; its description names the encoder and the file.

    Args:
        name: See `EncoderFeatures`.
        path: Its weights, as `load_encoder` reads them.

    Raises:
        ConfigError: There is no such encoder, or the file cannot be read or is not one of it.
    """
    with torch.random.fork_rng(devices=[]):  # the file replaces the random weights: leave the caller's generator alone
        network = EncoderFeatures(name, f"encoder {name} with the weights of {path.name}")
    load_encoder(network.encoder, name, path, SETTING)
    return network.eval().requires_grad_(False)
