"""Data sets of the package `datasets`: folders in its forms, columns, classes, and what is refused."""

from __future__ import annotations

import builtins
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from annotated_sources import HEIGHT, WIDTH, imported, labels_of, names_of
from labelled_folders import random_image
from scenepalette.common.errors import ConfigError, DataError

datasets = pytest.importorskip("datasets")
NAMES = {"0": "road", "1": "car", "2": "sky"}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def label(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (HEIGHT, WIDTH), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def rows(first: int, count: int, columns: tuple[str, str] = ("image", "annotation"), named: bool = True) -> Any:
    images, labels = (
        [
            {"bytes": png(pixels(seed)), "path": f"scene_{seed:03d}.{ending}" if named else None}
            for seed in range(first, first + count)
        ]
        for pixels, ending in ((lambda seed: random_image(seed, HEIGHT, WIDTH), "jpg"), (label, "png"))
    )
    features = datasets.Features({name: datasets.Image() for name in columns})
    return datasets.Dataset.from_dict(dict(zip(columns, (images, labels), strict=True)), features=features)


def parquet(root: Path, **splits: Any) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, found in splits.items():
        found.to_parquet(str(root / f"{name}-00000-of-00001.parquet"))
    (root / "id2label.json").write_text(json.dumps(NAMES))
    return root


def test_parquet_with_splits_and_an_id2label(tmp_path: Path) -> None:
    root = parquet(tmp_path / "in", train=rows(0, 3), validation=rows(3, 2), test=rows(5, 2))
    made = imported(root, "huggingface", tmp_path / "out")
    assert made.pairs == {"train": 3, "val": 2, "test": 2} and names_of(tmp_path / "out") == ("road", "car", "sky")
    found = labels_of(tmp_path / "out")
    assert list(found) == ["scene_000", "scene_001", "scene_002"]
    np.testing.assert_array_equal(found["scene_001"], label(1))
    assert (tmp_path / "out/train/images/scene_001.png").read_bytes() == png(random_image(1, HEIGHT, WIDTH))
    assert any("column image, label maps those of annotation" in note for note in made.notes)
    assert not (tmp_path / "out/.source").exists()


def test_parquet_of_other_libraries_does_not_say_that_it_has_images(tmp_path: Path) -> None:
    root = parquet(tmp_path / "in", train=rows(0, 3), validation=rows(3, 2))
    for path in root.glob("*.parquet"):
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert imported(root, "huggingface", tmp_path / "out").pairs == {"train": 3, "val": 2}
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["scene_001"], label(1))


def test_a_saved_data_set_without_splits_is_divided(tmp_path: Path) -> None:
    rows(0, 20, named=False).save_to_disk(str(tmp_path / "in"))
    (tmp_path / "classes.csv").write_text("id,name\n0,road\n1,car\n2,sky\n")
    made = imported(tmp_path / "in", "huggingface", tmp_path / "out", classes=tmp_path / "classes.csv", val_share=0.3)
    assert made.pairs["val"] == 6 and next(iter(labels_of(tmp_path / "out"))) == "train_000000"
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["train_000000"], label(0))


def test_label_maps_may_be_arrays(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "seg": datasets.Array2D((HEIGHT, WIDTH), "int64")})
    for split, first in (("train", 0), ("validation", 5)):
        content = {
            "image": [{"bytes": png(random_image(k, HEIGHT, WIDTH)), "path": None} for k in range(first, first + 2)],
            "seg": [label(k).astype(np.int64) for k in range(first, first + 2)],
        }
        parquet(tmp_path / "in", **{split: datasets.Dataset.from_dict(content, features=features)})
    with pytest.raises(ConfigError, match=r"columns are image, seg .*--label-column"):
        imported(tmp_path / "in", "huggingface", tmp_path / "out")
    imported(tmp_path / "in", "huggingface", tmp_path / "out", label_column="seg")
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["train_000001"], label(1))


def test_numbers_of_no_class_are_refused(tmp_path: Path) -> None:
    root = parquet(tmp_path / "in", train=rows(0, 3), validation=rows(3, 2))
    (root / "id2label.json").write_text(json.dumps({"0": "road", "1": "car"}))
    with pytest.raises(DataError, match="2"):
        imported(root, "huggingface", tmp_path / "out")
    assert not (tmp_path / "out/train").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"image_column": "photo"}, "--image-column photo not there"),
        ({"label_column": "image", "image_column": "image"}, "not clear which"),
        ({"images": Path("nowhere")}, "--images is nowhere, which is not a folder"),
        ({"crowds": "ignore"}, "--crowds is for coco alone"),
        ({"link": True}, "--link is for"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], text: str, tmp_path: Path) -> None:
    root = parquet(tmp_path / "in", train=rows(0, 3), validation=rows(3, 2))
    with pytest.raises(ConfigError, match=text):
        imported(root, "huggingface", tmp_path / "out", **options)


def test_classes_must_be_named(tmp_path: Path) -> None:
    root = parquet(tmp_path / "in", train=rows(0, 3), validation=rows(3, 2))
    (root / "id2label.json").rename(tmp_path / "mine.json")
    with pytest.raises(ConfigError, match=r"needs --classes FILE.*id2label\.json"):
        imported(root, "huggingface", tmp_path / "out")
    imported(root, "huggingface", tmp_path / "out", classes=tmp_path / "mine.json")
    assert names_of(tmp_path / "out") == ("road", "car", "sky")
    (tmp_path / "mine.json").write_text('["road"]')
    with pytest.raises(ConfigError, match="names no classes"):
        imported(root, "huggingface", tmp_path / "other", classes=tmp_path / "mine.json")


def test_files_outside_of_the_source_are_refused(tmp_path: Path) -> None:
    Image.fromarray(random_image(0, HEIGHT, WIDTH)).save(tmp_path / "secret.png")
    content = {
        "image": [{"bytes": None, "path": str(tmp_path / "secret.png")}] * 2,
        "label": [{"bytes": png(label(0)), "path": None}] * 2,
    }
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Image()})
    found = datasets.Dataset.from_dict(content, features=features)
    (tmp_path / "in").mkdir()
    # By pyarrow, as `datasets` writes the files' bytes in place of their paths.
    pq.write_table(found.data.table, tmp_path / "in/train.parquet")
    (tmp_path / "in/id2label.json").write_text(json.dumps(NAMES))
    with pytest.raises(DataError, match=r"row 0: the file .*secret.png' of the column image lies outside"):
        imported(tmp_path / "in", "huggingface", tmp_path / "out")


@pytest.mark.parametrize("source", ["no-such-owner/no-such-data-set", "a b c"])
def test_a_name_that_cannot_be_loaded_is_told(source: str, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("id,name\n0,road\n1,car\n")
    with pytest.raises(DataError, match="The package datasets cannot read"):
        imported(source, "huggingface", tmp_path / "out", classes=tmp_path / "classes.csv")


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name == "datasets":
            raise ModuleNotFoundError("No module named 'datasets'", name="datasets")
        return real(name, *rest, **more)

    root = parquet(tmp_path / "in", train=rows(0, 3), validation=rows(3, 2))
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"pip install 'scenepalette\[import\]'"):
        imported(root, "huggingface", tmp_path / "out")


def with_labels(root: Path, cell: Any, feature: Any, names: dict[str, str] | None = None) -> Path:
    """Write six images with label cells that a function of their number makes."""
    for split, numbers in (("train", range(4)), ("validation", range(4, 6))):
        content = {
            "image": [{"bytes": png(random_image(k, HEIGHT, WIDTH)), "path": None} for k in numbers],
            "label": [cell(k) for k in numbers],
        }
        features = datasets.Features({"image": datasets.Image(), "label": feature})
        parquet(root, **{split: datasets.Dataset.from_dict(content, features=features)})
    (root / "id2label.json").write_text(json.dumps(names or NAMES))
    return root


def stored_as_png(pixels: np.ndarray) -> dict[str, Any]:
    return {"bytes": png(pixels), "path": None}


def test_settings_that_messages_name_are_options(tmp_path: Path) -> None:
    root = with_labels(tmp_path / "in", lambda k: stored_as_png(label(k) + 1), datasets.Image())
    with pytest.raises(DataError, match=r"Set --label-offset to -1, or write") as raised:
        imported(root, "huggingface", tmp_path / "out")
    text = str(raised.value)
    assert "data." not in text and ".unfinished" not in text and str(root) in text
    imported(root, "huggingface", tmp_path / "out", label_offset=-1)
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["train_000001"], label(1))


def test_values_without_a_class_can_be_named(tmp_path: Path) -> None:
    def counted_from_1(seed: int) -> np.ndarray:
        found = label(seed) + 1
        found[0] = 0
        return found

    root = with_labels(tmp_path / "in", lambda k: stored_as_png(counted_from_1(k)), datasets.Image())
    with pytest.raises(DataError, match=r"Set --ignore-ids to \[0\]"):
        imported(root, "huggingface", tmp_path / "out")
    imported(root, "huggingface", tmp_path / "out", ignore_ids=(0,), label_offset=-1)
    found = labels_of(tmp_path / "out")["train_000001"]
    assert (found[0] == 255).all()
    np.testing.assert_array_equal(found[1:], label(1)[1:])


def test_indices_can_be_read_whatever_the_palettes_say(tmp_path: Path) -> None:
    def turned(seed: int) -> dict[str, Any]:
        image = Image.fromarray(label(seed)).convert("P")
        image.putpalette([part for place in range(3) for part in ((40 * place + 90 * seed) % 256, 7, 7)])
        content = io.BytesIO()
        image.save(content, "PNG")
        return {"bytes": content.getvalue(), "path": None}

    root = with_labels(tmp_path / "in", turned, datasets.Image())
    with pytest.raises(DataError, match="or --label-encoding to ids"):
        imported(root, "huggingface", tmp_path / "out")
    imported(root, "huggingface", tmp_path / "out", label_encoding="ids")
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["train_000002"], label(2))


@pytest.mark.parametrize("shape", [(1, HEIGHT, WIDTH), (HEIGHT, WIDTH, 1)])
def test_an_axis_of_one_label_map_is_dropped(shape: tuple[int, int, int], tmp_path: Path) -> None:
    feature = datasets.Array3D(shape, "uint8")
    root = with_labels(tmp_path / "in", lambda k: label(k).reshape(shape), feature)
    imported(root, "huggingface", tmp_path / "out", label_column="label")
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["train_000003"], label(3))


@pytest.mark.parametrize(
    ("cell", "feature", "text"),
    [
        (lambda k: np.eye(4, dtype=np.uint8)[label(k)], ((HEIGHT, WIDTH, 4), "uint8"), r"\[20, 30, 4\] from 0 to 1"),
        (lambda k: label(k)[None].astype(np.int64) - 1, ((1, HEIGHT, WIDTH), "int64"), "from -1 to 1; .* whole"),
        (lambda k: label(k)[None] / 2, ((1, HEIGHT, WIDTH), "float32"), "float.* from 0 to 1; .* whole numbers"),
    ],
)
def test_arrays_that_are_no_label_maps_are_described(cell: Any, feature: Any, text: str, tmp_path: Path) -> None:
    root = with_labels(tmp_path / "in", cell, datasets.Array3D(*feature))
    with pytest.raises(DataError, match=text):
        imported(root, "huggingface", tmp_path / "out", label_column="label")


def test_a_list_of_images_is_no_label_map(tmp_path: Path) -> None:
    # With a palette, indices would be taken for ids whatever colours they have.
    root = with_labels(tmp_path / "in", lambda k: [stored_as_png(label(k))], datasets.List(datasets.Image()))
    with pytest.raises(DataError, match=r"column label holds \[<PIL"):
        imported(root, "huggingface", tmp_path / "out", label_column="label")


def test_names_of_files_within_the_source_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "in"
    (root / "files").mkdir(parents=True)
    for split, numbers in (("train", range(3)), ("validation", range(3, 5))):
        for k in numbers:
            (root / f"files/{k}.png").write_bytes(png(random_image(k, HEIGHT, WIDTH)))
            (root / f"files/{k}_mask.png").write_bytes(png(label(k)))
        lines = [f"files/{k}.png,files/{k}_mask.png" for k in numbers]
        (root / f"{split}.csv").write_text("\n".join(["photo,mask", *lines]))
    (root / "id2label.json").write_text(json.dumps(NAMES))
    with pytest.raises(ConfigError, match=r"photo, mask \(Value, Value\): it is not clear"):
        imported(root, "huggingface", tmp_path / "out")
    columns = {"image_column": "photo", "label_column": "mask"}
    imported(root, "huggingface", tmp_path / "out", **columns)
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["train_000001"], label(1))
    (tmp_path / "secret.png").write_bytes(png(label(0)))
    text = (root / "train.csv").read_text().replace("files/0_mask.png", "../secret.png")
    (root / "train.csv").write_text(text)
    with pytest.raises(DataError, match=r"row 0: the column mask holds '../secret.png'; required are .* within"):
        imported(root, "huggingface", tmp_path / "other", **columns)


def test_images_with_a_class_each_are_told_as_such(tmp_path: Path) -> None:
    feature = datasets.ClassLabel(names=["day", "night"])
    with pytest.raises(ConfigError, match=r"image, label \(Image, ClassLabel\).*without label maps, .* cannot"):
        imported(with_labels(tmp_path / "in", lambda k: k % 2, feature), "huggingface", tmp_path / "out")


@pytest.mark.parametrize("names", [{**NAMES, "-1": "licence plate"}, {"id2label": NAMES}])
def test_an_id2label_may_count_below_0_or_lie_in_another_mapping(names: Any, tmp_path: Path) -> None:
    root = with_labels(tmp_path / "in", lambda k: stored_as_png(label(k)), datasets.Image(), names)
    imported(root, "huggingface", tmp_path / "out")
    assert names_of(tmp_path / "out") == ("road", "car", "sky")


@pytest.mark.parametrize("names", [{**NAMES, "3": None}, {"road": "0", "car": "1", "sky": "2"}])
def test_an_id2label_that_names_no_classes_is_named(names: Any, tmp_path: Path) -> None:
    root = with_labels(tmp_path / "in", lambda k: stored_as_png(label(k)), datasets.Image(), names)
    with pytest.raises(ConfigError, match=r"id2label\.json names no classes; required is a text for each id"):
        imported(root, "huggingface", tmp_path / "out")


def test_a_file_and_several_configurations_are_told(tmp_path: Path) -> None:
    root = parquet(tmp_path / "in", train=rows(0, 3), validation=rows(3, 2))
    with pytest.raises(ConfigError, match=r"is a file; .* Give the folder"):
        imported(root / "train-00000-of-00001.parquet", "huggingface", tmp_path / "out")
    (root / "README.md").write_text(
        "---\nconfigs:\n"
        + "".join(f"- config_name: {name}\n  data_files: '{name}-*.parquet'\n" for name in ("train", "validation"))
        + "---\n"
    )
    with pytest.raises(DataError, match=r"'train', 'validation'.*with --subset"):
        imported(root, "huggingface", tmp_path / "out")


def test_labels_of_a_single_class_are_refused(tmp_path: Path) -> None:
    root = with_labels(tmp_path / "in", lambda k: stored_as_png(np.ones_like(label(k))), datasets.Image())
    with pytest.raises(DataError, match="show only the class car; at least 2 classes"):
        imported(root, "huggingface", tmp_path / "out")
    assert not (tmp_path / "out/train").exists()
