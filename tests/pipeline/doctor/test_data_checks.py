"""Each check of a data set: what makes it speak, and what must not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.decoding.class_files import CAMVID
from scenepalette.data.readers.camvid import open_camvid
from scenepalette.data.sample import Sample, SegmentationDataset
from scenepalette.data.streets.dataset import Streets
from scenepalette.pipeline.doctor import data_checks
from scenepalette.pipeline.doctor.data_checks import Split
from scenepalette.pipeline.doctor.scan import Scan

K = CAMVID.num_classes


def made_scan(count: int = 120, split: str = "train", seed: int = 0) -> Scan:
    """A data set without faults: noise of 48 x 64, every class in every label."""
    random = np.random.default_rng((seed, len(split)))
    pixels = np.full((count, K + 1), 100)
    return Scan(
        split=split,
        ids=tuple(f"{split}{index}" for index in range(count)),
        sizes=np.full((count, 2), (48, 64)),
        hashes=tuple(f"{split}-{index}" for index in range(count)),
        thumbnails=random.integers(0, 256, (count, 32, 32), dtype=np.uint8),
        spread=np.full(count, 40.0, np.float32),
        pixels=pixels,
        resized_pixels=pixels.copy(),
        edges=np.tile(np.array([[2.0, 1.0]], np.float32), (count, 1)),
    )


def changed(scan: Scan, field: str, where: object, value: object) -> Scan:
    array = getattr(scan, field).copy()
    array[where] = value
    return replace(scan, **{field: array})


TRAIN, VAL = made_scan(), made_scan(40, "val")
SIZE = (48, 64)


def test_nothing_is_said_about_a_data_set_without_faults() -> None:
    checks = [
        data_checks.check_amount(TRAIN, VAL),
        data_checks.check_scaling([TRAIN, VAL], SIZE),
        data_checks.check_class_table(CAMVID, TRAIN, VAL),
        data_checks.check_rare_classes(CAMVID, TRAIN, SIZE),
        data_checks.check_leakage(TRAIN, VAL),
        data_checks.check_duplicates(TRAIN),
        data_checks.check_constant([TRAIN, VAL]),
        data_checks.check_fit([TRAIN, VAL]),
    ]
    assert [check.status for check in checks if check is not None] == ["ok"] * 8
    assert all(check.remedy == "" for check in checks if check is not None)


def test_identical_and_nearly_identical_pictures_in_both_splits_are_named() -> None:
    leaked = replace(VAL, hashes=(TRAIN.hashes[7], *VAL.hashes[1:]))
    check = data_checks.check_leakage(TRAIN, leaked)
    assert check.status == "problem" and check.details[0] == "identical: val0 (val) and train7 (train)"
    near = changed(VAL, "thumbnails", 3, np.clip(TRAIN.thumbnails[9].astype(int) + 2, 0, 255))
    check = data_checks.check_leakage(TRAIN, near)
    assert check.status == "warning"
    assert re.fullmatch(r"nearly identical: val3 \(val\) and train9 \(train\) \((0.99\d\d|1.0000)\)", check.details[0])


class ImageFolder:
    """A data set of images alone."""

    def __init__(self, pictures: list[np.ndarray]) -> None:
        self._pictures = pictures

    def __getitem__(self, index: int) -> Sample:
        picture = self._pictures[index]
        return Sample(str(index), picture, np.zeros(picture.shape[:2], np.uint8))


def test_copies_that_were_changed_are_a_warning_that_says_how_they_were_found() -> None:
    streets = Streets(split="train", count=6, size=(96, 128), seed=0)
    pictures = [streets[index].image for index in range(6)]
    leaked = [np.roll(pictures[0], 1, 1), pictures[3][::-1], np.full_like(pictures[0], 7)]

    def thumbnails(scan: Scan, images: list[np.ndarray]) -> Scan:
        small = [Image.fromarray(p).convert("L").resize((32, 32), Image.Resampling.BOX) for p in images]
        return changed(scan, "thumbnails", slice(0, len(small)), np.stack([np.asarray(p) for p in small]))

    train, val = thumbnails(made_scan(6), pictures), thumbnails(made_scan(3, "val"), leaked)
    both = cast("tuple[SegmentationDataset, SegmentationDataset]", (ImageFolder(pictures), ImageFolder(leaked)))
    check = data_checks.check_leakage(train, val, both)
    assert check.status == "warning" and "2 that were changed" in check.summary
    assert [re.sub(r" \(0.\d+\)| \(1.0+\)", "", detail) for detail in check.details] == [
        "the same, laid over each other: val1 (val) and train3 (train), upside down",
        "the same, laid over each other: val0 (val) and train0 (train)",
    ]
    unread = data_checks.check_leakage(train, val)
    assert unread.status == "note" and unread.summary.startswith("No copy of a training image was found")


def test_recordings_in_both_splits_are_a_note() -> None:
    train = replace(TRAIN, ids=tuple(f"0016E5_{index:05d}" for index in range(len(TRAIN))))
    val = replace(VAL, ids=tuple(f"0016E5_{index + 500:05d}" for index in range(len(VAL))))
    check = data_checks.check_leakage(train, val)
    assert check.status == "note" and "40 validation images are of recordings" in check.summary
    other = replace(VAL, ids=tuple(f"0017E5_{index:05d}" for index in range(len(VAL))))
    assert data_checks.check_leakage(train, other).status == "ok"


def test_video_neighbours_are_a_note_not_a_warning() -> None:
    noise = np.random.default_rng(5).normal(0, 9, (32, 32))
    near = changed(VAL, "thumbnails", 0, np.clip(TRAIN.thumbnails[0] + noise, 0, 255).astype(np.uint8))
    check = data_checks.check_leakage(TRAIN, near)
    assert check.status == "note" and "1 validation image looks like a neighbour" in check.summary


def test_duplicates_within_training() -> None:
    twice = replace(TRAIN, hashes=(*TRAIN.hashes[:-2], TRAIN.hashes[0], TRAIN.hashes[0]))
    check = data_checks.check_duplicates(twice)
    assert check.status == "warning" and check.details == ("identical: train0, train118, train119",)
    near = changed(TRAIN, "thumbnails", 5, TRAIN.thumbnails[6])
    assert data_checks.check_duplicates(near).status == "note"


def test_classes_that_do_not_occur() -> None:
    train = changed(TRAIN, "pixels", (slice(None), 3), 0)
    val = changed(changed(VAL, "pixels", (slice(None), 4), 0), "pixels", (slice(None), 5), 0)
    train = changed(train, "pixels", (slice(None), 5), 0)
    check = data_checks.check_class_table(CAMVID, train, val)
    assert check.status == "warning"
    assert [detail.partition(":")[0] for detail in check.details] == ["road (3)", "pavement (4)", "tree (5)"]
    ignored = changed(TRAIN, "pixels", (slice(None), K), 5000)
    assert "% of training pixels are ignored" in data_checks.check_class_table(CAMVID, ignored, VAL).details[0]


def test_ignored_pixels_and_absent_classes_have_a_remedy_each() -> None:
    ignored = changed(TRAIN, "pixels", (slice(None), K), 5000)
    assert "no value that is ignored stands for a class" in data_checks.check_class_table(CAMVID, ignored, VAL).remedy
    lacking = changed(VAL, "pixels", (slice(None), 4), 0)
    remedy = data_checks.check_class_table(CAMVID, TRAIN, lacking).remedy
    assert "both parts show these classes" in remedy and "ignored" not in remedy


def labels_of(ids: Sequence[int], num_classes: int) -> tuple[list[SegmentationDataset], list[Scan]]:
    """A data set without files whose labels show some classes alone."""
    classes = tuple(SemanticClass(f"class {k}", (k, k, k)) for k in range(num_classes))
    pixels = np.zeros((50, num_classes + 1), np.int64)
    pixels[:, list(ids)] = 100
    table = ClassTable("mine", classes)
    scan = replace(TRAIN, ids=TRAIN.ids[:50], pixels=pixels)
    return [cast("SegmentationDataset", SimpleNamespace(table=table, label_files=()))], [scan]


@pytest.mark.parametrize(
    ("ids", "num_classes", "factor"),
    [
        ((0, 4, 8, 12), 16, 4),
        ((0, 2, 4, 6, 8, 10, 12, 14), 16, 2),
        ((21, 42, 63, 84), 150, 21),
        ((0, 10, 20, 30), 31, 10),
        # Which may well be, or says nothing.
        ((0, 2, 4, 6), 8, None),
        ((0, 4, 8), 16, None),
        ((0, 2, 4, 6), 16, None),
        ((0, 1, 2, 3), 4, None),
        ((0, 4, 8, 12, 13), 16, None),
        ((0,), 4, None),
        ((), 4, None),
    ],
)
def test_ids_that_were_multiplied_are_told_by_all_labels(
    ids: tuple[int, ...], num_classes: int, factor: int | None
) -> None:
    check = data_checks.check_label_encoding(*labels_of(ids, num_classes))
    if factor is None:
        assert check is None
        return
    assert check is not None and check.status == "warning" and f"is a multiple of {factor} (" in check.summary
    # It may be a mistake of the check, too.
    assert f"divide them by {factor}; if these very classes are meant, nothing has to be done" in check.remedy


def test_ids_that_mean_other_classes_in_one_split_are_a_warning() -> None:
    shares = np.array([17, 24, 1, 33, 5, 10, 1, 1, 6, 1, 1, 4])
    pixels = np.random.default_rng(0).poisson(shares * 30, (160, K + 1))
    train, val = replace(TRAIN, pixels=pixels[:120]), replace(VAL, pixels=pixels[120:])
    assert data_checks.check_class_table(CAMVID, train, val).status == "ok"
    permuted = replace(val, pixels=np.concatenate([np.roll(val.pixels[:, :-1], 2, axis=1), val.pixels[:, -1:]], axis=1))
    check = data_checks.check_class_table(CAMVID, train, permuted)
    expected = np.abs(train.pixels[:, :-1].sum(0) / train.pixels[:, :-1].sum()
                      - permuted.pixels[:, :-1].sum(0) / permuted.pixels[:, :-1].sum()).sum() / 2  # fmt: skip
    assert check.status == "warning" and expected > 0.4
    assert (
        check.details[0].startswith(f"{100 * expected:.0f} % of the pixels")
        and "building 24 % and 1 %" in check.details[0]
    )
    assert "the same ids must mean the same classes" in check.remedy


def test_few_samples_that_differ_by_chance_are_not_told_to_differ() -> None:
    pixels = np.zeros((8, K + 1), np.int64)
    pixels[np.arange(8), np.arange(8) % 4] = 3000  # a class each
    train, val = replace(made_scan(6), pixels=pixels[:6]), replace(made_scan(2, "val"), pixels=pixels[6:])
    assert not any("of other classes" in text for text in data_checks.check_class_table(CAMVID, train, val).details)


def test_rare_classes_by_images_pixels_and_share() -> None:
    few = changed(TRAIN, "pixels", (slice(9, None), 2), 0)
    check = data_checks.check_rare_classes(CAMVID, few, SIZE)
    assert check.status == "warning" and "pole: 0.744 % of the pixels, in 9 of 120 images" in check.details[0]
    tiny = changed(TRAIN, "resized_pixels", (slice(None), 2), 15)
    assert data_checks.check_rare_classes(CAMVID, tiny, SIZE).status == "warning"
    low = changed(TRAIN, "pixels", (slice(None), 2), 4)
    check = data_checks.check_rare_classes(CAMVID, low, SIZE)
    assert check.status == "note" and check.details[0].startswith("pole: 0.398 %")


def test_amount_scaling_and_empty_pictures() -> None:
    assert data_checks.check_amount(made_scan(99), VAL).status == "warning"
    assert data_checks.check_amount(TRAIN, made_scan(19, "val")).status == "warning"
    assert data_checks.check_scaling([TRAIN], (96, 128)).status == "warning"
    assert data_checks.check_scaling([TRAIN], (48, 56)).status == "note"
    assert data_checks.check_scaling([TRAIN], (16, 48)).status == "warning"
    check = data_checks.check_constant([changed(TRAIN, "spread", 8, 1.0)])
    assert check.status == "warning" and check.details == ("train: train8",)


def test_labels_of_other_pictures_are_noticed() -> None:
    random = np.random.default_rng(0).normal(1, 0.1, (120, 2)).astype(np.float32)
    check = data_checks.check_fit([replace(TRAIN, edges=random)])
    assert check is not None and check.status == "warning"
    assert data_checks.check_fit([replace(TRAIN, edges=np.full((120, 2), np.nan, np.float32))]) is None


def test_readers_messages_are_sorted_by_check(tmp_path: Path) -> None:
    for split in ("train", "trainannot"):
        (tmp_path / split).mkdir()

    def write(name: str, pixels: np.ndarray) -> None:
        Image.fromarray(pixels).save(tmp_path / name)

    for name in "abcdef":
        write(f"train/{name}.png", np.zeros((4, 4, 3), np.uint8))
        write(f"trainannot/{name}.png", np.zeros((4, 4), np.uint8))
    write("train/lonely.png", np.zeros((4, 4, 3), np.uint8))
    write("trainannot/orphan.png", np.zeros((4, 4), np.uint8))
    write("trainannot/a.png", np.zeros((4, 5), np.uint8))
    write("trainannot/b.png", np.full((4, 4), 200, np.uint8))
    write("trainannot/c.png", np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    (tmp_path / "train/e.png").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        open_camvid(tmp_path, "train")
    checks = data_checks.check_opening({"train": caught.value}, tmp_path, CAMVID)
    assert all(check.status == "problem" for check in checks if check.name != "lists")
    assert {check.name: [detail.partition(":")[0] for detail in check.details] for check in checks} == {
        "pairing": ["train/lonely.png", "trainannot/orphan.png"],
        "files": ["train/e.png"],
        "sizes": ["trainannot/a.png"],
        "label files": ["trainannot/c.png"],
        "label values": ["trainannot/b.png"],
    }


def test_problems_are_grouped_by_their_kind_whatever_their_words() -> None:
    lines = [Problem(ProblemKind.LIST, "train.txt", f"damaged label values {line}", line) for line in (3, 4)]
    ending = Problem(ProblemKind.PAIRING, "train/x.PNG", "colour-coded")
    errors: dict[Split, ScenepaletteError]
    errors = {"train": DataError("Some.", [*lines, ending]), "val": DataError("Some.", [ending])}
    checks = {check.name: check for check in data_checks.check_opening(errors, None, CAMVID)}
    assert checks["lists"].details == ("train.txt, line 3: damaged label values 3", str(lines[1]))
    assert checks["lists"].status == "problem" and "Correct these lines" in checks["lists"].remedy
    assert checks["pairing"].details == ("train/x.PNG: colour-coded",) * 2
    assert {name for name, check in checks.items() if check.status == "problem"} == {"lists", "pairing"}
    assert "lists" not in {check.name for check in data_checks.check_opening({}, None, CAMVID)}


def test_what_keeps_files_from_being_looked_at_is_told_once_and_alone() -> None:
    missing = DataError("No such layout.", [Problem(ProblemKind.LAYOUT, "", "train/")])
    refused = ConfigError("Streets cannot be drawn.", ["count: 0"])
    (check,) = data_checks.check_opening({"train": missing, "val": missing}, None, CAMVID)
    assert (check.name, check.summary, check.details) == ("data set", "No such layout.", ("train/",))
    checks = data_checks.check_opening({"train": missing, "val": refused}, None, CAMVID)
    assert [check.details for check in checks] == [("train/",), ("count: 0",)]
    (plain,) = data_checks.check_opening({"train": DataError("It is gone.")}, None, CAMVID)
    assert (plain.name, plain.summary, plain.details) == ("data set", "It is gone.", ())


def test_a_label_of_an_ignored_value_alone_is_not_taken_for_ids_that_are_counted_from_1(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "trainannot").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "train/a.png")

    def remedy(label: np.ndarray) -> str:
        Image.fromarray(label.astype(np.uint8)).save(tmp_path / "trainannot/a.png")
        with pytest.raises(DataError) as caught:
            open_camvid(tmp_path, "train")
        checks = {check.name: check for check in data_checks.check_opening({"train": caught.value}, tmp_path, CAMVID)}
        return checks["label values"].remedy

    assert "It seems" not in remedy(np.full((4, 4), 11))
    assert "count classes from 1" in remedy(np.arange(16).reshape(4, 4) % 12 + 1)


def test_links_to_pictures_outside_are_a_warning(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("train", "trainannot"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "private.png")
    (root / "train/a.png").symlink_to(tmp_path / "private.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / "trainannot/a.png")
    check = data_checks.check_links([open_camvid(root, "train")], root)
    assert check is not None and check.status == "warning" and check.details == ("train/a.png",)
    (tmp_path / "linked").symlink_to(root)
    (root / "train/a.png").unlink()
    (tmp_path / "private.png").rename(root / "train/a.png")
    linked = tmp_path / "linked"
    check = data_checks.check_links([open_camvid(linked, "train")], linked)
    assert check is not None and check.status == "ok"
