"""What one pass over a data set gathers, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.data.decoding.label_images import EVERY_ID
from scenepalette.data.files import checking
from scenepalette.data.readers.camvid import open_camvid
from scenepalette.data.sample import Sample
from scenepalette.data.splits.holdout import PartOfDataset
from scenepalette.data.streets.dataset import Streets
from scenepalette.pipeline.doctor.scan import Scan, Scanner, scan


def test_a_scan_counts_sizes_hashes_and_pixels(camvid_root: Path) -> None:
    dataset = open_camvid(camvid_root, "train")
    result = scan(dataset, (3, 4))
    assert result.ids == ("a", "b", "c") and len(result) == 3 and result.problems == ()
    assert result.sizes.tolist() == [[6, 8]] * 3
    assert len(set(result.hashes)) == 3
    for index in range(3):
        sample = dataset[index]
        expected = [int((sample.label == class_id).sum()) for class_id in (*range(11), 255)]
        assert result.pixels[index].tolist() == expected
        # Every second pixel of each axis remains: the one under the new pixel's centre.
        assert result.resized_pixels[index, 3] == (sample.label[1::2, 1::2] == 3).sum()
        grey = np.dot(sample.image, [0.299, 0.587, 0.114])
        assert abs(result.spread[index] - grey.std()) < 1


def test_a_file_that_changed_is_a_problem_and_the_others_are_read(camvid_root: Path) -> None:
    dataset = open_camvid(camvid_root, "train")
    (camvid_root / "train/b.png").unlink()
    result = scan(dataset, (6, 8))
    assert len(result.problems) == 1 and "cannot be read" in result.problems[0]
    assert result.hashes[1] == "" and result.pixels[1].sum() == 0 and result.pixels[[0, 2]].sum() == 96


@pytest.mark.parametrize("size", [(6, 8), (8, 6), (512, 1024), (515, 701)])
def test_hashes_are_equal_of_equal_images_alone(size: tuple[int, int]) -> None:
    scanner = Scanner(size)
    scanner.begin(["a"], 2)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    label = np.zeros(size, np.uint8)
    counts = np.bincount(label.ravel(), minlength=256)
    sketched = scanner.sketch(label, EVERY_ID)

    def hash_of(pixels: np.ndarray) -> str:
        return scanner.at(Image.fromarray(pixels), sketched, EVERY_ID, counts).hash

    assert hash_of(image.copy()) == hash_of(image)
    brighter, turned, redder = image.copy(), np.ascontiguousarray(image[:, ::-1]), np.roll(image, 1, axis=2)
    brighter[-1, -1] ^= 128
    assert len({hash_of(pixels) for pixels in (image, brighter, turned, redder)}) == 4


def test_edges_of_large_images_are_nearly_those_of_all_pixels() -> None:
    size = (777, 1030)
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    image = coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    label = np.zeros(size, np.uint8)
    label[:, 500:] = 1
    scanner = Scanner(size)
    scanner.begin(["a"], 2)
    counts = np.bincount(label.ravel(), minlength=256)
    seen = scanner.at(image, scanner.sketch(label, EVERY_ID), EVERY_ID, counts)
    grey = image.convert("L")
    thumbnail = np.asarray(grey.resize((32, 32), Image.Resampling.BOX))
    assert np.corrcoef(seen.thumbnail.ravel(), thumbnail.ravel())[0, 1] > 0.999
    assert abs(seen.spread - np.asarray(grey).std()) < 0.5
    small = np.asarray(grey.resize((128, 96), Image.Resampling.BOX), float)
    changes = abs(small[:-1, 1:] - small[:-1, :-1]) + abs(small[1:, :-1] - small[:-1, :-1])
    assert np.corrcoef(seen.gradient.ravel(), changes.ravel())[0, 1] > 0.95
    assert seen.pixels.tolist() == [777 * 500, 777 * 530, 0] and seen.size == size


def test_pictures_change_at_the_borders_of_their_own_labels() -> None:
    edges = scan(Streets(split="train", count=32, size=(32, 48), seed=0), (32, 48)).edges
    assert np.isfinite(edges).all()
    assert (edges[:, 0] > edges[:, 1]).mean() > 0.8 and (edges[:, 0] > 1).all()


def test_progress_is_told() -> None:
    told: list[tuple[object, ...]] = []

    class Watched:
        def start(self, description: str, total: int, done: int = 0) -> None:
            told.append((description, total))

        def advance(self, count: int = 1, **values: float) -> None:
            told.append((count,))

        def finish(self) -> None:
            told.append(())

    scan(Streets(split="val", count=40, size=(16, 24), seed=0), (16, 24), Watched())
    assert told == [("reading val", 40), *[(1,)] * 40, ()]


def settled_camvid(root: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(checking, "UNSETTLED_SECONDS", 0.0)
    monkeypatch.setenv("SCENEPALETTE_CACHE", str(cache))


def same(first: Scan, second: Scan) -> bool:
    return all(
        np.array_equal(getattr(first, field.name), getattr(second, field.name), equal_nan=field.name == "edges")
        for field in fields(Scan)
    )


def test_what_was_seen_during_the_check_is_what_a_pass_of_its_own_sees(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCENEPALETTE_CACHE", "")
    scanner = Scanner((3, 4))
    with checking.checking(look=scanner):
        dataset = open_camvid(camvid_root, "train")
    seen = scanner.scan_of(dataset)
    assert seen is not None and same(seen, scan(dataset, (3, 4)))
    part = PartOfDataset(dataset, "test", [2, 0])
    of_part = scanner.scan_of(part)
    assert of_part is not None and of_part.ids == ("c", "a") and same(of_part, scan(part, (3, 4)))


def test_a_second_scan_reads_no_sample_until_something_changes(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled_camvid(camvid_root, monkeypatch, tmp_path / "cache")
    dataset = open_camvid(camvid_root, "train")
    first = scan(dataset, (3, 4))
    read: list[int] = []
    decode = type(dataset).__getitem__

    def watched(self: object, index: int) -> Sample:
        read.append(index)
        return decode(self, index)  # type: ignore[arg-type]

    monkeypatch.setattr(type(dataset), "__getitem__", watched)
    assert same(first, scan(dataset, (3, 4))) and not read
    scan(dataset, (6, 8))
    assert sorted(read) == [0, 1, 2]
    (camvid_root / "train/a.png").touch()
    scan(open_camvid(camvid_root, "train"), (6, 8))
    assert len(read) == 6


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_a_damaged_memory_of_a_scan_is_no_memory(
    content: bytes, camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled_camvid(camvid_root, monkeypatch, tmp_path / "cache")
    dataset = open_camvid(camvid_root, "train")
    first = scan(dataset, (3, 4))
    (memory,) = (tmp_path / "cache/scanned").glob("*.npz")
    memory.write_bytes(content)
    assert same(first, scan(dataset, (3, 4)))
