"""Decoded copies: the same pixels, whole or absent, never those of another shard."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from scenepalette.common.errors import DataError
from scenepalette.common.progress import NoProgress
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.data.shards.pairs import ShardPairs, decode_shards
from scenepalette.data.shards.schema import shard_name


class Watched(NoProgress):
    def __init__(self):
        self.total, self.counts = 0, []

    def start(self, description, total, done=0):
        self.total = total

    def advance(self, count=1, **values):
        self.counts.append(count)


def test_pixels_are_those_of_the_shards(tmp_path, write_shards):
    rows = write_shards(tmp_path / "shards", (70, 5))
    watched = Watched()
    to = decode_shards(tmp_path / "shards", tmp_path / "decoded", progress=watched)
    assert (watched.total, watched.counts) == (75, [70, 5])
    pairs = ShardPairs(tmp_path / "shards", decoded=to)
    assert pairs.size == (8, 12)
    indices = [74, 0, 69, 70, 3, 3]
    images, labels = pickle.loads(pickle.dumps(pairs)).batch(indices)
    expected_images, expected_labels = ShardPairs(tmp_path / "shards").batch(indices)
    assert torch.equal(images, expected_images)
    assert images.is_contiguous()
    assert torch.equal(labels, expected_labels)
    np.testing.assert_array_equal(labels.numpy(), np.stack([rows[index].label for index in indices]))


def test_finished_copies_are_kept_and_missing_ones_made(tmp_path, write_shards):
    write_shards(tmp_path / "shards", (6, 5))
    to = decode_shards(tmp_path / "shards", tmp_path / "decoded")
    first, second = (sha256_of_file(tmp_path / "shards" / shard_name(index, 2)) for index in range(2))
    assert sorted(path.name for path in to.iterdir()) == sorted([f"{first}.npy", f"{second}.npy"])
    kept = (to / f"{first}.npy").stat().st_mtime_ns
    (to / f"{second}.npy").unlink()
    with pytest.raises(DataError, match=r"1 of 2 shards(.|\n)*train-00001"):
        ShardPairs(tmp_path / "shards", decoded=to)
    decode_shards(tmp_path / "shards", to)
    assert (to / f"{first}.npy").stat().st_mtime_ns == kept
    assert ShardPairs(tmp_path / "shards", decoded=to).batch([10])[1].shape == (1, 8, 12)


def test_a_damaged_shard_leaves_no_copy(tmp_path, write_shards):
    write_shards(tmp_path / "shards", (6,))
    path = tmp_path / "shards" / shard_name(0, 1)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        decode_shards(tmp_path / "shards", tmp_path / "decoded")
    assert list((tmp_path / "decoded").iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "other rows"])
def test_a_damaged_copy_is_named(tmp_path, write_shards, damage):
    write_shards(tmp_path / "shards", (6,))
    to = decode_shards(tmp_path / "shards", tmp_path / "decoded")
    (path,) = to.iterdir()
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        np.save(path, np.zeros((5, 4, 8, 12), dtype=np.uint8))
    with pytest.raises(DataError, match=r"Remove it and decode"):
        ShardPairs(tmp_path / "shards", decoded=to).batch([0])
