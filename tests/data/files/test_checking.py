"""What was checked once is not checked again, unless anything of it has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelled_folders import camvid_root  # noqa: F401 (a fixture)
from scenepalette.common.errors import DataError
from scenepalette.data.decoding import label_images
from scenepalette.data.decoding.image_opening import ImageFacts
from scenepalette.data.decoding.label_images import LabelImage, read_label
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files import checking as module
from scenepalette.data.files import image_files
from scenepalette.data.files.checking import checking
from scenepalette.data.readers.camvid import open_camvid
from scenepalette.data.readers.folder import open_folder


class Watched:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, int]] = []
        self.advanced = 0

    def start(self, description: str, total: int, done: int = 0) -> None:
        self.told.append((description, total, done))

    def advance(self, count: int = 1, **values: float) -> None:
        self.advanced += count

    def finish(self) -> None: ...


class Looking:
    """Keeps the ids and mean values of what it sees."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.seen: dict[int, Any] = {}

    def begin(self, ids: Sequence[str], num_classes: int) -> None:
        self.ids, self.num_classes = list(ids), num_classes

    @staticmethod
    def sketch(label: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.searchsorted(values, label)

    def at(self, image: Image.Image, sketched: np.ndarray, ids: np.ndarray, counts: np.ndarray, /) -> Any:
        label = ids[sketched]
        assert counts.tolist() == np.bincount(label.ravel(), minlength=256).tolist()
        return float(np.asarray(image).mean()), np.unique(label).tolist()

    def add(self, index: int, seen: Any) -> None:
        self.seen[index] = seen


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take files that were only just written for settled, and remember what is checked here for this test alone."""
    monkeypatch.setattr(module, "UNSETTLED_SECONDS", 0.0)
    monkeypatch.setenv("SCENEPALETTE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of images that are decoded."""
    names: list[str] = []

    def watch(decode: Callable[[Path], ImageFacts]) -> Callable[[Path], ImageFacts]:
        def watched(path: Path) -> ImageFacts:
            names.append(path.name)
            return decode(path)

        return watched

    for name in ("check_image", "decode_image", "read_stored"):
        monkeypatch.setattr(image_files, name, watch(getattr(image_files, name)))
    return names


def test_the_second_opening_reads_no_file(camvid_root: Path, read: list[str]) -> None:  # noqa: F811
    first, second = Watched(), Watched()
    with checking(first):
        before = open_camvid(camvid_root, "train")
    assert first.told == [("checking labels of train", 5, 0), ("checking train", 3, 0)]
    assert first.advanced == 8 and len(read) == 3
    with checking(second):
        after = open_camvid(camvid_root, "train")
    assert len(read) == 3 and not second.told
    assert (after.ids, after.fingerprint, after.content) == (before.ids, before.fingerprint, before.content)
    np.testing.assert_array_equal(after[1].label, before[1].label)


def test_nothing_is_written_into_the_data_sets_folder(camvid_root: Path, tmp_path: Path) -> None:  # noqa: F811
    def files() -> set[Path]:
        return {path for path in camvid_root.rglob("*") if not path.is_relative_to(tmp_path / "cache")}

    before = files()
    with checking():
        open_camvid(camvid_root, "train")
    assert files() == before and any((tmp_path / "cache").rglob("*.jsonl"))


def test_who_asks_for_no_memory_has_every_file_checked(camvid_root: Path, read: list[str]) -> None:  # noqa: F811
    for _ in range(2):
        open_camvid(camvid_root, "train")
    assert len(read) == 6


def rewritten(path: Path) -> None:
    """Other pixels in as many bytes, at the same time of change."""
    status = path.stat()
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "touched": lambda root: os.utime(root / "train/b.png", (1, 1)),
    "written anew": lambda root: Image.new("RGB", (8, 6)).save(root / "train/b.png"),
    "its label written anew": lambda root: Image.new("L", (8, 6), 3).save(root / "trainannot/b.png"),
    "replaced with its time kept": lambda root: rewritten(root / "train/b.png"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_pair_that_changed_is_checked_again_and_no_other(
    change: Callable[[Path], object],
    camvid_root: Path,  # noqa: F811
    read: list[str],
    request: pytest.FixtureRequest,
) -> None:
    with checking():
        open_camvid(camvid_root, "train")
    del read[:]
    change(camvid_root)
    watched = Watched()
    with checking(watched):
        open_camvid(camvid_root, "train")
    assert read == ["b.png"] and watched.told[-1] == ("checking train", 3, 2)
    labels = [("checking labels of train", 5, 4)] if "label" in request.node.callspec.id else []
    assert watched.told[:-1] == labels and watched.advanced == 1 + len(labels)


@pytest.mark.parametrize("place", ["train/b.png", "trainannot/b.png"])
def test_a_damaged_file_is_found_each_time_and_the_others_are_remembered(
    place: str,
    camvid_root: Path,  # noqa: F811
    read: list[str],
) -> None:
    (camvid_root / place).write_bytes(b"no image")
    for expected in (3, 1):
        del read[:]
        with checking(), pytest.raises(DataError) as raised:
            open_camvid(camvid_root, "train")
        assert len(read) == expected and [problem.path for problem in raised.value.found] == [place]


def test_what_values_mean_is_part_of_what_is_remembered(tmp_path: Path, read: list[str]) -> None:
    for kind in ("images", "labels"):
        (tmp_path / "data/train" / kind).mkdir(parents=True)
        Image.new("RGB" if kind == "images" else "L", (8, 8), 0).save(tmp_path / "data/train" / kind / "a.png")
    classes = tmp_path / "data/classes.csv"
    classes.write_text("name,red,green,blue\na,1,1,1\nb,2,2,2\n")
    with checking():
        open_folder(tmp_path / "data", "train")
    classes.write_text("name,red,green,blue\na,1,1,1\nb,2,2,2\nc,3,3,3\n")
    with checking():
        open_folder(tmp_path / "data", "train")
    assert len(read) == 2


RED, GREEN = (200, 0, 0), (0, 200, 0)


def small_folder(root: Path, labels: Sequence[Image.Image], names: Sequence[str] = ("a", "b")) -> Path:
    """Write a data set of the layout folder, whose classes have the colours red, green and blue."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for name, label in zip(names, labels, strict=True):
            Image.new("RGB", (8, 6), RED).save(root / split / "images" / f"{name}.png")
            label.save(root / split / "labels" / f"{name}.png")
    (root / "classes.csv").write_text("name,red,green,blue\nr,200,0,0\ng,0,200,0\nb,0,0,200\n")
    return root


def of_ids(*values: int) -> Image.Image:
    return Image.fromarray(np.resize(np.array(values, np.uint8), (6, 8)))


def of_colours(*colours: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray(np.resize(np.array(colours, np.uint8), (6, 8, 3)))


def of_palette(*colours: tuple[int, int, int]) -> Image.Image:
    image = of_ids(*range(len(colours)))
    image.putpalette([channel for colour in colours for channel in colour])
    return image


def colours_exchanged(root: Path) -> None:
    (root / "classes.csv").write_text("name,red,green,blue\nr,0,200,0\ng,200,0,0\nb,0,0,200\n")


IDS, COLOURS = [of_ids(0, 1), of_ids(1, 2)], [of_colours(RED, GREEN), of_colours(GREEN, (0, 0, 200))]
NEARLY = [of_colours(RED, GREEN, GREEN, RED, GREEN, GREEN, RED, (196, 3, 0)), of_colours(GREEN, (0, 0, 200))]
PALETTES = [of_palette(GREEN, RED), of_palette(RED, GREEN)]
IN_RED = [of_colours((0, 0, 0), (1, 0, 0)), of_colours((1, 0, 0), (2, 0, 0))]
Changed = tuple[list[Image.Image], LabelSettings, LabelSettings, Callable[[Path], object]]


def nothing(root: Path) -> None:
    """The files stay."""


READINGS: dict[str, Changed] = {
    "offset": (IDS, AS_FOUND, LabelSettings(offset=1), nothing),
    "offset of spread ids": ([of_ids(0, 127), of_ids(127, 255)], AS_FOUND, LabelSettings(offset=0), nothing),
    "ignored values": (IDS, AS_FOUND, LabelSettings(ignore_ids=(1,)), nothing),
    "values allowed no longer": ([of_ids(0, 9), of_ids(1, 2)], LabelSettings(ignore_ids=(9,)), AS_FOUND, nothing),
    "palettes by index": (PALETTES, AS_FOUND, LabelSettings(encoding="ids"), nothing),
    "palettes by colour": (PALETTES, LabelSettings(encoding="ids"), LabelSettings(encoding="colours"), nothing),
    "a channel": (IN_RED, LabelSettings(encoding="red"), LabelSettings(encoding="green"), nothing),
    "tolerance left out": (NEARLY, LabelSettings(tolerance=8), AS_FOUND, nothing),
    "colours of the class table": (COLOURS, AS_FOUND, AS_FOUND, colours_exchanged),
    "spread ids by another split's labels": (
        [of_ids(0, 255), of_ids(0, 255)],
        AS_FOUND,
        AS_FOUND,
        lambda root: of_ids(0, 127, 255).save(root / "val/labels/a.png"),
    ),
}


def told_of(root: Path, settings: LabelSettings) -> tuple[object, ...]:
    """Everything that an opening says of a split, or why it is refused."""
    try:
        dataset = open_folder(root, "train", labels=settings)
    except DataError as error:
        return error.problems, error.notes
    labels = [dataset[index].label.tolist() for index in range(len(dataset))]
    return labels, dataset.notes, dataset.ids, dataset.fingerprint, dataset.content


@pytest.mark.parametrize("changed", READINGS.values(), ids=READINGS)
def test_a_remembered_check_never_hides_another_reading(changed: Changed, tmp_path: Path) -> None:
    labels, before, after, change = changed
    root = small_folder(tmp_path / "data", labels)
    with checking():
        first = told_of(root, before)
    change(root)
    unremembered = told_of(root, after)
    assert unremembered != first
    for _ in range(2):
        with checking():
            assert told_of(root, after) == unremembered


def test_what_was_remarked_of_files_is_remembered_as_well(tmp_path: Path, read: list[str]) -> None:
    root = small_folder(tmp_path / "data", [of_palette(GREEN, RED), of_ids(255), of_ids(0, 1, 2)], "abc")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, jpeg = Image.new("RGB", (6, 8), RED), root / "train/images/a.png"
    turned.save(jpeg, "JPEG", exif=exif)
    told = []
    for _ in range(2):
        with checking():
            told.append(told_of(root, AS_FOUND))
        assert read.count("a.png") == 1 + len(told)  # checked once; its sample is read each time
    assert told[0] == told[1]
    notes = " ".join(map(str, told[0][1]))  # pyright: ignore[reportArgumentType]
    for text in ("decoded by colour", "turned upright by their EXIF tags", "read as JPEG", "label is ignored"):
        assert text in notes, notes


def test_files_that_were_only_just_written_are_not_remembered(
    camvid_root: Path,  # noqa: F811
    read: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "UNSETTLED_SECONDS", 3600.0)
    for _ in range(2):
        with checking():
            open_camvid(camvid_root, "train")
    assert len(read) == 6


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"rules": 3}', b'{"rules": "x", "found": []}', b"\xff\xfe"])
def test_a_damaged_memory_is_no_memory(content: bytes, camvid_root: Path, tmp_path: Path, read: list[str]) -> None:  # noqa: F811
    for _ in range(2):
        with checking():
            open_camvid(camvid_root, "train")
        memories = list((tmp_path / "cache/checked").glob("*.jsonl"))
        assert len(memories) == 2  # of the labels, and of the pairs
        for memory in memories:
            memory.write_bytes(content)
    assert len(read) == 6


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(
    camvid_root: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("not a folder")
    for value in (str(tmp_path / "file"), ""):
        monkeypatch.setenv("SCENEPALETTE_CACHE", value)
        with checking():
            assert len(open_camvid(camvid_root, "train")) == 3


def test_samples_are_looked_at_as_they_are_checked(camvid_root: Path, read: list[str]) -> None:  # noqa: F811
    look = Looking()
    with checking(look=look):
        dataset = open_camvid(camvid_root, "train")
    assert look.ids == list(dataset.ids) and look.num_classes == 11 and len(read) == 3
    for index in range(3):
        sample = dataset[index]
        assert look.seen[index] == (float(sample.image.mean()), np.unique(sample.label).tolist())


@pytest.mark.parametrize("remembers", [True, False])
def test_a_label_is_decoded_once_for_all_who_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembers: bool
) -> None:
    """The labels of both splits decide how they are read, each split is checked, and somebody looks at it."""
    root = small_folder(tmp_path / "data", PALETTES)
    decoded: list[Path] = []

    def watched(path: Path) -> LabelImage:
        decoded.append(path)
        return read_label(path)

    monkeypatch.setattr(label_images, "read_label", watched)
    monkeypatch.setattr(image_files, "read_label", watched)
    monkeypatch.setenv("SCENEPALETTE_CACHE", str(tmp_path / "cache") if remembers else "")
    looks = Looking(), Looking()
    for split, look in zip(("train", "val"), looks, strict=True):
        with checking(look=look):
            open_folder(root, split)
    assert sorted(decoded) == sorted(root.glob("*/labels/*.png"))
    assert [seen[1] for look in looks for seen in look.seen.values()] == [[0, 1]] * 4


def test_a_label_of_thousands_of_values_is_looked_at(tmp_path: Path) -> None:
    root = tmp_path / "data"
    small_folder(root, [of_ids(0, 1, 2), of_ids(0, 1)])
    (root / "classes.csv").write_text("name,red,green,blue\nr,30,0,0\ng,0,200,0\nb,0,0,200\n")
    nearly = np.zeros((80, 80, 3), np.uint8)
    nearly[..., 0], nearly[..., 1], nearly[..., 2] = 30, np.arange(80) % 64, np.arange(80)[:, None] % 64
    for name in "ab":
        Image.fromarray(nearly).save(root / f"train/images/{name}.png")
        Image.fromarray(nearly).save(root / f"train/labels/{name}.png")
        Image.fromarray(nearly).save(root / f"val/images/{name}.png")
        Image.fromarray(nearly).save(root / f"val/labels/{name}.png")
    look = Looking()
    with checking(look=look):
        dataset = open_folder(root, "train", labels=LabelSettings(encoding="colours", tolerance=64))
    assert [seen[1] for seen in look.seen.values()] == [np.unique(dataset[k].label).tolist() for k in range(2)]


def test_who_looks_sees_all_samples_or_none(camvid_root: Path, read: list[str]) -> None:  # noqa: F811
    with checking():
        open_camvid(camvid_root, "train")
    unneeded, needed = Looking(), Looking()
    with checking(look=unneeded):
        open_camvid(camvid_root, "train")
    assert unneeded.ids == []
    os.utime(camvid_root / "train/b.png", (1, 1))
    with checking(look=needed):
        open_camvid(camvid_root, "train")
    assert sorted(needed.seen) == [0, 1, 2] and all(needed.seen.values())
