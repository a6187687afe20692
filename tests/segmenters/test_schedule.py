"""What a step takes of each domain, and how its losses are joined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from scenepalette.common.errors import ConfigError
from scenepalette.segmenters.schedule import combined_loss, division_problems, images_of_step, learning_rate_factor
from scenepalette.segmenters.settings import SegmenterSettings

MakeSettings = Callable[..., SegmenterSettings]


def synthetic_counts(settings: SegmenterSettings) -> list[int]:
    steps = [images_of_step(settings, ("real", "synthetic"), step) for step in range(settings.steps)]
    assert {sum(step.values()) for step in steps} == {settings.batch_size}
    assert all(0 not in step.values() for step in steps)
    return [step.get("synthetic", 0) for step in steps]


def test_the_share_falls_to_nothing_over_the_last_part(make_settings: MakeSettings) -> None:
    settings = make_settings(steps=16, batch_size=8, synthetic_share=0.5, synthetic_fade=0.5)
    # From step 8 on, 4 images times 8/8, 7/8, ... 1/8; halves go up.
    assert synthetic_counts(settings) == [4] * 8 + [4, 4, 3, 3, 2, 2, 1, 1]
    longer = make_settings(steps=64, batch_size=8, synthetic_share=0.5, synthetic_fade=0.5)
    assert synthetic_counts(longer)[-4:] == [0 if 4 * left / 32 < 0.5 else 1 for left in (4, 3, 2, 1)]
    assert synthetic_counts(longer)[-1] == 0


def test_without_a_fade_the_share_stays(make_settings: MakeSettings) -> None:
    assert synthetic_counts(make_settings(steps=5, batch_size=8, synthetic_share=0.3, synthetic_fade=0.0)) == [2] * 5


@pytest.mark.parametrize("adaptation", ["advent", "minent"])
def test_an_adaptation_has_both_domains_to_the_end(adaptation: Any, make_settings: MakeSettings) -> None:
    settings = make_settings(steps=5, batch_size=8, synthetic_share=0.25, synthetic_fade=1.0, adaptation=adaptation)
    assert synthetic_counts(settings) == [2] * 5


def test_pre_training_takes_generated_images_first(make_settings: MakeSettings) -> None:
    settings = make_settings(steps=10, batch_size=8, synthetic_share=0.3, schedule="pretrain")
    assert synthetic_counts(settings) == [8] * 3 + [0] * 7


@pytest.mark.parametrize("domain", ["real", "synthetic"])
def test_one_domain_fills_the_batch(domain: Any, make_settings: MakeSettings) -> None:
    settings = make_settings(steps=4, batch_size=6)
    assert [images_of_step(settings, (domain,), step) for step in range(4)] == [{domain: 6}] * 4


def test_the_loss_is_the_mean_by_images_and_weight() -> None:
    losses: dict[Any, Any] = {"real": torch.tensor(2.0), "synthetic": torch.tensor(5.0)}
    # (6 * 2 + 0.5 * 4 * 5) / (6 + 0.5 * 4)
    assert combined_loss(losses, {"real": 6, "synthetic": 4}, 0.5).item() == pytest.approx(22 / 8)
    # Generated images alone count fully, whatever their weight.
    assert combined_loss({"synthetic": losses["synthetic"]}, {"synthetic": 4}, 0.5).item() == pytest.approx(5.0)
    # Images without labels are of the batch, but not of its loss.
    alone = combined_loss({"synthetic": losses["synthetic"]}, {"real": 6, "synthetic": 4}, 0.5)
    assert alone.item() == pytest.approx(5.0)


def test_rates_rise_and_fall(make_settings: MakeSettings) -> None:
    settings = make_settings(steps=100, warmup=0.1, poly_power=1.0)
    assert learning_rate_factor(settings, 0) == pytest.approx(0.1)
    assert learning_rate_factor(settings, 4) == pytest.approx(0.5 * 0.96)
    assert learning_rate_factor(settings, 9) == pytest.approx(0.91)
    assert learning_rate_factor(settings, 50) == pytest.approx(0.5)
    assert learning_rate_factor(make_settings(steps=100, warmup=0.0), 0) == 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"synthetic_share": 0.1}, "segmenters.batch_size: 4 images"),
        ({"synthetic_share": 0.95}, "segmenters.batch_size: 4 images"),
        ({"schedule": "pretrain", "synthetic_share": 0.05}, "0.05 of 4 steps"),
        ({"schedule": "pretrain", "adaptation": "advent"}, "use mixed"),
    ],
)
def test_batches_that_cannot_be_divided(changes: dict[str, Any], words: str, make_settings: MakeSettings) -> None:
    (problem,) = division_problems(make_settings(batch_size=4, **changes))
    assert words in problem


def test_batches_that_can_be_divided(make_settings: MakeSettings) -> None:
    assert not division_problems(make_settings(batch_size=2))
    assert not division_problems(make_settings(batch_size=4, synthetic_share=0.125))
    assert not division_problems(make_settings(batch_size=4, schedule="pretrain", synthetic_share=0.2))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("synthetic_share", 0.0),
        ("synthetic_share", 1.0),
        ("synthetic_fade", 1.5),
        ("synthetic_weight", 0.0),
        ("warmup", 1.0),
        ("mixing_probability", -0.1),
        ("schedule", "mix"),
        ("optimizer", "adam"),
    ],
)
def test_settings_out_of_range_are_named(field: str, value: Any, make_settings: MakeSettings) -> None:
    with pytest.raises(ConfigError, match=rf"segmenters\.{field} is {value!r}"):
        make_settings(**{field: value})
