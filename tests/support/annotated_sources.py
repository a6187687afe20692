"""Small sources of annotations, as other tools write them, for tests of imports."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from labelled_folders import random_image, write_pixels
from scenepalette.data.datasets import open_dataset
from scenepalette.data.imports.importing import Imported, import_annotations
from scenepalette.data.imports.source import ImportOptions

HEIGHT, WIDTH = 20, 30
SQUARE = [[2, 3], [9, 3], [9, 12], [2, 12]]


def write_images(folder: Path, names: Sequence[str], height: int = HEIGHT, width: int = WIDTH) -> None:
    """Write an image of each name, which has an ending."""
    for seed, name in enumerate(names):
        write_pixels(folder / name, random_image(seed, height, width))


def write_json_file(path: Path, content: Any) -> Path:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco(of_images: Mapping[int, Sequence[Mapping[str, Any]]], names: Sequence[str], **more: Any) -> dict[str, Any]:
    """Return a COCO document.

    Args:
        of_images: Annotations of each image, counted from 0; "segmentation" and "category_id" are given.
        names: Names of the images.
        more: Further or other keys.
    """
    entries = [{"image_id": image, "iscrowd": 0, **entry} for image, found in of_images.items() for entry in found]
    return {
        "licenses": [{"id": 1, "name": "CC BY 4.0", "url": "http://example.org/by"}, {"id": 2, "name": "unused"}],
        "images": [
            {"id": k, "file_name": name, "height": HEIGHT, "width": WIDTH, "license": 1} for k, name in enumerate(names)
        ],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(entries)],
        "categories": [{"id": 7, "name": "car"}, {"id": 3, "name": "tree"}],
        **more,
    }


def flat(points: Sequence[Sequence[float]]) -> list[float]:
    """Return x and y of points in one list."""
    return [number for point in points for number in point]


def shape(label: str, points: Any, kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    """Return a shape of LabelMe."""
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def labelme(found: Sequence[Any], image: str | None, **more: Any) -> dict[str, Any]:
    """Return a LabelMe document."""
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    return {"version": "5.5.0", "flags": {}, "shapes": list(found), "imagePath": image, "imageData": None} | size | more


def png_text(pixels: np.ndarray) -> str:
    """Return a PNG as LabelMe stores it within JSON."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def imported(source: Path | str, form: str, to: Path, **options: Any) -> Imported:
    """Import a source."""
    return import_annotations(str(source), form, to, ImportOptions(**options))


def labels_of(folder: Path, split: str = "train") -> dict[str, np.ndarray]:
    """Return what the reader `folder` makes of an import: the label map of each id, by class id."""
    found = open_dataset("folder", split, folder)
    return {name: found[index].label for index, name in enumerate(found.ids)}


def names_of(folder: Path) -> tuple[str, ...]:
    """Return the class names that the reader `folder` finds."""
    return open_dataset("folder", "train", folder).table.names


def stored(folder: Path, split: str, name: str) -> np.ndarray:
    """Return a label file as it is stored."""
    return np.array(Image.open(folder / split / "labels" / f"{name}.png"))
