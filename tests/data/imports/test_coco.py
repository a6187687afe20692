"""COCO: order, crowds, holes, forms of masks, splits, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as run_lengths

from annotated_sources import (
    HEIGHT,
    SQUARE,
    WIDTH,
    coco,
    flat,
    imported,
    labels_of,
    names_of,
    stored,
    write_images,
    write_json_file,
)
from labelled_folders import write_pixels
from scenepalette.common.errors import ConfigError, DataError
from scenepalette.data.datasets import open_dataset
from scenepalette.data.exports.exporting import export_shards
from scenepalette.data.shards.schema import Row

CAR, TREE = 7, 3
TREE_ID, CAR_ID = 1, 2
"""Class ids: background, then categories by their ids."""
CAR_SQUARE = {"category_id": CAR, "segmentation": [flat(SQUARE)]}
RING = np.pad(np.pad(np.zeros((4, 4), bool), 3, constant_values=True), ((2, 8), (1, 19)))


def make(root: Path, *annotations: dict[str, Any], **more: Any) -> Path:
    """A source with a training and a validation image; the annotations are those of the training image."""
    for split in ("train", "val"):
        write_images(root / split, ["a.png"])
        found = annotations if split == "train" else (CAR_SQUARE, {**CAR_SQUARE, "category_id": TREE})
        write_json_file(root / f"annotations/instances_{split}2017.json", coco({0: found}, ["a.png"], **more))
    return root


def label_of(root: Path, tmp_path: Path, **options: Any) -> np.ndarray:
    imported(root, "coco", tmp_path / "out", **options)
    return labels_of(tmp_path / "out")["a"]


def compressed(mask: np.ndarray) -> dict[str, Any]:
    found: Any = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}


def plain(mask: np.ndarray) -> dict[str, Any]:
    flat_mask = mask.T.ravel()
    starts = np.flatnonzero(np.diff(flat_mask)) + 1
    ends = [0, *starts.tolist(), flat_mask.size]
    counts = np.diff(ends).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat_mask[0] else counts}


@pytest.mark.parametrize("order", [(CAR, TREE), (TREE, CAR)])
def test_a_later_annotation_lies_above(order: tuple[int, int], tmp_path: Path) -> None:
    shifted = [[x + 4, y] for x, y in SQUARE]
    first, second = (
        {"category_id": number, "segmentation": [flat(points)]}
        for number, points in zip(order, (SQUARE, shifted), strict=True)
    )
    label = label_of(make(tmp_path / "in", first, second), tmp_path)
    assert names_of(tmp_path / "out") == ("background", "tree", "car")
    ids = {CAR: CAR_ID, TREE: TREE_ID}
    assert (label[6, 3], label[6, 8], label[6, 12], label[0, 0]) == (ids[order[0]], ids[order[1]], ids[order[1]], 0)


@pytest.mark.parametrize(("how", "value"), [(None, 255), ("ignore", 255), ("class", CAR_ID), ("skip", TREE_ID)])
def test_crowds(how: Any, value: int, tmp_path: Path) -> None:
    tree = {**CAR_SQUARE, "category_id": TREE}
    crowd = {"category_id": CAR, "iscrowd": 1, "segmentation": plain(np.arange(HEIGHT)[:, None] + np.zeros(WIDTH) < 9)}
    label = label_of(make(tmp_path / "in", tree, crowd), tmp_path, crowds=how)
    assert (label[6, 5], label[11, 5]) == (value, TREE_ID)


@pytest.mark.parametrize("mark", [1, True, "1"])
def test_a_class_of_crowds_alone_is_asked_about(mark: Any, tmp_path: Path) -> None:
    root = make(tmp_path / "in", CAR_SQUARE)
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        for entry in document["annotations"]:
            entry["iscrowd"] = mark if entry["category_id"] == CAR else 0
        path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"Every annotation of car is marked iscrowd.*--crowds class"):
        imported(root, "coco", tmp_path / "out")
    assert label_of(root, tmp_path, crowds="class")[6, 5] == CAR_ID


def test_no_crowd_may_be_written_as_text(tmp_path: Path) -> None:
    assert label_of(make(tmp_path / "in", {**CAR_SQUARE, "iscrowd": "0"}), tmp_path)[6, 5] == CAR_ID


@pytest.mark.parametrize("form", [plain, compressed])
def test_run_lengths_along_the_rows_are_told_by_the_box(form: Any, tmp_path: Path) -> None:
    counts = {**form(RING.T), "size": [HEIGHT, WIDTH]}
    box = [1, 2, 10, 10]
    with pytest.raises(DataError, match=r"run lengths along the rows; COCO's go down the columns"):
        label_of(make(tmp_path / "in", {"category_id": CAR, "segmentation": counts, "bbox": box}), tmp_path)
    right = {"category_id": CAR, "segmentation": form(RING), "bbox": box}
    np.testing.assert_array_equal(label_of(make(tmp_path / "in", right), tmp_path) == CAR_ID, RING)


@pytest.mark.parametrize("form", [plain, compressed])
def test_holes_of_run_lengths_stay_open(form: Any, tmp_path: Path) -> None:
    assert RING.shape == (HEIGHT, WIDTH)
    label = label_of(make(tmp_path / "in", {"category_id": CAR, "segmentation": form(RING)}), tmp_path)
    np.testing.assert_array_equal(label == CAR_ID, RING)


@pytest.mark.parametrize("seed", range(6))
def test_compressed_run_lengths_are_those_of_pycocotools(seed: int, tmp_path: Path) -> None:
    mask = np.random.default_rng(seed).random((HEIGHT, WIDTH)) < (seed + 1) / 8
    label = label_of(make(tmp_path / "in", {"category_id": CAR, "segmentation": compressed(mask)}), tmp_path)
    np.testing.assert_array_equal(label == CAR_ID, mask)


def test_polygons_of_one_annotation_are_one_object(tmp_path: Path) -> None:
    parts = [flat(SQUARE), flat([[x + 15, y] for x, y in SQUARE])]
    label = label_of(make(tmp_path / "in", {"category_id": CAR, "segmentation": parts}), tmp_path)
    wanted: Any = run_lengths.decode(run_lengths.merge(run_lengths.frPyObjects(parts, HEIGHT, WIDTH)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(label == CAR_ID, wanted.astype(bool))
    assert label[6, 5] == label[6, 20] == CAR_ID and label[6, 12] == 0


def test_four_numbers_are_no_box(tmp_path: Path) -> None:
    made = imported(make(tmp_path / "in", CAR_SQUARE | {"segmentation": [[1, 1, 20, 15]]}), "coco", tmp_path / "out")
    assert (stored(tmp_path / "out", "train", "a") == 0).all()
    assert any("fewer than three points" in note for note in made.notes)


@pytest.mark.parametrize(
    ("segmentation", "text"),
    [
        ([], "without a mask or outline: 1 .*instances_train2017.json"),
        (None, "without a mask or outline"),
        ([[1, 1, 5, 5, 3]], "shapes that cannot be drawn"),
        ([[1, 1, 5, "x", 3, 9]], "shapes that cannot be drawn"),
        ([[1, 1, 5, float("nan"), 3, 9]], "shapes that cannot be drawn"),
        ("abc", "shapes that cannot be drawn"),
        ({"size": [HEIGHT, WIDTH], "counts": [5, 5]}, "run lengths that do not fit"),
        ({"size": [HEIGHT, WIDTH], "counts": [600, -5, 5]}, "run lengths that do not fit"),
        ({"size": [HEIGHT, WIDTH], "counts": "PPPP"}, "run lengths that do not fit"),
        ({"size": [HEIGHT, WIDTH], "counts": "\x01\xff"}, "run lengths that do not fit"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "run lengths that do not fit"),
        ({"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]}, "run lengths that do not fit"),
        ({"counts": [1]}, "run lengths that do not fit"),
        ([flat([[x * 30, y] for x, y in SQUARE])], "far outside of their image"),
        ([[1e300, 1, 5, 5, 3, 9]], "shapes that cannot be drawn"),
        ([flat([[x / WIDTH, y / HEIGHT] for x, y in SQUARE])], "all coordinates from 0 to 1"),
    ],
)
def test_a_shape_that_is_wrong_is_refused_and_its_image_left_out_on_request(
    segmentation: Any, text: str, tmp_path: Path
) -> None:
    root = make(tmp_path / "in", {"category_id": CAR, "segmentation": segmentation})
    with pytest.raises(DataError, match=text) as caught:
        imported(root, "coco", tmp_path / "out")
    assert len(caught.value.problems) == 1 and not (tmp_path / "out/train").exists()
    write_images(root / "train", ["a.png", "b.png"])
    write_json_file(
        root / "annotations/instances_train2017.json",
        coco({0: [{"category_id": CAR, "segmentation": segmentation}], 1: [CAR_SQUARE]}, ["a.png", "b.png"]),
    )
    made = imported(root, "coco", tmp_path / "out", skip_problems=True)
    assert list(labels_of(tmp_path / "out")) == ["b"] and len(made.problems) == 1
    record = json.loads((tmp_path / "out/import.json").read_text())
    assert len(record["left_out"]) == 1


def test_an_image_without_annotations_is_background(tmp_path: Path) -> None:
    assert (label_of(make(tmp_path / "in"), tmp_path) == 0).all()


def test_background_may_be_ignored_or_called_otherwise(tmp_path: Path) -> None:
    root = make(tmp_path / "in", CAR_SQUARE)
    imported(root, "coco", tmp_path / "ignored", background="ignore")
    assert names_of(tmp_path / "ignored") == ("tree", "car")
    assert open_dataset("folder", "train", tmp_path / "ignored").table.classes[0].color == (128, 0, 0)
    label = labels_of(tmp_path / "ignored")["a"]
    assert set(np.unique(label)) == {1, 255}
    imported(root, "coco", tmp_path / "road", background="road")
    assert names_of(tmp_path / "road") == ("road", "tree", "car")


def test_a_class_file_gives_order_and_colours(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(
        "id,name,red,green,blue,ignore\n0,car,0,0,142,\n1,background,0,0,0,\n9,tree,0,9,0,true\n"
    )
    root = make(tmp_path / "in", CAR_SQUARE)
    imported(root, "coco", tmp_path / "out", classes=tmp_path / "mine.csv")
    assert open_dataset("folder", "train", tmp_path / "out").table.classes[0].color == (0, 0, 142)
    assert set(np.unique(labels_of(tmp_path / "out")["a"])) == {0, 1}
    assert set(np.unique(labels_of(tmp_path / "out", "val")["a"])) == {1, 255}
    (tmp_path / "mine.csv").write_text("name,red,green,blue\ncar,0,0,142\nroad,1,1,1\n")
    with pytest.raises(ConfigError, match=r"no class 'background'.*--background NAME"):
        imported(root, "coco", tmp_path / "other", classes=tmp_path / "mine.csv")
    with pytest.raises(DataError, match=r"class that is not declared: 1 \(.*'tree'"):
        imported(root, "coco", tmp_path / "other", classes=tmp_path / "mine.csv", background="ignore")
    imported(root, "coco", tmp_path / "other", classes=tmp_path / "mine.csv", background="road", ignore=("tree",))


def test_categories_of_one_name_and_images_without_annotations_are_noted(tmp_path: Path) -> None:
    root = make(tmp_path / "in")
    path = root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["categories"] += [{"id": 70, "name": "car"}]
    write_json_file(path, content)
    notes = imported(root, "coco", tmp_path / "out").notes
    assert "categories of one name, which are one class: 1 (car)." in notes
    assert any(note.startswith("images on which no annotation is drawn: 1 (") for note in notes)


def test_categories_without_annotations_are_left_out_with_a_note(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "things"}, {"id": CAR, "name": "car"}, {"id": TREE, "name": "tree"}]
    made = imported(make(tmp_path / "in", CAR_SQUARE, categories=categories), "coco", tmp_path / "out")
    assert made.classes == ["background", "tree", "car"]
    assert any(note.startswith("categories without an annotation, left out: 1 (things)") for note in made.notes)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"categories": [{"id": CAR}, {"id": TREE, "name": "tree"}]}, "cannot be read as annotations"),
        ({"categories": [{"id": CAR, "name": "car"}]}, "2 to 255 are required|which is not listed"),
        ({"categories": {}}, "without categories"),
        ({"annotations": [3]}, "annotations that are no objects"),
        ({"annotations": [{"image_id": 99, "category_id": CAR}]}, "image 99, which is not listed"),
        ({"categories": [{"id": CAR, "name": "a\nb"}, {"id": TREE, "name": "tree"}]}, "class names that cannot be"),
        ({"images": [{"id": 0, "file_name": "b.png"}]}, r"missing images: 2 .*'b.png'"),
        ({"images": [{"id": 0, "file_name": "../../a.png"}]}, "lead out of the folder"),
        ({"images": [{"id": 0, "file_name": "/etc/passwd"}]}, "lead out of the folder"),
        ({"images": [{"id": 0, "file_name": "C:\\data\\a.png"}]}, "lead out of the folder"),
        ({"images": [{"id": 0, "file_name": "http://example.org/a.png"}]}, "lead out of the folder"),
        ({"images": [{"id": 0, "file_name": 5}]}, "names that cannot be those of files"),
        ({"images": [{"id": 0, "file_name": "a.png", "height": 9, "width": 30}]}, "another size .*: 2 .*30 x 9, the"),
        ({"images": [{"id": 0, "file_name": "a.png"}, {"id": 0, "file_name": "a.png"}]}, "annotated twice"),
        ({"images": [{"id": 0, "file_name": "a.png"}, {"id": 1, "file_name": "a.png"}]}, "annotated twice"),
    ],
)
def test_a_document_that_is_wrong_is_refused(change: dict[str, Any], text: str, tmp_path: Path) -> None:
    root = make(tmp_path / "in", CAR_SQUARE, **change)
    with pytest.raises(DataError, match=text):
        imported(root, "coco", tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe\x00", b'{"images": 1e999}'])
def test_a_file_that_is_no_json_is_refused(content: bytes, tmp_path: Path) -> None:
    root = make(tmp_path / "in", CAR_SQUARE)
    (root / "annotations/instances_train2017.json").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as annotations: 1 .*instances_train2017.json"):
        imported(root, "coco", tmp_path / "out")


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("{split}/_annotations.coco.json", "{split}/{name}"),
        ("annotations/instances_{split}2017.json", "{split}2017/{name}"),
        ("annotations/instances_{split}2017.json", "images/{split}2017/{name}"),
        ("annotations/{split}.json", "images/{split}/{name}"),
        ("{split}/labels.json", "{split}/data/{name}"),
        ("coco_{split}.json", "{split}/deep/er/{name}"),
    ],
)
def test_splits_are_those_of_the_source(annotations: str, images: str, tmp_path: Path) -> None:
    root, name = tmp_path / "in", "a.png"
    for split in ("train", "valid"):
        write_images(root / images.format(split=split, name="").rstrip("/"), [name])
        found = [CAR_SQUARE, {**CAR_SQUARE, "category_id": TREE}]
        write_json_file(root / annotations.format(split=split), coco({0: found}, [name]))
    write_json_file(root / "annotations/captions_train2017.json", {"images": [], "annotations": [{"caption": "a"}]})
    made = imported(root, "coco", tmp_path / "out")
    assert made.pairs == {"train": 1, "val": 1}
    assert any("files without masks, skipped: 1" in note for note in made.notes)


def test_two_files_of_one_split_are_not_chosen_between(tmp_path: Path) -> None:
    root = make(tmp_path / "in", CAR_SQUARE)
    write_json_file(root / "annotations/stuff_train2017.json", coco({0: [CAR_SQUARE]}, ["a.png"]))
    with pytest.raises(DataError, match=r"instances_train2017.json, annotations/stuff_train2017.json could be of one"):
        imported(root, "coco", tmp_path / "out")


def test_one_file_is_divided(tmp_path: Path) -> None:
    names = [f"clip{clip}_{frame:03d}.png" for clip in range(12) for frame in range(3)]
    write_images(tmp_path / "in/images", names)
    both = [CAR_SQUARE, {**CAR_SQUARE, "category_id": TREE}]
    path = write_json_file(tmp_path / "in/labels.json", coco(dict.fromkeys(range(36), both), names))
    made = imported(path, "coco", tmp_path / "out", val_share=0.25, val_seed=3)
    assert made.pairs == {"train": 27, "val": 9}
    clips = [{name.split("_")[0] for name in labels_of(tmp_path / "out", split)} for split in ("train", "val")]
    assert not clips[0] & clips[1]
    assert any("9 of 36 images validate (whole recordings drawn by --val-seed 3)" in note for note in made.notes)


def test_too_few_images_to_divide_are_told_how_a_source_states_its_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "in", ["a.png"])
    write_json_file(tmp_path / "in/labels.json", coco({0: [CAR_SQUARE]}, ["a.png"]))
    with pytest.raises(DataError, match=r"Name folders, lists or annotation files after the splits .*--val-share"):
        imported(tmp_path / "in", "coco", tmp_path / "out")


def test_the_licence_of_the_images_is_recorded_and_read_with_them(tmp_path: Path) -> None:
    imported(make(tmp_path / "in", CAR_SQUARE), "coco", tmp_path / "out")
    assert "CC BY 4.0, http://example.org/by" in (tmp_path / "out/LICENCE.md").read_text()
    assert open_dataset("folder", "train", tmp_path / "out").licence == "CC BY 4.0, http://example.org/by"


def test_a_licence_whose_id_is_none_belongs_to_no_image(tmp_path: Path) -> None:
    licences = [{"id": [1], "name": "nobody's"}, {"id": 1, "name": "CC0"}]
    names = [f"{name}.png" for name in "abcde"]
    write_images(tmp_path / "in", names)
    document = coco({k: [CAR_SQUARE] for k in range(5)}, names, licenses=licences)
    write_json_file(tmp_path / "in/labels.json", document)
    imported(tmp_path / "in", "coco", tmp_path / "out")
    assert open_dataset("folder", "train", tmp_path / "out").licence == "CC0"


def panoptic(root: Path, split: str, segments: list[dict[str, Any]], ids: np.ndarray) -> None:
    write_images(root / split, ["a.png"])
    entry = {"image_id": 0, "file_name": "a.png", "segments_info": segments}
    document = coco({}, ["a.png"]) | {"annotations": [entry]}
    write_json_file(root / f"annotations/panoptic_{split}.json", document)
    pixels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
    write_pixels(root / f"annotations/panoptic_{split}/a.png", pixels)


def test_panoptic_segments_are_filled_and_what_has_none_is_ignored(tmp_path: Path) -> None:
    ids = np.zeros((HEIGHT, WIDTH), np.int64)
    ids[:5], ids[5:9] = 70_000, 300
    segments = [{"id": 70_000, "category_id": CAR}, {"id": 300, "category_id": TREE}]
    for split in ("train", "val"):
        panoptic(tmp_path / "in", split, segments, ids)
    made = imported(tmp_path / "in", "coco", tmp_path / "out")
    assert not any("images that no annotation names" in note for note in made.notes)
    assert names_of(tmp_path / "out") == ("tree", "car")
    label = labels_of(tmp_path / "out")["a"]
    assert (label[:5] == 1).all() and (label[5:9] == 0).all() and (label[9:] == 255).all()
    panoptic(tmp_path / "in", "train", [*segments[:1], {"id": 5, "category_id": TREE}], ids)
    with pytest.raises(DataError, match="segment 300, which is not listed"):
        imported(tmp_path / "in", "coco", tmp_path / "other")


def test_own_exports_are_read_back(make_shards: Callable[..., list[Row]], tmp_path: Path) -> None:
    rows = make_shards(tmp_path / "shards", (6, 6))
    out = export_shards(tmp_path / "shards", "coco", tmp_path / "export")
    imported(out / "annotations/panoptic_train.json", "coco", tmp_path / "out", val_share=0.25)
    found = labels_of(tmp_path / "out") | labels_of(tmp_path / "out", "val")
    shown = sorted({int(value) for row in rows for value in np.unique(row.label)} - {255})
    assert found
    for row in rows:
        if row.id in found:
            label = np.where(found[row.id] == 255, 255, np.take(shown, found[row.id] % 255, mode="clip"))
            np.testing.assert_array_equal(label, row.label)


def test_images_that_differ_in_their_endings_alone_are_both_imported(tmp_path: Path) -> None:
    root, names = make(tmp_path / "in", CAR_SQUARE), ["a.png", "a.bmp"]
    write_images(root / "train", names)
    document = coco({0: [CAR_SQUARE], 1: [{**CAR_SQUARE, "category_id": TREE}]}, names)
    write_json_file(root / "annotations/instances_train2017.json", document)
    imported(root, "coco", tmp_path / "out")
    found = labels_of(tmp_path / "out")
    assert {name: int(label[6, 5]) for name, label in found.items()} == {"train_a": CAR_ID, "train_a_bmp": TREE_ID}
