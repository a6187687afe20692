"""What all imports share: nothing is overwritten, nothing stays half made, and all is recorded."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotated_sources import SQUARE, imported, labelme, labels_of, shape, stored, write_images, write_json_file
from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.common.storage.whole_folders import IMPORTS
from scenepalette.data.datasets import open_dataset
from scenepalette.data.imports import importing
from scenepalette.data.imports.importing import FORMATS, ImportOptions, import_annotations
from scenepalette.data.imports.source import split_of

SHAPES = [shape("car", SQUARE), shape("tree", [[15, 3], [19, 3], [19, 9]])]


def make(root: Path, names: dict[str, list[str]] | None = None, *, damaged: int = 0) -> Path:
    for split, stems in (names or {"train": ["a", "b"], "val": ["c", "d"]}).items():
        write_images(root / split, [f"{stem}.png" for stem in stems])
        for stem in stems:
            write_json_file(root / split / f"{stem}.json", labelme(SHAPES, f"{stem}.png"))
    for number in range(damaged):
        write_json_file(root / f"train/z{number}.json", labelme(SHAPES, f"z{number}.png"))
    return root


def every_file(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in folder.rglob("*") if path.is_file()}


def test_what_is_written(tmp_path: Path) -> None:
    made = imported(make(tmp_path / "in"), "labelme", tmp_path / "out")
    assert set(every_file(tmp_path / "out")) == {
        "classes.csv",
        "import.json",
        *(f"train/{kind}/{name}.png" for kind in ("images", "labels") for name in "ab"),
        *(f"val/{kind}/{name}.png" for kind in ("images", "labels") for name in "cd"),
    }
    assert (made.is_new, made.pairs, made.problems) == (True, {"train": 2, "val": 2}, [])
    assert (tmp_path / "out/classes.csv").read_text() == (
        "id,name,red,green,blue,evaluated,ignore\n0,background,0,0,0,true,\n1,car,128,0,0,true,\n"
        "2,tree,0,128,0,true,\n255,ignored,224,224,192,,true\n"
    )
    record = json.loads((tmp_path / "out/import.json").read_text())
    assert record["identity"]["format"] == "labelme" and record["annotations"]["count"] == 4
    assert sum(entry["pixels"] for entry in record["classes"]) == 4 * 600 and record["images"] == "copied"
    original = (tmp_path / "in/train/a.png").read_bytes()
    assert (tmp_path / "out/train/images/a.png").read_bytes() == original
    assert open_dataset("folder", "val", tmp_path / "out").ids == ("c", "d")


def test_the_same_call_again_writes_nothing_and_another_one_is_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "in")
    imported(source, "labelme", tmp_path / "out")
    before = every_file(tmp_path / "out")
    again = imported(source, "labelme", tmp_path / "out")
    assert not again.is_new and again.pairs == {"train": 2, "val": 2} and every_file(tmp_path / "out") == before
    with pytest.raises(ConfigError, match=r"with other options.*another --to folder"):
        imported(source, "labelme", tmp_path / "out", background="ignore")
    write_json_file(source / "train/a.json", labelme(SHAPES[:1], "a.png"))
    with pytest.raises(ConfigError, match="before the source changed"):
        imported(source, "labelme", tmp_path / "out")
    assert every_file(tmp_path / "out") == before


def test_annotations_behind_links_are_read_and_their_changes_noticed(tmp_path: Path) -> None:
    source, elsewhere = make(tmp_path / "in"), tmp_path / "elsewhere"
    (source / "train").rename(elsewhere)
    (source / "train").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(source)
    assert imported(source, "labelme", tmp_path / "out").pairs["train"] == 2
    write_json_file(elsewhere / "a.json", labelme(SHAPES[:1], "a.png"))
    with pytest.raises(ConfigError, match="before the source changed"):
        imported(source, "labelme", tmp_path / "out")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, listed = make(tmp_path / "in"), os.scandir

    def refuse(folder: str | int) -> Any:
        if not isinstance(folder, int) and Path(folder).name == "val":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return listed(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"in/val \(Permission denied\)\. Give the user"):
        imported(source, "labelme", tmp_path / "out")


def test_a_name_to_ignore_that_no_annotation_has_is_told(tmp_path: Path) -> None:
    made = imported(make(tmp_path / "in"), "labelme", tmp_path / "out", ignore=("tree", "carr"))
    assert made.classes == ["background", "car"]
    assert "names that --ignore gives and no annotation has: 1 ('carr')." in made.notes


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    source = make(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is no import\. Give an empty or a new --to folder"):
        imported(source, "labelme", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("to", ["in", "in/out", "."])
def test_source_and_target_lie_apart(to: str, tmp_path: Path) -> None:
    source = make(tmp_path / "in")
    with pytest.raises(ConfigError, match="lies in SOURCE or around it"):
        imported(source, "labelme", tmp_path / to)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_an_interrupted_import_leaves_no_half_and_is_made_again(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "in")
    imported(source, "labelme", tmp_path / "whole")
    calls: list[Path] = []
    real = importing._write_pair

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments[0])
        if len(calls) > at:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(importing, "_write_pair", interrupted)
        with pytest.raises(KeyboardInterrupt):
            imported(source, "labelme", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [IMPORTS.lock]
    # As a process that was killed leaves it.
    (tmp_path / "out" / IMPORTS.unfinished / "train/images").mkdir(parents=True)
    (tmp_path / "out" / IMPORTS.unfinished / "train/images/half.png").write_bytes(b"half")
    with pytest.raises(DataError, match="holds an unfinished import"):
        open_dataset("folder", "train", tmp_path / "out")
    imported(source, "labelme", tmp_path / "out")
    wanted, found = every_file(tmp_path / "whole"), every_file(tmp_path / "out")
    assert found == wanted


def test_links_in_place_of_copies(tmp_path: Path) -> None:
    imported(make(tmp_path / "in"), "labelme", tmp_path / "out", link=True)
    image = tmp_path / "out/train/images/a.png"
    assert image.is_symlink() and os.path.realpath(image) == os.path.realpath(tmp_path / "in/train/a.png")
    assert len(labels_of(tmp_path / "out")) == 2


def test_problems_are_a_line_per_kind_with_a_count_and_three_examples(tmp_path: Path) -> None:
    source = make(tmp_path / "in", damaged=5)
    write_json_file(source / "val/c.json", labelme([shape("car", "?")], "c.png"))
    with pytest.raises(DataError, match=r"nothing was imported.*--skip-problems") as caught:
        imported(source, "labelme", tmp_path / "out")
    missing, wrong = caught.value.problems
    assert missing.startswith("missing images: 5 (train/z0.json: 'z0.png', train/z1.json: 'z1.png', ")
    assert "and 2 more). Expected is" in missing and wrong.startswith("shapes that cannot be drawn: 1 (val/c.json: ")
    made = imported(source, "labelme", tmp_path / "out", skip_problems=True)
    assert made.pairs == {"train": 2, "val": 1} and len(made.problems) == 2
    left_out = json.loads((tmp_path / "out/import.json").read_text())["left_out"]
    assert len(left_out) == 6 and left_out[4]["where"] == "train/z4.json: 'z4.png'"


def test_a_damaged_image_is_a_problem(tmp_path: Path) -> None:
    source = make(tmp_path / "in")
    (source / "train/a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"images that cannot be read: 1 \(train/a.json: it is damaged"):
        imported(source, "labelme", tmp_path / "out")


@pytest.mark.parametrize("stated", [True, False])
def test_turned_photographs_are_annotated_as_viewers_show_them(stated: bool, tmp_path: Path) -> None:
    source = make(tmp_path / "in")
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in source.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
        size = {"imageHeight": 30, "imageWidth": 20} if stated else {"imageHeight": None, "imageWidth": None}
        write_json_file(path.with_suffix(".json"), labelme(SHAPES, f"{path.stem}.jpg", **size))
    imported(source, "labelme", tmp_path / "out")
    found = open_dataset("folder", "train", tmp_path / "out")[0]
    assert found.label.shape == found.image.shape[:2] == (30, 20) and found.label[6, 5] == 1


def test_names_that_differ_in_capitals_are_noted(tmp_path: Path) -> None:
    source = make(tmp_path / "in")
    write_json_file(source / "train/a.json", labelme([shape("Car", SQUARE), *SHAPES[1:]], "a.png"))
    made = imported(source, "labelme", tmp_path / "out")
    assert any("stay classes of their own: 1 (Car / car)" in note for note in made.notes)


def test_images_of_one_name_keep_the_names_of_their_folders(tmp_path: Path) -> None:
    source = make(tmp_path / "in", {"train/one": ["a"], "train/two": ["A", "b"], "val": ["a"]})
    imported(source, "labelme", tmp_path / "out")
    assert set(labels_of(tmp_path / "out")) == {"train_one_a", "train_two_A", "b"}


@pytest.mark.parametrize(("stated", "there"), [("A.PNG", "a.png"), ("caf\u00e9.png", "cafe\u0301.png")])
def test_names_in_other_capitals_or_another_unicode_form_are_found(stated: str, there: str, tmp_path: Path) -> None:
    source = make(tmp_path / "in")
    (source / "train/a.png").rename(source / "train" / there)
    write_json_file(source / "train/a.json", labelme(SHAPES, stated))
    made = imported(source, "labelme", tmp_path / "out")
    assert made.pairs["train"] == 2 and any("another Unicode form of their names: 1" in note for note in made.notes)


def test_a_missing_validation_split_is_taken_from_training_and_the_test_split_stays(tmp_path: Path) -> None:
    source = make(tmp_path / "in", {"train": [*"abcdefghijkl"], "test": ["x", "y"]})
    made = imported(source, "labelme", tmp_path / "out", val_share=0.25)
    assert made.pairs == {"train": 9, "val": 3, "test": 2}
    assert any("No split for validation is stated: 3 of 12" in note for note in made.notes)


def test_too_few_images_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--val-share"):
        imported(make(tmp_path / "in", {"all": ["a", "b"]}), "labelme", tmp_path / "out")


def test_a_split_that_is_ignored_everywhere_is_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "in")
    for name in "cd":
        write_json_file(source / f"val/{name}.json", labelme([], f"{name}.png"))
    with pytest.raises(DataError, match="In val, every pixel of all images is ignored"):
        imported(source, "labelme", tmp_path / "out", background="ignore")


@pytest.mark.parametrize("count", [1, 300])
def test_numbers_of_classes(count: int, tmp_path: Path) -> None:
    source = make(tmp_path / "in")
    shapes = [shape(f"c{k}", SQUARE) for k in range(count)]
    for path in source.rglob("*.json"):
        write_json_file(path, labelme(shapes, f"{path.stem}.png"))
    if count == 1:
        assert imported(source, "labelme", tmp_path / "out").classes == ["background", "c0"]
        with pytest.raises(DataError, match="The source has 1 class "):
            imported(source, "labelme", tmp_path / "other", background="ignore")
    else:
        with pytest.raises(DataError, match=r"The source has 301 classes.*2 to 255.*--classes"):
            imported(source, "labelme", tmp_path / "out")


def test_background_that_never_shows_is_no_class(tmp_path: Path) -> None:
    source = make(tmp_path / "in")
    whole = shape("road", [[0, 0], [29, 0], [29, 19], [0, 19]])
    for path in source.rglob("*.json"):
        write_json_file(path, labelme([whole, *SHAPES], f"{path.stem}.png"))
    imported(source, "labelme", tmp_path / "out")
    found = open_dataset("folder", "train", tmp_path / "out")
    assert found.table.names == ("car", "road", "tree")
    assert set(np.unique(stored(tmp_path / "out", "train", "a"))) == {1, 2, 3}
    assert set(np.unique(found[0].label)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("form", "options", "text"),
    [
        ("yolo", {}, "--from is 'yolo'; required is one of coco, voc"),
        ("voc", {"background": "x"}, "--background is for coco, labelme, cvat, cityscapes-json alone"),
        ("coco", {"line_width": 3}, "--line-width is for labelme, cvat alone"),
        ("labelme", {"line_width": 0}, "--line-width is 0; required is 1 to 1000"),
        ("labelme", {"val_share": 0.9}, "--val-share is 0.9; required is 0.01 to 0.5"),
        ("labelme", {"val_share": float("nan")}, "--val-share is nan"),
        ("labelme", {"val_seed": -1}, "--val-seed is -1"),
        ("colours", {"colour_tolerance": 200}, "--colour-tolerance is 200; required is 0 to 64"),
        ("voc", {"label_encoding": "numbers"}, "--label-encoding is 'numbers'; required is one of auto, ids"),
        ("voc", {"label_offset": 300}, "--label-offset is 300; required is -255 to 255"),
        ("voc", {"ignore_ids": (0, 256)}, r"--ignore-ids is \[0, 256\]; required are label values, 0 to 255"),
        ("coco", {"crowds": "maybe"}, "--crowds is 'maybe'; required is ignore, class or skip"),
        ("labelme", {"images": Path("nowhere")}, "--images is nowhere, which is not a folder"),
        ("labelme", {"classes": Path("none.csv")}, "--classes is none.csv, which is not a file"),
    ],
)
def test_options_that_are_wrong(form: str, options: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=text):
        imported(make(tmp_path / "in"), form, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "huggingface"])
@pytest.mark.parametrize("source", ["", "nowhere", "empty"])
def test_sources_that_hold_nothing(form: str, source: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine.csv").write_text("name,red,green,blue\nroad,1,2,3\ncar,4,5,6\n")
    options = ImportOptions(classes=tmp_path / "mine.csv", background="road") if form == "colours" else ImportOptions()
    if form == "colours":
        options = ImportOptions(classes=tmp_path / "mine.csv")
    with pytest.raises(ScenepaletteError):
        import_annotations(str(tmp_path / source) if source else "", form, tmp_path / "out", options)
    assert not (tmp_path / "out/train").exists()


@pytest.mark.parametrize(
    ("form", "name", "said"),
    [
        ("coco", "via.json", "JSON files that are not COCO annotations, skipped: 1 (via.json)"),
        ("coco", "captions_train2017.json", "files without masks, skipped: 1 (captions_train2017.json)"),
        ("labelme", "isat.json", "JSON files that are not LabelMe annotations, skipped: 1 (isat.json)"),
    ],
)
def test_where_nothing_is_found_what_was_skipped_is_told(form: str, name: str, said: str, tmp_path: Path) -> None:
    write_json_file(tmp_path / "in" / name, {"a.png": {"regions": []}})
    with pytest.raises(DataError) as caught:
        imported(tmp_path / "in", form, tmp_path / "out")
    assert said in str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_is_no_folder(form: str, tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"PK")
    (tmp_path / "mine.csv").write_text("name,red,green,blue\nroad,1,2,3\ncar,4,5,6\n")
    classes = tmp_path / "mine.csv" if form == "colours" else None
    with pytest.raises(ConfigError, match="is not a folder; unpack it first"):
        imported(tmp_path / "set.zip", form, tmp_path / "out", classes=classes)


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("annotations/instances_val2017.json", "val"),
        ("valid/_annotations.coco.json", "val"),
        ("gtFine/test/bonn/x.json", "test"),
        ("Training/x.json", "train"),
        ("train_val.json", None),
        ("trainer/x.json", None),
        ("latest.json", None),
        ("dev.json", "val"),
        ("set/a-test.json", "test"),
    ],
)
def test_splits_by_their_names(path: str, split: str | None) -> None:
    assert split_of(path) == split
