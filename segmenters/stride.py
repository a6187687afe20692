"""How finely a segmenter can draw: the stride of its class scores before they are enlarged to the image."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from scenepalette.data.classes import ClassTable
from scenepalette.segmenters.model import trial
from scenepalette.segmenters.registry import SEGMENTERS
from scenepalette.segmenters.settings import SegmenterSettings

_CLASSES = 7
_MULTIPLE = 32


@cache
def decoder_stride(settings: SegmenterSettings, size: tuple[int, int]) -> int | None:
    """Return image pixels per pixel of the class scores as a segmenter computes them, before it enlarges them.

    The network is run without memory. Its scores are what the last convolution gives that has a channel for each class;
    what follows it only enlarges them. With an encoder such as resnet18 or mobilenet_v2 that is 8 or 16 for DeepLabV3
    (its output stride), 8 for PSPNet, 4 for DeepLabV3+, FPN, PAN, SegFormer and UPerNet, and 1 for Unet, Unet++, MAnet
    and Linknet.

    Args:
        settings: Choose architecture and encoder.
        size: Height and width of the images in pixels.

    Returns:
        The stride, 1 or more, or None where the network cannot be run so or has no such convolution.
    """
    # Other sizes are padded to such ones, which changes the ratio below and not the stride.
    size = (math.ceil(size[0] / _MULTIPLE) * _MULTIPLE, math.ceil(size[1] / _MULTIPLE) * _MULTIPLE)
    shapes: list[torch.Size] = []

    def note(module: nn.Module, arguments: tuple[Any, ...], scores: Tensor) -> None:
        if scores.ndim == 4 and scores.shape[1] == _CLASSES:
            shapes.append(scores.shape)

    def run() -> None:
        shapes.clear()
        build = SEGMENTERS[settings.architecture].build
        network = build(ClassTable.unnamed(_CLASSES), replace(settings, encoder_weights=None))
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.register_forward_hook(note)
        network(torch.zeros(2, 3, *size))

    if trial(run) or not shapes:
        return None
    return max(1, round(math.sqrt(size[0] * size[1] / (shapes[-1][2] * shapes[-1][3]))))
