"""Statistics of batch norms, against sums over all values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from scenepalette.segmenters.norm_statistics import measure_statistics


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(4, 2, 3),
        nn.BatchNorm2d(2),
    )


def test_statistics_are_those_of_all_values_together() -> None:
    model = network()
    batches = [torch.randn(size, 3, 6, 7, generator=torch.Generator().manual_seed(size)) + size for size in (2, 5)]
    first, second = [], []
    with torch.no_grad():
        for batch in batches:
            before = model[0](batch)
            # As in training, by the batch's own mean and variance.
            mean = before.mean(dim=(0, 2, 3), keepdim=True)
            variance = before.var(dim=(0, 2, 3), correction=0, keepdim=True)
            normal = (before - mean) / (variance + 1e-5).sqrt()
            first.append(before)
            second.append(model[4](normal.relu()))
    measure_statistics(model, model, batches)
    for norm, parts in ((model[1], first), (model[5], second)):
        values = torch.cat([part.transpose(0, 1).flatten(1) for part in parts], dim=1).double()
        torch.testing.assert_close(norm.running_mean.double(), values.mean(dim=1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var.double(), values.var(dim=1, correction=0), rtol=1e-4, atol=1e-5)
    assert not any(module.training for module in model.modules())


def test_nothing_else_changes_and_a_second_time_gives_the_same() -> None:
    model = network()
    weights = {name: value.clone() for name, value in model.named_parameters()}
    batch = torch.randn(4, 3, 6, 7)
    measure_statistics(model, model, [batch])
    once = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    measure_statistics(model, model, [batch])
    for name, value in model.named_parameters():
        assert torch.equal(value, weights[name])
    for name, value in once.items():
        assert torch.equal(value, dict(model.named_buffers())[name])


def test_a_network_without_batch_norms_reads_no_image() -> None:
    def batches() -> Iterator[torch.Tensor]:
        yield pytest.fail("an image was read")

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    measure_statistics(model, model, batches())


def test_momentum_and_norms_that_saw_nothing_stay_as_they_were() -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.BatchNorm2d(3, momentum=0.3), nn.BatchNorm2d(3, momentum=None)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    model = Partly()
    for norm in (model.used, model.unused):
        norm.running_mean.fill_(float("inf"))  # type: ignore[union-attr]
        norm.running_var.fill_(7.0)  # type: ignore[union-attr]
    images = torch.randn(4, 3, 5, 5)
    measure_statistics(model, model, [images])
    assert (model.used.momentum, model.unused.momentum) == (0.3, None)
    torch.testing.assert_close(model.used.running_mean, images.mean(dim=(0, 2, 3)))
    assert torch.isinf(model.unused.running_mean).all() and (model.unused.running_var == 7.0).all()  # type: ignore
    with pytest.raises(ValueError, match="stopped"):
        measure_statistics(model, model, (_stopped() for _ in range(1)))
    torch.testing.assert_close(model.used.running_mean, images.mean(dim=(0, 2, 3)))


def _stopped() -> torch.Tensor:
    raise ValueError("stopped")
