"""What makes trainings faster, against the same trainings without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.segmenters import train
from scenepalette.segmenters.settings import SegmenterSettings
from scenepalette.segmenters.train import train_segmenter
from scenepalette.training.fabric import make_fabric

MakePairs = Callable[..., Pairs]
MakeSettings = Callable[..., SegmenterSettings]


class StopAt:
    """Progress that ends the work after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def start(self, description: str, total: int, done: int = 0) -> None:
        pass

    def advance(self, count: int = 1, **values: float) -> None:
        self.left -= count
        if self.left == 0:
            raise KeyboardInterrupt

    def finish(self) -> None:
        pass


def test_fused_steps_are_those_weight_by_weight_also_after_resuming(
    tmp_path: Path, make_pairs: MakePairs, make_settings: MakeSettings, table: ClassTable
) -> None:
    settings = make_settings(optimizer="adamw", learning_rate=1e-3, checkpoint_every=2, statistics_images=0)
    given: dict[str, Any] = {"real": make_pairs(), "synthetic": None, "table": table, "seed": 0}
    # In double precision, as batches of two images magnify rounding.
    given["fabric"] = make_fabric(precision="64-true")
    fused = train._optimizer(settings)
    with patch.object(train, "_optimizer", lambda settings: lambda parameters, **_: fused(parameters, fused=False)):
        expected = train_segmenter(tmp_path / "plain", settings, **given)
    with pytest.raises(KeyboardInterrupt):
        train_segmenter(tmp_path / "fused", settings, progress=StopAt(3), **given)
    measured = train_segmenter(tmp_path / "fused", settings, **given)
    torch.testing.assert_close(dict(measured.state_dict()), dict(expected.state_dict()), rtol=1e-6, atol=1e-9)


class Counted:
    """Pairs that count how many of them were read."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs, self.table, self.size, self.ids, self.read = pairs, pairs.table, pairs.size, pairs.ids, 0

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        self.read += len(indices)
        return self.pairs.batch(indices)


def test_generated_pairs_that_are_taken_often_are_read_once(
    tmp_path: Path, make_pairs: MakePairs, make_settings: MakeSettings, table: ClassTable, fabric: Fabric
) -> None:
    settings = make_settings(steps=8, batch_size=4, statistics_images=0)
    networks, read = [], []
    for most in (0, train.MOST_KEPT_BYTES):
        synthetic: Any = Counted(make_pairs(count=3, seed=1))
        with patch.object(train, "MOST_KEPT_BYTES", most):
            given = {"real": make_pairs(), "synthetic": synthetic, "table": table, "seed": 0, "fabric": fabric}
            networks.append(train_segmenter(tmp_path / str(most), settings, **given))
        read.append(synthetic.read)
    assert read == [15, 3]  # 2 images a step, and 2, 1, 1 ... as their share falls
    first, second = networks
    torch.testing.assert_close(dict(first.state_dict()), dict(second.state_dict()), rtol=0, atol=0)


def test_pairs_that_are_taken_once_or_lie_decoded_are_read_as_they_are_needed(
    make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    settings = make_settings(steps=8, batch_size=4)
    domains: Any = {"real": make_pairs(), "synthetic": make_pairs(count=3)}
    assert train._is_worth_keeping(settings, domains, "synthetic")
    assert not train._is_worth_keeping(settings, domains, "real")
    assert not train._is_worth_keeping(replace(settings, steps=2), domains, "synthetic")
