from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision.models import alexnet

from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import IGNORE_ID, ClassTable, SemanticClass
from scenepalette.segmenters.settings import SegmenterSettings
from scenepalette.training.fabric import make_fabric

TABLE = ClassTable(
    "three",
    (
        SemanticClass("ground", (90, 60, 40)),
        SemanticClass("wall", (40, 90, 200)),
        SemanticClass("sky", (200, 220, 250), evaluated=False),
    ),
)


@pytest.fixture
def table() -> ClassTable:
    return TABLE


@pytest.fixture
def make_pairs() -> Callable[..., Pairs]:
    """Bands of three classes in their colours plus noise, 32x48, with some ignored pixels."""

    def make(count: int = 6, seed: int = 0, brightness: int = 0, size: tuple[int, int] = (32, 48)) -> Pairs:
        generator = np.random.default_rng(seed)
        height, width = size
        labels = np.zeros((count, height, width), dtype=np.uint8)
        for label in labels:
            first, second = sorted(generator.integers(4, height - 4, 2))
            label[:first], label[first:second] = 2, 1
        images = TABLE.colors[labels].astype(np.int64) + generator.integers(-20, 20, (count, height, width, 3))
        labels[:, :2, :5] = IGNORE_ID
        return Pairs(
            images=(images + brightness).clip(0, 255).astype(np.uint8),
            labels=labels,
            ids=[f"{seed}-{index}" for index in range(count)],
            table=TABLE,
            name="bands",
            licence="CC0-1.0",
        )

    return make


@pytest.fixture
def make_settings() -> Callable[..., SegmenterSettings]:
    def make(**changes: Any) -> SegmenterSettings:
        small: dict[str, Any] = {"steps": 4, "batch_size": 2, "decoder_channels": 8, "discriminator_width": 4}
        small |= {"output_stride": 16, "log_every": 1}
        return SegmenterSettings(**(small | changes))

    return make


@pytest.fixture
def fabric() -> Fabric:
    torch.set_num_threads(1)
    return make_fabric()


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in torch-fidelity's format."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # as they start out, 94 layers leave nothing of the differences of images
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def alexnet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in torchvision's format; those of the large layers that LPIPS leaves out are one stored zero."""
    path = tmp_path_factory.mktemp("alexnet") / "weights.pth"
    torch.manual_seed(0)
    weights = alexnet(weights=None).state_dict()
    for name, value in weights.items():
        if name.startswith("classifier"):
            weights[name] = torch.zeros(1).expand(value.shape)
    torch.save(weights, path)
    assert path.stat().st_size < 20 * 2**20
    return path
