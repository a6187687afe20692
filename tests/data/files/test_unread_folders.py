"""Folders and names that are read by nobody are told, and names that cannot be used refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from label_situations import save_values, write_folder

from labelled_folders import random_image, random_label, write_pixels
from scenepalette.common.errors import DataError
from scenepalette.data.readers.folder import open_folder

OTHERS = {
    "beside the folders of a split": ("train/images_2", "train/labels_2"),
    "beside the splits": ("train2/images", "train2/labels"),
    "below a split": ("train/batch2/images", "train/batch2/labels"),
}


def written(root: Path) -> Path:
    return write_folder(root, save_values([0, 1, 2, 3]))


@pytest.mark.parametrize("name", OTHERS)
def test_a_second_delivery_beside_the_first_is_told(tmp_path: Path, name: str) -> None:
    root = written(tmp_path)
    for folder in OTHERS[name]:
        write_pixels(root / folder / "a.png", random_image(1))
    for split in ("train", "val"):
        (note,) = open_folder(root, split).notes
        assert note.startswith("skipped, folders outside of those that are read: 2 (")
        assert all(f"{folder}/ with 1 image" in note for folder in OTHERS[name])


def test_a_test_split_without_labels_is_no_matter(tmp_path: Path) -> None:
    root = written(tmp_path)
    write_pixels(root / "test/images/a.png", random_image(1))
    assert open_folder(root, "train").notes == ()


def test_a_hidden_folder_is_told_and_that_of_a_tool_is_not(tmp_path: Path) -> None:
    root = written(tmp_path)
    write_pixels(root / "train/images/.new/a.png", random_image(1))
    write_pixels(root / "train/images/.ipynb_checkpoints/s00-checkpoint.png", random_image(1))
    text = "skipped, in a folder hidden by the dot before its name: 1 (train/images/.new/a.png)"
    assert open_folder(root, "train").notes == (text,)


def test_a_name_with_a_line_break_is_refused_on_one_line(tmp_path: Path) -> None:
    root = written(tmp_path)
    write_pixels(root / "train/images/a\nb.png", random_image(1, 24, 32))
    write_pixels(root / "train/labels/a\nb.png", random_label(1, 4, 24, 32))
    with pytest.raises(DataError, match=r"train/images/a\\nb\.png: its name has a line break"):
        open_folder(root, "train")


@pytest.mark.parametrize("form", ["{}.lst", "{}_list.txt", "{}list.txt", "list_{}.txt"])
def test_names_of_lists(tmp_path: Path, form: str) -> None:
    (tmp_path / "classes.csv").write_text("name\na\nb\n")
    for number in range(5):
        write_pixels(tmp_path / f"images/i{number}.png", random_image(number))
        write_pixels(tmp_path / f"labels/i{number}.png", random_label(number, 2))
    for split, numbers in (("train", [0, 2, 4]), ("val", [1, 3])):
        (tmp_path / form.format(split)).write_text("".join(f"images/i{n}.png labels/i{n}.png\n" for n in numbers))
    assert open_folder(tmp_path, "val").ids == ("i1", "i3")
