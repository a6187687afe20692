"""Labels that once were misread in silence: palettes filled up, masks scaled one by one, bits, transparency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from label_situations import (
    COLOURS,
    GREYS,
    Save,
    rotated,
    save_colours,
    save_palette,
    scene,
    two,
    write_folder,
    wrong_pixels,
)
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.datasets import open_dataset
from scenepalette.data.decoding.class_files import packaged_table
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


def test_files_of_train_ids_among_others_are_asked_about(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(label + (0 if index < 4 else 5)).save(path)

    names = ["name,evaluated", *(f"void {k},false" for k in range(5)), *("sky,", "road,", "car,", "tree,")]
    text = refusal(write_folder(tmp_path, save, classes="\n".join(names) + "\n"))
    assert "4 of 12 labels (such as train/labels/s00.png" in text and "seem to hold train ids, the others not" in text


OF_RED_AND_BLUE = [("sky", (0, 0, 255)), ("road", (255, 0, 0)), ("car", (0, 255, 0)), ("tree", (60, 90, 60))]


@pytest.mark.parametrize("exchanged", [range(12), range(3)], ids=["all", "some"])
def test_colours_with_red_and_blue_exchanged_are_told_by_where_classes_lie(tmp_path: Path, exchanged: range) -> None:
    colours = np.array([colour for _, colour in OF_RED_AND_BLUE], np.uint8)

    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(colours[label][:, :, :: -1 if index in exchanged else 1]).save(path)

    root = write_folder(tmp_path, save, classes=OF_RED_AND_BLUE)
    text = refusal(root)
    assert f"{len(exchanged)} of 12 labels" in text and "only so 'sky' and 'road' would be where images have it" in text
    assert wrong_pixels(opened(root, LabelSettings("colours"))) > 0
    if len(exchanged) == 12:
        swapped = [(name, colour[::-1]) for name, colour in OF_RED_AND_BLUE]
        assert wrong_pixels(opened(write_folder(tmp_path, save, classes=swapped))) == 0


def test_colours_of_other_classes_than_the_class_file_says_are_noted(tmp_path: Path) -> None:
    root = write_folder(tmp_path, save_colours(COLOURS[[1, 0, 2, 3]]))
    assert "By their colours, 'sky' and 'road' would be where images do not have it" in notes_of(root)[-1]


@pytest.mark.parametrize("values", [(0, 85, 170, 255), (0, 10, 20, 30), (0, 50, 100, 150), (0, 2, 4, 6)])
def test_ids_that_were_multiplied_in_one_split_alone_are_named(tmp_path: Path, values: tuple[int, ...]) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        in_rows(*(values if index >= 8 else range(4)))(path, label, index)

    text = refusal(write_folder(tmp_path, save))
    assert "4 of 12 labels (such as val/labels/s00.png" in text and "in these alone; the others hold ids" in text


@pytest.mark.parametrize("rows", [1, 12])
def test_two_classes_as_0_and_255_beside_labels_with_255_at_borders_are_told(tmp_path: Path, rows: int) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        stored = label * (255 if index % 2 else 1)
        if not index % 2:
            stored[:rows, 20:] = 255
        Image.fromarray(stored).save(path)

    root = write_folder(tmp_path, save, truth=lambda index: (scene(index) > 0).astype(np.uint8), classes=GREYS)
    if rows == 1:  # much less than where it stands for the class
        assert "6 labels have 0 and 255 alone" in refusal(root)
        assert wrong_pixels(opened(root, LabelSettings("ids")), lambda index: np.zeros((24, 32), np.uint8), unclear=1)
    else:
        assert "If 255 is the second class in these, convert them" in notes_of(root)[0]


def test_ids_shifted_by_8_bits_are_named(tmp_path: Path) -> None:
    save: Save = lambda path, label, _: Image.fromarray(label.astype(np.uint16) << 8).save(path)  # noqa: E731
    assert "divide them by 256" in refusal(write_folder(tmp_path, save))


def with_a_tree_above(index: int) -> np.ndarray:
    label = scene(index)
    label[:6, 2:9] = 3
    return label


def in_rows(*values: int) -> Save:
    return lambda path, label, index: Image.fromarray(np.array(values, np.uint8)[label]).save(path)


def notes_of(root: Path) -> list[str]:
    return [note for dataset in opened(root) for note in dataset.notes]


def test_ids_raised_by_two_are_told_by_where_classes_lie(tmp_path: Path) -> None:
    names = "name\nsky\nroad\ncar\ntree\nbus\ntram\n"
    root = write_folder(tmp_path, in_rows(2, 3, 4, 5), classes=names)
    text = refusal(root)
    assert "seem raised by two" in text and "Set data.label_offset to -2" in text
    assert wrong_pixels(opened(root, LabelSettings(offset=-2))) == 0


def test_ids_from_2_up_to_as_many_as_there_are_classes(tmp_path: Path) -> None:
    root = write_folder(tmp_path, in_rows(2, 3, 4, 5), classes="name\na\nb\nc\nd\n")
    assert "run from 2 to 5: ids seem to count from 2. Set data.label_offset to -2" in refusal(root)
    assert wrong_pixels(opened(root, LabelSettings(offset=-2))) == 0


@pytest.mark.parametrize(
    ("values", "count", "said"),
    [
        ((1, 2, 3, 4), 6, "No label shows 0 (k0), the first class. If ids count from 1"),
        ((2, 3, 4, 5), 7, "No label shows 0 (k0) and 1 (k1), the first classes. If ids count from 2"),
        ((2, 3, 5, 6), 7, ""),
        ((0, 2, 3, 4), 5, ""),
    ],
)
def test_first_classes_without_a_meaning_that_no_label_shows_are_noted(
    tmp_path: Path, values: tuple[int, ...], count: int, said: str
) -> None:
    names = "name\n" + "".join(f"k{number}\n" for number in range(count))
    notes = notes_of(write_folder(tmp_path, in_rows(*values), classes=names))
    assert all(said in note for note in notes) if said else not notes
    assert bool(notes) == bool(said)


def test_a_single_class_in_a_wrong_place_is_noted(tmp_path: Path) -> None:
    # Drawn are 0 sky, 1 road, 2 car and 3 tree; road and tree have each other's values.
    names = "name\ntree\nsky\ncar\nroad\n"
    root = write_folder(tmp_path / "wrong", in_rows(1, 0, 2, 3), truth=with_a_tree_above, classes=names)
    (note,) = set(notes_of(root))
    assert "'road' (mean height" in note and "is where images do not have it. Look whether" in note
    right = write_folder(tmp_path / "right", in_rows(1, 3, 2, 0), truth=with_a_tree_above, classes=names)
    assert not notes_of(right)


def test_exchanged_classes_that_may_be_shifted_ones_are_asked_about_as_both(tmp_path: Path) -> None:
    root = write_folder(tmp_path, in_rows(0, 3, 2, 1), truth=with_a_tree_above)
    text = refusal(root)
    assert (
        "by their values 'road'" in text
        and "If 'road' was exchanged with another class instead (sky seems right)" in text
    )


@pytest.mark.parametrize("part", ["val", "half"])
@pytest.mark.parametrize(
    ("change", "names"), [(1, "sky road car tree"), (1, "sky road car tree bus"), (-1, "bus sky road car tree")]
)
def test_labels_shifted_in_some_files_alone_are_asked_about(tmp_path: Path, change: int, names: str, part: str) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        is_shifted = "val" in path.parts if part == "val" else index % 2
        value = label.astype(int) + names.split().index("sky") + (change if is_shifted else 0)
        Image.fromarray(value.astype(np.uint8)).save(path)

    text = refusal(write_folder(tmp_path, save, classes="\n".join(["name", *names.split()])))
    assert f"of 12 labels (such as {'val' if part == 'val' else 'train'}/labels/s" in text
    assert f"seem {'raised' if change > 0 else 'reduced'} by one, the others not" in text


def test_a_few_odd_images_are_no_shifted_labels(tmp_path: Path) -> None:
    """Of two that are upside down, sky and road are in each other's place."""

    def truth(index: int) -> np.ndarray:
        return scene(index)[:: -1 if index in (1, 9) else 1].copy()

    assert wrong_pixels(opened(write_folder(tmp_path, in_rows(0, 1, 2, 3), truth=truth)), truth) == 0


def test_of_labels_of_equal_channels_nothing_is_said_of_where_classes_lie(tmp_path: Path) -> None:
    """Where values lie is not looked at in them."""

    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(np.repeat(label[..., None], 3, 2)).save(path)

    (note,) = set(notes_of(write_folder(tmp_path, save)))
    assert note.endswith("all equal: one of them is read.")


NAMELESS = ("k0", "k1", "k2", "k3")


def class_list(names: Sequence[str], **ignore: str) -> str:
    return "name,ignore\n" + "".join(f"{name},{ignore.get(name, '')}\n" for name in names)


@pytest.mark.parametrize("first", ["background", "Unlabelled", "void"])
def test_a_first_row_that_seems_to_be_the_ignored_0_is_asked_about(tmp_path: Path, first: str) -> None:
    # Counted from 1, every class would be read as the one before it.
    root = write_folder(tmp_path, in_rows(1, 2, 3, 4), classes=class_list([first, *NAMELESS]))
    ignored = LabelSettings(ignore_ids=(0,))
    with pytest.raises(DataError, match=f"the first row is '{first}', and 0 is ignored .* would count from 1"):
        opened(root, ignored)
    for remedy in (class_list(NAMELESS), class_list([first, *NAMELESS], **{first: "true"})):
        (root / "classes.csv").write_text(remedy)
        assert wrong_pixels(opened(root, ignored)) == 0


def test_a_first_row_of_what_is_ignored_is_the_ignored_0(tmp_path: Path) -> None:
    root = write_folder(tmp_path, in_rows(1, 2, 3, 4), classes=class_list(["void", *NAMELESS], void="true"))
    for labels in (AS_FOUND, LabelSettings(ignore_ids=(0,))):
        assert wrong_pixels(opened(root, labels)) == 0


@pytest.mark.parametrize("names", [("sky", "road", "car", "tree"), NAMELESS])
def test_ignoring_the_value_of_the_first_row_is_told_to_be_said_in_that_row(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    def truth(index: int) -> np.ndarray:
        label = scene(index)
        return np.where(label == 0, 255, label - 1).astype(np.uint8)

    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(scene(index)).save(path)

    root = write_folder(tmp_path, save, truth=truth, classes=class_list(names))
    ignored = LabelSettings(ignore_ids=(0,))
    said = "If the value 0 is that of the first row of the class file, give this row ignore true"
    if names == NAMELESS:
        (note,) = {note for dataset in opened(root, ignored) for note in dataset.notes}
        assert f"no label shows 4 ({names[-1]}), the last class. {said}" in note
    else:
        with pytest.raises(DataError, match=f"seem reduced by one: .*{said}"):
            opened(root, ignored)
    (root / "classes.csv").write_text(class_list(names, **{names[0]: "true"}))
    assert wrong_pixels(opened(root, ignored), truth) == 0


def test_tiles_of_nothing_but_255_are_left_out_beside_labels_of_0_and_1(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int) -> None:
        Image.fromarray(np.full_like(label, 255) if index % 4 == 0 else label).save(path)

    root = write_folder(tmp_path, save, truth=two, classes="name\nbackground\nobject\n")
    datasets = opened(root)
    assert [len(dataset) for dataset in datasets] == [6, 3] and wrong_pixels(datasets, two) == 0


def test_ids_of_equal_channels_beside_labels_of_colours_are_to_be_saved_with_one(tmp_path: Path) -> None:
    def save(path: Path, label: np.ndarray, index: int, *, channels: bool = True) -> None:
        ids = np.repeat(label[..., None], 3, 2) if channels else label
        Image.fromarray(COLOURS[label] if index % 2 else ids).save(path)

    root = write_folder(tmp_path, save)
    assert "Its channels are equal, and all their values are ids: save it with one channel" in refusal(root)
    write_folder(tmp_path, partial(save, channels=False))
    assert wrong_pixels(opened(root)) == 0


def test_where_one_split_alone_is_reduced_its_labels_are_named(tmp_path: Path) -> None:
    # An offset for all would misread the other.
    for split, count in (("training", 8), ("validation", 4)):
        for index in range(count):
            value = np.array([2, 6, 20, 4], np.uint8)[scene(index)]  # sky, road, car, tree
            value[:2, :4] = 255
            published = np.where(value == 255, 0, value + 1).astype(np.uint8)
            for part, pixels in (("images", COLOURS[scene(index)]), ("annotations", value)):
                (tmp_path / part / split).mkdir(parents=True, exist_ok=True)
                raw = part == "annotations" and split == "validation"
                path = tmp_path / part / split / f"ADE_{split[:5]}_{index:08d}.{'jpg' if part == 'images' else 'png'}"
                Image.fromarray(published if raw else pixels).save(path)
    with pytest.raises(DataError) as caught:
        open_dataset("ade20k", "train", tmp_path)
    text = str(caught.value)
    assert "8 of 12 labels (such as annotations/training/" in text and "seem reduced by one, the others not" in text
    assert "Add 1 to the values of these files" in text


def test_where_two_offsets_fit_the_smaller_goes_first_and_both_are_named(tmp_path: Path) -> None:
    # As ADE20K is published, with the names of its classes from 0: two further on are a ceiling and grass.
    names = "name\n" + "".join(f"{entry.name}\n" for entry in packaged_table("ade20k").classes)
    text = refusal(write_folder(tmp_path, in_rows(3, 7, 21, 5), classes=names))
    assert "seem raised by one" in text and "Set data.label_offset to -1 if so" in text
    assert "Classes would be where images have them with 2 (ceiling and grass) as well" in text
