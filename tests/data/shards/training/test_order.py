"""The order of an epoch: every row once, in parts of equal size, the same however far one jumps."""

from __future__ import annotations

import numpy as np
import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.data.shards.training.order import EpochOrder


def rows_of(order: EpochOrder) -> list[list[int]]:
    """Return the rows of all batches."""
    return [order.rows(batch).tolist() for batch in range(order.batches)]


def orders(shard_rows: tuple[int, ...], world_size: int, **options) -> list[EpochOrder]:
    """Return the orders of all ranks."""
    given = {"batch_size": 5, "seed": 3, "epoch": 0, "shuffle_rows": 20, **options}
    return [EpochOrder(shard_rows, rank=rank, world_size=world_size, **given) for rank in range(world_size)]


@pytest.mark.parametrize("shard_rows", [(1,), (64,), (7, 65, 128, 1), (200, 200, 100), (2000, 1)])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 300])
def test_every_row_comes_once_over_all_ranks(shard_rows, world_size, batch_size):
    found = [
        row
        for order in orders(shard_rows, world_size, batch_size=batch_size)
        for batch in rows_of(order)
        for row in batch
    ]
    assert sorted(found) == list(range(sum(shard_rows)))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_only_the_last_batch_is_smaller_and_ranks_have_equal_parts(world_size):
    parts = [[len(batch) for batch in rows_of(order)] for order in orders((700, 333), world_size)]
    for sizes in parts:
        assert set(sizes[:-1]) == {5}
    counts = [sum(sizes) for sizes in parts]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("remainder", "batches"), [("drop", 34), ("pad", 35)])
def test_ranks_have_equal_numbers_of_whole_batches_if_asked(remainder, batches):
    # 517 rows over 3 ranks in batches of 5: 34.5 batches each.
    found = [rows_of(order) for order in orders((500, 17), 3, remainder=remainder)]
    assert [[len(batch) for batch in part] for part in found] == [[5] * batches] * 3
    counts = np.bincount([row for part in found for batch in part for row in batch], minlength=517)
    assert counts.sum() == 15 * batches
    # As few rows as possible are left out or repeated.
    assert set(counts) == ({0, 1} if remainder == "drop" else {1, 2})


def test_padding_repeats_a_set_that_is_smaller_than_one_round():
    found = [rows_of(order) for order in orders((2,), 3, remainder="pad")]
    assert [[len(batch) for batch in part] for part in found] == [[5]] * 3
    counts = np.bincount([row for part in found for row in part[0]])
    assert sorted(counts) == [7, 8]


def test_a_batch_is_the_same_whatever_was_asked_before():
    (order,) = orders((3000,), 1)
    in_turn = rows_of(order)
    assert order.lanes == 24
    jumps = np.random.default_rng(0).permutation(order.batches)
    (other,) = orders((3000,), 1)
    for batch in jumps:
        assert other.rows(batch).tolist() == in_turn[batch]


def test_order_depends_on_seed_and_epoch_alone():
    def first(**options) -> list[list[int]]:
        return rows_of(orders((300, 300), 1, **options)[0])

    assert first() == first()
    assert first(seed=4) != first()
    assert first(epoch=1) != first()


def test_rows_are_shuffled_across_chunks_and_within_them():
    (order,) = orders((64 * 40,), 1, shuffle_rows=640, batch_size=16)
    batches = rows_of(order)
    for batch in batches:
        assert batch != sorted(batch)
    chunks_per_batch = [len({row // 64 for row in batch}) for batch in batches]
    assert np.mean(chunks_per_batch) > 2
    # A correlation near 0 between place and row: no drift through the set.
    flat = np.concatenate(batches)
    assert abs(np.corrcoef(np.arange(flat.size), flat)[0, 1]) < 0.25


@pytest.mark.parametrize("workers", [2, 3, 4, 6, 8, 12, 24])
def test_workers_of_a_large_set_share_few_chunks(workers):
    (order,) = orders((64 * 100,), 1, shuffle_rows=240, batch_size=5)
    read = [
        {row // 64 for batch in range(worker, order.batches, workers) for row in order.rows(batch)}
        for worker in range(workers)
    ]
    # Chunks at the ends of the 24 lanes are read twice, no other.
    assert sum(map(len, read)) <= 100 + order.lanes


def test_batches_that_are_open_at_a_time_lie_in_few_chunks():
    (order,) = orders((64 * 600,), 1, shuffle_rows=24 * 64, batch_size=16)
    assert (order.lanes, order.window) == (24, 64)
    batches = rows_of(order)
    for start in range(0, order.batches - 96, 96):  # one window of each lane
        chunks = {row // 64 for batch in batches[start : start + 96] for row in batch}
        assert len(chunks) <= 2 * 24


def test_numbers_out_of_range_are_named_together():
    with pytest.raises(ConfigError) as error:
        EpochOrder((10,), batch_size=0, seed=0, epoch=-1, rank=2, world_size=2, shuffle_rows=0)
    assert len(error.value.problems) == 4
    with pytest.raises(ConfigError, match="remainder is 'lose'"):
        EpochOrder((10,), batch_size=1, seed=0, epoch=0, remainder="lose")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="nothing is left"):
        EpochOrder((10,), batch_size=4, seed=0, epoch=0, world_size=3, remainder="drop")
    with pytest.raises(IndexError, match="Batch 2 of 2"):
        EpochOrder((10,), batch_size=5, seed=0, epoch=0).rows(2)
