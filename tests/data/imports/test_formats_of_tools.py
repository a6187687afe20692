"""Annotations as other tools write them: addresses, numbers of tables, other spellings of the background."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.imports.importing import import_annotations
from scenepalette.data.imports.source import ImportOptions
from scenepalette.data.readers.folder import open_folder

SIZE = (12, 16)


def truth(number: int) -> np.ndarray:
    """Return class ids: 0 background, 1 road below, 2 a car of changing width on it."""
    label = np.zeros(SIZE, np.uint8)
    label[6:] = 1
    label[7:10, 2 : 5 + number] = 2
    return label


def corners(number: int) -> list[list[int]]:
    return [[0, 6, 16, 6, 16, 12, 0, 12], [2, 7, 5 + number, 7, 5 + number, 10, 2, 10]]


def coco(root: Path, change: Callable[[dict[str, Any]], None], name: str = "{n}.png", stated: str = "{n}.png") -> Path:
    for split, count in (("train", 4), ("val", 2)):
        document: dict[str, Any] = {"images": [], "annotations": []}
        document["categories"] = [{"id": 1, "name": "road"}, {"id": 2, "name": "car"}]
        for number in range(count):
            path = root / split / name.format(n=f"a{number}")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
            image = {"id": number, "file_name": stated.format(n=f"a{number}"), "height": SIZE[0], "width": SIZE[1]}
            document["images"].append(image)
            for category, polygon in enumerate(corners(number), start=1):
                entry = {"image_id": number, "category_id": category, "segmentation": [polygon], "iscrowd": 0}
                document["annotations"].append({"id": len(document["annotations"]), **entry})
        change(document)
        (root / split / "_annotations.coco.json").write_text(json.dumps(document))
    return root


def wrong(out: Path, names: tuple[str, ...]) -> int:
    datasets = [open_folder(out, split) for split in ("train", "val")]
    assert all(dataset.table.names == names for dataset in datasets)
    return sum(int((dataset[k].label != truth(k)).sum()) for dataset in datasets for k in range(len(dataset)))


def unchanged(document: dict[str, Any]) -> None:
    pass


def as_floats(document: dict[str, Any]) -> None:
    for entry in document["annotations"]:
        entry["image_id"], entry["category_id"] = float(entry["image_id"]), float(entry["category_id"])


def without_inner_list(document: dict[str, Any]) -> None:
    for entry in document["annotations"]:
        (entry["segmentation"],) = entry["segmentation"]


@pytest.mark.parametrize("change", [unchanged, as_floats, without_inner_list])
def test_coco_as_other_tools_write_it(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    import_annotations(str(coco(tmp_path / "in", change)), "coco", tmp_path / "out")
    assert wrong(tmp_path / "out", ("background", "road", "car")) == 0


def test_names_of_images_may_be_written_as_in_addresses(tmp_path: Path) -> None:
    source = coco(tmp_path / "in", unchanged, "my set/{n} (1).png", "my%20set/{n}%20%281%29.png")
    import_annotations(str(source), "coco", tmp_path / "out")
    assert wrong(tmp_path / "out", ("background", "road", "car")) == 0


def test_a_percent_sign_leads_out_of_no_folder(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "a0.png")
    source = coco(tmp_path / "in", unchanged, stated="%2e%2e/%2e%2e/{n}.png")
    with pytest.raises(DataError, match="lead out of the folder"):
        import_annotations(str(source), "coco", tmp_path / "out")


def test_the_sources_own_background_is_the_background(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["categories"].insert(0, {"id": 0, "name": "Background"})
        whole = {"id": 99, "image_id": 0, "category_id": 0, "segmentation": [[0, 0, 16, 0, 16, 3, 0, 3]], "iscrowd": 0}
        document["annotations"].insert(0, whole)

    import_annotations(str(coco(tmp_path / "in", change)), "coco", tmp_path / "out")
    assert wrong(tmp_path / "out", ("Background", "road", "car")) == 0


def test_counts_that_are_none_are_shown(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        for entry in document["annotations"]:
            entry["segmentation"] = {"size": list(SIZE), "counts": "b'61T2'"}

    with pytest.raises(DataError, match="are not those of 12 x 16 pixels") as caught:
        import_annotations(str(coco(tmp_path / "in", change)), "coco", tmp_path / "out")
    assert "61T2" in str(caught.value)


def test_labelmes_image_may_be_a_data_address(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("val", 2)):
        (tmp_path / "in" / split).mkdir(parents=True)
        for number in range(count):
            content = io.BytesIO()
            Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(content, "PNG")
            shapes = [
                {"label": label, "shape_type": "rectangle", "points": [[p[0], p[1]], [p[2] - 1, p[5] - 1]]}
                for label, p in zip(("road", "way"), corners(number), strict=True)
            ]
            data = "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
            document = {"shapes": shapes, "imagePath": f"a{number}.png", "imageData": data}
            (tmp_path / "in" / split / f"a{number}.json").write_text(json.dumps(document))
    import_annotations(str(tmp_path / "in"), "labelme", tmp_path / "out")
    assert wrong(tmp_path / "out", ("background", "road", "way")) == 0


def test_problems_of_label_maps_are_shown_by_kind(tmp_path: Path) -> None:
    """Of thirty labels with one fault three are shown, and the number of the others."""
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (tmp_path / "in" / split / part).mkdir(parents=True)
        for number in range(15):
            Image.new("RGB", (8, 8)).save(tmp_path / "in" / split / "images" / f"a{number:02d}.png")
            Image.new("RGB", (8, 8), (number, 1, 2)).save(tmp_path / "in" / split / "labels" / f"a{number:02d}.png")
    classes = tmp_path / "classes.csv"
    classes.write_text("name,red,green,blue\nsky,1,1,200\nroad,200,1,1\n")
    with pytest.raises(DataError) as caught:
        import_annotations(str(tmp_path / "in"), "colours", tmp_path / "out", ImportOptions(classes=classes))
    lines = str(caught.value).splitlines()
    assert sum("are no class's" in line for line in lines) == 3
    assert any("and 27 more" in line for line in lines)
