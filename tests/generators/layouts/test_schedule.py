from __future__ import annotations

import pytest

from scenepalette.generators.layouts.schedule import batch_sizes_of, lists_of


def test_epochs_fall_as_in_the_paper() -> None:
    batches = (1024, 512, 256, 64, 16, 8)
    lists = lists_of(125_333, 6, batches)
    epochs = [
        (fade + stable) * batch / 2975
        for fade, stable, batch in zip(lists.fade_steps, lists.stable_steps, batches, strict=True)
    ]
    assert epochs == pytest.approx([600, 510, 420, 330, 240, 150], rel=0.002)


@pytest.mark.parametrize("levels", [1, 2, 4, 6, 9])
@pytest.mark.parametrize("more", [0, 1, 7, 1000])
def test_no_step_is_lost_and_no_level_left_out(levels: int, more: int) -> None:
    fades, stables, batches = lists_of(levels + more, levels)
    assert sum(fades) + sum(stables) == levels + more
    assert len(fades) == len(stables) == len(batches) == levels
    assert fades[0] == 0 and min(fades) >= 0 and min(stables) >= 1


def test_batch_sizes_double_towards_the_coarsest_level_up_to_a_limit() -> None:
    assert batch_sizes_of(7) == (256, 256, 128, 64, 32, 16, 8)
    assert batch_sizes_of(1) == (8,)
