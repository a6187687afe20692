"""Which files of a data set belong together, in every published layout, and what is said of the others."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from labelled_folders import random_image, random_label, write_pixels
from scenepalette.common.errors import DataError
from scenepalette.data.datasets import open_dataset
from scenepalette.data.files.finding import Search
from scenepalette.data.files.image_files import PairedFiles
from scenepalette.data.files.naming import flat_name
from scenepalette.data.readers.folder import open_folder

LITTER = ("._{}", ".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir/{}", "__MACOSX/{}", ".ipynb_checkpoints/{}")
LAYOUTS: dict[str, tuple[str, str]] = {
    "folder": ("train/images/*", "train/labels/*"),
    "camvid": ("train/*", "trainannot/*"),
    "cityscapes": ("leftImg8bit/train/*/*_leftImg8bit*", "gtFine/train/*/*_gtFine_labelIds*"),
    "cityscapes-25k": ("leftImg8bit/train/*/*_leftImg8bit*", "gtFine/train/*/*_gtFine_labelIds*"),
    "idd": ("leftImg8bit/train/*/*_leftImg8bit*", "gtFine/train/*/*_gtFine_labelids*"),
    "ade20k": ("images/training/*", "annotations/training/*"),
    "ade-indoor": ("images/training/*", "annotations/training/*"),
    "coco-stuff": ("images/train2017/*", "annotations/train2017/*"),
    "gta5": ("images/*", "labels/*"),
    "celebamask-hq": ("CelebA-HQ-img/*", "CelebAMask-HQ-mask-anno/0/*"),
}
"""Where images and labels lie in each layout; "*" where names differ."""


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def root(layout: str, request: pytest.FixtureRequest) -> Path:
    """A small data set in the layout."""
    return request.getfixturevalue(f"{layout.replace('-', '_')}_root")


def samples(layout: str, root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {sample.id: (sample.image, sample.label) for sample in open_dataset(layout, "train", root)}


def same(first: dict[str, tuple[np.ndarray, np.ndarray]], second: dict[str, tuple[np.ndarray, np.ndarray]]) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(a, b) for key in first for a, b in zip(first[key], second[key], strict=True)
    )


def files(root: Path, layout: str, part: int) -> list[Path]:
    return sorted(path for path in root.glob(LAYOUTS[layout][part]) if path.is_file())


def opened(layout: str, root: Path) -> PairedFiles:
    dataset = open_dataset(layout, "train", root)
    assert isinstance(dataset, PairedFiles)
    return dataset


@pytest.mark.parametrize("which", ["all", "every other"])
def test_endings_in_capitals_are_read(layout: str, root: Path, which: str) -> None:
    before, content = samples(layout, root), opened(layout, root).content
    for part in (0, 1):
        for path in files(root, layout, part)[:: 1 if which == "all" else 2]:
            path.rename(path.with_suffix(path.suffix.upper()))
    assert same(samples(layout, root), before)
    if layout != "celebamask-hq":  # whose masks' names are part of what they mean
        assert opened(layout, root).content == content


@pytest.mark.parametrize("kind", ["tif", "bmp", "png"])
def test_other_lossless_formats_are_read(layout: str, root: Path, kind: str) -> None:
    before = samples(layout, root)
    for part in (0, 1):
        for path in files(root, layout, part)[::2]:
            with Image.open(path) as image:
                image.load()
            path.unlink()
            image.save(path.with_suffix(f".{kind}"))
    assert same(samples(layout, root), before)


def test_what_systems_leave_behind_is_no_part_of_a_data_set(layout: str, root: Path) -> None:
    before, content = samples(layout, root), opened(layout, root).content
    for part in (0, 1):
        for path in files(root, layout, part):
            for name in LITTER:
                place = path.parent / name.format(path.name)
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(b"\0\5\x16\7")
    dataset = opened(layout, root)
    assert same(samples(layout, root), before) and dataset.content == content
    assert not [note for note in dataset.notes if "skipped" in note]


def test_what_is_passed_over_is_counted_with_three_examples(layout: str, root: Path) -> None:
    folder = files(root, layout, 1)[0].parent
    for number in range(5):
        (folder / f"{number}.txt").write_text("")
    (note,) = [note for note in opened(layout, root).notes if "not an image, by its extension" in note]
    shown = ", ".join(f"{folder.relative_to(root).as_posix()}/{number}.txt" for number in range(3))
    assert note == f"skipped, not an image, by its extension: 5 ({shown} and 2 more)"


@pytest.mark.parametrize("part", [0, 1], ids=["images", "labels"])
def test_of_two_files_of_one_name_none_is_chosen_and_both_are_named(layout: str, root: Path, part: int) -> None:
    path = files(root, layout, part)[0]
    second = path.with_suffix(".PNG" if path.suffix != ".PNG" else ".png")
    with Image.open(path) as image:
        image.save(second, "PNG")
    with pytest.raises(DataError, match="beside") as caught:
        opened(layout, root)
    (problem,) = [text for text in caught.value.problems if "beside" in text]
    names = {file.relative_to(root).as_posix() for file in (path, second)}
    assert all(name in problem for name in names)


@pytest.mark.parametrize("layout", ["folder", "ade20k", "coco-stuff", "camvid", "gta5", "cityscapes"], indirect=False)
def test_sub_folders_of_the_same_names_are_read(layout: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(f"{layout.replace('-', '_')}_root")
    before = list(samples(layout, root).values())
    for part in (0, 1):
        for path in files(root, layout, part):
            (path.parent / "seq" / "2").mkdir(parents=True, exist_ok=True)
            path.rename(path.parent / "seq" / "2" / path.name)
    after = samples(layout, root)
    assert same(dict(enumerate(after.values())), dict(enumerate(before)))  # type: ignore[arg-type]
    assert all("seq_2_" in name for name in after)


def test_sub_folders_on_one_side_only_are_matched_by_name_and_told(folder_root: Path) -> None:
    before = samples("folder", folder_root)
    for path in (folder_root / "train/images").iterdir():
        place = folder_root / "train/images" / path.stem[0] / path.name
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
    dataset = open_folder(folder_root, "train")
    assert dataset.ids == ("a_alley", "s_square", "s_street")
    assert np.array_equal(dataset[1].label, before["square"][1])
    assert dataset.notes[0].startswith("paired, although only images or only labels lie in sub-folders: 3 (")


def test_the_same_name_in_two_folders_is_not_guessed(folder_root: Path) -> None:
    for folder, seed in (("a", 1), ("b", 2)):
        write_pixels(folder_root / f"train/images/{folder}/x.png", random_image(seed))
    write_pixels(folder_root / "train/labels/x.png", random_label(1, 3))
    with pytest.raises(DataError) as caught:
        open_folder(folder_root, "train")
    assert len(caught.value.problems) == 3


def test_a_linked_folder_is_read_and_a_circle_of_links_ends(folder_root: Path, tmp_path: Path) -> None:
    for part in ("images", "labels"):
        store = tmp_path / "store" / part
        (folder_root / "train" / part).rename(tmp_path / part) if not store.parent.exists() else None
    for part in ("images", "labels"):
        if not (folder_root / "train" / part).exists():
            (folder_root / "train" / part).symlink_to(tmp_path / part)
        (folder_root / "train" / part / "again").symlink_to(folder_root / "train" / part)
    assert len(open_folder(folder_root, "train")) == 3


@pytest.mark.parametrize(
    "name", ["Straße 01", "写真 3", "x#1%20y", 'it\'s "q"', "Café é", "-dash", "tab\tname", "🚗", "a.b.c"]
)
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD"), ("NFC", "NFC")])
def test_names_in_any_script_and_unicode_form_are_paired(
    folder_root: Path, name: str, forms: tuple[Literal["NFC", "NFD"], Literal["NFC", "NFD"]]
) -> None:
    image, label = (unicodedata.normalize(form, name) for form in forms)
    write_pixels(folder_root / f"train/images/{image}.png", random_image(9))
    write_pixels(folder_root / f"train/labels/{label}.png", random_label(9, 3))
    dataset = open_folder(folder_root, "train")
    assert len(dataset) == 4
    (index,) = [
        i for i in range(4) if unicodedata.normalize("NFC", dataset.ids[i]) == unicodedata.normalize("NFC", name)
    ]
    assert np.array_equal(dataset[index].label, random_label(9, 3))
    assert any("another Unicode form" in note for note in dataset.notes) == (image != label)


def test_other_capitals_in_a_name_are_told_and_two_that_differ_in_nothing_else_refused(folder_root: Path) -> None:
    write_pixels(folder_root / "train/images/IMG_1.JPG", random_image(9))
    write_pixels(folder_root / "train/labels/img_1.png", random_label(9, 3))
    dataset = open_folder(folder_root, "train")
    assert len(dataset) == 4 and "the label's name has other capitals: 1" in dataset.notes[0]
    write_pixels(folder_root / "train/images/Img_1.png", random_image(9))
    with pytest.raises(DataError) as caught:
        open_folder(folder_root, "train")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("part", ["images", "labels", "both"])
def test_a_name_that_is_no_text_is_refused_before_anything_is_made(folder_root: Path, part: str) -> None:
    for folder, suffix in (("images", ".png"), ("labels", ".png")):
        if part in (folder, "both"):
            place = os.fsencode(folder_root / "train" / folder)
            os.rename(place + b"/square" + suffix.encode(), place + b"/caf\xe9" + suffix.encode())
    with pytest.raises(DataError) as caught:
        open_folder(folder_root, "train")
    text = str(caught.value)
    text.encode("utf-8")
    assert r"caf\xe9.png: its name is not text in UTF-8; rename it" in text
    assert all(problem.path.isprintable() for problem in caught.value.found)


def test_a_hidden_image_is_told(folder_root: Path) -> None:
    write_pixels(folder_root / "train/labels/.street.png", random_label(0, 3))
    assert open_folder(folder_root, "train").notes == (
        "skipped, hidden by the dot before the name: 1 (train/labels/.street.png)",
    )


def test_a_jpeg_beside_a_label_is_passed_over_and_alone_is_no_label(folder_root: Path) -> None:
    content = open_folder(folder_root, "train").content
    write_pixels(folder_root / "train/labels/street.jpg", random_image(0))
    dataset = open_folder(folder_root, "train")
    assert dataset.content == content
    assert dataset.notes == (
        "skipped, a JPEG beside a label of the same name, which keeps ids exactly: 1 (train/labels/street.jpg)",
    )
    (folder_root / "train/labels/street.png").unlink()
    with pytest.raises(DataError, match=r"street\.jpg: it is a JPEG file"):
        open_folder(folder_root, "train")


@pytest.mark.parametrize(
    ("key", "name"),
    [("a", "a"), ("ulm/ulm_1", "ulm_1"), ("12/1", "12_1"), ("a/b/c", "a_b_c"), ("x/ulm/ulm_1", "x_ulm_1")],
)
def test_an_id_is_a_file_name(key: str, name: str) -> None:
    assert flat_name(key) == name


def test_two_ids_that_flattening_makes_equal_are_refused(folder_root: Path) -> None:
    for name in ("a/b_c", "a_b/c"):
        write_pixels(folder_root / f"train/images/{name}.png", random_image(9))
        write_pixels(folder_root / f"train/labels/{name}.png", random_label(9, 3))
    with pytest.raises(DataError, match=r"the id 'a_b_c' occurs twice, also for train/images/a.*; rename one"):
        open_folder(folder_root, "train")


@pytest.mark.parametrize(
    "make", [lambda path: path.mkdir(), lambda path: path.symlink_to(path.name), lambda path: path.symlink_to("gone")]
)
def test_a_folder_or_a_broken_link_under_an_images_name_is_no_reason_to_stop_looking(
    folder_root: Path, make: Callable[[Path], None]
) -> None:
    (folder_root / "train/images/square.png").unlink()
    make(folder_root / "train/images/square.png")
    with pytest.raises(DataError) as caught:
        open_folder(folder_root, "train")
    (problem,) = caught.value.problems
    assert problem.startswith("train/images/square.png: it ")


def test_notes_are_given_once_and_problems_are_collected(tmp_path: Path) -> None:
    search = Search(tmp_path)
    for _ in range(2):
        search.note("decided")
        search.pass_over([tmp_path / "a", "b"], "of no use")
    search.refuse(tmp_path / "c", "wrong")
    assert search.notes == ["decided", "skipped, of no use: 2 (a, b)"]
    assert [str(problem) for problem in search.problems] == ["c: wrong"]
