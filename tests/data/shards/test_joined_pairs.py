"""Pairs of several folders of shards as one set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from scenepalette.data.shards.pairs import FirstPairs, JoinedPairs, ShardPairs
from shard_folders import write_shards  # noqa: F401 (a fixture)


def test_rows_of_all_parts_come_in_any_order(tmp_path: Path, write_shards: Callable) -> None:  # noqa: F811
    first = write_shards(tmp_path / "a", [3, 2])
    second = write_shards(tmp_path / "b", [4])
    rows = [*first, *second[:3]]
    joined = JoinedPairs([ShardPairs(tmp_path / "a"), FirstPairs(ShardPairs(tmp_path / "b"), 3)])
    assert len(joined) == 8 and joined.ids == [row.id for row in rows]
    for indices in ([7, 0, 5, 4, 0], [2], range(8), np.array([6, 1])):
        images, labels = joined.batch(indices)
        expected = [rows[index] for index in indices]
        np.testing.assert_array_equal(labels.numpy(), np.stack([row.label for row in expected]))
        assert len(images) == len(expected)
    whole = ShardPairs(tmp_path / "b").batch([1])[0]
    np.testing.assert_array_equal(joined.batch([6, 3])[0][:1], whole)
