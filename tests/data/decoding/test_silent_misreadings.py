"""Labels that once were misread in silence: palettes filled up, masks scaled one by one, bits, transparency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from label_situations import COLOURS, Save, rotated, save_palette, scene, two, write_folder, wrong_pixels
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.image_files import PairedFiles
from scenepalette.data.readers.folder import open_folder

BLACK_FIRST = [("background", (0, 0, 0)), ("road", (128, 64, 128)), ("car", (0, 0, 142)), ("tree", (107, 142, 35))]
PADDING = [(0, 0, 0)] * 252
NAMES = "name\nbackground\nroad\ncar\ntree\n"


def opened(root: Path, labels: LabelSettings = AS_FOUND) -> list[PairedFiles]:
    return [open_folder(root, split, labels=labels) for split in ("train", "val")]


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_folder(root, "train")
    return str(caught.value)


def palette_in(order: Callable[[int], Sequence[int]], colours: Sequence[Sequence[int]]) -> Save:
    """Return a writer whose palettes hold each class's colour at the index of the class, filled up with black."""

    def palette(index: int) -> list[Sequence[int]]:
        return [colours[order(index).index(place)] for place in range(4)] + PADDING

    return save_palette(palette, order)


@pytest.mark.parametrize("shift", range(4))
def test_a_black_class_in_a_palette_filled_up_with_black_keeps_its_place(tmp_path: Path, shift: int) -> None:
    save = palette_in(lambda index: rotated(index + shift), [colour for _, colour in BLACK_FIRST])
    assert wrong_pixels(opened(write_folder(tmp_path, save, classes=BLACK_FIRST))) == 0


def test_an_index_in_the_padding_says_nothing_of_a_black_class(tmp_path: Path) -> None:
    """Class 3 has no entry of its own: it is not the black of class 0."""
    palette = [colour for _, colour in BLACK_FIRST[:3]] + [(0, 0, 0)] * 253
    root = write_folder(tmp_path, save_palette(lambda _: palette, lambda _: [0, 1, 2, 3]), classes=BLACK_FIRST)
    assert wrong_pixels(opened(root)) == 0


@pytest.mark.parametrize(
    "strange", [[(9, 9, 1), (200, 3, 3), (1, 200, 1), (3, 3, 3)], [(9, 9, 9), (60,) * 3, (120,) * 3, (1,) * 3]]
)
def test_one_palette_of_other_colours_among_those_of_the_classes_is_asked_about(
    tmp_path: Path, strange: list[tuple[int, int, int]]
) -> None:
    save = save_palette(
        lambda i: strange if i == 3 else COLOURS.tolist(), lambda i: rotated(1) if i == 3 else rotated(0)
    )
    text = refusal(write_folder(tmp_path, save))
    assert "differ between files" in text and "train/labels/s03.png" in text


def test_greys_of_a_palette_in_another_order_are_asked_about(tmp_path: Path) -> None:
    order = rotated(1)
    save = save_palette(lambda _: [(10 * order.index(place),) * 3 for place in range(4)], lambda _: order)
    assert "hold greys in another order than their indices" in refusal(write_folder(tmp_path, save, classes=NAMES))


def test_masks_that_were_each_scaled_by_their_own_largest_id_are_asked_about(tmp_path: Path) -> None:
    def truth(index: int) -> np.ndarray:
        return scene(index) if index % 2 else np.minimum(scene(index), 1)

    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray((label.astype(int) * 255 // label.max()).astype(np.uint8)).save(path)

    root = write_folder(tmp_path, save, truth=truth)
    assert "as if each had been scaled by its own largest id" in refusal(root)
    (root / "classes.csv").write_text("id,name\n0,sky\n85,road\n170,car\n255,tree\n")
    assert opened(root)


def test_one_bit_whose_colours_contradict_its_numbers_is_asked_about(tmp_path: Path) -> None:
    classes = (("paper", (255, 255, 255)), ("ink", (0, 0, 0)))
    root = write_folder(
        tmp_path, lambda path, label, _: Image.fromarray(label == 0).save(path), truth=two, classes=classes
    )
    assert "Set data.label_encoding to colours" in refusal(root)
    assert wrong_pixels(opened(root, LabelSettings("colours")), two) == 0
    assert wrong_pixels(opened(root, LabelSettings("ids")), two) > 0


def test_masks_in_the_alpha_channel_are_refused(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        nothing = np.zeros_like(label)
        Image.fromarray(np.dstack([nothing, nothing, nothing, label * 255])).save(path)

    root = write_folder(tmp_path, save, truth=two, classes=(("a", (200, 0, 0)), ("b", (0, 200, 0))))
    assert "the masks seem to be in the alpha channel" in refusal(root)


def test_255_in_place_of_the_background_is_asked_about(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray((label.astype(int) - 1).astype(np.uint8)).save(path)

    root = write_folder(tmp_path, save, classes=NAMES)
    assert "these labels seem reduced by one, with 255 for 'background'" in refusal(root)
    (root / "classes.csv").write_text("id,name\n255,background\n0,road\n1,car\n2,tree\n")
    assert [dataset.table.num_classes for dataset in opened(root)] == [4, 4]


def test_ids_shifted_by_8_bits_are_named(tmp_path: Path) -> None:
    save: Save = lambda path, label, _: Image.fromarray(label.astype(np.uint16) << 8).save(path)  # noqa: E731
    assert "divide them by 256" in refusal(write_folder(tmp_path, save))
