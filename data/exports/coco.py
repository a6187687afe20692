"""COCO's panoptic and stuff forms: one segment per class and image.

The layout and the fields follow the COCO data format (cocodataset.org/#format-data): a panoptic PNG holds the segment
id of each pixel as R + 256 G + 256^2 B, 0 where there is none; stuff masks are run-length encoded by pycocotools.
Categories count from 1, so that category id minus 1 is the class id.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from scenepalette.common.png import png_of
from scenepalette.common.storage.files import encoded, open_atomically, write_atomically
from scenepalette.data.cards.dataset_card import label_origins_of, title_of
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.exports.verified_shards import ExportedRow, VerifiedShards
from scenepalette.data.shards.manifest import licence_of

PANOPTIC = "panoptic_train"
STUFF = "stuff_train"


def write_coco(out: Path, shards: VerifiedShards, rows: Iterator[ExportedRow]) -> None:
    """Write OUT/train/ID.(jpg|png), OUT/annotations/panoptic_train.json with its PNG files, and stuff_train.json.

    The entries of the two documents are kept in files without a name until all images are known; memory is bounded.
    """
    annotations = out / "annotations"
    with contextlib.ExitStack() as stack:
        images, panoptic, stuff = (stack.enter_context(tempfile.TemporaryFile(dir=out)) for _ in range(3))
        for row in rows:
            label = row.row.label
            png = annotations / PANOPTIC / f"{row.key}.png"
            write_atomically(out / "train" / row.image_name, row.image, durable=False)
            write_atomically(png, panoptic_png(label), durable=False)
            image_id, (height, width) = row.number + 1, label.shape
            entry = {"id": image_id, "file_name": row.image_name, "height": height, "width": width, "license": 1}
            segments = segments_of(label)
            images.write(_line(entry))
            panoptic.write(_line({"image_id": image_id, "file_name": png.name, "segments_info": segments}))
            for annotation in _stuff_annotations(label, segments, image_id):
                stuff.write(_line(annotation))
        for name, entries in ((PANOPTIC, panoptic), (STUFF, stuff)):
            with open_atomically(annotations / f"{name}.json") as file:
                file.write(encoded(json.dumps(_head(shards), ensure_ascii=False).removesuffix("}")))
                for key, lines in (("images", images), ("annotations", entries)):
                    lines.seek(0)
                    file.write(f', "{key}": [\n'.encode())
                    for number, line in enumerate(lines):
                        file.write((b",\n" if number else b"") + line.rstrip(b"\n"))
                    file.write(b"\n]")
                file.write(b"}\n")


def _head(shards: VerifiedShards) -> dict[str, Any]:
    manifest = shards.manifest
    return {
        "info": {"description": f"{title_of(manifest)}. {label_origins_of(manifest)}", "version": "1.0"},
        "licenses": [{"id": 1, "name": licence_of(manifest), "url": ""}],
        "categories": [
            {"id": number, "name": entry.name, "supercategory": "scene", "isthing": 0, "color": list(entry.color)}
            for number, entry in enumerate(shards.table.classes, start=1)
        ],
    }


def panoptic_png(label: np.ndarray) -> bytes:
    """Return the panoptic PNG of a label map.

    Args:
        label: uint8 [H, W], class ids or 255. A class's segment has its category id, class id + 1.
    """
    pixels = np.zeros((*label.shape, 3), dtype=np.uint8)
    pixels[..., 0] = np.where(label == IGNORE_ID, 0, label + np.uint8(1))
    return png_of(pixels)


def segments_of(label: np.ndarray) -> list[dict[str, Any]]:
    """Return COCO's `segments_info` of a label map: id, category, area and box (x, y, width, height) per class."""
    segments = []
    for class_id in np.unique(label[label != IGNORE_ID]).tolist():
        rows, columns = np.nonzero(label == class_id)
        top, left = int(rows.min()), int(columns.min())
        segments.append(
            {
                "id": class_id + 1,
                "category_id": class_id + 1,
                "area": len(rows),
                "bbox": [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1],
                "iscrowd": 0,
            }
        )
    return segments


def _stuff_annotations(
    label: np.ndarray, segments: Sequence[Mapping[str, Any]], image_id: int
) -> Iterator[dict[str, Any]]:
    for segment in segments:
        category = segment["category_id"]
        encoded: Any = run_lengths.encode(np.asfortranarray(label == category - 1, dtype=np.uint8))
        yield {
            **segment,
            # Unique in the document, and a function of image and category alone.
            "id": image_id * 256 + category,
            "image_id": image_id,
            "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")},
        }


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
