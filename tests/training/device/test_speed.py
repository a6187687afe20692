from __future__ import annotations

from functools import partial

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from scenepalette.training.device.speed import Speed, speed_of, usual_speed
from scenepalette.training.fabric import make_fabric
from scenepalette.training.trainee import Trainee, take_step


def test_a_cpu_is_used_as_ever_and_a_gpu_unless_it_is_asked_not_to() -> None:
    assert usual_speed("cpu") == usual_speed("cuda", plain=True) == Speed()
    assert usual_speed("cuda") == Speed(fused=True, deferred=True, resident=True, tuned=True, beside=True)
    assert usual_speed("cpu", compile="default", label_patches=True) == Speed(compile="default", label_patches=True)


def test_a_fabric_says_how_its_device_is_used() -> None:
    assert speed_of(make_fabric()) == speed_of(Fabric(accelerator="cpu")) == Speed()
    assert speed_of(make_fabric(speed=Speed(fused=False))) == Speed(fused=False)


@pytest.mark.parametrize(
    "optimizer", [partial(torch.optim.Adam, lr=0.1), partial(torch.optim.SGD, lr=0.1, momentum=0.9)]
)
def test_fused_steps_are_the_others(optimizer: partial[torch.optim.Optimizer]) -> None:
    weights = []
    for speed in (Speed(fused=False), Speed()):
        torch.manual_seed(0)
        trainee = Trainee("network", nn.Linear(5, 3), optimizer, make_fabric(speed=speed))
        for step in range(5):
            take_step(step, trainee.forward(torch.randn(4, 5)).square().mean(), trainee)
        assert bool(trainee.optimizer.param_groups[0].get("fused")) == speed.fused
        weights.append(trainee.module.weight.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6)
