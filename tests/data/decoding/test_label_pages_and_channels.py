"""Labels that hold more than one channel or page of ids, or ids that were smoothed: refused or said, never misread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from label_situations import COLOURS, SIZE, scene, three, two, write_folder, wrong_pixels
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.decoding.label_images import colour_of, voc_colour
from scenepalette.data.readers.folder import open_folder

NAMES = "name\nsky\nroad\ncar\ntree\n"


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_folder(root, "train")
    return str(caught.value)


def save_pages(path: Path, pages: list[np.ndarray]) -> None:
    first, *others = map(Image.fromarray, pages)
    first.save(path.with_suffix(".tif"), save_all=True, append_images=others)


@pytest.mark.parametrize("white", [1, 255])
def test_a_page_for_each_class_is_refused(tmp_path: Path, white: int) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        save_pages(path, [(label == class_id).astype(np.uint8) * white for class_id in range(2)])

    text = refusal(write_folder(tmp_path, save, truth=two, classes="name\nbackground\nobject\n"))
    assert "it has 2 pages or frames that differ" in text and "merge them" in text


@pytest.mark.parametrize("further", ["preview", "copy"])
def test_previews_and_copies_behind_a_label_are_passed_over(tmp_path: Path, further: str) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        save_pages(path, [label, label[::2, ::2] if further == "preview" else label])

    root = write_folder(tmp_path, save)
    assert wrong_pixels([open_folder(root, split) for split in ("train", "val")]) == 0


@pytest.mark.parametrize("white", [1, 255])
@pytest.mark.parametrize("classes", [NAMES, None])
def test_a_channel_for_each_class_is_not_taken_for_a_channel_of_ids(
    tmp_path: Path, classes: str | None, white: int
) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(np.eye(3, dtype=np.uint8)[label] * white).save(path)

    root = write_folder(tmp_path, save, truth=three, **({"classes": classes} if classes else {}))  # type: ignore[arg-type]
    text = refusal(root)
    assert "channel" in text and "the mask of a class" in text
    assert "data.label_encoding" not in text


def test_ids_of_segments_are_called_what_they_are(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        number = label.astype(int) * 1000 + 1
        Image.fromarray(np.dstack([number % 256, number // 256, 0 * number]).astype(np.uint8)).save(path)

    assert "class * 1000 + number" in refusal(write_folder(tmp_path, save))


def test_where_no_pixel_has_a_class_colour_the_class_file_may_be_another_ones(tmp_path: Path) -> None:
    root = write_folder(tmp_path, lambda path, label, index: Image.fromarray(COLOURS[label] // 2).save(path))
    assert "No pixel has a class's colour: look whether this class file is that of these labels" in refusal(root)


def test_a_colour_of_no_class_may_be_named_as_ignored(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        pixels = COLOURS[label]
        pixels[10] = 255
        Image.fromarray(pixels).save(path)

    assert "needs a row in the class file with ignore true" in refusal(write_folder(tmp_path / "a", save))
    rows = "name,color,ignore\nsky,70 130 180,\nroad,128 64 128,\ncar,0 0 142,\ntree,107 142 35,\nborder,#fff,true\n"
    root = write_folder(tmp_path / "b", save, classes=rows)
    assert wrong_pixels([open_folder(root, split) for split in ("train", "val")], unclear=1 / SIZE[0]) == 0


def test_exchanged_images_and_labels_are_said_without_advice_on_colours(tmp_path: Path) -> None:
    root = write_folder(tmp_path, lambda path, label, index: Image.fromarray(label).save(path), classes=NAMES)
    for split in ("train", "val"):
        (root / split / "images").rename(root / "aside")
        (root / split / "labels").rename(root / split / "images")
        (root / "aside").rename(root / split / "labels")
    text = refusal(root)
    assert "look whether images and labels are exchanged" in text
    assert "data.label_encoding" not in text


def test_values_of_jpeg_labels_suggest_nothing(tmp_path: Path) -> None:
    """Ids near 0 to 3 become 0 to 4, of which 0 is not what nobody labelled."""

    def save(path: Path, label: np.ndarray, index: int) -> None:
        label = label.copy()
        label[12, ::3] = 4
        Image.fromarray(label).save(path.with_suffix(".jpg"), quality=100)

    text = refusal(write_folder(tmp_path, save, classes=NAMES))
    assert "it is a JPEG file" in text and "ignore_ids" not in text


def test_ids_spread_over_16_bits_are_no_instances(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(np.array([0, 21845, 43690, 65534], np.uint16)[label]).save(path)

    text = refusal(write_folder(tmp_path, save))
    assert "spread over 16 bits to be visible: save class ids" in text and "nstances" not in text


def test_what_a_map_holds_below_0_is_stated(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(np.where(label == 3, np.float32(-9999), label.astype(np.float32))).save(
            path.with_suffix(".tif")
        )

    assert "holds values from -9999 to 2" in refusal(write_folder(tmp_path, save))


def test_65535_of_16_bits_is_no_instance(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(np.where(label == 3, 65535, label.astype(np.uint16)).astype(np.uint16)).save(path)

    text = refusal(write_folder(tmp_path, save))
    assert "Save 255 in place of 65535" in text and "nstances" not in text


def test_vocs_border_is_no_colour_at_another_index(tmp_path: Path) -> None:
    palette = np.array([colour_of(voc_colour(index)) for index in range(256)], np.uint8)
    rows = "id,name,color,ignore\n" + "".join(
        f"{index},{name},{' '.join(map(str, palette[index]))},\n"
        for index, name in enumerate(("sky", "road", "car", "tree"))
    )

    def save(path: Path, label: np.ndarray, index: int) -> None:
        label = label.copy()
        label[12] = 255
        image = Image.fromarray(label)
        image.putpalette(palette.tobytes())
        image.save(path)

    root = write_folder(tmp_path, save, classes=rows + "255,void,224 224 192,true\n")
    dataset = open_folder(root, "train")
    assert dataset.notes == ()
    assert (dataset[0].label[12] == 255).all()


@pytest.mark.parametrize("smoothed", [True, False])
def test_ids_that_were_resized_with_interpolation_are_said(tmp_path: Path, smoothed: bool) -> None:
    """Between sky (0) and tree (3) a road (1) and a car (2) appear, which are classes as well."""

    def save(path: Path, label: np.ndarray, index: int) -> None:
        half = Image.fromarray(scene(index)).resize((16, 12), Image.Resampling.NEAREST)
        half.resize((32, 24), Image.Resampling.BILINEAR if smoothed else Image.Resampling.NEAREST).save(path)

    notes = open_folder(write_folder(tmp_path, save), "train").notes
    assert any("resized or smoothed" in note for note in notes) == smoothed
