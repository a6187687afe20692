from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.data.classes import ClassTable
from scenepalette.data.fitting.native import NativeLabels, write_native_labels
from scenepalette.data.sample import Sample


class Labels:
    """Labels of different sizes."""

    name, split, licence, fingerprint, content = "labels", "val", "none", "f", "c"
    label_origins: dict[str, str] = {}  # noqa: RUF012
    table = ClassTable.unnamed(3)

    def __init__(self) -> None:
        self.labels = [np.full((4 + i, 9 - i), i % 3, np.uint8) for i in range(5)]
        self.ids = [f"{i}" for i in range(5)]

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        label = self.labels[index]
        return Sample(self.ids[index], np.zeros((*label.shape, 3), np.uint8), label)


def test_labels_are_read_back_one_by_one_in_their_own_sizes(tmp_path: Path) -> None:
    dataset, path = Labels(), tmp_path / "native.npz"
    write_native_labels(dataset, path)
    native = NativeLabels(path, dataset.ids)
    assert len(native) == 5 and native.image_ids == dataset.ids
    for index in (3, 0, 4):
        assert np.array_equal(native[index], dataset.labels[index])
    with np.load(path) as file:  # which others can read as well
        assert np.array_equal(file["00000002"], dataset.labels[2])
    again = tmp_path / "again.npz"
    write_native_labels(dataset, again)
    assert again.read_bytes() == path.read_bytes()


def test_rows_that_are_tiles_belong_to_their_image(tmp_path: Path) -> None:
    path = tmp_path / "native.npz"
    write_native_labels(Labels(), path)
    native = NativeLabels(path, ["x#tile0", "x#tile2", "y#tile0", "z", "z2"])
    assert native.image_ids == ["x", "y", "z", "z2"] and native.images.tolist() == [0, 0, 1, 2, 3]


def test_damaged_files_are_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "native.npz"
    with pytest.raises(DataError, match=r"native\.npz cannot be read .* rerun the same command"):
        NativeLabels(path, ["a"])
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="rerun the same command"):
        NativeLabels(path, ["a"])
    write_native_labels(Labels(), path)
    with pytest.raises(DataError, match="holds 5 labels, not 2"):
        NativeLabels(path, ["a", "b"])
    content = bytearray(path.read_bytes())
    content[60:70] = b"\xff" * 10
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="rerun the same command"):
        _ = NativeLabels(path, Labels().ids)[0]
