"""How coarse the scores of each architecture are before they are enlarged."""

from __future__ import annotations

import pytest

from scenepalette.segmenters.registry import SEGMENTERS
from scenepalette.segmenters.settings import SegmenterSettings
from scenepalette.segmenters.stride import decoder_stride

STRIDES = {
    "deeplabv3": 8,
    "deeplabv3plus": 4,
    "unet": 1,
    "unetplusplus": 1,
    "manet": 1,
    "linknet": 1,
    "fpn": 4,
    "pspnet": 8,
    "pan": 4,
    "upernet": 4,
    "segformer": 4,
    "dpt": 2,
}


def test_every_architecture_is_listed() -> None:
    assert set(STRIDES) == set(SEGMENTERS)


@pytest.mark.parametrize(("architecture", "stride"), STRIDES.items())
def test_the_stride_is_that_of_the_scores(architecture: str, stride: int) -> None:
    encoder = "tu-vit_tiny_patch16_224" if architecture == "dpt" else "resnet18"
    settings = SegmenterSettings(architecture=architecture, encoder=encoder, decoder_channels=32)
    assert decoder_stride(settings, (256, 256)) == stride


def test_the_output_stride_of_deeplabv3_counts_and_its_weights_need_not_be_there() -> None:
    settings = SegmenterSettings(encoder="mobilenet_v2", encoder_weights="/nowhere.pth", output_stride=16)
    assert decoder_stride(settings, (96, 128)) == 16


def test_a_size_that_the_network_cannot_take_has_none() -> None:
    assert decoder_stride(SegmenterSettings(architecture="pan", decoder_channels=32), (96, 128)) is None
