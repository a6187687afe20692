"""Memory-mapped arrays: content, resizing, finishing, and the conversions to and from tensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from fuzzing import FUZZ, Changes, changes, damaged
from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.data.arrays import (
    Pairs,
    content_of,
    images_to_uint8,
    open_array,
    read_arrays,
    resize_sample,
    write_arrays,
    write_label_array,
)
from scenepalette.data.datasets import open_dataset
from scenepalette.data.decoding.class_files import CAMVID
from scenepalette.data.sample import Sample


def test_samples_of_the_wanted_size_are_stored_as_they_are(camvid_root: Path, tmp_path: Path) -> None:
    dataset = open_dataset("camvid", "train", camvid_root)
    write_arrays(dataset, (6, 8), tmp_path / "arrays")
    pairs = read_arrays(tmp_path / "arrays", "train")
    assert len(pairs) == 3
    assert pairs.size == (6, 8)
    assert pairs.ids == ["a", "b", "c"]
    assert (pairs.table, pairs.name, pairs.licence) == (CAMVID, "camvid", dataset.licence)
    assert isinstance(pairs.images, np.memmap)
    for i in range(3):
        assert np.array_equal(pairs.images[i], dataset[i].image)
        assert np.array_equal(pairs.labels[i], dataset[i].label)
    index = json.loads((tmp_path / "arrays" / "train.json").read_text())
    assert index["fingerprint"] == dataset.fingerprint
    assert content_of(tmp_path / "arrays", "train") == index["content"] == dataset.content


def test_arrays_that_do_not_state_their_content_are_refused(camvid_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no finished arrays \(train\.json is missing\)"):
        content_of(tmp_path, "train")
    for index in ({}, [], {"content": 3}):
        (tmp_path / "train.json").write_text(json.dumps(index))
        with pytest.raises(DataError, match="does not state the content"):
            content_of(tmp_path, "train")


def test_a_file_that_changes_while_arrays_are_written_is_noticed(
    camvid_root: Path, tmp_path: Path, write: Callable[[Path, np.ndarray], None]
) -> None:
    dataset = open_dataset("camvid", "train", camvid_root)

    def meanwhile(count: int) -> None:
        write(camvid_root / "train" / "a.png", np.zeros((6, 8, 3), np.uint8))

    write_arrays(dataset, (6, 8), tmp_path / "arrays", meanwhile)
    assert content_of(tmp_path / "arrays", "train") != dataset.content


def test_where_labels_come_from_is_kept(cityscapes_25k_root: Path, tmp_path: Path) -> None:
    dataset = open_dataset("cityscapes-25k", "train", cityscapes_25k_root)
    write_arrays(dataset, (6, 8), tmp_path / "arrays")
    assert read_arrays(tmp_path / "arrays", "train").label_origins == dataset.label_origins
    assert "machine-made" in dataset.label_origins["train_extra"]
    path = tmp_path / "arrays" / "train.json"
    index = json.loads(path.read_text())
    del index["label_origins"]
    path.write_text(json.dumps(index))
    assert read_arrays(tmp_path / "arrays", "train").label_origins == {}


def test_label_maps_written_one_by_one_are_an_ordinary_array(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 9, (3, 4, 5), dtype=np.uint8)
    write_label_array(tmp_path / "one.npy", iter(labels), (3, 4, 5))
    np.save(tmp_path / "all.npy", labels)
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "all.npy").read_bytes()


def test_mixed_sizes_become_one_size(folder_root: Path, tmp_path: Path) -> None:
    write_arrays(open_dataset("folder", "train", folder_root), (4, 6), tmp_path / "arrays")
    pairs = read_arrays(tmp_path / "arrays", "train")
    assert pairs.images.shape == (3, 4, 6, 3)
    assert set(np.unique(pairs.labels)) <= {0, 1, 2, 255}


@pytest.mark.parametrize("size", [(8, 16), (5, 7), (40, 60)])
def test_resizing_is_antialiased_for_images_and_nearest_for_labels(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    label = generator.integers(0, 11, (24, 32), dtype=np.uint8)
    resized = resize_sample(Sample(id="x", image=image, label=label), size)
    tensor = torch.from_numpy(image).permute(2, 0, 1).float()
    expected = resize(tensor, list(size), InterpolationMode.BILINEAR, antialias=True).permute(1, 2, 0).numpy()
    assert np.abs(resized.image - expected).max() <= 1.5
    for y, x in np.ndindex(*size):
        # Exact fractions: the old pixel that holds the new pixel's centre, the later one if it lies between two.
        row, column = floor(Fraction(2 * y + 1, 2 * size[0]) * 24), floor(Fraction(2 * x + 1, 2 * size[1]) * 32)
        assert resized.label[y, x] == label[row, column]


def test_progress_adds_up_to_the_total(camvid_root: Path, tmp_path: Path) -> None:
    calls: list[int] = []
    dataset = open_dataset("camvid", "train", camvid_root)
    write_arrays(dataset, (6, 8), tmp_path / "arrays", advance=calls.append)
    assert sum(calls) == 3


def test_a_failure_leaves_no_array_and_no_stale_index(camvid_root: Path, tmp_path: Path) -> None:
    dataset = open_dataset("camvid", "train", camvid_root)
    write_arrays(dataset, (6, 8), tmp_path / "arrays")
    (camvid_root / "train" / "b.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="damaged"):
        write_arrays(dataset, (3, 4), tmp_path / "arrays")
    assert sorted(path.name for path in (tmp_path / "arrays").iterdir()) == ["images-train.npy", "labels-train.npy"]
    with pytest.raises(DataError, match="no finished arrays of the split 'train'"):
        read_arrays(tmp_path / "arrays", "train")


def test_a_label_that_loses_its_last_labelled_pixel_is_named(
    camvid_root: Path, tmp_path: Path, write: Callable[[Path, np.ndarray], None]
) -> None:
    label = np.full((6, 8), 11, np.uint8)
    label[0, 0] = 3
    write(camvid_root / "trainannot" / "b.png", label)
    with pytest.raises(DataError, match="label of 'b' has no labelled pixel left at 3 x 4"):
        write_arrays(open_dataset("camvid", "train", camvid_root), (3, 4), tmp_path / "arrays")


def test_arrays_that_do_not_fit_their_index_are_refused(camvid_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "arrays"
    write_arrays(open_dataset("camvid", "train", camvid_root), (6, 8), folder)
    np.save(folder / "labels-train.npy", np.zeros((2, 6, 8), np.uint8))
    with pytest.raises(DataError, match="do not fit together"):
        read_arrays(folder, "train")
    (folder / "labels-train.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_arrays(folder, "train")


@FUZZ
@given(made=changes(127), kept=st.none() | st.integers(0, 200))
def test_any_damage_to_the_header_of_an_array(tmp_path: Path, made: Changes, kept: int | None) -> None:
    path = tmp_path / "array.npy"
    np.save(path, np.zeros((3, 4, 5, 3), np.uint8))
    path.write_bytes(damaged(path.read_bytes(), made, kept))
    try:
        assert isinstance(open_array(path), np.ndarray)
    except DataError as error:
        str(error).encode(errors="replace")


def test_an_index_with_another_schema_or_without_a_key_is_refused(camvid_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "arrays"
    write_arrays(open_dataset("camvid", "train", camvid_root), (6, 8), folder)
    index = json.loads((folder / "train.json").read_text())
    for changed, message in [({**index, "schema": 2}, "schema 2; schema 1 is required"), ({"schema": 1}, "lacks ids")]:
        (folder / "train.json").write_text(json.dumps(changed))
        with pytest.raises(DataError, match=message):
            read_arrays(folder, "train")


def make_pairs(count: int = 4) -> Pairs:
    generator = np.random.default_rng(0)
    return Pairs(
        images=generator.integers(0, 256, (count, 3, 5, 3), dtype=np.uint8),
        labels=generator.integers(0, 11, (count, 3, 5), dtype=np.uint8),
        ids=[str(i) for i in range(count)],
        table=CAMVID,
        name="made",
        licence="none",
    )


def test_batch_follows_the_indices_and_the_value_ranges() -> None:
    pairs = make_pairs()
    image, label = pairs.batch([2, 0, 2])
    assert image.dtype == torch.float32
    assert image.shape == (3, 3, 3, 5)
    assert image.is_contiguous()
    assert label.dtype == torch.int64
    for position, index in enumerate([2, 0, 2]):
        for y, x, channel in np.ndindex(3, 5, 3):
            expected = int(pairs.images[index, y, x, channel]) / 255 * 2 - 1
            assert float(image[position, channel, y, x]) == pytest.approx(expected, abs=1e-6)
        assert label[position].tolist() == pairs.labels[index].tolist()


def test_batch_does_not_share_memory_with_the_arrays() -> None:
    pairs = make_pairs()
    before = pairs.images.copy(), pairs.labels.copy()
    image, label = pairs.batch(np.array([0, 1, 2, 3]))
    image.zero_()
    label.zero_()
    assert np.array_equal(pairs.images, before[0])
    assert np.array_equal(pairs.labels, before[1])


def test_every_pixel_value_survives_the_way_to_a_tensor_and_back() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    images = np.stack([values, 255 - values, values], axis=3)
    pairs = Pairs(images, np.zeros((1, 16, 16), np.uint8), ["x"], CAMVID, "made", "none")
    assert np.array_equal(images_to_uint8(pairs.batch([0])[0]), images)


def test_images_to_uint8_rounds_clips_and_refuses_what_is_not_finite() -> None:
    row = torch.tensor([-3.0, -1.0, 0.0, 0.004, 1.0, 7.0]).expand(1, 3, 1, 6).clone()
    assert images_to_uint8(row)[0, 0, :, 0].tolist() == [0, 0, 128, 128, 255, 255]
    assert row[0, 0, 0, 0] == -3.0
    row[0, 0, 0, 0] = float("nan")
    with pytest.raises(ScenepaletteError, match="not finite"):
        images_to_uint8(row)


def test_pairs_of_the_wrong_type_are_refused() -> None:
    good = make_pairs()
    with pytest.raises(DataError, match="float32"):
        Pairs(good.images.astype(np.float32), good.labels, good.ids, good.table, good.name, good.licence)
