from __future__ import annotations

import multiprocessing
import pickle
import threading

import numpy as np
import pytest
import torch

from scenepalette.common.errors import DataError
from scenepalette.data.shards import pairs as pairs_module
from scenepalette.data.shards.pairs import ShardPairs
from shard_rows import HEIGHT, TABLE, WIDTH, make_folder, png, rewrite


def test_pairs_give_tensors_in_the_order_asked(tmp_path):
    rows = make_folder(tmp_path, (70, 66, 1), image_format="png")
    pairs = ShardPairs(tmp_path)
    assert (len(pairs), pairs.size, pairs.table, pairs.licence) == (137, (HEIGHT, WIDTH), TABLE, "CC0-1.0")
    assert pairs.ids == [row.id for row in rows]
    indices = [136, 0, 69, 70, 63, 64, 135, 0]
    image, label = pairs.batch(indices)
    assert (image.dtype, label.dtype) == (torch.float32, torch.int64)
    assert image.is_contiguous()
    for position, index in enumerate(indices):
        np.testing.assert_array_equal(label[position].numpy(), rows[index].label)
        expected = rows[index].image.astype(np.float64) / 127.5 - 1
        np.testing.assert_allclose(image[position].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    with pytest.raises(IndexError, match="137"):
        pairs.batch([137])


def test_pairs_decode_only_what_is_asked_and_keep_bounded_bytes(tmp_path, monkeypatch):
    make_folder(tmp_path, (256, 256))
    group_bytes = ShardPairs(tmp_path)
    group_bytes.batch([0])
    one_group = group_bytes._cached_bytes
    pairs = ShardPairs(tmp_path, cache_bytes=int(2.5 * one_group))
    calls = []
    real = pairs_module.decode_label
    monkeypatch.setattr(pairs_module, "decode_label", lambda *args: calls.append(1) or real(*args))
    for start in range(0, 512, 50):
        pairs.batch([start, (start + 300) % 512])
        assert pairs._cached_bytes == sum(table.nbytes for table in pairs._groups.values())
        assert pairs._cached_bytes <= 2.5 * one_group
    assert len(pairs._groups) == 2
    assert len(calls) == 2 * len(range(0, 512, 50))


def test_pairs_pickle_without_open_files_or_cache(tmp_path):
    make_folder(tmp_path, (70,))
    pairs = ShardPairs(tmp_path)
    before = pairs.batch([1, 65])
    content = pickle.dumps(pairs)
    assert len(content) < 10_000
    after = pickle.loads(content).batch([1, 65])
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_pairs_are_safe_to_read_from_threads(tmp_path):
    rows = make_folder(tmp_path, (256,))
    pairs = ShardPairs(tmp_path, cache_bytes=1)
    wrong = []

    def read(start: int) -> None:
        for index in range(start, 256, 8):
            if not np.array_equal(pairs.batch([index])[1][0].numpy(), rows[index].label):
                wrong.append(index)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_pairs_in_a_data_loader_with_spawned_workers(tmp_path):
    rows = make_folder(tmp_path, (70, 10))
    loader = torch.utils.data.DataLoader(
        ShardPairs(tmp_path), batch_size=16, num_workers=2, multiprocessing_context=multiprocessing.get_context("spawn")
    )
    batches = list(loader)
    assert [name for batch in batches for name in batch["id"]] == [row.id for row in rows]
    labels = torch.cat([batch["label"] for batch in batches]).numpy()
    np.testing.assert_array_equal(labels, np.stack([row.label for row in rows]))
    assert batches[0]["image"].shape == (16, 3, HEIGHT, WIDTH)
    palettes = torch.cat([batch["palette"] for batch in batches]).numpy()
    np.testing.assert_allclose(palettes, np.stack([row.palette_achieved for row in rows]), atol=1e-6)


def test_pairs_work_with_a_plain_data_loader(tmp_path):
    rows = make_folder(tmp_path, (10,))
    batch = next(iter(torch.utils.data.DataLoader(ShardPairs(tmp_path), batch_size=4)))
    np.testing.assert_array_equal(batch["label"].numpy(), np.stack([row.label for row in rows[:4]]))
    assert len(list(iter(ShardPairs(tmp_path)))) == 10


def test_pairs_refuse_a_label_outside_the_table(tmp_path):
    make_folder(tmp_path, (3,))
    rewrite(tmp_path, {1: {"label": {"bytes": png(np.full((HEIGHT, WIDTH), 5, dtype=np.uint8)), "path": "x.png"}}})
    pairs = ShardPairs(tmp_path)
    pairs.batch([0, 2])
    with pytest.raises(DataError, match=r"full-000001.*ids \[5\]"):
        pairs.batch([0, 1])
