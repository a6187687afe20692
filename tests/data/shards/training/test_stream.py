"""Batches in shuffled order over workers and ranks, stopped and resumed anywhere."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from scenepalette.common.errors import ConfigError
from scenepalette.data.shards.pairs import ShardPairs, decode_shards
from scenepalette.data.shards.training import stream as stream_module
from scenepalette.data.shards.training.stream import Batch, ShardStream


def as_workers(stream: ShardStream, workers: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Yield batches in the order of a DataLoader: from each worker in turn, until all have ended."""
    alone = stream_module.get_worker_info
    iterators = [iter(stream) for _ in range(workers)]
    ended: set[int] = set()
    while len(ended) < workers:
        for worker, iterator in enumerate(iterators):
            if worker in ended:
                continue
            info = SimpleNamespace(id=worker, num_workers=workers)
            monkeypatch.setattr(stream_module, "get_worker_info", lambda info=info: info)
            try:
                yield next(iterator)
            except StopIteration:
                ended.add(worker)
    monkeypatch.setattr(stream_module, "get_worker_info", alone)


def ids_of(batches) -> list[list[str]]:
    """Return the ids of each batch."""
    return [list(batch["id"]) for batch in batches]


@pytest.mark.parametrize("counts", [(3,), (70,), (5, 64, 65), (20, 20, 20, 20)])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_row_once_over_workers_and_ranks(tmp_path, write_shards, monkeypatch, counts, ranks):
    rows = write_shards(tmp_path, counts)
    alone = [ids_of(ShardStream(tmp_path, 4, rank=rank, world_size=ranks, shuffle_rows=16)) for rank in range(ranks)]
    assert sorted(name for part in alone for batch in part for name in batch) == [row.id for row in rows]
    for rank in range(ranks):
        for workers in (1, 2, 3):
            stream = ShardStream(tmp_path, 4, rank=rank, world_size=ranks, shuffle_rows=16)
            assert ids_of(as_workers(stream, workers, monkeypatch)) == alone[rank]
            assert len(stream) == len(alone[rank])


def test_batches_hold_what_the_rows_hold(tmp_path, write_shards):
    rows = {row.id: row for row in write_shards(tmp_path, (40, 30))}
    for batch in ShardStream(tmp_path, 16):
        assert (batch["image"].dtype, batch["label"].dtype) == (torch.float32, torch.int64)
        for position, name in enumerate(batch["id"]):
            expected = rows[name].image.astype(np.float64).transpose(2, 0, 1) / 127.5 - 1
            np.testing.assert_allclose(batch["image"][position].numpy(), expected, atol=1e-6)
            np.testing.assert_array_equal(batch["label"][position].numpy(), rows[name].label)
            np.testing.assert_allclose(batch["palette"][position].numpy(), rows[name].palette_achieved, atol=1e-6)


def test_epochs_differ_and_return(tmp_path, write_shards):
    write_shards(tmp_path, (50,))
    stream = ShardStream(tmp_path, 8)
    first = ids_of(stream)
    stream.set_epoch(1)
    assert ids_of(stream) != first
    stream.set_epoch(0)
    assert ids_of(stream) == first


@pytest.mark.parametrize("workers_before", [1, 2, 3])
@pytest.mark.parametrize("workers_after", [1, 2, 3])
@pytest.mark.parametrize("given", [0, 1, 5, 10])
def test_an_epoch_resumes_by_its_number_of_batches(
    tmp_path, write_shards, monkeypatch, workers_before, workers_after, given
):
    write_shards(tmp_path, (40, 33))
    stream = ShardStream(tmp_path, 8, seed=5, shuffle_rows=16)
    stream.set_epoch(2)
    whole = ids_of(as_workers(stream, workers_before, monkeypatch))
    other = ShardStream(tmp_path, 8, seed=5, shuffle_rows=16)
    other.resume(2, given)
    assert ids_of(as_workers(other, workers_after, monkeypatch)) == whole[given:]


@pytest.mark.parametrize("given", [0, 1, 5, 10])
def test_state_of_a_copy_resumes_exactly(tmp_path, write_shards, given):
    write_shards(tmp_path, (40, 33))
    stream = ShardStream(tmp_path, 8, shuffle_rows=16)
    stream.resume(1, 0)
    iterator = iter(stream)
    before = [next(iterator) for _ in range(given)]
    state = stream.state_dict()
    rest = list(iterator)
    assert len(before) + len(rest) == len(stream) == 10

    other = ShardStream(tmp_path, 8, shuffle_rows=16)
    other.load_state_dict(state)
    assert other.state_dict() == state
    found = list(other)
    assert ids_of(found) == ids_of(rest)
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(found, rest, strict=True))
    # The pass after the resumed one is a whole one again.
    other.set_epoch(1)
    assert ids_of(other) == ids_of(before) + ids_of(rest)


def test_a_state_of_another_order_is_refused_with_every_difference(tmp_path, write_shards):
    write_shards(tmp_path, (40,))
    state = ShardStream(tmp_path, 8, rank=0, world_size=2).state_dict()
    with pytest.raises(ConfigError) as error:
        ShardStream(tmp_path, 4, seed=1).load_state_dict({**state, "given": -1})
    assert [problem.split(":")[0] for problem in error.value.problems] == ["batch_size", "seed", "world_size", "given"]


def test_impossible_numbers_are_refused(tmp_path, write_shards):
    write_shards(tmp_path, (40,))
    with pytest.raises(ConfigError, match="Give both"):
        ShardStream(tmp_path, 8, rank=1)
    stream = ShardStream(tmp_path, 8)
    for epoch, batches in ((-1, 0), (0, 6), (0, -1)):
        with pytest.raises(ConfigError, match="cannot be resumed"):
            stream.resume(epoch, batches)


def test_rank_comes_from_torch_distributed(tmp_path, write_shards, monkeypatch):
    write_shards(tmp_path, (40,))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    stream = ShardStream(tmp_path, 8)
    assert (stream.rank, stream.world_size, len(stream)) == (1, 2, 3)


def test_memory_is_bounded_by_the_rows_to_shuffle(tmp_path, write_shards):
    write_shards(tmp_path, (640, 640))
    stream = ShardStream(tmp_path, 8, shuffle_rows=128)
    bound = 2 * 128 * sum(path.stat().st_size for path in tmp_path.glob("*.parquet")) / 1280
    for _ in stream:
        assert stream.pairs._cached_bytes <= bound


def test_decoded_copies_give_the_same_batches_and_decode_nothing(tmp_path, write_shards, monkeypatch):
    write_shards(tmp_path / "shards", (70, 9))
    expected = list(ShardStream(tmp_path / "shards", 16))
    decoded = decode_shards(tmp_path / "shards", tmp_path / "decoded")
    monkeypatch.setattr("scenepalette.data.shards.pairs.decode_image", None)
    found = list(ShardStream(tmp_path / "shards", 16, decoded=decoded))
    for a, b in zip(found, expected, strict=True):
        assert a["id"] == b["id"]
        for name in ("image", "label", "palette"):
            assert torch.equal(a[name], b[name])


@pytest.mark.slow
def test_spawned_workers_that_persist_follow_epochs_and_resume(tmp_path, write_shards):
    write_shards(tmp_path, (50, 21))
    stream = ShardStream(tmp_path, 8)
    loader = DataLoader(
        stream,
        batch_size=None,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context=multiprocessing.get_context("spawn"),
    )
    alone = ShardStream(tmp_path, 8)
    for epoch, batches in ((0, 0), (1, 0), (1, 3)):
        stream.resume(epoch, batches)
        alone.resume(epoch, batches)
        assert ids_of(loader) == ids_of(alone)
    assert len(loader) == 9


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_saves_and_loads_the_state(tmp_path, write_shards, workers):
    from torchdata.stateful_dataloader import StatefulDataLoader

    write_shards(tmp_path, (50, 21))

    def loader() -> StatefulDataLoader:
        context = multiprocessing.get_context("spawn") if workers else None
        return StatefulDataLoader(
            ShardStream(tmp_path, 8), batch_size=None, num_workers=workers, multiprocessing_context=context
        )

    first = loader()
    iterator = iter(first)
    before = ids_of(next(iterator) for _ in range(3))
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    assert before + ids_of(second) == ids_of(ShardStream(tmp_path, 8))


def test_pairs_decode_alike_with_threads(tmp_path, write_shards):
    write_shards(tmp_path, (70,))
    one, three = ShardPairs(tmp_path), ShardPairs(tmp_path, threads=3)
    for a, b in zip(one.batch(range(70)), three.batch(range(70)), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ConfigError, match="threads is 0"):
        ShardPairs(tmp_path, threads=0)


def of_two(batches: list[Batch]) -> int:
    """Put batches together as somebody who wants to."""
    return len(batches)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("options", [{}, {"batch_size": 4}, {"batch_size": 2, "drop_last": True}])
def test_a_loader_that_batches_again_is_refused(tmp_path, write_shards, workers, options):
    write_shards(tmp_path, (70,))
    context = {"multiprocessing_context": "spawn"} if workers else {}
    for kind in (DataLoader, StatefulDataLoader):
        loader = kind(ShardStream(tmp_path, 8), num_workers=workers, **context, **options)
        with pytest.raises(ConfigError, match="batch_size=None to the DataLoader"):
            next(iter(loader))


def test_a_loader_may_put_batches_together_if_it_says_how(tmp_path, write_shards):
    write_shards(tmp_path, (70,))
    assert list(DataLoader(ShardStream(tmp_path, 35), batch_size=2, collate_fn=of_two)) == [2]
    (whole, _) = DataLoader(ShardStream(tmp_path, 35), batch_size=None)
    assert whole["image"].shape == (35, 3, 8, 12) and whole["kind"] == ["full"] * 35
