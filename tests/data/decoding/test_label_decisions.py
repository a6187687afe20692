"""What values and colours of label images mean, in the forms that public bug reports of this field show.

Every situation is either read as it was drawn, with a note where something was decided, or refused with the setting
that settles it; none is read otherwise in silence.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_situations import (
    CLASSES,
    COLOURS,
    GREYS,
    Save,
    rotated,
    rotated_palette,
    save_colours,
    save_palette,
    save_values,
    scene,
    three,
    two,
    write_folder,
    wrong_pixels,
)
from PIL import Image, ImageFilter

from labelled_folders import grey_png
from scenepalette.common.errors import DataError
from scenepalette.data.decoding.label_images import LabelValues, colour_of, voc_colour
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.image_files import PairedFiles
from scenepalette.data.readers.folder import open_folder

Truth = Callable[[int], np.ndarray]
NAMES = "name\nsky\nroad\ncar\ntree\n"


def opened(root: Path, labels: LabelSettings = AS_FOUND) -> list[PairedFiles]:
    return [open_folder(root, split, labels=labels) for split in ("train", "val")]


def assert_read(
    root: Path, truth: Truth = scene, note: str | None = None, labels: LabelSettings = AS_FOUND, unclear: float = 0.0
) -> None:
    """Check that both splits are read as drawn, with a note that holds a text, or with none."""
    datasets = opened(root, labels)
    assert wrong_pixels(datasets, truth, unclear=unclear) == 0
    for dataset in datasets:
        assert len(dataset) == (8 if dataset.split == "train" else 4)
        assert bool(note) == bool(dataset.notes), dataset.notes
        assert not note or any(note in text for text in dataset.notes), dataset.notes


def refusal(root: Path, labels: LabelSettings = AS_FOUND) -> str:
    """Return why the training split is refused; validation must be as well."""
    texts = []
    for split in ("train", "val"):
        with pytest.raises(DataError) as caught:
            open_folder(root, split, labels=labels)
        texts.append(str(caught.value))
    return texts[0]


def without_colours(root: Path) -> Path:
    (root / "classes.csv").write_text(NAMES)
    return root


def last_as_255(index: int) -> np.ndarray:
    return np.where(scene(index) == 3, 255, scene(index)).astype(np.uint8)


def save_scene(save: Save) -> Save:
    """Return a writer of whole scenes, whatever is to be read of them."""
    return lambda path, label, index: save(path, scene(index), index)


# Palettes

FIXED = [3, 0, 2, 1]
FIXED_PALETTE = [COLOURS[FIXED.index(place)].tolist() for place in range(4)]
IN_ORDER = [0, 1, 2, 3]
PADDED = [*COLOURS.tolist(), *[[0, 0, 0]] * 252]
VOC = [colour_of(voc_colour(index)) for index in range(256)]
STRANGE = [[10, 200, 30], [1, 2, 250], [77, 0, 9], [5, 5, 200]]


def in_order(palette: Sequence[Sequence[int]]) -> Save:
    return save_palette(lambda _: palette, lambda _: IN_ORDER)


def in_order_of(order: Sequence[int], palette: Sequence[Sequence[int]]) -> Save:
    return save_palette(lambda _: palette, lambda _: order)


PALETTES: dict[str, tuple[Save, str | None]] = {
    "each file in another order": (save_palette(rotated_palette, rotated), "decoded by colour"),
    "one other order for all": (save_palette(lambda _: FIXED_PALETTE, lambda _: FIXED), "decoded by colour"),
    "one file of many in another order": (
        save_palette(lambda i: FIXED_PALETTE if i == 5 else COLOURS.tolist(), lambda i: FIXED if i == 5 else IN_ORDER),
        "The palettes of 1 label have",
    ),
    "filled up with black": (
        save_palette(lambda i: rotated_palette(i) + [[0, 0, 0]] * 252, rotated),
        "decoded by colour",
    ),
    "greys that are ids": (
        save_palette(lambda _: [[FIXED.index(place)] * 3 for place in range(4)], lambda _: FIXED),
        "greys are read",
    ),
    "each colour twice": (
        save_palette(lambda _: FIXED_PALETTE * 2, lambda i: [k + 4 * (i % 2) for k in FIXED]),
        "decoded by colour",
    ),
    "colours of the indices": (in_order(COLOURS.tolist()), None),
    "the same, filled up": (in_order(PADDED), None),
    "greys of the indices": (in_order([[k] * 3 for k in range(256)]), None),
    "PASCAL VOC's": (in_order(VOC), "their indices are read"),
    "all black": (in_order([[0, 0, 0]] * 4), "their indices are read"),
    "of no meaning, but the same": (in_order(STRANGE), "their indices are read"),
}


@pytest.mark.parametrize("name", PALETTES)
def test_palettes_that_explain_themselves(tmp_path: Path, name: str) -> None:
    save, note = PALETTES[name]
    assert_read(write_folder(tmp_path, save), scene, note)


@pytest.mark.parametrize("tool", ["quantize", "convert", "optimize"])
def test_colours_that_a_tool_made_a_palette_of(tmp_path: Path, tool: str) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        image = Image.fromarray(COLOURS[label])
        if tool == "convert":
            image.convert("P", palette=Image.Palette.ADAPTIVE, colors=8).save(path)
        else:
            image.quantize(16).save(path, optimize=tool == "optimize")

    assert_read(write_folder(tmp_path, save), scene, "decoded by colour")


def test_palettes_of_nearly_the_classes_colours_in_one_other_order_are_asked_about(tmp_path: Path) -> None:
    near = [[part + 1 for part in colour] for colour in FIXED_PALETTE]
    root = write_folder(tmp_path, in_order_of(FIXED, near))
    text = refusal(root)
    assert "have nearly the classes' colours, at other indices" in text and "label_offset" not in text
    assert_read(root, scene, "decoded by colour", LabelSettings(tolerance=16))
    assert wrong_pixels(opened(root, LabelSettings("ids"))) > 0


def test_palettes_of_nearly_the_classes_colours_at_their_indices_are_read(tmp_path: Path) -> None:
    root = write_folder(tmp_path, in_order([[part + 1 for part in colour] for colour in COLOURS.tolist()]))
    assert_read(root, scene, "their indices are read")


def test_a_palette_of_nearly_the_classes_colours_needs_the_tolerance(tmp_path: Path) -> None:
    near = save_palette(lambda i: [[part + 2 for part in colour] for colour in rotated_palette(i)], rotated)
    root = write_folder(tmp_path, near)
    assert "data.colour_tolerance" in refusal(root)
    assert_read(root, scene, "decoded by colour", LabelSettings(tolerance=4))


def with_ignored_corner(index: int) -> np.ndarray:
    label = scene(index)
    label[0, :5] = 255
    return label


def test_vocs_border_is_ignored_wherever_a_tool_puts_it(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        order = rotated(index, 5)
        lookup = np.zeros(256, np.uint8)
        lookup[:4], lookup[255] = order[:4], order[4]
        image = Image.frombytes("P", (32, 24), lookup[label].tobytes())
        colours = dict(zip(order, [*COLOURS.tolist(), [224, 224, 192]], strict=True))
        image.putpalette([part for place in range(5) for part in colours[place]])
        image.save(path)

    root = write_folder(tmp_path, save, truth=with_ignored_corner)
    assert_read(root, with_ignored_corner, "decoded by colour")


@pytest.mark.parametrize("last", [[0, 0, 0], [224, 224, 192]])
def test_255_of_a_palette_is_ignored(tmp_path: Path, last: list[int]) -> None:
    root = write_folder(tmp_path, in_order([*PADDED[:255], last]), truth=with_ignored_corner)
    assert_read(root, with_ignored_corner)


@pytest.mark.parametrize("colours", [True, False])
def test_palettes_that_differ_without_a_reason_are_refused(tmp_path: Path, colours: bool) -> None:
    def palette(index: int) -> list[list[int]]:
        return [STRANGE[rotated(index).index(place)] for place in range(4)]

    # Without colours in the class file, those of the classes say nothing either.
    root = write_folder(tmp_path, save_palette(palette if colours else rotated_palette, rotated))
    text = refusal(root if colours else without_colours(root))
    assert "palettes of 12 labels differ between files" in text
    assert "data.label_encoding to ids" in text


def test_palettes_with_some_colours_of_classes_elsewhere_are_refused_file_by_file(tmp_path: Path) -> None:
    text = refusal(write_folder(tmp_path, in_order([COLOURS[1].tolist(), COLOURS[0].tolist(), *STRANGE[2:]])))
    assert "train/labels/s00.png: its palette has colours of classes at other indices" in text


def test_what_the_user_says_of_palettes_counts(tmp_path: Path) -> None:
    root = write_folder(tmp_path, in_order(FIXED_PALETTE))
    assert_read(root, scene, "their indices are read", LabelSettings("ids"))
    assert wrong_pixels(opened(root)) > 0


# 255 and spread ids

RED_GREEN = (("background", (200, 0, 0)), ("object", (0, 200, 0)))
WHITE_BLACK = (("background", (255, 255, 255)), ("object", (0, 0, 0)))
THREE = CLASSES[:3]
BLACK_GREY_WHITE = (("a", (0, 0, 0)), ("b", (128, 128, 128)), ("c", (255, 255, 255)))


def named(count: int) -> list[tuple[str, tuple[int, int, int]]]:
    return [(f"class {k}", (k, 200 - k, 7)) for k in range(count)]


def many(count: int) -> Truth:
    """Return labels that show each of many classes."""
    return lambda index: ((np.arange(24 * 32).reshape(24, 32) // 4 + index) % count).astype(np.uint8)


def even(index: int) -> np.ndarray:
    return 2 * scene(index)


VALUES: dict[str, tuple[Sequence[int], Truth, Any, str | None]] = {
    "0 and 255": ([0, 255], two, RED_GREEN, "255 is the second class"),
    "0 and 255 as black and white": ([0, 255], two, GREYS, "greys of the class file's colours"),
    "the same the other way round": ([255, 0], two, WHITE_BLACK, "greys of the class file's colours"),
    "0 and 128": ([0, 128], two, RED_GREEN, "times 128"),
    "0 and 254": ([0, 254], two, RED_GREEN, "times 254"),
    "0, 127 and 255": ([0, 127, 255], three, THREE, "3 ids spread over 0 to 255"),
    "0, 128 and 255": ([0, 128, 255], three, THREE, "3 ids spread over 0 to 255"),
    "0, 128 and 255 as greys": ([0, 128, 255], three, BLACK_GREY_WHITE, "greys of"),
    "0, 127 and 254": ([0, 127, 254], three, THREE, "times 127"),
    "0, 85, 170 and 255": ([0, 85, 170, 255], scene, CLASSES, "4 ids spread over 0 to 255"),
    "0, 80, 160 and 240": ([0, 80, 160, 240], scene, CLASSES, "times 80"),
    "five of 64": ([0, 64, 128, 192, 255], many(5), named(5), "5 ids spread"),
    "five of 63.75": ([0, 63, 127, 191, 255], many(5), named(5), "5 ids spread"),
    "eleven of 25": ([25 * k for k in range(11)], many(11), named(11), "times 25"),
    "twelve of 23.18": ([round(255 * k / 11) for k in range(12)], many(12), named(12), "12 ids spread"),
    "plain ids": ([0, 1, 2, 3], scene, CLASSES, None),
    "two plain ids": ([0, 1], two, GREYS, None),
    "plain ids, all multiples of 2": (range(7), even, named(7), None),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_of_which_the_class_file_says_what_they_are(tmp_path: Path, name: str) -> None:
    values, truth, classes, note = VALUES[name]
    assert_read(write_folder(tmp_path, save_values(values), truth=truth, classes=classes), truth, note)


def save_as_grey(colours: np.ndarray) -> Save:
    return lambda path, label, index: Image.fromarray(colours[label]).convert("L").save(path)


def test_colours_that_were_converted_to_grey_are_read_by_their_brightness(tmp_path: Path) -> None:
    root = write_folder(tmp_path, save_as_grey(COLOURS))
    assert_read(root, scene, "are the brightness of the class file's colours")


def test_classes_of_equal_brightness_cannot_be_told_apart(tmp_path: Path) -> None:
    colours = np.array([(200, 0, 0), (0, 0, 9), (0, 102, 0), (90, 90, 0)], np.uint8)
    classes = [(name, tuple(map(int, colour))) for (name, _), colour in zip(CLASSES, colours, strict=True)]
    root = write_folder(tmp_path, save_as_grey(colours), classes=classes)
    assert "several classes have the brightness 60. Export the labels in colours" in refusal(root)


def test_ids_that_may_be_the_brightness_of_colours_are_asked_about(tmp_path: Path) -> None:
    values = [7 * k % 120 for k in range(120)]  # the brightness of class k, and the id of another
    classes = [(f"class {k}", (value, value, value + 1)) for k, value in enumerate(values)]
    root = write_folder(tmp_path, save_values(values), truth=many(20), classes=classes)
    assert "are class ids, and all of them are the brightness" in refusal(root)
    shown = np.array(values, np.uint8)
    assert wrong_pixels(opened(root, LabelSettings("ids")), lambda index: shown[many(20)(index)]) == 0


@pytest.mark.parametrize("form", ["RGB", "RGBA", "LA", "P", "16 bit", "1 bit"])
def test_0_and_255_in_any_form(tmp_path: Path, form: str) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        image = Image.fromarray(label * 255)
        if form == "16 bit":
            Image.fromarray(label.astype(np.uint16) * 65535).save(path)
        else:
            image.convert("1" if form == "1 bit" else form).save(path)

    root = write_folder(tmp_path, save, truth=two, classes=RED_GREEN)
    assert_read(root, two, None if form == "1 bit" else "255 is the second class")


def test_0_and_255_are_two_classes_where_one_split_shows_the_object_alone(tmp_path: Path) -> None:
    def truth(index: int) -> np.ndarray:
        return two(index) if index < 8 else np.ones((24, 32), np.uint8)

    root = write_folder(tmp_path, save_values([0, 255]), truth=truth, classes=RED_GREEN)
    assert_read(root, truth, "255 is the second class")


def ignoring(truth: Truth, which: Callable[[int], bool] = lambda index: True) -> Truth:
    def ignored(index: int) -> np.ndarray:
        label = truth(index)
        if which(index):
            label[:3] = 255
        return label

    return ignored


def lacking_1_in_validation(index: int) -> np.ndarray:
    return ignoring(two)(index) if index < 8 else np.where(two(index) == 1, 255, 0).astype(np.uint8)


IGNORED: dict[str, tuple[Truth, Any]] = {
    "beside 0, 1 and 2": (ignoring(three), THREE),
    "beside 0 and 1": (ignoring(two), GREYS),
    "in one file": (ignoring(two, lambda index: index == 3), GREYS),
    "in validation alone": (ignoring(two, lambda index: index >= 8), RED_GREEN),
}


@pytest.mark.parametrize("name", IGNORED)
def test_255_is_ignored_where_other_ids_show_that(tmp_path: Path, name: str) -> None:
    truth, classes = IGNORED[name]
    assert_read(write_folder(tmp_path, save_values(range(255)), truth=truth, classes=classes), truth)


def test_255_beside_0_and_1_in_one_split_alone_is_ignored_with_a_note(tmp_path: Path) -> None:
    root = write_folder(tmp_path, save_values(range(255)), truth=lacking_1_in_validation, classes=RED_GREEN)
    assert_read(root, lacking_1_in_validation, "If 255 is the second class in these")


def first_as_255(index: int) -> np.ndarray:
    return (scene(index).astype(int) - 1).astype(np.uint8)


def test_255_in_place_of_the_first_class_is_asked_about(tmp_path: Path) -> None:
    root = write_folder(tmp_path, lambda path, label, index: Image.fromarray(first_as_255(index)).save(path))
    assert "these labels seem reduced by one: 255 occurs, 3 does not" in refusal(root)
    ids = "id,name\n255,sky\n0,road\n1,car\n2,tree\n"
    (root / "classes.csv").write_text(ids)
    names = ("sky", "road", "car", "tree")
    for dataset in opened(root):
        order = np.array([names.index(name) for name in dataset.table.names])
        first = 0 if dataset.split == "train" else 8
        for place in range(len(dataset)):
            assert (order[dataset[place].label] == scene(first + place)).all()


PERMUTED_GREYS = tuple((name, (k,) * 3) for name, k in zip(("tree", "sky", "road", "car"), (3, 0, 1, 2), strict=True))


def test_greys_of_the_class_file_that_are_other_classes_ids_are_asked_about(tmp_path: Path) -> None:
    def by_colour(index: int) -> np.ndarray:
        return np.array([1, 2, 3, 0], np.uint8)[scene(index)]

    root = write_folder(tmp_path, save_scene(save_values([0, 1, 2, 3])), classes=PERMUTED_GREYS)
    assert "are ids of classes, and by the class file's colours the greys of others" in refusal(root)
    assert wrong_pixels(opened(root, LabelSettings("colours")), by_colour) == 0
    assert wrong_pixels(opened(root, LabelSettings("ids")), scene) == 0


def test_greys_of_the_class_file_that_are_their_own_ids_are_read(tmp_path: Path) -> None:
    assert_read(write_folder(tmp_path, save_values(range(4)), classes=[(f"c{k}", (k,) * 3) for k in range(4)]))


@pytest.mark.parametrize("ending", ["pgm", "ppm", "bmp", "gif", "tif"])
def test_formats_that_keep_values(tmp_path: Path, ending: str) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        pixels = COLOURS[label] if ending == "ppm" else label
        Image.fromarray(pixels).save(path.with_suffix(f".{ending}"))

    assert_read(write_folder(tmp_path, save), scene, "decoded by the classes' colours" if ending == "ppm" else None)


@pytest.mark.parametrize("most", [3, 4, 100, 1000])
def test_numbers_of_pgm_files_are_ids_whatever_their_largest_value(tmp_path: Path, most: int) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        header = f"P5\n# 9 # drawn\n{label.shape[1]} {label.shape[0]}\n{most}\n"
        pixels = label.astype(">u2" if most > 255 else np.uint8)
        path.with_suffix(".pgm").write_bytes(header.encode() + pixels.tobytes())

    names = "name\n" + "".join(f"{name}\n" for name, _ in CLASSES)
    assert_read(write_folder(tmp_path, save, classes=names + "".join(f"k{number}\n" for number in range(20))))


@pytest.mark.parametrize("factor", [1, 255])
def test_numbers_of_tiff_files_whose_0_is_white_are_not_inverted(tmp_path: Path, factor: int) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(label * np.uint8(factor)).save(path := path.with_suffix(".tif"))
        shown_as = [struct.pack("<HHII", 262, 3, 1, white) for white in (1, 0)]  # PhotometricInterpretation
        path.write_bytes(path.read_bytes().replace(*shown_as))

    assert wrong_pixels(opened(write_folder(tmp_path, save, truth=two, classes=GREYS)), two) == 0


def test_floating_point_numbers_that_are_whole_are_ids(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(label.astype(np.float32)).save(path.with_suffix(".tif"))

    assert_read(write_folder(tmp_path, save), scene)


@pytest.mark.parametrize("bad", [0.5, float("nan"), float("inf"), -1.0, 256.0, 1e30])
def test_other_floating_point_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        pixels = label.astype(np.float32)
        pixels[0, 0] = bad
        Image.fromarray(pixels).save(path.with_suffix(".tif"))

    text = refusal(write_folder(tmp_path, save))
    assert "not all whole" in text or "class ids must fit into 0 to 255" in text


def test_smoothed_masks_are_not_told_to_list_every_value(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(label * 255).filter(ImageFilter.GaussianBlur(1)).save(path)

    root = write_folder(tmp_path, save, truth=two, classes=RED_GREEN)
    text = refusal(root)
    assert "as smoothing or resizing leaves at borders" in text and "column id" not in text


def test_masks_as_jpeg_are_not_told_to_list_every_value(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(label * 255).save(path.with_suffix(".jpg"))

    text = refusal(write_folder(tmp_path, save, truth=two, classes=RED_GREEN))
    assert "data.colour_tolerance" in text and "column id" not in text


def test_255_in_place_of_the_last_class_is_noted(tmp_path: Path) -> None:
    root = write_folder(tmp_path, save_values(range(255)), truth=last_as_255)
    assert_read(root, last_as_255, "no label shows 3 (tree), the last class")


def times_255(which: Callable[[int], bool]) -> Save:
    return lambda path, label, index: Image.fromarray(label * (255 if which(index) else 1)).save(path)


UNSETTLED: dict[str, tuple[Save, Truth, Any, str]] = {
    "0 and 255 of three": (save_values([0, 255, 255]), three, THREE, "255 is the second class, or"),
    "half of the files": (times_255(lambda index: index % 2 == 0), two, RED_GREEN, "255 seems to be the second class"),
    "one file": (times_255(lambda index: index == 2), two, RED_GREEN, "255 seems to be the second class"),
    "three values of two": (save_values([0, 127, 255]), three, RED_GREEN, "3 evenly spread over 0 to 255"),
    "four values of five": (save_values([0, 85, 170, 255]), scene, named(5), "4 evenly spread over 0 to 255"),
    "multiples without the last": (save_values([0, 50, 100]), three, named(5), "multiples of 50"),
}


@pytest.mark.parametrize("name", UNSETTLED)
def test_values_that_the_class_file_does_not_settle_are_refused(tmp_path: Path, name: str) -> None:
    save, truth, classes, says = UNSETTLED[name]
    text = refusal(write_folder(tmp_path, save, truth=truth, classes=classes))
    assert says in text
    assert "column id" in text or "data.label_encoding" in text


def test_255_is_a_class_where_the_class_file_says_so_and_ignored_where_it_says_that(tmp_path: Path) -> None:
    classes = "id,name\n0,sky\n1,road\n255,car\n"
    root = write_folder(tmp_path, save_values([0, 1, 255]), truth=three, classes=classes)
    assert_read(root, three)
    (root / "classes.csv").unlink()
    (root / "classes.yaml").write_text("ignore_ids: [255]\nclasses: [sky, road]\n")
    assert_read(root, lambda index: np.where(three(index) == 2, 255, three(index)))


def test_a_jpeg_mask_of_two_values_needs_the_tolerance(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(label * 255).save(path, format="JPEG", quality=80)

    root = write_folder(tmp_path, save, truth=two, classes=GREYS)
    assert "it is a JPEG file" in refusal(root)
    assert_read(root, two, "nearest of these within 60", LabelSettings(tolerance=60), unclear=0.2)


def test_ids_in_a_jpeg_cannot_be_had_back(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(label).save(path, format="JPEG")

    assert "it is a JPEG file" in refusal(write_folder(tmp_path, save), LabelSettings(tolerance=8))


@pytest.mark.parametrize("bits", [[2], [4], [2, 4, 8]])
def test_greys_of_few_bits(tmp_path: Path, bits: list[int]) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        path.write_bytes(grey_png(label, bits[index % len(bits)]))

    assert_read(write_folder(tmp_path, save))


# Colours

BLACK_LAST = (*CLASSES[:3], ("void", (0, 0, 0)))
BLACK_LAST_COLOURS = np.array([colour for _, colour in BLACK_LAST], np.uint8)
OPAQUE = np.concatenate([COLOURS, np.full((4, 1), 255, np.uint8)], 1)


def in_channel(channel: int, others: Sequence[int] = (0, 0, 0)) -> Save:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        pixels = np.tile(np.array(others, np.uint8), (*label.shape, 1))
        pixels[..., channel] = label
        Image.fromarray(pixels).save(path)

    return save


def as_mode(*modes: str) -> Save:
    return lambda path, label, index: Image.fromarray(label).convert(modes[index % len(modes)]).save(path)


def in_turn(*saves: Save) -> Save:
    return lambda path, label, index: saves[index % len(saves)](path, label, index)


BY_COLOUR = "decoded by the classes' colours"
CHANNELS: dict[str, tuple[Save, Any, str]] = {
    "the classes' colours": (save_colours(), CLASSES, BY_COLOUR),
    "black is the last class": (save_colours(BLACK_LAST_COLOURS), BLACK_LAST, BY_COLOUR),
    "opaque colours": (save_colours(OPAQUE), CLASSES, BY_COLOUR),
    "equal channels": (as_mode("RGB"), CLASSES, "all equal"),
    "equal channels, opaque": (as_mode("RGBA"), CLASSES, "all equal"),
    "grey with opacity": (as_mode("LA"), CLASSES, "all equal"),
    "equal channels in some": (as_mode("L", "RGB"), CLASSES, "6 labels have several channels, all equal"),
    "ids in red": (in_channel(0), CLASSES, "only red changes"),
    "ids in green": (in_channel(1), CLASSES, "only green changes"),
    "ids in blue, others full": (in_channel(2, (255, 255, 0)), CLASSES, "only blue changes"),
    "palettes beside colours": (in_turn(save_colours(), save_palette(rotated_palette, rotated)), CLASSES, BY_COLOUR),
    "ids beside colours": (in_turn(save_colours(), save_values(IN_ORDER)), CLASSES, BY_COLOUR),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_labels_of_several_channels(tmp_path: Path, name: str) -> None:
    save, classes, note = CHANNELS[name]
    assert_read(write_folder(tmp_path, save, classes=classes), scene, note)


def test_ids_in_one_channel_beside_others_are_read_where_the_user_says_so(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        instances = (np.arange(label.size).reshape(label.shape) % 7).astype(np.uint8)
        Image.fromarray(np.stack([label, instances, instances * 3], 2)).save(path)

    root = write_folder(tmp_path, save)
    assert "are no class's" in refusal(root)
    assert_read(root, scene, None, LabelSettings("red"))


def test_an_image_of_one_grey_in_a_data_set_of_colours_is_no_id(tmp_path: Path) -> None:
    """Tools that shrink files write an image of nothing but black as grey: its value 0 is a colour."""

    def truth(index: int) -> np.ndarray:
        return np.full((24, 32), 3, np.uint8) if index == 4 else scene(index)

    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(BLACK_LAST_COLOURS[label]).convert("L" if index == 4 else "RGB").save(path)

    root = write_folder(tmp_path, save, truth=truth, classes=BLACK_LAST)
    assert "may hold class ids or greys of the classes' colours" in refusal(root)
    assert_read(root, truth, "read as greys of classes' colours", LabelSettings("colours"))


@pytest.mark.parametrize("values", [[10, 20, 30, 40], [7, 8, 9, 10]])
def test_values_of_which_none_is_a_class_are_named(tmp_path: Path, values: list[int]) -> None:
    write_folder(tmp_path, save_values(IN_ORDER))
    rows = [f"{value},{name}\n" for value, name in zip(values, NAMES.split()[1:], strict=True)]
    (tmp_path / "classes.csv").write_text(f"id,name\n{''.join(rows)}")
    assert "label values 0, 1, 2, 3 in 768 pixels; allowed are the class ids" in refusal(tmp_path)


@pytest.mark.parametrize("stated", ["classes.csv", "classes.yaml"])
def test_a_value_of_most_labels_that_the_class_file_does_not_list_is_asked_about(tmp_path: Path, stated: str) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(np.pad(label[1:-1, 1:-1] + 1, 1)).save(path)  # 0 at the border

    write_folder(tmp_path, save)
    (tmp_path / "classes.csv").unlink()
    rows = enumerate((name for name, _ in CLASSES), start=1)
    text = "id,name\n" + "".join(f"{number},{name}\n" for number, name in rows)
    (tmp_path / stated).write_text(text if stated.endswith("csv") else text[8:].replace(",", ": "))
    assert "12 of 12 labels (such as train/labels/s00.png) hold the value 0, which the class" in refusal(tmp_path)
    assert "set data.ignore_ids to [0]" in refusal(tmp_path)
    assert wrong_pixels(opened(tmp_path, LabelSettings(ignore_ids=(0,))), unclear=0.2) == 0


def test_values_of_which_all_are_ignored_are_named() -> None:
    assert str(LabelValues({0: 0, 1: 1}, frozenset({0, 1}))) == "the class ids (none) and, as ignored, 0 to 1, 255"
    assert str(LabelValues({0: 0, 1: 1, 7: 2})) == "the class ids 0 to 1, 7 and, as ignored, 255"


def test_labels_that_are_ignored_everywhere_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path, save_values([255, 255, 255, 255]))
    (tmp_path / "classes.csv").write_text("id,name,ignore\n0,sky,\n1,road,\n255,void,true\n")
    assert "every pixel of all 8 labels is ignored" in "".join(refusal(tmp_path))


def test_void_is_a_row_that_is_ignored(tmp_path: Path) -> None:
    rows = "".join(f"{name},{r},{g},{b},{str(name == 'tree').lower()}\n" for name, (r, g, b) in CLASSES)
    root = write_folder(tmp_path, save_scene(save_colours()), classes=f"name,red,green,blue,ignore\n{rows}")
    assert opened(root)[0].table.names == ("sky", "road", "car")
    assert_read(root, last_as_255, BY_COLOUR)


@pytest.mark.parametrize("save", [save_colours(), save_values(IN_ORDER)])
def test_several_colours_and_ids_of_one_class(tmp_path: Path, save: Save) -> None:
    rows = '0,sky,70 130 180\n1,road,#804080\n2,object,0 0 142\n3,object,"107, 142, 35"\n'
    root = write_folder(tmp_path, save_scene(save), classes=f"id,name,color\n{rows}")
    datasets = opened(root)
    assert datasets[0].table.names == ("sky", "road", "object")
    assert wrong_pixels(datasets, three) == 0


def save_noise(path: Path, label: np.ndarray, index: int) -> None:
    Image.fromarray(np.random.default_rng(index).integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path)


def save_ids_and_instances(path: Path, label: np.ndarray, index: int) -> None:
    Image.fromarray(np.dstack([label, np.full_like(label, 40 + index), np.full_like(label, 7)])).save(path)


WRONG_COLOURS: dict[str, tuple[Save, str]] = {
    "of no class": (save_colours(np.array([*COLOURS[:3], [1, 2, 3]], np.uint8)), "colours (1, 2, 3) in"),
    "red and blue exchanged": (save_colours(np.ascontiguousarray(COLOURS[:, ::-1])), "red and blue exchanged"),
    "photographs": (save_noise, "look whether images and labels are exchanged"),
    "a rounding away": (save_colours(COLOURS + 1), "All are within 16 of classes' colours: set data.colour_tolerance"),
    "ids beside instances": (save_ids_and_instances, "set data.label_encoding to it: all values of red are ids"),
}


@pytest.mark.parametrize("name", WRONG_COLOURS)
def test_colours_without_a_class_are_refused(tmp_path: Path, name: str) -> None:
    save, says = WRONG_COLOURS[name]
    assert says in refusal(write_folder(tmp_path, save))


def test_a_colour_of_two_classes_is_refused_where_it_is_needed(tmp_path: Path) -> None:
    classes = (*CLASSES[:3], ("tree", CLASSES[0][1]))
    root = write_folder(tmp_path / "a", save_colours(COLOURS[[0, 1, 2, 0]]), classes=classes)
    assert "are those of several classes" in refusal(root)
    by_index = write_folder(tmp_path / "b", in_order([colour for _, colour in classes]), classes=classes)
    assert wrong_pixels(opened(by_index)) == 0


def test_colours_of_a_class_file_without_colours_are_refused(tmp_path: Path) -> None:
    text = refusal(without_colours(write_folder(tmp_path, save_colours())))
    assert "the class file states none. Add the columns red, green and blue" in text


def save_smoothed(path: Path, label: np.ndarray, index: int) -> None:
    large = Image.fromarray(COLOURS[label]).resize((128, 96), Image.Resampling.NEAREST)
    large.filter(ImageFilter.GaussianBlur(0.6)).save(path)


def save_jpeg(path: Path, label: np.ndarray, index: int) -> None:
    large = Image.fromarray(COLOURS[label]).resize((128, 96), Image.Resampling.NEAREST)
    large.save(path, format="JPEG", quality=95, subsampling=0)


@pytest.mark.parametrize("save", [save_smoothed, save_jpeg])
def test_smoothed_and_jpeg_colours_need_the_tolerance(tmp_path: Path, save: Save) -> None:
    root = write_folder(tmp_path, save)
    for path in root.glob("*/images/*.png"):
        Image.open(path).resize((128, 96)).save(path)
    assert "data.colour_tolerance" in refusal(root)

    def truth(index: int) -> np.ndarray:
        return scene(index).repeat(4, 0).repeat(4, 1)

    assert_read(root, truth, "within 24 of each channel", LabelSettings(tolerance=24), unclear=0.15)


def test_a_tolerance_that_too_many_pixels_miss_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path, save_colours(COLOURS + 3))
    assert "farther than 1 from the colour of every class" in refusal(root, LabelSettings(tolerance=1))
    assert_read(root, scene, BY_COLOUR, LabelSettings(tolerance=3))


def test_a_tolerance_changes_nothing_where_labels_are_ids(tmp_path: Path) -> None:
    assert_read(write_folder(tmp_path, save_values(IN_ORDER)), scene, None, LabelSettings(tolerance=20))


def test_content_tells_apart_how_colours_are_read_and_stays_the_same_for_ids(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a", in_order(FIXED_PALETTE))
    by_colour, by_index = (opened(root, LabelSettings(encoding))[0] for encoding in ("auto", "ids"))
    assert by_colour.content != by_index.content
    assert by_colour.fingerprint != by_index.fingerprint
    plain = write_folder(tmp_path / "b", save_values(IN_ORDER))
    found, said = (opened(plain, LabelSettings(encoding))[0] for encoding in ("auto", "ids"))
    assert found.content == said.content
    assert found.fingerprint == said.fingerprint


# Numbering


def save_from_1(path: Path, label: np.ndarray, index: int) -> None:
    Image.fromarray(np.where(label == 255, 0, label + 1).astype(np.uint8)).save(path)


def test_ids_from_1_with_0_for_unlabelled(tmp_path: Path) -> None:
    root = write_folder(tmp_path, save_from_1, truth=with_ignored_corner)
    text = refusal(root)
    assert "0 seems to be unlabelled" in text and "data.ignore_ids to [0]" in text
    for settings in (LabelSettings(ignore_ids=(0,)), LabelSettings(offset=-1)):
        assert_read(root, with_ignored_corner, None, settings)
    (root / "classes.csv").write_text("id,name,ignore\n1,sky,\n2,road,\n3,car,\n4,tree,\n0,void,true\n")
    assert_read(root, with_ignored_corner)


def test_ids_from_1_without_0(tmp_path: Path) -> None:
    root = write_folder(tmp_path, save_from_1)
    assert "the label values run from 1 to 4" in refusal(root)
    assert_read(root, scene, None, LabelSettings(offset=-1))


@pytest.mark.parametrize("truth", [three, ignoring(three, lambda index: index % 2 == 0)])
def test_ids_from_1_whose_last_class_is_absent_are_told_by_where_classes_lie(tmp_path: Path, truth: Truth) -> None:
    root = write_folder(tmp_path, save_from_1, truth=truth)
    text = refusal(root)
    assert "these labels seem raised by one" in text and "Set data.label_offset to -1" in text
    assert_read(root, truth, None, LabelSettings(offset=-1))
    assert wrong_pixels(opened(root, LabelSettings(offset=0)), truth) > 0


FOREIGN = (
    "Himmel,Straße,Auto,Baum", "Ciel,Chaussée,voiture,arbre", "cielo,carretera,coche,árbol", "céu,estrada,carro,árvore",
    "niebo,jezdnia,samochód,drzewo", "небо,дорога,машина,дерево", "天空,道路,汽车,树", "空,道路,車,木",
    "하늘,도로,차,나무",
    "SKY,ROAD,CAR,TREE", "Gökyüzü,Yol,Araba,Ağaç",
)  # fmt: skip


@pytest.mark.parametrize("names", FOREIGN)
def test_names_in_other_languages_tell_ids_that_are_shifted(tmp_path: Path, names: str) -> None:
    classes = "\n".join(["name", *names.split(",")])
    text = refusal(write_folder(tmp_path / "a", save_from_1, truth=three, classes=classes))
    sky, road, *_ = names.split(",")
    assert "raised by one" in text and f"moved by one, {sky} and {road} are where images have them" in text
    assert_read(write_folder(tmp_path / "b", save_values(IN_ORDER), classes=classes))


def test_a_first_class_that_no_label_shows_is_noted_where_names_say_nothing(tmp_path: Path) -> None:
    root = write_folder(tmp_path, save_from_1, truth=three, classes="name\nk0\nk1\nk2\nk3\n")
    note = "No label shows 0 (k0), the first class. If ids count from 1, set data.label_offset to -1."
    assert_read(root, lambda index: three(index) + 1, note)
    (root / "classes.csv").write_text("name\nbackground\nk1\nk2\nk3\n")
    assert_read(root, lambda index: three(index) + 1)


PLAIN_NAMES = "name\nk0\nk1\nk2\nk3\n"
ONE_TOO_MANY = {
    "the last, by where classes lie": (lambda index: unlabelled(index, 4), NAMES, "4 seems to be unlabelled. Set", 4),
    "the first, by where classes lie": (
        lambda index: unlabelled(index, 255) + 1, NAMES, "0 seems to be unlabelled, and ids to count from 1. Set", 0
    ),
    "either": (lambda index: unlabelled(index, 4), PLAIN_NAMES, "from 1, or 4 seems to be unlabelled. Set", 4),
}  # fmt: skip


def unlabelled(index: int, value: int) -> np.ndarray:
    label = scene(index)
    label[:2, :3] = value
    return label


@pytest.mark.parametrize("kind", ONE_TOO_MANY)
def test_ids_one_beyond_the_classes_may_mean_that_the_first_or_the_last_is_unlabelled(
    tmp_path: Path, kind: str
) -> None:
    stored, names, says, ignored = ONE_TOO_MANY[kind]
    root = write_folder(tmp_path, lambda path, _, index: Image.fromarray(stored(index)).save(path), classes=names)
    assert says in refusal(root)
    assert_read(root, lambda index: unlabelled(index, 255), None, LabelSettings(ignore_ids=(ignored,)))


def test_images_upside_down_are_no_sign_of_another_numbering(tmp_path: Path) -> None:
    def truth(index: int) -> np.ndarray:
        return scene(index)[::-1].copy()

    note = "'sky' (mean height 24 %) and 'road' (mean height 76 %) are where images do not have them"
    assert_read(write_folder(tmp_path, save_values(IN_ORDER), truth=truth), truth, note)


@pytest.mark.parametrize("rows", ["0,sky\n200,road\n201,car\n204,tree\n", "204,tree\n200,road\n0,sky\n201,car\n"])
def test_sparse_ids_ask_for_a_column_id(tmp_path: Path, rows: str) -> None:
    root = write_folder(tmp_path, save_values([0, 200, 201, 204]))
    text = refusal(root)
    assert "the label values are 0, 200, 201, 204 (in 12 of 12 labels" in text and "Add a column id" in text
    (root / "classes.csv").write_text(f"id,name\n{rows}")
    assert_read(root, scene)


def test_one_stray_value_is_named_with_its_file(tmp_path: Path) -> None:
    root = write_folder(tmp_path, save_values(range(255)), truth=lambda index: scene(index) + 50 * (index == 3))
    with pytest.raises(DataError) as caught:
        open_folder(root, "train")
    (problem,) = caught.value.problems
    assert problem.startswith("train/labels/s03.png: label values 50, 51, 52, 53 in 768 pixels; allowed are")


def test_ignored_values_of_the_user(tmp_path: Path) -> None:
    root = write_folder(tmp_path, save_scene(save_values(IN_ORDER)), classes=THREE)
    assert_read(root, last_as_255, None, LabelSettings(ignore_ids=(3,)))
