"""Where images and labels of a split lie in folders as people have them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from labelled_folders import random_image, random_label, write_pixels
from scenepalette.common.errors import ConfigError, DataError
from scenepalette.data.datasets import has_published_test, open_dataset
from scenepalette.data.readers.folder import open_folder
from scenepalette.data.sample import FolderOptions

CLASSES = "name,red,green,blue\nroad,128,64,128\ncar,0,0,142\nsky,70,130,180\n"
COUNTS = {"train": 12, "val": 6}


def made(root: Path, image: str, label: str, **splits: str) -> Path:
    """Write a folder: each of 18 pairs has a number of its own, which its pixels depend on.

    Args:
        root: The folder.
        image: Path of an image; {s} is what the split is called, {n} the number, {x} the number without zeros.
        label: Path of its label.
        splits: What splits are called, where not train and val.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.csv").write_text(CLASSES)
    number = 0
    for split, count in COUNTS.items():
        for _ in range(count):
            names = {"s": splits.get(split, split), "n": f"{number:03d}", "x": number}
            write_pixels(root / image.format(**names), random_image(number))
            if label:
                write_pixels(root / label.format(**names), random_label(number, 3))
            number += 1
    return root


def numbers(root: Path, split: str, options: FolderOptions | None = None, *, ordered: bool = False) -> list[int]:
    """Return the numbers of the pairs of a split; image and label of each must be of the same number."""
    dataset = open_dataset("folder", split, root, options=options)  # type: ignore[arg-type]
    found = []
    for sample in dataset:  # type: ignore[attr-defined]
        (number,) = [n for n in range(18) if np.array_equal(random_label(n, 3), sample.label)]
        if not (root / "lossy").exists():
            assert np.array_equal(random_image(number), sample.image)
        found.append(number)
    return found if ordered else sorted(found)


TRAIN, VAL = list(range(12)), list(range(12, 18))
SPLIT: dict[str, tuple[str, str, dict[str, str]]] = {
    "plain": ("{s}/images/i{n}.png", "{s}/labels/i{n}.png", {}),
    "masks": ("{s}/images/i{n}.png", "{s}/masks/i{n}.png", {}),
    "annotations": ("{s}/images/i{n}.png", "{s}/annotations/i{n}.png", {}),
    "gt": ("{s}/img/i{n}.png", "{s}/gt/i{n}.png", {}),
    "valid": ("{s}/images/i{n}.png", "{s}/masks/i{n}.png", {"val": "valid"}),
    "validation": ("{s}/images/i{n}.png", "{s}/labels/i{n}.png", {"train": "training", "val": "validation"}),
    "capitals": ("{s}/Images/i{n}.PNG", "{s}/Masks/i{n}.png", {"train": "Train", "val": "Val"}),
    "splits inside": ("images/{s}/i{n}.png", "labels/{s}/i{n}.png", {}),
    "splits inside, ade": (
        "images/{s}/i{n}.png",
        "annotations/{s}/i{n}.png",
        {"train": "training", "val": "validation"},
    ),
    "img_dir": ("img_dir/{s}/i{n}.png", "ann_dir/{s}/i{n}.png", {}),
    "labels beside": ("{s}/i{n}.png", "{s}_labels/i{n}.png", {}),
    "labels beside, camvid": ("{s}/i{n}.png", "{s}annot/i{n}.png", {}),
    "labels beside, in front": ("{s}/i{n}.png", "masks-{s}/i{n}.png", {}),
    "both beside": ("{s}_images/i{n}.png", "{s}_masks/i{n}.png", {}),
    "masks in the split": ("{s}/i{n}.png", "{s}/masks/i{n}.png", {}),
    "one folder": ("{s}/i{n}.png", "{s}/i{n}_mask.png", {}),
    "one folder, roboflow": ("{s}/i{n}_png.rf.0{n}a.png", "{s}/i{n}_png.rf.0{n}a_mask.png", {"val": "valid"}),
    "one folder, camvid": ("{s}/0006R0_f{n}.png", "{s}/0006R0_f{n}_L.png", {}),
    "one folder, deepglobe": ("{s}/{x}_sat.png", "{s}/{x}_mask.png", {}),
    "ground truth": ("{s}/Original/i{n}.png", "{s}/Ground Truth/i{n}.png", {}),
    "manual": ("{s}/images/{n}_x.png", "{s}/1st_manual/{n}_manual1.png", {}),
    "suffix _mask": ("{s}/images/i{n}.png", "{s}/labels/i{n}_mask.png", {}),
    "suffix _gt": ("{s}/images/i{n}.png", "{s}/labels/i{n}_gt.png", {}),
    "suffix -label": ("{s}/images/i{n}.png", "{s}/labels/i{n}-label.tif", {}),
    "suffix .mask": ("{s}/images/i{n}.png", "{s}/labels/i{n}.mask.png", {}),
    "suffix of its own": ("{s}/images/i{n}.png", "{s}/labels/i{n}_xyz.png", {}),
    "numbers that begin alike": ("{s}/images/i{x}.png", "{s}/labels/i{x}_mask.png", {}),
    "prefix": ("{s}/images/img_{n}.png", "{s}/labels/mask_{n}.png", {}),
    "prefix without a line": ("{s}/images/img{x}.png", "{s}/labels/mask{x}.png", {}),
    "affixes on both": ("{s}/images/{n}_rgb.png", "{s}/labels/{n}_seg.png", {}),
    "sub-folders and a suffix": ("{s}/images/a/i{n}.png", "{s}/labels/a/i{n}_mask.png", {}),
}


@pytest.mark.parametrize("name", SPLIT)
def test_folders_of_splits_are_recognised(tmp_path: Path, name: str) -> None:
    image, label, splits = SPLIT[name]
    root = made(tmp_path / "data", image, label, **splits)
    assert (numbers(root, "train"), numbers(root, "val")) == (TRAIN, VAL)
    notes = open_folder(root, "train").notes
    assert bool(notes) == (name != "plain")
    assert not has_published_test("folder", root)


@pytest.mark.parametrize("name", [name for name in SPLIT if "prefix" not in name and "affixes" not in name])
def test_a_test_split_is_recognised_as_the_others_are(tmp_path: Path, name: str) -> None:
    image, label, splits = SPLIT[name]
    root = made(tmp_path / "data", image, label, **splits)
    for number in (3, 4):
        names = {"s": "test", "n": f"{number:03d}", "x": number}
        write_pixels(root / image.format(**names), random_image(number))
        assert not has_published_test("folder", root) or number == 4
        write_pixels(root / label.format(**names), random_label(number, 3))
    assert has_published_test("folder", root)
    assert numbers(root, "test") == [3, 4]


def test_jpeg_and_png_of_the_same_name_in_one_folder_are_image_and_label(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "{s}/i{n}.jpg", "{s}/i{n}.png")
    (root / "lossy").touch()
    assert (numbers(root, "train"), numbers(root, "val")) == (TRAIN, VAL)
    assert open_folder(root, "val").notes == ("images are the JPEG files, labels the others of the same names",)


@pytest.mark.parametrize(
    ("suffixes", "labels"),
    [
        (("_semantic", "_instance"), "{s}/labels/"),
        (("_mask", "_gt"), "{s}/labels/"),
        (("_mask", "_gt"), "{s}/images/"),  # in one folder, only words for labels tell them from images
    ],
)
def test_between_two_suffixes_that_fit_the_user_chooses(tmp_path: Path, suffixes: tuple[str, str], labels: str) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}.png", labels + "i{n}" + suffixes[0] + ".png")
    made(root, "{s}/images/i{n}.png", labels + "i{n}" + suffixes[1] + ".png")
    if "images" in labels:
        for split in COUNTS:
            (root / split / "images").rename(root / f"{split}-")
            (root / split).rmdir()
            (root / f"{split}-").rename(root / split)
    with pytest.raises(DataError, match=r"could be NAME_\w+ \(12\) or NAME_\w+ \(12\)\. Set data\.label_suffix"):
        open_folder(root, "train")
    if "labels" in labels:
        assert numbers(root, "train", FolderOptions(label_suffix=suffixes[1])) == TRAIN


@pytest.mark.parametrize("first", ["", "_mask"])
def test_a_coloured_copy_beside_a_label_is_passed_over(tmp_path: Path, first: str) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}.png", "{s}/labels/i{n}" + first + ".png")
    for number in TRAIN:
        write_pixels(root / f"train/labels/i{number:03d}_color.png", random_image(number))
    assert numbers(root, "train") == TRAIN
    assert open_folder(root, "train").notes[-1].startswith("skipped, beside a label of the same image: 12 (")


def test_suffixes_on_some_labels_only_are_read(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}.png", "{s}/labels/i{n}.png")
    for number in TRAIN[::2]:
        path = root / f"train/labels/i{number:03d}.png"
        path.rename(path.with_stem(f"{path.stem}_mask"))
    assert numbers(root, "train") == TRAIN
    assert open_folder(root, "train").notes == (
        "6 labels are named as their images with '_mask' added; data.label_suffix overrules it",
    )


def test_between_two_suffixes_of_some_labels_the_user_chooses(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}.png", "{s}/labels/i{n}.png")
    for number in TRAIN[::2]:
        path = root / f"train/labels/i{number:03d}.png"
        shutil.copy(path, path.with_stem(f"{path.stem}_gt"))
        path.rename(path.with_stem(f"{path.stem}_mask"))
    with pytest.raises(DataError, match=r"could be NAME_gt \(6\) or NAME_mask \(6\)\. Set data\.label_suffix"):
        open_folder(root, "train")


def test_two_words_for_labels_of_different_images_are_read(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}.png", "{s}/labels/i{n}.png")
    for number in TRAIN:
        path = root / f"train/labels/i{number:03d}.png"
        path.rename(path.with_stem(f"{path.stem}{('_mask', '_gt')[number % 2]}"))
    assert numbers(root, "train") == TRAIN
    assert [note.partition(" are")[0] for note in open_folder(root, "train").notes] == ["6 labels"] * 2


@pytest.mark.parametrize("image", ["{s}/images/IMG{n}.png", "{s}/images/2026-01-{n}.png"])
def test_labels_may_begin_with_a_word_before_the_names_of_their_images(tmp_path: Path, image: str) -> None:
    label = image.replace("images/", "labels/mask_")
    root = made(tmp_path / "data", image, label)
    assert (numbers(root, "train"), numbers(root, "val")) == (TRAIN, VAL)
    assert "their labels mask_" in open_folder(root, "train").notes[0]


def test_a_suffix_is_enough_where_images_have_one_of_their_own(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}_leftImg8bit.png", "{s}/labels/i{n}_labelIds.png")
    made(root, "{s}/images/i{n}_leftImg8bit.png", "{s}/labels/i{n}_instanceIds.png")
    notes = open_folder(root, "train").notes
    assert "12 labels end with '_labelIds'; data.label_suffix overrules it" in notes
    assert any(note.startswith("skipped, without '_labelIds': 12") for note in notes)
    options = FolderOptions(label_suffix="_labelIds")
    assert (numbers(root, "train", options), numbers(root, "val", options)) == (TRAIN, VAL)


def test_labels_of_several_kinds_beside_images_with_a_suffix_are_asked_about(tmp_path: Path) -> None:
    """Cityscapes' files in one folder: what is missing is no label of an image's whole name."""
    kinds = ("_gtFine_color", "_gtFine_labelIds", "_gtFine_labelTrainIds")
    for kind in kinds:
        root = made(tmp_path / "data", "{s}/images/i{n}_leftImg8bit.png", "{s}/labels/i{n}" + kind + ".png")
    with pytest.raises(DataError, match=r"could be NAME_gtFine_color \(12\) or NAME_.*Set data\.label_suffix"):
        open_folder(root, "train")
    for kind in kinds:
        assert numbers(root, "train", FolderOptions(label_suffix=kind)) == TRAIN


@pytest.mark.parametrize("name", ["i000_1", "i0001", "i000_color"])
def test_a_label_of_another_image_is_not_taken_for_one_with_a_suffix(tmp_path: Path, name: str) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}.png", "{s}/labels/i{n}.png")
    (root / "train/labels/i000.png").rename(root / f"train/labels/{name}.png")
    with pytest.raises(DataError) as caught:
        open_folder(root, "train")
    assert any("i000.png: no label for it" in problem for problem in caught.value.problems)


@pytest.mark.parametrize("names", [("road/{}.png", "sky/{}.png"), ("{}_1.png", "{}_2.png")])
def test_masks_of_a_class_each_are_told_from_missing_labels(tmp_path: Path, names: tuple[str, str]) -> None:
    root = made(tmp_path, "{s}/images/i{n}.png", "")
    for path in sorted(root.rglob("images/*.png")):
        for name in names:
            write_pixels(path.parents[1] / "labels" / name.format(path.stem), random_label(0, 2))
    with pytest.raises(DataError) as caught:
        open_folder(root, "train")
    first = f"2 files, such as train/labels/{names[0].format('i000')}, have its name. If each is the mask of a class"
    assert first in caught.value.problems[0] and "missing" not in str(caught.value)


def test_labels_beside_masks_are_read_and_the_others_told(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}.png", "{s}/labels/i{n}.png")
    made(root, "{s}/images/i{n}.png", "{s}/masks/i{n}.png")
    assert numbers(root, "train") == TRAIN
    assert open_folder(root, "train").notes == (
        "skipped, beside train/labels/, which is read; data.label_folder overrules it: 1 (train/masks/)",
    )
    (root / "train/masks/i003.png").unlink()
    with pytest.raises(DataError, match=r"i003\.png: no label for it, train/masks/i003\.png is missing"):
        open_dataset("folder", "train", root, options=FolderOptions(label_folder="masks"))


def test_between_two_label_folders_the_user_chooses(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}.png", "{s}/gt/i{n}.png")
    made(root, "{s}/images/i{n}.png", "{s}/masks/i{n}.png")
    with pytest.raises(DataError, match=r"train/gt/ and train/masks/ could both be meant.*or set data\.label_folder"):
        open_folder(root, "train")
    assert numbers(root, "train", FolderOptions(label_folder="gt")) == TRAIN
    with pytest.raises(DataError, match=r"data\.label_folder is nowhere; .* has no folder of that name"):
        open_dataset("folder", "train", root, options=FolderOptions(label_folder="nowhere"))


def test_outlines_of_the_field_of_view_are_not_taken_for_labels(tmp_path: Path) -> None:
    """DRIVE has vessels in 1st_manual, and in mask what the camera sees."""
    root = made(tmp_path / "data", "{s}/images/{n}_x.png", "{s}/mask/{n}_x_mask.png")
    made(root, "{s}/images/{n}_x.png", "{s}/1st_manual/{n}_manual1.png")
    with pytest.raises(DataError, match="train/1st_manual/ and train/mask/ could both be meant"):
        open_folder(root, "train")


def test_a_label_folder_beside_no_known_folder_of_images_is_told(tmp_path: Path) -> None:
    root = made(made(tmp_path / "data", "top/i{n}.png", "gts/i{n}.png"), "depth/i{n}.png", "")
    with pytest.raises(DataError, match=r"beside .*gts is no folder of images .* top/ \(18\)"):
        open_folder(root, "train", options=FolderOptions(label_folder="gts"))


@pytest.mark.parametrize("folder", ["", "{s}/"])
def test_beside_a_stated_label_folder_the_only_other_one_has_the_images(tmp_path: Path, folder: str) -> None:
    root = made(tmp_path / "data", f"{folder}CameraRGB/i{{n}}.png", f"{folder}CameraSeg/i{{n}}.png")
    found = [numbers(root, split, FolderOptions(label_folder="CameraSeg")) for split in COUNTS]
    assert found == [TRAIN, VAL] if folder else all(found)


def test_beside_a_stated_label_folder_loose_images_come_before_other_folders(tmp_path: Path) -> None:
    root = made(made(tmp_path / "data", "{s}/i{n}.png", "{s}/gts/i{n}.png"), "{s}/depth/i{n}.png", "")
    assert numbers(root, "train", FolderOptions(label_folder="gts")) == TRAIN


def test_labels_whose_numbers_have_no_zeros_are_paired(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "{s}/images/{n}.png", "{s}/labels/{x}.png")
    assert [numbers(root, split) for split in COUNTS] == [TRAIN, VAL]


@pytest.mark.parametrize(
    ("label", "remedy"),
    [
        ("task-{x}-annotation-{n}-by-1-tag-road-0.png", "Label Studio names masks by task"),
        ("mask of {n}x.png", "Name each label as its image, or set data.label_suffix"),
    ],
)
def test_where_no_label_is_named_as_an_image_nothing_is_to_be_moved(tmp_path: Path, label: str, remedy: str) -> None:
    root = made(tmp_path / "data", "images/{x}a.png", f"labels/{label}")
    with pytest.raises(DataError, match="No image in images/ has a label of its name") as caught:
        open_folder(root, "train")
    assert remedy in str(caught.value) and "SPLIT/images" not in str(caught.value)


def test_of_stacks_of_slices_it_is_not_said_that_they_are_no_images(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "volume.tif", "labels.tif")
    with pytest.raises(DataError, match=r"No image in \./ has a label of its name") as caught:
        open_folder(root, "train")
    assert "There are no images" not in str(caught.value)


def test_a_list_cannot_pair_labels_of_other_names(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "images/a{n}.png", "labels/b{x}c.png")
    for split in COUNTS:
        (root / f"{split}.txt").write_text("images/a001.png labels/b1c.png\n")
    with pytest.raises(DataError) as caught:
        open_folder(root, "train")
    assert "labels are found by the names of their images, not by lists: name them alike" in caught.value.problems[0]


def test_a_label_folder_of_training_alone_is_no_wrong_setting(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "train/images/i{n}.png", "train/gts/i{n}.png")
    with pytest.raises(DataError, match="move train/images/ to images/ and train/gts/ to labels/"):
        open_folder(root, "val", options=FolderOptions(label_folder="gts"))


def test_validation_images_without_labels_are_told_from_images_beside_them(tmp_path: Path) -> None:
    """DeepGlobe: train/1_sat.jpg with train/1_mask.png, and valid/2_sat.jpg."""
    root = made(tmp_path / "data", "{s}/{n}_sat.png", "{s}/{n}_mask.png", val="valid")
    for path in (root / "valid").glob("*_mask.png"):
        path.unlink()
    with pytest.raises(DataError, match="If there are none, move valid/ elsewhere and train/ to images/:") as caught:
        open_folder(root, "val")
    assert "set data.label_folder to it" not in str(caught.value)
    (root / "valid").rename(tmp_path / "unlabelled")
    (root / "train").rename(root / "images")
    assert numbers(root, "train") and numbers(root, "val")


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}.png", "{s}/labels/i{n}.png", val="valid")
    made(root, "{s}/images/i{n}.png", "{s}/labels/i{n}.png", val="validation")
    with pytest.raises(DataError, match="valid/ and validation/ could both be meant"):
        open_folder(root, "val")


def test_a_folder_of_boxes_as_text_is_no_folder_of_labels(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}.png", "{s}/masks/i{n}.png")
    for split in COUNTS:
        (root / split / "labels").mkdir()
        (root / split / "labels/i000.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert (numbers(root, "train"), numbers(root, "val")) == (TRAIN, VAL)


def test_images_beside_the_folders_of_a_split_are_told(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}.png", "{s}/labels/i{n}.png")
    write_pixels(root / "train/new.png", random_image(0))
    assert open_folder(root, "train").notes == ("skipped, outside of train/images/, train/labels/: 1 (train/new.png)",)


LINES: dict[str, Callable[[str], str]] = {
    "names": lambda name: name,
    "file names": lambda name: f"{name}.png",
    "paths": lambda name: f"./images/{name}.png",
    "two paths": lambda name: f"images/{name}.png labels/{name}.png",
    "two paths, tab": lambda name: f"/images/{name}.png\t/labels/{name}.png",
    "two paths, comma": lambda name: f"images/{name}.png,labels/{name}.png",
    "backslashes": lambda name: f"images\\{name}.png",
    "a drive of Windows": lambda name: f"D:\\set\\images\\{name}.png\tD:\\set\\labels\\{name}.png",
    "paths elsewhere": lambda name: f"/home/me/set//images/{name}.png",
    "paths from above": lambda name: f"data/images/{name}.png\tdata/labels/{name}.png",
    "paths from beside": lambda name: f"../set/images/{name}.png",
    "two addresses": lambda name: f"file:///set/images/{quote(name)}.png,file:///set/labels/{quote(name)}.png",
    "quoted": lambda name: f'"images/{name}.png", "labels/{name}.png"',
    "name and number": lambda name: f"{name},  17",
    "a third file": lambda name: f"images/{name}.png,depth/{name}_z.png,labels/{name}.png",
}


def lists(root: Path, line: Callable[[str], str], place: str = ".", val: str = "val") -> None:
    (root / place).mkdir(parents=True, exist_ok=True)
    for name, chosen in (("train", TRAIN), (val, VAL)):
        text = "".join(f"{line(f'i {number:03d}')}\n" for number in reversed(chosen))
        (root / place / f"{name}.txt").write_text(f"# a comment\n{text}\n")


@pytest.mark.parametrize("kind", LINES)
def test_lists_say_the_splits_and_their_order(tmp_path: Path, kind: str) -> None:
    root = made(tmp_path / "data", "images/i {n}.png", "labels/i {n}.png")
    lists(root, LINES[kind])
    if kind == "two paths":  # a name with a space in it can only stand alone
        for split in ("train", "val"):
            for part in ("images", "labels"):
                for path in (root / part).iterdir():
                    path.rename(path.with_name(path.name.replace(" ", "-")))
            text = (root / f"{split}.txt").read_text()
            (root / f"{split}.txt").write_text(text.replace("i ", "i-").replace("#-a", "# a"))
    assert [numbers(root, split, ordered=True) for split in COUNTS] == [TRAIN[::-1], VAL[::-1]]
    assert "the splits are those of train.txt, val.txt" in open_folder(root, "val").notes


@pytest.mark.parametrize("place", [".", "ImageSets/Segmentation", "splits", "lists"])
@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_lists_lie_where_people_have_them(tmp_path: Path, place: str, val: str) -> None:
    root = made(tmp_path / "data", "JPEGImages/i {n}.png", "SegmentationClass/i {n}.png")
    write_pixels(root / "JPEGImages/unlabelled.png", random_image(0))
    lists(root, LINES["names"], place, val)
    assert [numbers(root, split, ordered=True) for split in COUNTS] == [TRAIN[::-1], VAL[::-1]]
    assert "skipped, without a label: 1 (JPEGImages/unlabelled.png)" in open_folder(root, "val").notes


@pytest.mark.parametrize(("train", "val"), [("Train.txt", "Validation.txt"), ("TRAIN.TXT", "val.txt")])
def test_names_of_lists_may_have_capitals(tmp_path: Path, train: str, val: str) -> None:
    root = made(tmp_path / "data", "images/i {n}.png", "labels/i {n}.png")
    lists(root, LINES["names"])
    (root / "train.txt").rename(root / train)
    (root / "val.txt").rename(root / val)
    assert [numbers(root, split, ordered=True) for split in COUNTS] == [TRAIN[::-1], VAL[::-1]]


@pytest.mark.parametrize("name", ["train_ids.txt", "meta/train.txt", "trainset.list", "split.csv", "my-splits.json"])
def test_what_seems_to_be_a_list_is_not_passed_over_in_silence(tmp_path: Path, name: str) -> None:
    root = made(tmp_path / "data", "images/i {n}.png", "labels/i {n}.png")
    for path in (root / name, root / "training notes.md", root / "trainer.txt", root / "labels/train.txt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("i 000\n")
    said = f"skipped, a list by its name, but not called train.txt, val.txt or the like: 1 ({name})"
    assert said in open_folder(root, "train").notes


def test_lists_beside_folders_of_splits_are_told(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "{s}/images/i {n}.png", "{s}/labels/i {n}.png")
    lists(root, LINES["names"])
    said = "skipped, a list beside folders of splits, which decide: 2 (train.txt, val.txt)"
    assert said in open_folder(root, "train").notes


def test_a_list_may_be_in_utf_16(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "images/i {n}.png", "labels/i {n}.png")
    lists(root, LINES["names"])
    for path in root.glob("*.txt"):
        path.write_bytes(path.read_text().replace("\n", "\r\n").encode("utf-16"))
    assert [numbers(root, split, ordered=True) for split in COUNTS] == [TRAIN[::-1], VAL[::-1]]


TABLES: dict[str, Callable[[int, str], str]] = {
    "image,mask": lambda row, name: f"images/{name}.png,labels/{name}.png",
    "names": lambda row, name: f"{name}.png",
    ",image,mask": lambda row, name: f"{row},{name}.png,{name}.png",
    "id;mask;image": lambda row, name: f"{row};labels/{name}.png;images/{name}.png",
    "Image_Id,width": lambda row, name: f'"{name}",32',
    "split,image,label": lambda row, name: f"train,/kaggle/input/set/images/{name}.png,labels/{name}.png",
    "": lambda row, name: f"images/{name}.png,labels/{name}.png",
}


def tables(root: Path, header: str, row: Callable[[int, str], str], form: str = "{}", **names: str) -> None:
    for split, chosen in (("train", TRAIN), ("val", VAL)):
        lines = [row(place, form.format(number)) for place, number in enumerate(reversed(chosen))]
        (root / f"{names.get(split, split)}.csv").write_text("\n".join([header, *lines]).lstrip("\n"))


@pytest.mark.parametrize("header", TABLES)
@pytest.mark.parametrize("form", ["{}", "a {:03d}"])
def test_tables_say_the_splits_and_their_order(tmp_path: Path, header: str, form: str) -> None:
    """Images of the names 0, 1, ... are not to be mixed up with the numbers of rows."""
    name = {"{}": "{x}.png", "a {:03d}": "a {n}.png"}[form]
    root = made(tmp_path / "data", f"images/{name}", f"labels/{name}")
    tables(root, header, TABLES[header], form, val="valid")
    assert [numbers(root, split, ordered=True) for split in COUNTS] == [TRAIN[::-1], VAL[::-1]]
    assert "the splits are those of train.csv, valid.csv" in open_folder(root, "val").notes


def test_a_table_of_training_alone_is_told_and_the_folder_divided(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "images/{n}.png", "labels/{n}.png")
    (root / "train.csv").write_text("id,depth\n000,1\n")
    told = "skipped, no list of a split without train.csv and val.csv beside each other: 1 (train.csv)"
    assert [note for note in open_folder(root, "train").notes if "train.csv" in note] == [told]
    assert len(numbers(root, "train")) + len(numbers(root, "val")) <= 18


def test_a_table_of_unlabelled_test_images_is_told(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "images/{n}.png", "labels/{n}.png")
    tables(root, "image", lambda row, name: f"{name}.png", "{:03d}")
    (root / "test.csv").write_text("image\n900.png\n")
    assert numbers(root, "val") == VAL
    assert "skipped, no image with a label is named in it: 1 (test.csv)" in open_folder(root, "val").notes
    assert not has_published_test("folder", root)


WRONG_TABLES: dict[str, tuple[str, str]] = {
    "another label": (
        "image,mask\n000.png,labels/001.png\n001.png,labels/001.png\n",
        "line 2: 000.png,labels/001.png: it names labels/001.png, but by its name the image's label is labels/000.png",
    ),
    "two images": ("a,b\n000.png,001.png\n", "line 2: 000.png and 001.png name different images in one row"),
    "no names": ("image,rle\n17.png,1 2 3\n", "no column holds names of images that have a label"),
    "nothing": ("", "no column holds names of images that have a label"),
    "a name too many": ("image\n000.png\n017x.png\n", "line 3: 017x.png: no image with a label has that name"),
    "twice": ("image\n000.png\n000.png\n", "line 3: 000.png is listed before, in line 2"),
    "no table": ("image\n" + "x" * 200_000 + "\n", "it is no table"),
}


@pytest.mark.parametrize("kind", WRONG_TABLES)
def test_tables_that_cannot_be_used_are_refused(tmp_path: Path, kind: str) -> None:
    text, says = WRONG_TABLES[kind]
    root = made(tmp_path / "data", "images/{n}.png", "labels/{n}.png")
    tables(root, "image", lambda row, name: f"{name}.png", "{:03d}")
    (root / "train.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        open_folder(root, "train")
    assert any(says in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    "line",
    [
        "images/i-000.png labels/i-001.png",
        "images/i-000.png other/i-000.png",
        "/set/images/i-000.png /set/labels/i-001.png",
        "/set/images/i-000.png labels/i-001.png",
        "/set/images/i-000 /set/labels/i-001.png",
    ],
)
def test_a_list_that_gives_an_image_another_label_is_refused(tmp_path: Path, line: str) -> None:
    root = made(tmp_path / "data", "images/i-{n}.png", "labels/i-{n}.png")
    (root / "other").mkdir()
    shutil.copy(root / "labels/i-000.png", root / "other/i-000.png")
    (root / "train.txt").write_text(f"{line}\nimages/i-001.png labels/i-001.png\n")
    (root / "val.txt").write_text("i-002\n")
    with pytest.raises(DataError) as caught:
        open_folder(root, "train")
    (problem,) = caught.value.problems
    assert problem.startswith(f"train.txt, line 1: {line}: it names {line.split()[1]}, but ")
    assert "the image's label is labels/i-000.png" in problem


def test_the_labels_path_on_another_machine_counts_by_its_last_parts(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "images/i-{n}.png", "labels/i-{n}.png")
    (root / "other").mkdir()
    shutil.copy(root / "labels/i-000.png", root / "other/i-000.png")
    (root / "train.txt").write_text("/set/images/i-000.png /set/other/i-000.png\n/old/i-001.png /old/masks/i-001.png\n")
    (root / "val.txt").write_text("i-002\n")
    with pytest.raises(DataError) as caught:
        open_folder(root, "train")
    (problem,) = caught.value.problems
    assert problem.startswith("train.txt, line 1: ") and "it names /set/other/i-000.png, but " in problem


def test_lists_name_files_in_any_unicode_form(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "images/\u00e4 {n}.png", "labels/a\u0308 {n}.png")
    lists(root, lambda name: f"images/a\u0308 {name[2:]}.png,labels/a\u0308 {name[2:]}.png")
    assert [numbers(root, split, ordered=True) for split in COUNTS] == [TRAIN[::-1], VAL[::-1]]


def test_wrong_lines_of_a_list_are_listed(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "images/i {n}.png", "labels/i {n}.png")
    lists(root, LINES["names"])
    (root / "train.txt").write_text("i 000\nnowhere\ni 000\ni 012\n")
    with pytest.raises(DataError) as caught:
        open_folder(root, "train")
    assert caught.value.problems == (
        "train.txt, line 2: nowhere: no image with a label has that name",
        "train.txt, line 3: i 000 is listed before, in line 1",
        "train.txt, line 4: i 012 is also in val.txt; keep it in one list",
    )
    (root / "val.txt").unlink()
    with pytest.raises(DataError, match=r"has train\.txt, but no list of the split 'val'.* Write val\.txt"):
        open_folder(root, "val")


def test_images_in_no_list_are_told(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "images/i {n}.png", "labels/i {n}.png")
    lists(root, LINES["names"])
    (root / "train.txt").write_text("i 000\ni 001\n")
    assert numbers(root, "train") == [0, 1]
    assert "skipped, in none of the lists train.txt, val.txt: 10 (images/i 002.png" in " ".join(
        open_folder(root, "train").notes
    )


WHOLE: dict[str, tuple[str, str]] = {
    "two folders": ("images/i{n}.png", "labels/i{n}.png"),
    "two folders, suffix": ("imgs/i{n}.png", "masks/i{n}_mask.png"),
    "one folder": ("images/i{n}.png", "images/i{n}_mask.png"),
    "no folder": ("i{n}.png", "i{n}_mask.png"),
    "masks only": ("i{n}.png", "masks/i{n}.png"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_folder_without_splits_is_divided_in_the_middle_of_its_recording(tmp_path: Path, name: str) -> None:
    root = made(tmp_path / "data", *WHOLE[name])
    assert (numbers(root, "train"), numbers(root, "val")) == ([0, 1, 2, 3, 4, 13, 14, 15, 16, 17], [7, 8, 9, 10])
    (note,) = [note for note in open_folder(root, "train").notes if "no splits" in note]
    assert note == (
        "there are no splits: 4 of 18 pairs are for validation (a run of frames in the middle of each recording), 10 "
        "for training; 4 between them are left out; data.val_share sets the share"
    )
    assert note in open_folder(root, "val").notes


@pytest.mark.parametrize("image", ["test/a.png", "test/images/a.png", "test_images/a.png"])
def test_test_images_without_labels_do_not_keep_a_folder_from_being_divided(tmp_path: Path, image: str) -> None:
    root = made(tmp_path, "images/i{n}.png", "masks/i{n}.png")
    write_pixels(root / image, random_image(99))
    assert len(numbers(root, "train")) > len(numbers(root, "val")) > 0
    assert not has_published_test("folder", root)


def test_a_labelled_test_split_stays_beside_what_is_divided(tmp_path: Path) -> None:
    root = made(tmp_path, "{s}/images/i{n}.png", "{s}/masks/i{n}.png", val="test")
    for part in ("images", "masks"):
        (root / "train" / part).rename(root / part)
    assert numbers(root, "test") == VAL
    assert {*numbers(root, "train"), *numbers(root, "val")} < set(TRAIN)


@pytest.mark.parametrize("test", ["", "test/images/a.png", "test_images/a.png"])
@pytest.mark.parametrize(
    ("image", "label", "remedy"),
    [
        ("train/images", "train/masks", "move train/images/ to images/ and train/masks/ to labels/:"),
        ("train_images", "train_masks", "move train_images/ to images/ and train_masks/ to labels/:"),
    ],
)
def test_where_validation_is_missing_it_is_told_how_to_have_training_divided(
    tmp_path: Path, image: str, label: str, remedy: str, test: str
) -> None:
    root = made(tmp_path, f"{image}/i{{n}}.png", f"{label}/i{{n}}.png")
    if test:
        write_pixels(root / test, random_image(99))
    with pytest.raises(DataError) as caught:
        open_folder(root, "val")
    assert remedy in caught.value.summary
    assert [problem.text for problem in caught.value.found] == ["val/images/", "val/labels/"]
    (root / image).rename(root / "images")
    (root / label).rename(root / "labels")
    assert len(numbers(root, "train")) > len(numbers(root, "val")) > 0


def test_images_of_their_own_are_drawn_by_seed_and_share(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "images/{n}.png", "labels/{n}.png")
    for part in ("images", "labels"):
        for path in (root / part).iterdir():
            path.rename(path.with_stem("".join("abcdefghij"[int(digit)] for digit in path.stem)))
    drawn = {}
    for seed, share, count in ((0, 0.2, 4), (1, 0.2, 4), (0, 0.4, 7)):
        options = FolderOptions(val_share=share, val_seed=seed)
        train, val = numbers(root, "train", options), numbers(root, "val", options)
        assert sorted(train + val) == TRAIN + VAL and len(val) == count
        assert numbers(root, "val", options) == val
        drawn[seed, share] = val
    assert drawn[0, 0.2] != drawn[1, 0.2]


def test_too_few_pairs_to_divide_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "classes.csv").write_text(CLASSES)
    for number in range(3):
        write_pixels(root / f"images/{number}.png", random_image(number))
        write_pixels(root / f"labels/{number}.png", random_label(number, 3))
    with pytest.raises(DataError, match=r"3 pairs are too few to divide with data\.val_share=0\.2, of 1 recording by"):
        open_folder(root, "train")


def test_images_without_anything_that_tells_labels_are_refused(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "i{n}.png", "")
    with pytest.raises(DataError, match="18 images and nothing that tells which are labels"):
        open_folder(root, "train")


def test_a_fixed_layout_takes_no_options(camvid_root: Path) -> None:
    with pytest.raises(ConfigError, match="whose layout is fixed"):
        open_dataset("camvid", "train", camvid_root, options=FolderOptions(label_folder="x"))
    assert len(open_dataset("camvid", "train", camvid_root, options=FolderOptions())) == 3


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "data", "{s}/images/i{n}.png", "{s}/labels/i{n}.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(open_dataset("folder", "train", Path("~/data"))) == 12


@pytest.mark.parametrize(("ending", "kind"), [("HEIC", "HEIC"), ("heif", "HEIC"), ("jxl", "JPEG XL")])
def test_an_image_of_a_format_that_is_not_read_is_named_beside_its_label(
    tmp_path: Path, ending: str, kind: str
) -> None:
    root = made(tmp_path / "data", "{s}/images/i{n}.png", "{s}/labels/i{n}.png")
    (root / "train/images/i000.png").rename(root / f"train/images/i000.{ending}")
    with pytest.raises(DataError) as caught:
        open_folder(root, "train")
    (problem,) = caught.value.problems
    assert problem == (
        f"train/labels/i000.png: no image for it; train/images/i000.{ending} is a {kind} file, which is not read. "
        "Convert it to JPEG or PNG"
    )
