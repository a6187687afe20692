from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from scenepalette.training.monitor import (
    COLLAPSES,
    LEAST_GAPS,
    MEASUREMENTS,
    WINDOW,
    CollapseMonitor,
    preserve_state,
    summary_of_log,
    watch_interval,
)


def make_lines(count: int, **values: Callable[[int], float]) -> list[dict[str, Any]]:
    return [{"step": 20 * (i + 1), **{name: value(i) for name, value in values.items()}} for i in range(count)]


CHANCE = math.log(2)
HEALTHY = CollapseMonitor({"fake": CHANCE}, score_gap="critic")


@pytest.mark.parametrize(
    ("loss", "sign"),
    [
        (lambda i: 0.5 + 0.1 * (i % 2), None),
        (lambda i: CHANCE * (1 + 0.01 * (-1) ** i), "cannot tell"),
        (lambda i: 0.001, "tells all"),
        (lambda i: 0.5 if i == WINDOW // 2 else 0.001, None),  # one good step within the window
    ],
    ids=["healthy", "chance_level", "saturated", "saturated but for a step"],
)
def test_a_stalled_discriminator_is_seen_in_its_loss(loss: Callable[[int], float], sign: str | None) -> None:
    signs = HEALTHY(make_lines(WINDOW, fake=loss))
    assert (not signs) if sign is None else (len(signs) == 1 and sign in signs[0] and "loss fake" in signs[0])
    assert HEALTHY(make_lines(WINDOW - 1, fake=loss)) == []  # the window is not full


def test_a_critic_whose_gap_does_not_stand_out_is_stalled() -> None:
    assert HEALTHY(make_lines(WINDOW, critic=lambda i: -1.0 - (-1) ** i)) == []
    (sign,) = HEALTHY(make_lines(WINDOW, critic=lambda i: -0.1 - 3.0 * (-1) ** i))
    assert "scores generated and real samples alike" in sign
    assert HEALTHY(make_lines(WINDOW, critic=lambda i: 0.5)) == [sign]  # generated samples score higher


def test_a_new_level_begins_a_new_window() -> None:
    lines = make_lines(2 * WINDOW, critic=lambda i: 0.0, level=lambda i: int(i >= WINDOW))
    assert HEALTHY(lines[:WINDOW]) and HEALTHY(lines)
    assert HEALTHY(lines[: WINDOW + 3]) == []


def test_short_levels_are_judged_as_well() -> None:
    """A level of 160 steps has as many lines as a gap needs to be told from its scatter."""
    lines = make_lines(WINDOW, critic=lambda i: 3.0 * (-1) ** i, level=lambda i: int(i >= WINDOW - LEAST_GAPS))
    (sign,) = HEALTHY(lines)
    assert "scores generated and real samples alike" in sign
    assert HEALTHY(lines[:-1]) == []
    healthy = make_lines(WINDOW, critic=lambda i: -3.0 - (-1) ** i, level=lambda i: int(i >= WINDOW - LEAST_GAPS))
    assert HEALTHY(healthy) == []


@pytest.mark.parametrize("name", COLLAPSES)
def test_a_collapse_is_reported_after_measurements_in_a_row(name: str) -> None:
    least, text = COLLAPSES[name]
    low, fine = make_lines(MEASUREMENTS, **{name: lambda i: 0.5 * least}), {"step": 1, name: 2 * least}
    between = {"step": 2}  # lines without a measurement do not count
    assert HEALTHY([between, low[0], between, low[1], between, low[2], between]) == [text]
    assert HEALTHY([low[0], low[1]]) == []
    assert HEALTHY([*low, fine]) == []
    assert HEALTHY([fine, *low]) == [text]


def test_intervals_are_some_twentieth_of_a_training_and_logged_steps() -> None:
    assert watch_interval(8) == watch_interval(2000) == 100
    assert watch_interval(30_000) == 1500
    assert watch_interval(2100) == 120


def test_the_summary_tells_when_a_warning_was_seen() -> None:
    lines = make_lines(4, image_diversity=lambda i: 0.1 * i)
    lines[1]["warnings"] = ["a", "b"]
    lines[2]["warnings"] = ["b"]
    lines[3]["warnings"] = ["b"]
    assert summary_of_log(lines) == {
        "steps": 80,
        "measures": {"image_diversity": pytest.approx(0.3)},
        "warnings": [
            {"text": "a", "first": 40, "last": 40, "at_end": False},
            {"text": "b", "first": 40, "last": 80, "at_end": True},
        ],
    }
    assert summary_of_log([]) == {"steps": 0, "measures": {}, "warnings": []}


def test_looking_leaves_no_trace() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    torch.manual_seed(5)
    wanted, before = torch.rand(3), {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(5)
    with preserve_state(network):
        assert not network.training
        network.train()
        assert not network(torch.randn(4, 3)).requires_grad
        network.get_buffer("1.running_mean").add_(1)
    assert network.training
    assert torch.equal(torch.rand(3), wanted)
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
