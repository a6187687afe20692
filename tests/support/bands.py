"""Fixtures of the tests of segmenters and metrics: pairs whose three classes are bands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import IGNORE_ID, ClassTable, SemanticClass
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
def fabric() -> Fabric:
    torch.set_num_threads(1)
    return make_fabric()
