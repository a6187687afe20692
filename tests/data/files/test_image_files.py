"""The checks that every reader shares, on CamVid's layout."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelled_folders import grey_png, png_of_16_bits, random_image
from scenepalette.common.errors import DataError
from scenepalette.data.decoding.class_files import CAMVID
from scenepalette.data.decoding.image_opening import read_image
from scenepalette.data.decoding.label_images import LabelValues, read_label, read_mask
from scenepalette.data.files.image_files import FilePair, PairedFiles
from scenepalette.data.readers.camvid import open_camvid
from scenepalette.data.readers.folder import open_folder
from scenepalette.data.sample import FolderOptions

Write = Callable[[Path, np.ndarray], None]


def problems_of(root: Path) -> tuple[str, ...]:
    """Open the training split, which must fail, and return the listed problems."""
    with pytest.raises(DataError) as caught:
        open_camvid(root, "train")
    return caught.value.problems


def test_all_problems_are_listed_at_once_with_their_files(camvid_root: Path, write: Write) -> None:
    write(camvid_root / "train" / "lonely.png", np.zeros((6, 8, 3), np.uint8))
    write(camvid_root / "trainannot" / "orphan.png", np.zeros((6, 8), np.uint8))
    write(camvid_root / "trainannot" / "a.png", np.zeros((6, 9), np.uint8))
    write(camvid_root / "trainannot" / "b.png", np.full((6, 8), 12, np.uint8))
    image = camvid_root / "train" / "c.png"
    image.write_bytes(image.read_bytes()[:-40])
    *others, last = problems_of(camvid_root)
    assert others == [
        "train/lonely.png: no label for it, trainannot/lonely.png is missing",
        "trainannot/orphan.png: no image for it",
        "trainannot/a.png: 6 x 9 pixels (height x width), but its image train/a.png has 6 x 8; both must be equal",
        "trainannot/b.png: label values 12 in 48 pixels; allowed are the class ids 0 to 10 and, as ignored, 11, 255",
    ]
    assert last.startswith("train/c.png: it is damaged")


@pytest.mark.parametrize("folder", ["train", "trainannot"])
@pytest.mark.parametrize("kept", [10, 60, -13, -12])
def test_a_truncated_file_is_found_wherever_it_ends(camvid_root: Path, folder: str, kept: int) -> None:
    path = camvid_root / folder / "a.png"
    path.write_bytes(path.read_bytes()[:kept])
    (problem,) = problems_of(camvid_root)
    assert problem.startswith(f"{folder}/a.png: it is damaged")


def test_a_flipped_bit_in_the_pixels_is_found(camvid_root: Path) -> None:
    path = camvid_root / "train" / "b.png"
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 30] ^= 1
    path.write_bytes(content)
    (problem,) = problems_of(camvid_root)
    assert problem.startswith("train/b.png: it is damaged")


def test_a_truncated_jpeg_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="cut off"):
        read_image(path)


def test_an_rgb_label_of_colours_without_a_class_is_refused(camvid_root: Path, write: Write) -> None:
    write(camvid_root / "trainannot" / "a.png", random_image(1))
    (problem,) = problems_of(camvid_root)
    assert problem.startswith("trainannot/a.png: colours (")
    assert "colours of classes are (128, 128, 128), " in problem


def test_a_wholly_ignored_label_is_left_out_with_a_note(camvid_root: Path, write: Write) -> None:
    write(camvid_root / "trainannot" / "a.png", np.full((6, 8), 11, np.uint8))
    dataset = open_camvid(camvid_root, "train")
    assert dataset.ids == ("b", "c") and len(dataset) == len(dataset.files) // 2 == 2
    assert dataset.notes == ("left out, because every pixel of the label is ignored: 1 (trainannot/a.png)",)


def test_nothing_but_ignored_labels_are_refused(camvid_root: Path, write: Write) -> None:
    for name in "abc":
        write(camvid_root / "trainannot" / f"{name}.png", np.full((6, 8), 11, np.uint8))
    (problem,) = problems_of(camvid_root)
    assert problem.startswith("every pixel of all 3 labels is ignored")


@pytest.mark.parametrize("colors", [4, 256])
def test_a_palette_label_yields_its_indices(tmp_path: Path, colors: int) -> None:
    ids = (np.arange(12) % colors).astype(np.uint8).reshape(3, 4)
    image = Image.frombytes("P", (4, 3), ids.tobytes())
    image.putpalette([value for i in range(colors) for value in (255 - i, 7, i)])
    image.save(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as reread:
        assert reread.mode == "P"
    assert np.array_equal(read_label(tmp_path / "p.png").pixels, ids)


def test_a_black_and_white_label_yields_0_and_1(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    Image.fromarray(ids.astype(bool)).save(tmp_path / "x.png")
    assert np.array_equal(read_label(tmp_path / "x.png").pixels, ids)


def test_a_16_bit_label_is_read_if_its_ids_fit(tmp_path: Path) -> None:
    ids = np.array([[0, 33], [255, 7]], dtype=np.uint16)
    Image.fromarray(ids).save(tmp_path / "x.png")
    assert np.array_equal(read_label(tmp_path / "x.png").pixels, ids)
    Image.fromarray((ids * 257).astype(np.uint16)).save(tmp_path / "x.png")
    assert np.array_equal(read_label(tmp_path / "x.png").pixels, ids)
    Image.fromarray(ids * 1000).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="values from 0 to 58392; class ids must fit"):
        read_label(tmp_path / "x.png")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_grey_label_of_few_bits_yields_the_numbers_that_it_holds(tmp_path: Path, bits: int) -> None:
    ids = (np.arange(24).reshape(3, 8) % 2**bits).astype(np.uint8)
    (tmp_path / "x.png").write_bytes(grey_png(ids, bits))
    assert np.array_equal(read_label(tmp_path / "x.png").pixels, ids)


def test_an_image_of_few_bits_is_shown_as_grey(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(grey_png(np.array([[0, 1, 2, 3]], np.uint8), 2))
    assert read_image(tmp_path / "x.png")[0, :, 0].tolist() == [0, 85, 170, 255]


def test_a_label_of_16_bits_per_channel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png_of_16_bits(np.zeros((2, 2, 3), np.uint16)))
    with pytest.raises(DataError, match="16 bits each, of which image libraries drop 8"):
        read_label(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("largest", "says"), [(3, "Save 255 in place of what is below 0"), (7000, "Files of instances")]
)
def test_labels_below_0_are_refused(tmp_path: Path, largest: int, says: str) -> None:
    label = np.full((6, 8), largest, np.int32)
    label[0] = -1
    Image.fromarray(label).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=f"holds values from -1 to {largest}.*{says}"):
        read_label(tmp_path / "x.tif")


def test_a_jpeg_label_is_refused(camvid_root: Path) -> None:
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(camvid_root / "trainannot" / "a.png", format="JPEG")
    (problem,) = problems_of(camvid_root)
    assert problem.startswith("trainannot/a.png: it is a JPEG file")


@pytest.mark.parametrize("limit", [100, 40], ids=["above the limit", "above twice the limit"])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pictures_above_pillows_limit_are_errors(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    write(tmp_path / "x.png", np.zeros((10, 15, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match="too large"):
        read_image(tmp_path / "x.png")


def test_a_file_that_changes_after_the_check_is_an_error_when_read(camvid_root: Path, write: Write) -> None:
    dataset = open_camvid(camvid_root, "train")
    write(camvid_root / "trainannot" / "a.png", np.full((6, 8), 99, np.uint8))
    with pytest.raises(DataError, match=r"changed since(.|\n)*label values 99"):
        dataset[0]
    (camvid_root / "trainannot" / "a.png").unlink()
    for read in (lambda: dataset.fingerprint, lambda: dataset.content):
        with pytest.raises(DataError, match="can no longer be read"):
            read()


def test_the_meaning_of_label_values_is_part_of_the_fingerprint(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "image.png", np.zeros((2, 2, 3), np.uint8))
    write(tmp_path / "label.png", np.array([[0, 1], [2, 3]], dtype=np.uint8))
    plain = LabelValues.class_ids(11)
    shifted = LabelValues(ids={value: value + 1 for value in range(4)})
    datasets = [
        PairedFiles(
            name="made",
            split="train",
            root=tmp_path,
            table=CAMVID,
            licence="none",
            pairs=[FilePair("x", tmp_path / "image.png", tmp_path / "label.png", of_pair)],
            values=values,
        )
        for values, of_pair in [(None, None), (plain, None), (shifted, None), (plain, shifted)]
    ]
    assert [dataset[0].label.tolist() for dataset in datasets] == [[[0, 1], [2, 3]]] * 2 + [[[1, 2], [3, 4]]] * 2
    first, second, third, fourth = (dataset.fingerprint for dataset in datasets)
    assert first == second
    assert third == fourth != first
    first, second, third, fourth = (dataset.content for dataset in datasets)
    assert first == second
    assert third == fourth != first


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_mask_is_true_where_it_is_not_black(tmp_path: Path, mode: str) -> None:
    wanted = np.array([[True, False, True], [False, False, True]])
    Image.fromarray(wanted).convert(mode).save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as stored:
        assert stored.mode == mode
    assert np.array_equal(read_mask(tmp_path / "x.png"), wanted)


def test_a_mask_that_is_no_png_or_transparent_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "x.png", format="JPEG")
    with pytest.raises(DataError, match="a JPEG file; masks must be PNG"):
        read_mask(tmp_path / "x.png")
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="mode RGBA"):
        read_mask(tmp_path / "x.png")


def turned_root(root: Path, write: Write, orientations: dict[str, tuple[int, tuple[int, int], bool]]) -> None:
    """Write photographs by name: EXIF orientation, height and width upright, and whether the label is upright."""
    (root / "classes.csv").write_text("name,red,green,blue\na,1,1,1\nb,2,2,2\n")
    for name, (orientation, (height, width), upright) in orientations.items():
        label = np.zeros((height, width), np.uint8)
        label[: height // 2, : width // 2] = 1
        exif = Image.Exif()
        exif[0x0112] = orientation
        back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
        both = [Image.fromarray(pixels) for pixels in (np.where(label, 200, 50).astype(np.uint8), label)]
        stored = [image if back is None else image.transpose(Image.Transpose(back)) for image in both]
        (root / "train/images").mkdir(parents=True, exist_ok=True)
        stored[0].convert("RGB").save(root / f"train/images/{name}.png", exif=exif)
        write(root / f"train/labels/{name}.png", np.asarray(both[1] if upright else stored[1]))


def fits(dataset: PairedFiles) -> bool:
    return all(np.array_equal(sample.image[:, :, 0] > 100, sample.label == 1) for sample in dataset)  # type: ignore[attr-defined]


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_labels_size_says_whether_a_photograph_is_turned(
    tmp_path: Path, write: Write, orientation: int, upright: bool
) -> None:
    turned_root(tmp_path, write, {"x": (orientation, (6, 10), upright), "y": (1, (6, 10), True)})
    dataset = open_folder(tmp_path, "train")
    assert fits(dataset)
    how = "turned upright by their EXIF tags" if upright else "read as stored despite EXIF tags that would turn them"
    assert dataset.notes == (f"{how}, as their labels' sizes ask for: 1 (train/images/x.png)",)


def test_photographs_of_both_kinds_are_each_read_as_their_label_asks(tmp_path: Path, write: Write) -> None:
    turned_root(tmp_path, write, {"x": (6, (6, 10), True), "y": (8, (6, 10), False)})
    dataset = open_folder(tmp_path, "train")
    assert fits(dataset) and len(dataset.notes) == 2


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_where_the_size_cannot_tell_the_others_decide(
    tmp_path: Path, write: Write, orientation: int, upright: bool
) -> None:
    turned_root(tmp_path, write, {"x": (6, (6, 10), upright), "y": (orientation, (6, 10), upright)})
    dataset = open_folder(tmp_path, "train")
    assert fits(dataset)
    assert dataset.notes[-1].startswith("of these, fit both ways and follow the others (data.orientation overrules it)")


@pytest.mark.parametrize("case", [{"x": (3, (6, 10), True)}, {"x": (6, (8, 8), True)}])
@pytest.mark.parametrize("others", [{}, {"y": (6, (6, 10), True), "z": (6, (6, 10), False)}])
def test_where_nothing_tells_the_user_decides(
    tmp_path: Path, write: Write, case: dict[str, tuple[int, tuple[int, int], bool]], others: dict[str, Any]
) -> None:
    turned_root(tmp_path, write, {**case, **others})
    with pytest.raises(
        DataError, match=r"its label fits it turned and unturned.* data\.orientation to upright"
    ) as caught:
        open_folder(tmp_path, "train")
    assert [problem.path for problem in caught.value.found] == ["train/images/x.png"]
    if not others:
        assert fits(open_folder(tmp_path, "train", options=FolderOptions(orientation="upright")))
        assert not fits(open_folder(tmp_path, "train", options=FolderOptions(orientation="stored")))


def turned_label(root: Path, tag: int, size: tuple[int, int], *, image_tag: int) -> None:
    """Write a photograph whose label is a TIFF file, stored turned as a tag of its own says."""
    turned_root(root, lambda path, label: None, {"x": (image_tag, size, True)})
    (root / "train/labels").mkdir()
    label = np.zeros(size, np.uint8)
    label[: size[0] // 2, : size[1] // 2] = 1
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[tag]
    image = Image.fromarray(label).transpose(Image.Transpose(back))
    image.save(root / "train/labels/x.tif", tiffinfo={0x0112: tag})


@pytest.mark.parametrize("tag", range(2, 9))
@pytest.mark.parametrize("image_is_tagged", [True, False])
@pytest.mark.parametrize("size", [(6, 10), (8, 8)])
def test_a_label_with_an_orientation_tag_is_read_as_viewers_show_it_and_so_is_its_image(
    tmp_path: Path, tag: int, image_is_tagged: bool, size: tuple[int, int]
) -> None:
    turned_label(tmp_path, tag, size, image_tag=tag if image_is_tagged else 1)
    dataset = open_folder(tmp_path, "train")
    assert fits(dataset)
    assert (
        "labels turned by orientation tags of their own, as viewers show them: 1 (train/labels/x.tif)" in dataset.notes
    )


def test_an_orientation_tag_by_which_a_label_does_not_fit_is_named(tmp_path: Path) -> None:
    turned_label(tmp_path, 6, (6, 10), image_tag=1)
    Image.fromarray(np.zeros((6, 10), np.uint8)).save(tmp_path / "train/labels/x.tif", tiffinfo={0x0112: 6})
    with pytest.raises(DataError, match=r"both must be equal\. It is turned by an orientation tag of its own"):
        open_folder(tmp_path, "train")


def test_a_label_whose_name_says_another_format_is_told(tmp_path: Path, write: Write) -> None:
    turned_root(tmp_path, write, {"x": (1, (6, 10), True)})
    (tmp_path / "train/labels/x.png").rename(tmp_path / "train/labels/x.jpg")
    notes = open_folder(tmp_path, "train").notes
    assert notes == ("read as PNG, whatever their extensions say: 1 (train/labels/x.jpg)",)


def test_a_label_that_fits_neither_way_is_of_another_size(tmp_path: Path, write: Write) -> None:
    turned_root(tmp_path, write, {"x": (6, (6, 10), True), "y": (1, (6, 10), True)})
    write(tmp_path / "train/labels/x.png", np.zeros((6, 6), np.uint8))
    with pytest.raises(
        DataError, match=r"6 x 6 pixels \(height x width\), but its image train/images/x\.png has 10 x 6"
    ):
        open_folder(tmp_path, "train")


def test_the_way_in_which_a_photograph_is_turned_is_part_of_the_content(tmp_path: Path, write: Write) -> None:
    turned_root(tmp_path, write, {"x": (3, (6, 10), True)})
    contents = {
        open_folder(tmp_path, "train", options=FolderOptions(orientation=way)).content  # type: ignore[arg-type]
        for way in ("upright", "stored")
    }
    assert len(contents) == 2


def test_notes_go_along_with_problems_and_survive_pickling(camvid_root: Path) -> None:
    (camvid_root / "train/notes.txt").write_text("")
    (camvid_root / "train/a.png").unlink()
    with pytest.raises(DataError) as caught:
        open_camvid(camvid_root, "train")
    assert caught.value.notes == ("skipped, not an image, by its extension: 1 (train/notes.txt)",)
    assert str(caught.value).endswith("Note: skipped, not an image, by its extension: 1 (train/notes.txt).")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.notes == caught.value.notes and again.found == caught.value.found
