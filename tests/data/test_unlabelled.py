"""Folders of images without labels: which files are found, how they are stored, and what is refused."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.unlabelled import UnlabelledImages, find_images, read_unlabelled, write_unlabelled


def image(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def test_pictures_are_found_below_the_folder_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "a/b/c.jpeg", "a.png", ".hidden.png", ".thumbnails/x.png"):
        write(tmp_path / name, image(0, 4, 6))
    write(tmp_path / "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", image(0, 4, 6))
    (tmp_path / "notes.txt").write_text("no image")
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == [
        "a.png",
        "a/b/c.jpeg",
        "a/z.JPG",
        "b.png",
    ]


def test_images_of_any_size_become_one_array(tmp_path: Path) -> None:
    same, larger = image(1, 4, 6), np.full((16, 24, 3), (10, 200, 90), dtype=np.uint8)
    write(tmp_path / "drives/b.png", larger)
    write(tmp_path / "drives/a.png", same)
    seen = itertools.count()
    write_unlabelled(tmp_path / "drives", (4, 6), tmp_path / "out", lambda: next(seen))
    images = read_unlabelled(tmp_path / "out")
    assert (images.ids, images.name, images.size, len(images)) == (["a.png", "b.png"], "drives", (4, 6), 2)
    assert isinstance(images.images, np.memmap)
    np.testing.assert_array_equal(images.images[0], same)
    np.testing.assert_array_equal(images.images[1], larger[:4, :6])
    assert next(seen) == 2
    batch = images.batch([1, 0, 1])
    assert batch.shape == (3, 3, 4, 6)
    np.testing.assert_allclose(batch[1].permute(1, 2, 0).numpy(), same / 127.5 - 1, atol=1e-6)


def test_a_picture_that_is_marked_as_turned_is_turned(tmp_path: Path) -> None:
    pixels, exif = image(2, 4, 6), Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    write(tmp_path / "in/a.png", pixels, exif=exif)
    write_unlabelled(tmp_path / "in", (6, 4), tmp_path / "out")
    np.testing.assert_array_equal(read_unlabelled(tmp_path / "out").images[0], np.rot90(pixels, -1))


def test_every_unreadable_picture_is_named_and_nothing_is_left_behind(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / f"in/{number:02d}.png", image(number, 4, 6))
    (tmp_path / "in/05.png").write_bytes(b"no image")
    cut = (tmp_path / "in/37.png").read_bytes()[:-30]
    (tmp_path / "in/37.png").write_bytes(cut)
    with pytest.raises(DataError, match="2 of 40 unlabelled images") as caught:
        write_unlabelled(tmp_path / "in", (4, 6), tmp_path / "out")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["05.png", "37.png"]
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(DataError, match="no finished arrays"):
        read_unlabelled(tmp_path / "out")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/secret.png", image(0, 4, 6))
    write(tmp_path / "in/a.png", image(1, 4, 6))
    (tmp_path / "in/sub").mkdir()
    (tmp_path / "in/again.png").symlink_to(tmp_path / "in/a.png")
    (tmp_path / "in/sub/loop").symlink_to(tmp_path / "in")
    assert [path.name for path in find_images(tmp_path / "in")] == ["a.png"]
    (tmp_path / "in/linked.png").symlink_to(tmp_path / "elsewhere/secret.png")
    (tmp_path / "in/sub/folder").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError) as caught:
        find_images(tmp_path / "in")
    assert sorted(problem.split(":")[0] for problem in caught.value.problems) == ["linked.png", "sub/folder"]
    # The folder itself may be a link.
    os.unlink(tmp_path / "in/linked.png")
    os.unlink(tmp_path / "in/sub/folder")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert [path.name for path in find_images(tmp_path / "link")] == ["a.png"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are text on this system")
@pytest.mark.parametrize("name", [b"caf\xe9.png", b"caf\xe9/a.png"])
def test_names_of_images_and_of_folders_around_them_are_text(name: bytes, tmp_path: Path) -> None:
    write(tmp_path / os.fsdecode(name), image(0, 4, 6))
    with pytest.raises(DataError) as caught:
        find_images(tmp_path)
    assert len(caught.value.problems) == 1 and "not text in UTF-8" in str(caught.value)


def test_labels_of_the_images_are_no_unlabelled_images(tmp_path: Path) -> None:
    for folder in ("images", "Masks/of", "target"):
        for name in ("a", "b"):
            write(tmp_path / folder / f"{name}.png", image(0, 4, 6))
    write(tmp_path / "Masks/c.png", image(0, 4, 6))
    with pytest.raises(DataError) as caught:
        find_images(tmp_path)
    (problem,) = caught.value.problems
    assert problem.startswith("Masks/: 2 images in it have names of other images")
    assert len(find_images(tmp_path / "Masks")) == 3, "which has been chosen"


@pytest.mark.parametrize(
    ("image_name", "label_name"),
    [
        ("images/x{}.png", "masks/x{}_mask.png"),
        ("img/IMG_{}.png", "mask/MASK_{}.png"),
        ("train/x{}.png", "trainannot/x{}.png"),
        ("train/x{}.png", "train_labels/x{}.png"),
        ("JPEGImages/x{}.png", "SegmentationClassPNG/x{}.png"),
        ("leftImg8bit/ulm/ulm_{}_leftImg8bit.png", "gtFine/ulm/ulm_{}_gtFine_labelIds.png"),
        ("x{}.png", "x{}_mask.png"),
        ("x{}.jpg", "x{}.png"),
    ],
)
def test_labels_in_usual_places_are_no_unlabelled_images(tmp_path: Path, image_name: str, label_name: str) -> None:
    for number in range(3):
        for name in (image_name, label_name):
            write(tmp_path / name.format(number), image(0, 4, 6))
    with pytest.raises(DataError, match=r"seem to be (their )?labels"):
        find_images(tmp_path)


@pytest.mark.parametrize(
    ("first", "second"),
    [("with_mask/{}.png", "without_mask/{}.png"), ("a/img_{}.png", "mask/img_9{}.png"), ("{}.png", "{}_l.png")],
)
def test_images_in_folders_with_such_words_are_read(tmp_path: Path, first: str, second: str) -> None:
    for number in range(3):
        for name in (first, second):
            write(tmp_path / name.format(number), image(0, 4, 6))
    assert len(find_images(tmp_path)) == 6


def test_a_folder_without_pictures_or_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no image in it"):
        find_images(tmp_path)
    with pytest.raises(DataError, match=r"not a folder\. Correct data\.unlabelled"):
        find_images(tmp_path / "nowhere")


def test_images_and_ids_must_fit_together() -> None:
    with pytest.raises(DataError, match=r"uint8 \[2, 4, 6, 3\] with 1 ids"):
        UnlabelledImages(np.zeros((2, 4, 6, 3), np.uint8), ["a"], "drives")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "has schema None; schema 1 is required"),
        ('{"schema": 2}', "has schema 2; schema 1 is required"),
        ('{"schema": 1, "ids": "ab", "name": "drives"}', "lacks ids, or has something else there"),
        ('{"schema": 1, "ids": ["a.png", "b.png"], "name": "drives"}', "with 2 ids"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, content: str, message: str) -> None:
    write(tmp_path / "drives/a.png", image(1, 4, 6))
    write_unlabelled(tmp_path / "drives", (4, 6), tmp_path / "out")
    (tmp_path / "out/images.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_unlabelled(tmp_path / "out")
