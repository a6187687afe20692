from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from scenepalette.training.device import compiling
from scenepalette.training.device.compiling import compiled, compiler_problem
from scenepalette.training.device.speed import Speed
from scenepalette.training.fabric import make_fabric
from scenepalette.training.trainee import Trainee, take_step

CPU = torch.device("cpu")


def test_nothing_is_compiled_unless_it_is_asked_for() -> None:
    network = nn.Linear(1, 1)
    assert compiled(network, "off", CPU) is network


def test_without_a_compiler_the_network_is_computed_as_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiling, "compiler_problem", lambda device_type: "no g++ here")
    network = nn.Linear(1, 1)
    assert compiled(network, "default", CPU) is network
    said = capsys.readouterr().err
    assert "compute.compile is default" in said and "no g++ here" in said and "leave compute.compile off" in said


def test_graphs_are_of_the_main_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(compiling, "compiler_problem", lambda device_type: "")
    monkeypatch.setattr(torch, "compile", lambda module, mode, **_: modes.append(mode))
    for choice in ("graphs", "default"):
        compiled(nn.Linear(1, 1), choice, torch.device("cuda"))
    thread = threading.Thread(target=compiled, args=(nn.Linear(1, 1), "graphs", torch.device("cuda")))
    thread.start()
    thread.join()
    assert modes == ["reduce-overhead", "default", "default"]


def test_why_nothing_can_be_compiled_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(function: object) -> object:
        raise RuntimeError("there is no compiler\nand much more")

    monkeypatch.setattr(torch, "compile", fail)
    assert compiler_problem.__wrapped__("cpu") == "there is no compiler"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "graphs"])
def test_a_compiled_network_learns_what_a_plain_one_does(mode: str) -> None:
    # Asked here and not in a mark, which every worker would compile for as it collects.
    if problem := compiler_problem("cpu"):
        pytest.skip(f"there is no C++ compiler: {problem}")
    weights = []
    for choice in ("off", mode):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))
        adam = lambda parameters, **_: torch.optim.Adam(parameters, lr=0.1)  # noqa: E731
        trainee = Trainee("network", network, adam, make_fabric(speed=Speed(compile=choice)))  # type: ignore[arg-type]
        for step in range(3):
            take_step(step, trainee.forward(torch.randn(2, 2, 6, 6)).square().mean(), trainee)
        assert trainee.module is network and set(network.state_dict()) == set(trainee.module.state_dict())
        weights.append(network[0].weight.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)
