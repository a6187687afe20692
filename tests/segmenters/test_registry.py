from __future__ import annotations

from typing import Any

import pytest
import torch

from plugins import Plugins
from scenepalette.common.errors import ConfigError
from scenepalette.data.classes import ClassTable
from scenepalette.segmenters.loading import build_segmenter, model_identity
from scenepalette.segmenters.model import feature_maps, pooled_features
from scenepalette.segmenters.registry import SEGMENTERS, network_problem, segmenter_problems
from scenepalette.segmenters.settings import SegmenterSettings

TABLE = ClassTable.unnamed(3)


def small(architecture: str) -> SegmenterSettings:
    encoder = "tu-vit_tiny_patch16_224" if architecture == "dpt" else "resnet18"
    return SegmenterSettings(architecture=architecture, encoder=encoder, decoder_channels=32)


@pytest.mark.parametrize("architecture", SEGMENTERS)
def test_every_architecture_gives_scores_features_and_gradients(architecture: str) -> None:
    torch.manual_seed(0)
    settings = small(architecture)
    model, image = build_segmenter(settings, TABLE), torch.rand(2, 3, 128, 160) * 2 - 1
    scores = model(image)
    assert scores.shape == (2, 3, 128, 160)
    scores.square().mean().backward()
    encoder: Any = model.encoder
    assert next(encoder.parameters()).grad is not None and list(model.parameters())[-1].grad is not None
    with torch.no_grad():
        maps = feature_maps(model.eval(), image)
        features = pooled_features(model, image)
    assert maps and all(one.ndim == 4 and one.shape[1] != 3 for one in maps)
    assert features.shape == (2, maps[-1].shape[1]) and features.isfinite().all()
    assert network_problem(settings, (128, 160)) == ""


def test_weights_are_those_of_one_architecture() -> None:
    identities = {name: model_identity(small(name), TABLE)["model"] for name in ("deeplabv3", "unet")}
    assert identities == {"deeplabv3": "deeplabv3-resnet18", "unet": "unet-resnet18"}


@pytest.mark.parametrize(
    ("architecture", "encoder", "weights", "problem"),
    [
        ("unet++", "resnet18", None, "segmenters.architecture: got 'unet++'; segmenters are deeplabv3, "),
        ("linknet", "mit_b0", None, "segmenters.encoder: 'mit_b0' cannot be Linknet's encoder"),
        ("deeplabv3plus", "vgg11", None, "segmenters.encoder: vgg11 cannot be dilated, as DeepLabV3+ needs it"),
        ("dpt", "resnet18", None, "segmenters.encoder: 'resnet18' cannot be DPT's encoder, which has to be a vision"),
        ("unet", "resnet18", "imagenette", "segmenters.encoder_weights: got 'imagenette'; resnet18 has "),
    ],
)
def test_what_does_not_go_together_is_said(architecture: str, encoder: str, weights: str | None, problem: str) -> None:
    (found,) = segmenter_problems(architecture, encoder, weights)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("architecture", "encoder"), [("unet", "densenet121"), ("fpn", "vgg11"), ("segformer", "mit_b0")]
)
def test_encoders_that_deeplabv3_cannot_have_suit_others(architecture: str, encoder: str) -> None:
    assert not segmenter_problems(architecture, encoder, None)
    assert network_problem(SegmenterSettings(architecture=architecture, encoder=encoder), (64, 96)) == ""


@pytest.mark.parametrize(("architecture", "size"), [("fpn", (48, 72)), ("unetplusplus", (40, 64)), ("unet", (45, 61))])
def test_sizes_need_not_be_multiples_of_a_stride(architecture: str, size: tuple[int, int]) -> None:
    assert network_problem(small(architecture), size) == ""


@pytest.mark.parametrize(("architecture", "size"), [("pan", (96, 128))])
def test_sizes_that_an_architecture_cannot_take(architecture: str, size: tuple[int, int]) -> None:
    assert network_problem(small(architecture), size).startswith(f"{architecture} cannot take it (")


SOURCE = """
from torch import nn
from scenepalette.segmenters.registry import Segmenter
class NoEncoder(nn.Conv2d):
    pass
BARE = Segmenter("bare", "no encoder", lambda table, settings: NoEncoder(3, len(table), 1), takes_encoder=False)
OTHER = Segmenter("another", "another name", print)
"""


def test_a_package_adds_one_and_its_faults_are_said(plugins: Plugins) -> None:
    plugins.install(SEGMENTERS, {"bare": "{module}:BARE", "misnamed": "{module}:OTHER"}, source=SOURCE)
    assert SEGMENTERS.source("bare") == "stranger 1.0"
    assert [*segmenter_problems("bare", "resnet18", "imagenet")] == [
        "segmenters.encoder_weights: bare brings its own encoder; leave it empty"
    ]
    (lacking,) = segmenter_problems("bare", "resnet18", None)
    assert lacking.startswith("segmenters.architecture: the network of bare has no attribute `encoder`; give it one")
    assert not segmenter_problems("bare", "resnet18", None, look_up=False)
    settings = SegmenterSettings(architecture="bare")
    assert "has no attribute 'encoder'" in network_problem(settings, (32, 32))
    (problem,) = SEGMENTERS.problems()
    assert problem.startswith("stranger 1.0") and "it calls itself 'another'" in problem
    with pytest.raises(ConfigError, match="it calls itself 'another'"):
        SEGMENTERS.get("misnamed")
