"""Judgements of teachers that are known, against calculations by hand."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from scenepalette.common.progress import NO_PROGRESS
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.evaluation.pair_quality.judging import judge_pairs, judged_row
from scenepalette.evaluation.pair_quality.quality import QualityRow
from scenepalette.training.fabric import make_fabric


class _Teacher(nn.Module):
    """Gives every pixel the same probabilities."""

    def __init__(self, *probabilities: float) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(probabilities).log())

    def forward(self, image: Tensor) -> Tensor:
        return self.logits.view(1, -1, 1, 1).expand(len(image), -1, *image.shape[2:])


def test_judges_mean_probability_is_set_against_the_label() -> None:
    labels = np.zeros((3, 1, 4), np.uint8)
    labels[:] = [0, 1, 1, 255]
    pairs = Pairs(np.zeros((3, 1, 4, 3), np.uint8), labels, ["a", "b", "c"], ClassTable.unnamed(2), "three", "none")
    teachers = [_Teacher(0.9, 0.1), _Teacher(0.3, 0.7)]
    fabric = make_fabric("cpu", "32-true")
    judges = [(0, 1), (), (1,)]
    both, nobody, one = judge_pairs(teachers, pairs, judges, 2, fabric, NO_PROGRESS, "judging")
    assert nobody is None
    assert both is not None and one is not None
    np.testing.assert_allclose(both.losses[0], [-math.log(0.6), -math.log(0.4), -math.log(0.4), 0.0], rtol=1e-5)
    np.testing.assert_allclose(one.losses[0], [-math.log(0.3), -math.log(0.7), -math.log(0.7), 0.0], rtol=1e-5)
    assert (both.predicted.tolist(), one.predicted.tolist()) == ([[0, 0, 0, 0]], [[1, 1, 1, 1]])
    np.testing.assert_allclose(both.confidence, 0.6, rtol=1e-5)

    # Class 0 has mean loss 0.4: 0.51 is above 1.25 times that. Class 1 has 1.0: 0.92 is below.
    row = QualityRow("a", (0, 1), "r", 2.0, copy=False, palette_kl=0.1)
    row = judged_row(row, both, np.array([0.4, 1.0]))
    assert (row.trusted, row.trusted_per_class) == (2 / 3, [0.0, 1.0])
    assert row.agreement == 1 / 3
    np.testing.assert_allclose(
        [row.mean_loss, row.trusted_loss], [-(math.log(0.6) + 2 * math.log(0.4)) / 3, -math.log(0.4)], rtol=1e-5
    )
    assert row.level_counts is not None and row.level_counts.sum(axis=1).tolist() == [1, 2]
