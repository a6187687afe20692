from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from scenepalette.common.errors import TrainingError
from scenepalette.training.device.finite import DeferredChecks
from scenepalette.training.device.speed import Speed
from scenepalette.training.fabric import make_fabric
from scenepalette.training.loop import Training, read_metrics
from scenepalette.training.trainee import Trainee, take_step

SGD = partial(torch.optim.SGD, lr=0.5)


def test_finite_numbers_settle_and_are_forgotten() -> None:
    network = nn.Linear(2, 1)
    network(torch.ones(1, 2)).sum().backward()
    checks = DeferredChecks()
    checks.settle()
    checks.note_losses(0, generator=torch.tensor(-3e38, requires_grad=True))
    checks.note_gradients(0, generator=network, unused=nn.Linear(1, 1))
    checks.settle()
    assert network.bias.grad is not None
    network.bias.grad[0] = float("nan")  # after it was noted
    checks.settle()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -3e19])
def test_the_first_gradient_that_is_not_finite_is_named_with_its_step(value: float) -> None:
    network, checks = nn.Linear(2, 1), DeferredChecks()
    network(torch.ones(1, 2)).sum().backward()
    checks.note_gradients(2, discriminator=network)
    assert network.bias.grad is not None
    network.bias.grad[0] = value
    checks.note_gradients(3, discriminator=network)
    checks.note_losses(4, discriminator=torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match=r"discriminator is not finite at step 3 \(first in bias\)"):
        checks.settle()


def test_the_first_loss_that_is_not_finite_is_named_with_its_step() -> None:
    checks = DeferredChecks()
    for step, value in enumerate((1.0, float("inf"), float("nan"))):
        checks.note_losses(step, image=torch.tensor(value))
    with pytest.raises(TrainingError, match="loss image became inf at step 1, and nothing was learned"):
        checks.settle()


def run(folder: Path, broken_at: int, speed: Speed, saved_at: int = 4) -> Trainee[nn.Linear]:
    """Train a weight for 30 steps, of which one has a loss that is not a number."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 3.0)
    trainee = Trainee("generator", network, SGD, make_fabric(speed=speed))
    training = Training(folder, "test", 30, {"generator": trainee}, {}, seed=0)
    for step in training.steps("test"):
        loss = 1e-3 * trainee.forward(torch.ones(1, 1)).sum() * (float("nan") if step == broken_at else 1.0)
        take_step(step, loss, trainee)
        values = training.advance({"loss": loss})
        if training.due(10):
            training.log(values)
        if training.due(saved_at):
            training.save()
    return trainee


def test_a_broken_step_is_never_kept(tmp_path: Path) -> None:
    message = "loss generator became nan at step 17"
    with pytest.raises(TrainingError, match=message):
        run(tmp_path / "plain", 17, Speed())
    with pytest.raises(TrainingError, match=message):
        run(tmp_path / "deferred", 17, Speed(deferred=True))
    for name in ("plain", "deferred"):
        assert [path.name[11:19] for path in sorted((tmp_path / name).glob("checkpoint-*"))] == ["00000012", "00000016"]
        assert [line["step"] for line in read_metrics(tmp_path / name / "metrics.jsonl")] == [10]


@pytest.mark.parametrize("broken_at", [28, 29])
def test_a_step_after_the_last_line_is_looked_at_too(broken_at: int, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=f"at step {broken_at}"):
        run(tmp_path / "deferred", broken_at, Speed(deferred=True), saved_at=100)


def test_deferred_steps_log_and_learn_what_others_do(tmp_path: Path) -> None:
    plain, deferred = run(tmp_path / "plain", -1, Speed()), run(tmp_path / "deferred", -1, Speed(deferred=True))
    assert torch.equal(plain.module.weight, deferred.module.weight)
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("plain", "deferred")]
    assert logs[0] == logs[1] and logs[0].count("\n") == 3
