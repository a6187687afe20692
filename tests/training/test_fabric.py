from __future__ import annotations

import pytest
import torch
from torch import nn

from scenepalette.common.errors import ConfigError
from scenepalette.training.fabric import make_fabric


def test_the_default_is_one_cpu_in_single_precision() -> None:
    fabric = make_fabric()
    assert (fabric.device.type, fabric.world_size) == ("cpu", 1)
    layer = fabric.setup(nn.Linear(2, 2))
    assert layer(torch.zeros(1, 2)).dtype == torch.float32
    with fabric.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32_weights() -> None:
    fabric = make_fabric(precision="bf16-mixed")
    layer = fabric.setup(nn.Linear(2, 2))
    assert layer.weight.dtype == torch.float32
    with fabric.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"compute\.accelerator is cuda, but torch sees no GPU"):
        make_fabric("cuda")


def test_auto_takes_what_there_is() -> None:
    assert make_fabric("auto").device.type == ("cuda" if torch.cuda.is_available() else "cpu")
