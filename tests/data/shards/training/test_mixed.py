"""Several kinds of pairs mixed by weight, and transforms of samples."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.data.shards.pairs import ShardPairs, decode_shards
from scenepalette.data.shards.schema import Row
from scenepalette.data.shards.training.mixed import MixedPairs


@pytest.fixture
def folders(make_shards: Callable[..., list[Row]], tmp_path: Path) -> dict[str, Path]:
    """Eight full, six semi and five partial pairs."""
    for kind, counts in (("full", (5, 3)), ("semi", (6,)), ("partial", (5,))):
        make_shards(tmp_path / kind, counts, kind)
    return {kind: tmp_path / kind for kind in ("full", "semi", "partial")}


def mirrored(sample: dict[str, Any]) -> dict[str, Any]:
    """Mirror a pair, and say that it is one of another kind."""
    flipped = {name: sample[name].flip(-1) for name in ("image", "label")}
    return {**sample, **flipped, "kind": sample["kind"].upper()}


def epoch_of(pairs: MixedPairs, epoch: int) -> list[str]:
    """Return the ids of an epoch in order."""
    return [pairs[index]["id"] for index in pairs.sampler(epoch)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_is_mixed_by_weight(workers: int, folders: dict[str, Path]) -> None:
    weights = {folders["full"]: 1.0, folders["semi"]: 0.5, folders["partial"]: 2.0}
    pairs = MixedPairs(weights, transform=itemgetter("id", "kind", "label"))
    loader = DataLoader(
        pairs,
        batch_size=4,
        sampler=pairs.sampler(0),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    shown = [pair for names, kinds, labels in loader for pair in zip(names, kinds, labels, strict=True)]
    assert Counter(kind for _, kind, _ in shown) == {"full": 8, "semi": 3, "partial": 10}
    times = Counter(name for name, _, _ in shown)
    assert all(count == (2 if name.startswith("partial") else 1) for name, count in times.items())
    # Mixed: the kinds do not come one after the other.
    assert sum(before[1] != after[1] for before, after in pairwise(shown)) > 4
    for folder in weights:
        alone = ShardPairs(folder)
        labels = dict(zip(alone.ids, alone.batch(range(len(alone)))[1], strict=True))
        assert all(torch.equal(label, labels[name]) for name, kind, label in shown if kind == alone.kind)


def test_the_order_is_a_function_of_seed_and_epoch(folders: dict[str, Path]) -> None:
    weights = {folders["full"]: 1.0, folders["semi"]: 0.5}
    pairs, again = MixedPairs(weights, seed=3), MixedPairs(weights, seed=3)
    orders = [pairs.sampler(epoch) for epoch in range(4)]
    assert [again.sampler(epoch) for epoch in (3, 0, 2, 1)] == [orders[3], orders[0], orders[2], orders[1]]
    assert len({tuple(order) for order in orders}) == 4
    assert MixedPairs(weights, seed=4).sampler(0) != orders[0]


@pytest.mark.parametrize("weight", [0.3, 0.5, 1.0, 1.7, 3.0])
def test_all_rows_come_before_any_comes_again(weight: float, folders: dict[str, Path]) -> None:
    pairs = MixedPairs({folders["full"]: weight, folders["semi"]: 1.0})
    seen: Counter[int] = Counter()
    for epoch in range(20):
        chosen = [index for index in pairs.sampler(epoch) if index < 8]
        assert len(chosen) == round(8 * weight)
        seen.update(chosen)
        times = [seen[index] for index in range(8)]
        assert max(times) - min(times) <= 1


def test_a_small_weight_gives_one_row(folders: dict[str, Path]) -> None:
    pairs = MixedPairs({folders["full"]: 1.0, folders["semi"]: 1e-6})
    assert [sum(index >= 8 for index in pairs.sampler(epoch)) for epoch in range(3)] == [1, 1, 1]


def test_ranks_share_an_epoch(folders: dict[str, Path]) -> None:
    pairs = MixedPairs({folders["full"]: 1.0, folders["semi"]: 1.0})
    parts = [pairs.sampler(2)[rank::3] for rank in range(3)]
    assert sorted(index for part in parts for index in part) == list(range(14))


def test_decoded_copies_serve_all_kinds(folders: dict[str, Path], tmp_path: Path) -> None:
    weights = {folders["full"]: 1.0, folders["semi"]: 1.0}
    for folder in weights:
        decode_shards(folder, tmp_path / "decoded")
    plain, decoded = MixedPairs(weights), MixedPairs(weights, decoded=tmp_path / "decoded")
    assert all(torch.equal(plain[index]["image"], decoded[index]["image"]) for index in range(14))
    assert (plain.size, plain.table.names, plain[-1]["kind"]) == ((10, 14), ("road", "car, parked", "sky"), "semi")


def test_all_disagreements_are_told_at_once(
    folders: dict[str, Path], write_shards: Callable[..., list[Row]], tmp_path: Path
) -> None:
    write_shards(tmp_path / "other", (3,))
    shutil.copytree(folders["semi"], tmp_path / "damaged")
    (tmp_path / "damaged/train-00000-of-00001.parquet").write_bytes(b"")
    names = ["full", "other", "semi", "damaged", "nowhere"]
    with pytest.raises(DataError) as caught:
        MixedPairs({tmp_path / name: 1.0 for name in names})
    told = caught.value.problems
    full, other = tmp_path / "full", tmp_path / "other"
    assert f"{other} has other classes (tiny: road, car, tree, sky) than {full} (three: road, car, parked, sky)" in told
    assert f"{other} has pairs of 8 x 12 pixels, {full} of 10 x 14" in told
    assert any(text.startswith(f"{tmp_path / 'damaged'}: train-00000") for text in told)
    assert any(text.startswith(f"{tmp_path / 'nowhere'}: ") for text in told)
    assert not any(str(tmp_path / "semi") in text for text in told)


def test_weights_out_of_range_are_told_at_once(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError) as caught:
        MixedPairs({folders["full"]: 0.0, folders["semi"]: -1.0, folders["partial"]: float("nan")})
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match="at least one folder"):
        MixedPairs({})


def test_a_transform_changes_what_indexing_gives_and_nothing_else(folders: dict[str, Path]) -> None:
    plain, changed = ShardPairs(folders["full"]), ShardPairs(folders["full"], transform=mirrored)
    assert changed[2]["kind"] == "FULL" and torch.equal(changed[2]["image"], plain[2]["image"].flip(-1))
    (batch,) = DataLoader(changed, batch_size=8)
    np.testing.assert_array_equal(batch["label"].flip(-1).numpy(), plain.batch(range(8))[1].numpy())
    assert torch.equal(changed.batch([2])[1], plain.batch([2])[1])
    assert changed.samples([2])["kind"] == ["full"]
