"""CamVid's layout, and the real data set where it is at hand."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.datasets import open_dataset
from scenepalette.data.decoding.label_reading import LabelSettings
from scenepalette.data.readers.camvid import DATASET, open_camvid


def test_pairs_are_sorted_and_value_11_becomes_ignored(camvid_root: Path) -> None:
    dataset = open_camvid(camvid_root, "train")
    assert dataset.ids == ("a", "b", "c")
    for sample in (dataset[i] for i in range(3)):
        stored = np.asarray(Image.open(camvid_root / "trainannot" / f"{sample.id}.png"))
        assert (stored == 11).any()
        assert np.array_equal(sample.label, np.where(stored == 11, 255, stored))
        assert np.array_equal(sample.image, np.asarray(Image.open(camvid_root / "train" / f"{sample.id}.png")))


def test_labels_of_a_test_split_make_it_one(camvid_root: Path) -> None:
    assert DATASET.has_test is not None and not DATASET.has_test(camvid_root)
    shutil.copytree(camvid_root / "val", camvid_root / "test")
    assert not DATASET.has_test(camvid_root)  # images alone cannot be evaluated
    shutil.copytree(camvid_root / "valannot", camvid_root / "testannot")
    assert DATASET.has_test(camvid_root)
    (camvid_root / "test.txt").write_text("test/e.png testannot/e.png\n")
    test = open_dataset("camvid", "test", camvid_root)
    assert (test.split, test.ids) == ("test", ("e",))


def test_a_list_gives_members_and_order(camvid_root: Path) -> None:
    lines = [f"/SegNet/CamVid/train/{name}.png /SegNet/CamVid/trainannot/{name}.png" for name in ("c", "a")]
    (camvid_root / "train.txt").write_text("\n".join(lines) + "\n\n")
    assert open_camvid(camvid_root, "train").ids == ("c", "a")
    assert open_camvid(camvid_root, "val").ids == ("d", "e")


def test_a_list_may_have_paths_of_windows(camvid_root: Path) -> None:
    (camvid_root / "train.txt").write_text("C:\\CamVid\\train\\c.png C:\\CamVid\\trainannot\\c.png\r\n")
    assert open_camvid(camvid_root, "train").ids == ("c",)


def test_published_labels_that_were_multiplied_are_told_to_be_divided(camvid_root: Path) -> None:
    for path in camvid_root.glob("*annot/*.png"):
        values = np.asarray(Image.open(path)) % 9 * 10
        Image.fromarray(values.astype(np.uint8)).save(path)
    with pytest.raises(DataError, match=r"multiples of 10 .* If they were, divide them by 10"):
        open_camvid(camvid_root, "train")


def test_a_list_with_missing_repeated_or_broken_lines_is_refused(camvid_root: Path) -> None:
    lines = ["/x/a.png /x/a.png", "/x/z.png /x/z.png", "/x/b.png", "/x/a.png /x/a.png"]
    (camvid_root / "train.txt").write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        open_camvid(camvid_root, "train")
    assert caught.value.problems == (
        "train.txt, line 2: train/z.png and trainannot/z.png listed, but missing",
        "train.txt, line 3: 1 entries; an image and a label are required",
        "train.txt, line 4: /x/a.png /x/a.png is listed before, in line 1",
    )


@pytest.mark.parametrize("line", ["x", "x y z", "no.png no.png", "/a/a.png /a/a.png"])
def test_a_list_is_not_read_beyond_a_thousand_wrong_lines(camvid_root: Path, line: str) -> None:
    (camvid_root / "train.txt").write_text(f"{line}\n" * 300_000)
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        open_camvid(camvid_root, "train")
    assert time.monotonic() - began < 20
    problems = [problem for problem in caught.value.problems if "not read from here on" not in problem]
    assert len(problems) == 1000 and len(caught.value.problems) == 1001


def test_names_in_a_list_may_be_of_any_length(camvid_root: Path) -> None:
    (camvid_root / "train.txt").write_text(f"{'x' * 100_000}.png a.png\n")
    with pytest.raises(DataError) as caught:
        open_camvid(camvid_root, "train")
    (problem,) = caught.value.problems
    assert problem.endswith("listed, but missing") and len(problem) < 300


def test_files_with_an_ending_in_capitals_are_read(camvid_root: Path) -> None:
    content = open_camvid(camvid_root, "train").content
    (camvid_root / "train/a.png").rename(camvid_root / "train/a.PNG")
    for folder in ("train", "trainannot"):
        (camvid_root / folder / "b.png").rename(camvid_root / folder / "b.Png")
    dataset = open_camvid(camvid_root, "train")
    assert dataset.content == content and dataset.notes == ()


def test_files_that_a_list_leaves_out_are_counted(camvid_root: Path) -> None:
    (camvid_root / "train.txt").write_text("/x/a.png /x/a.png\n/x/b.png /x/b.png\n")
    dataset = open_camvid(camvid_root, "train")
    assert dataset.ids == ("a", "b")
    assert dataset.notes == ("skipped, not listed in train.txt: 2 (train/c.png, trainannot/c.png)",)


def test_missing_folders_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_camvid(tmp_path, "val")
    assert caught.value.problems == ("val/", "valannot/")
    with pytest.raises(DataError, match="which is not a folder"):
        open_camvid(tmp_path / "nowhere", "val")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "trainannot").mkdir()
    with pytest.raises(DataError, match="the split 'train' is empty"):
        open_camvid(tmp_path, "train")


def street(index: int) -> np.ndarray:
    """Return published ids: sky (0) above building (1) and tree (5), road (3) and pavement (4) below, 11 unlabelled."""
    label = np.full((24, 32), 3, np.uint8)
    label[:6], label[6:13], label[4:9, 20 : 24 + index] = 0, 1, 5
    label[15:, :8], label[14:17, 18:24], label[23] = 4, 8, 11
    return label


def renumbered(root: Path, numbers: dict[int, int]) -> Path:
    """Write eight street scenes and two more whose label values are changed."""
    lookup = np.arange(256, dtype=np.uint8)
    lookup[list(numbers)] = list(numbers.values())
    for split, count in (("train", 8), ("val", 2)):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        for index in range(count):
            image = np.random.default_rng(index).integers(0, 256, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / split / f"{index}.png")
            Image.fromarray(lookup[street(index)]).save(root / f"{split}annot" / f"{index}.png")
    return root


RAISED = {value: value + 1 for value in range(11)}
REDUCED = {value: value - 1 for value in range(1, 12)}
ANOTHER_NUMBERING = {
    "raised": ({**RAISED, 11: 12}, -1),
    "raised, 0 unlabelled": ({**RAISED, 11: 0}, -1),
    "raised, 255 unlabelled": ({**RAISED, 11: 255}, -1),
    "reduced, 255 sky": ({**REDUCED, 0: 255}, 1),
    "reduced, 255 sky and unlabelled": ({**REDUCED, 0: 255, 11: 255}, 1),
    "reduced, sky lost": (REDUCED, 1),
}


@pytest.mark.parametrize("kind", ANOTHER_NUMBERING)
def test_labels_of_another_numbering_are_asked_about(tmp_path: Path, kind: str) -> None:
    numbers, offset = ANOTHER_NUMBERING[kind]
    root = renumbered(tmp_path, numbers)
    for split in ("train", "val"):
        with pytest.raises(DataError) as caught:
            open_camvid(root, split)
        text = str(caught.value)
        assert f"seem {'raised' if offset < 0 else 'reduced'} by one" in text
        assert f"data.label_offset to {offset}" in text
        assert ("save the labels with 1 added to each value" in text) == ("255 sky" in kind)
    if "sky" not in kind:  # what 255 or 0 replaced cannot be had back
        dataset = open_camvid(root, "train", labels=LabelSettings(offset=offset))
        for index in range(len(dataset)):
            truth = street(index)
            assert np.array_equal(dataset[index].label, np.where(truth == 11, 255, truth))
    as_stored = open_camvid(renumbered(tmp_path / "as they are", {11: 255}), "train", labels=LabelSettings(offset=0))
    assert as_stored[0].label[0, 0] == 0


@pytest.mark.parametrize("numbers", [{}, {11: 255}, {10: 255, 11: 255}, {8: 0}])
def test_labels_as_published_are_not_asked_about(tmp_path: Path, numbers: dict[int, int]) -> None:
    dataset = open_camvid(renumbered(tmp_path, numbers), "train")
    assert dataset.notes == ()
    assert dataset[0].label[0, 0] == 0 and dataset[0].label[20, 30] == 3


@pytest.mark.slow
@pytest.mark.parametrize("offset", [-1, 1])
def test_the_published_data_set_in_another_numbering_is_asked_about(camvid: Path, tmp_path: Path, offset: int) -> None:
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (tmp_path / folder).mkdir()
        for path in sorted((camvid / split).glob("*.png"))[::12]:
            (tmp_path / split / path.name).symlink_to(path)
            label = np.asarray(Image.open(camvid / f"{split}annot" / path.name))
            Image.fromarray(label - np.uint8(offset % 256)).save(tmp_path / f"{split}annot" / path.name)
    with pytest.raises(DataError, match=f"seem {'raised' if offset < 0 else 'reduced'} by one"):
        open_camvid(tmp_path, "train")


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_the_published_data_set_passes_every_check(camvid: Path, split: str, count: int) -> None:
    dataset = open_camvid(camvid, split)
    assert len(dataset) == count
    values = np.zeros(256, dtype=np.int64)
    for index in range(0, count, 25):
        sample = dataset[index]
        assert sample.image.shape == (*sample.label.shape, 3)
        values += np.bincount(sample.label.ravel(), minlength=256)
    assert set(np.flatnonzero(values)) == {*range(11), 255}
    # Sky (0) lies above road (3) in every street scene: a check that ids mean what the table says.
    rows = np.nonzero(dataset[0].label == 0)[0], np.nonzero(dataset[0].label == 3)[0]
    assert rows[0].mean() < rows[1].mean()
