"""ADE-Indoor: images and classes chosen from ADE20K."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.data.decoding.class_files import packaged_table
from scenepalette.data.readers.ade_indoor import SCENES, open_ade_indoor

Write = Callable[[Path, np.ndarray], None]


def test_images_are_chosen_by_scene_category(ade_indoor_root: Path) -> None:
    assert len(SCENES) == 10
    assert open_ade_indoor(ade_indoor_root, "train").ids == ("ADE_train_00000002", "ADE_train_00000004")
    assert open_ade_indoor(ade_indoor_root, "val").ids == ("ADE_val_00000001",)


def test_the_published_list_goes_before_scene_categories(ade_indoor_root: Path) -> None:
    lines = [f"datasets/ADE15c_indoor_img/office/ADE_train_{number:08d}.jpg 9" for number in (3, 1)]
    (ade_indoor_root / "ade_indoor_im_info_train.txt").write_text("\n".join([*lines, ""]))
    assert open_ade_indoor(ade_indoor_root, "train").ids == ("ADE_train_00000003", "ADE_train_00000001")
    (ade_indoor_root / "ade_indoor_im_info_train.txt").write_text(
        "\n".join([*lines, "x/ADE_train_00000077.jpg 1", lines[0]])
    )
    with pytest.raises(DataError) as caught:
        open_ade_indoor(ade_indoor_root, "train")
    assert caught.value.problems == (
        "ade_indoor_im_info_train.txt, line 3: ADE_train_00000077 listed, but its image or label is missing",
        "ade_indoor_im_info_train.txt, line 4: ADE_train_00000003 is listed before, in line 1",
    )


def test_the_class_list_gives_ids_in_its_order_and_other_classes_are_ignored(
    ade_indoor_root: Path, write: Write
) -> None:
    label = np.zeros((8, 20), dtype=np.uint8)
    label[0, :6] = [150, 149, 56, 55, 1, 0]
    write(ade_indoor_root / "annotations/training/ADE_train_00000002.png", label)
    dataset = open_ade_indoor(ade_indoor_root, "train")
    assert dataset[0].label[0, :6].tolist() == [0, 1, 94, 255, 255, 255]
    assert dataset.table.num_classes == 95
    assert [dataset.table.names[i] for i in (0, 94)] == ["flag", "case"]


def test_classes_may_be_listed_by_name(ade_indoor_root: Path) -> None:
    numbered = open_ade_indoor(ade_indoor_root, "train")
    names = packaged_table("ade20k").names[:54:-1]
    (ade_indoor_root / "ade_indoor_classes.txt").write_text("\n\n".join(f" {name} " for name in names))
    named = open_ade_indoor(ade_indoor_root, "train")
    assert named.table == numbered.table
    assert np.array_equal(named[0].label, numbered[0].label)


def test_every_problem_of_a_class_list_is_listed(ade_indoor_root: Path) -> None:
    (ade_indoor_root / "ade_indoor_classes.txt").write_text("wall\nspaceship\n0\n151\n1\nbed\n")
    with pytest.raises(DataError, match="ade_indoor_classes") as caught:
        open_ade_indoor(ade_indoor_root, "train")
    assert caught.value.problems == (
        "line 2: 'spaceship' is neither a class of ADE20K nor a number from 1 to 150",
        "line 3: '0' is neither a class of ADE20K nor a number from 1 to 150",
        "line 4: '151' is neither a class of ADE20K nor a number from 1 to 150",
        "line 5: '1' is listed before",
        "2 different classes; 95 are required",
    )


def test_a_missing_class_list_says_why_it_is_needed(ade_indoor_root: Path) -> None:
    (ade_indoor_root / "ade_indoor_classes.txt").unlink()
    with pytest.raises(DataError, match="was not published, so this file must say it"):
        open_ade_indoor(ade_indoor_root, "train")


def test_one_of_the_two_image_lists_is_required(ade_indoor_root: Path) -> None:
    (ade_indoor_root / "sceneCategories.txt").unlink()
    with pytest.raises(DataError, match=r"neither ade_indoor_im_info_val\.txt.* nor sceneCategories\.txt"):
        open_ade_indoor(ade_indoor_root, "val")


def test_every_kind_of_damage_is_listed_with_its_file(ade_indoor_root: Path, write: Write) -> None:
    scenes = ade_indoor_root / "sceneCategories.txt"
    scenes.write_text(scenes.read_text().replace("ADE_train_00000003 bathroom_outdoor\n", ""))
    (ade_indoor_root / "images/training/ADE_train_00000001.jpg").unlink()
    write(ade_indoor_root / "annotations/training/ADE_train_00000002.png", np.full((8, 19), 200, dtype=np.uint8))
    cut = ade_indoor_root / "annotations/training/ADE_train_00000004.png"
    cut.write_bytes(cut.read_bytes()[:40])
    with pytest.raises(DataError) as caught:
        open_ade_indoor(ade_indoor_root, "train")
    *others, last = caught.value.problems
    assert others == [
        "annotations/training/ADE_train_00000001.png: no image for it",
        "images/training/ADE_train_00000003.jpg: sceneCategories.txt states no scene category for it",
        "annotations/training/ADE_train_00000002.png: 8 x 19 pixels (height x width), but its image "
        "images/training/ADE_train_00000002.jpg has 8 x 20; both must be equal",
        "annotations/training/ADE_train_00000002.png: label values 200 in 152 pixels; allowed are the class ids 56 to "
        "150 and, as ignored, 0 to 55, 255",
    ]
    assert last.startswith("annotations/training/ADE_train_00000004.png: it is damaged")


def test_missing_folders_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'ade-indoor'") as caught:
        open_ade_indoor(tmp_path, "train")
    assert caught.value.problems == ("images/training/", "annotations/training/")
