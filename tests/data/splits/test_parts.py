from __future__ import annotations

import numpy as np
import pytest

from scenepalette.data.splits.parts import order_of_parts, part_of, size_of_part
from scenepalette.data.splits.sequences import sequences_of

FRACTIONS = (0.1, 0.25, 0.5, 0.8, 1.0)


def drives(*lengths: int) -> list[str]:
    return [f"drive{name}_{30 * frame:05d}" for name, length in enumerate(lengths) for frame in range(length)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parts_are_beginnings_of_recordings_each_inside_the_next(seed: int) -> None:
    ids = drives(40, 20, 4)
    # The order of files is not that of frames.
    ids = [ids[index] for index in np.random.default_rng(seed).permutation(len(ids))]
    before: set[int] = set()
    for fraction in FRACTIONS:
        part = part_of(ids, fraction, seed, recordings=True)
        assert len(part) == size_of_part(64, fraction) and part.tolist() == sorted(part)
        assert before <= set(part.tolist())
        before = set(part.tolist())
        for frames in sequences_of(ids):
            taken = [index in before for index in frames]
            assert taken == sorted(taken, reverse=True)  # none after the first that is left out
            assert abs(sum(taken) - fraction * len(frames)) <= 1
    assert before == set(range(64))


def test_a_quarter_of_recordings_by_hand() -> None:
    """Places are (i + u) / n: of 8 and 4 frames a quarter, 3 of 12, are frames 0 and 1, and 0, whatever u is."""
    for seed in range(20):
        part = part_of(drives(8, 4), 0.25, seed, recordings=True)
        assert part.tolist() == [0, 1, 8]


def test_independent_images_are_chosen_at_random_by_the_seed_alone() -> None:
    ids = drives(50)
    parts = [set(part_of(ids, 0.5, seed, recordings=False).tolist()) for seed in (3, 3, 4)]
    assert parts[0] == parts[1] != parts[2]
    assert set(range(25)) not in parts
    # As are images whose names tell of no recording.
    names = [f"{index:b}".replace("0", "x").replace("1", "y") for index in range(50)]
    assert set(part_of(names, 0.5, 3, recordings=True).tolist()) == parts[0]


def test_an_order_holds_every_sample_once_and_a_part_one_at_least() -> None:
    assert sorted(order_of_parts(drives(5, 2, 1), 0, recordings=True)) == list(range(8))
    assert [size_of_part(10, fraction) for fraction in (0.001, 0.25, 0.34, 1.0)] == [1, 3, 3, 10]
