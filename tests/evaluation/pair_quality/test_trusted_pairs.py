"""Scores of rows on disk, and pairs read with thresholds over them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from scenepalette.common.errors import DataError
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.evaluation.pair_quality import quality
from scenepalette.evaluation.pair_quality.quality import QualityFile, QualityRow, summary_of, write_quality
from scenepalette.evaluation.pair_quality.trust import MEAN_LEVEL, TrustSettings, count_levels, quantised_confidence
from scenepalette.evaluation.pair_quality.trusted_pairs import TrustedPairs
from shard_folders import SIZE, write_shards  # noqa: F401 (a fixture)

SEEING = np.zeros(4, dtype=bool)


def _scored(row_id: str, label: np.ndarray, levels: np.ndarray, predicted: np.ndarray) -> QualityRow:
    return QualityRow(
        row_id,
        (0,),
        "real",
        1.0,
        False,
        0.1,
        trusted=0.5,
        trusted_per_class=[0.5, None, 1.0, 0.0],
        agreement=0.25,
        mean_loss=2.0,
        trusted_loss=1.0,
        levels=levels,
        predicted=predicted,
        confidence=quantised_confidence(np.full(SIZE, 0.97)),
        level_counts=count_levels(levels, label, 4),
    )


@pytest.fixture
def folder(tmp_path: Path, write_shards: Callable) -> Path:  # noqa: F811
    """Shards of 70 rows; the left half of each is plausible, the right half is not; nobody judged row 1."""
    rows = write_shards(tmp_path / "shards", [40, 30])
    levels = np.full(SIZE, MEAN_LEVEL, np.uint8)
    levels[:, 6:] = 200
    scored = [_scored(row.id, row.label, levels, np.full(SIZE, 2, np.uint8)) for row in rows]
    scored[1] = QualityRow(rows[1].id, (), "real", 1.0, True, 0.3)
    write_quality(tmp_path / "rows.parquet", scored)
    return tmp_path


def _pairs(folder: Path, count: int = 70, mode: str = "mask", blind: np.ndarray = SEEING, **values) -> TrustedPairs:
    settings = TrustSettings(**{"trust_floor": 0.0, **values})
    return TrustedPairs(ShardPairs(folder / "shards"), count, folder / "rows.parquet", settings, blind, mode)  # type: ignore[arg-type]


def test_pixels_above_the_threshold_have_no_label_and_images_stay(folder: Path) -> None:
    own = ShardPairs(folder / "shards")
    for indices in ([0, 5, 69], [65, 2]):
        images, labels = _pairs(folder).batch(indices)
        expected_images, expected = own.batch(indices)
        assert torch.equal(images, expected_images)
        expected[:, :, 6:] = IGNORE_ID
        assert torch.equal(labels, expected)


def test_a_pair_that_nobody_judged_keeps_its_label(folder: Path) -> None:
    assert torch.equal(_pairs(folder).batch([1])[1], ShardPairs(folder / "shards").batch([1])[1])


def test_thresholds_are_applied_when_pairs_are_read(folder: Path) -> None:
    labels = ShardPairs(folder / "shards").batch([3])[1]
    assert torch.equal(_pairs(folder, trust_factor=1000.0).batch([3])[1], labels)
    assert (_pairs(folder, trust_factor=0.5).batch([3])[1] == IGNORE_ID).all()
    # A floor of 0.6 needs pixels of the right half, which are all at one level.
    assert torch.equal(_pairs(folder, trust_floor=0.6).batch([3])[1], labels)


def test_sure_teachers_give_pixels_their_class(folder: Path) -> None:
    own = ShardPairs(folder / "shards").batch([4])[1]
    expected = torch.where(own == IGNORE_ID, own, 2)
    assert torch.equal(_pairs(folder, mode="relabel").batch([4])[1], expected)
    unsure = _pairs(folder, mode="relabel", relabel_confidence=0.98).batch([4])[1]
    assert (unsure[:, :, 6:] == IGNORE_ID).all()


def test_of_a_class_that_a_teacher_never_finds_the_floor_alone_decides(folder: Path) -> None:
    own = ShardPairs(folder / "shards").batch([7])[1]
    blind = np.array([True, False, False, False])
    labels = _pairs(folder, blind=blind).batch([7])[1]
    assert not (labels == 0).any()
    assert torch.equal(labels[:, :, :6] == 1, own[:, :, :6] == 1)


def test_thresholds_are_those_of_the_pairs_in_view(folder: Path) -> None:
    assert len(_pairs(folder, 3)) == 3
    counts = QualityFile(folder / "rows.parquet").level_counts(3, 4)
    own = ShardPairs(folder / "shards").batch([0, 2])[1].numpy()  # nobody judged row 1
    assert counts.sum(axis=1).tolist() == [(own == k).sum() for k in range(4)]


def test_threads_read_the_maps_that_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    label = np.zeros(SIZE, np.uint8)
    levels = random.integers(0, 256, (64, *SIZE), dtype=np.uint8)
    monkeypatch.setattr(quality, "ROW_GROUP", 2)
    write_quality(tmp_path / "rows.parquet", [_scored(str(row), label, levels[row], label) for row in range(64)])
    monkeypatch.setattr(quality, "_CACHE_BYTES", 0)
    scores = QualityFile(tmp_path / "rows.parquet")

    def differing(start: int) -> list[int]:
        maps = ((row % 64, scores.maps(row % 64)) for row in range(start, start + 640))
        return [row for row, found in maps if found is None or not np.array_equal(found.levels, levels[row])]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(differing, range(0, 64, 5))) == [[]] * 13


def test_scores_of_other_pairs_are_refused(folder: Path, tmp_path: Path, write_shards: Callable) -> None:  # noqa: F811
    write_shards(tmp_path / "others", [70], "semi")
    with pytest.raises(DataError, match="scores of other pairs"):
        TrustedPairs(ShardPairs(tmp_path / "others"), 70, folder / "rows.parquet", TrustSettings(), SEEING, "mask")


def test_a_file_that_holds_no_scores_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="does not have the columns of scores"):
        QualityFile(next((folder / "shards").glob("*.parquet")))
    (folder / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        QualityFile(folder / "rows.parquet")


def test_a_summary_says_what_a_report_needs(folder: Path) -> None:
    found = summary_of(folder / "rows.parquet", 70, ("a", "b", "c", "d"))
    labels = ShardPairs(folder / "shards").batch([index for index in range(70) if index != 1])[1].numpy()
    kept = labels[:, :, :6]
    assert (found["rows"], found["judged"]) == (70, 69)
    assert found["trusted"] == pytest.approx((kept != IGNORE_ID).sum() / (labels != IGNORE_ID).sum())
    assert found["trusted_per_class"]["b"] == pytest.approx((kept == 1).sum() / (labels == 1).sum())
    assert (found["agreement"], found["palette_kl"]) == (0.25, pytest.approx((69 * 0.1 + 0.3) / 70))
