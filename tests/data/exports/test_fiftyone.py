"""The export for FiftyOne, read as its documentation says of `ImageSegmentationDirectory`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from scenepalette.data.exports.exporting import export_shards
from scenepalette.data.shards.schema import Row


def test_masks_name_every_labelled_pixel_and_keep_zero_for_the_others(
    make_shards: Callable[..., list[Row]], tmp_path: Path
) -> None:
    rows = make_shards(tmp_path / "shards", (3, 4))
    out = export_shards(tmp_path / "shards", "fiftyone", tmp_path / "out")
    targets = {int(value): name for value, name in json.loads((out / "mask_targets.json").read_text()).items()}
    assert targets == {1: "road", 2: "car, parked", 3: "sky"}
    names = ("road", "car, parked", "sky")
    images = {path.stem: path for path in (out / "data").iterdir()}
    masks = {path.stem: path for path in (out / "labels").iterdir()}
    assert images.keys() == masks.keys() == {row.id for row in rows}
    for row in rows:
        np.testing.assert_array_equal(np.array(Image.open(images[row.id])), row.image)
        mask = np.array(Image.open(masks[row.id]))
        assert mask.dtype == np.uint8 and (row.label == 255).any()
        for value in np.unique(mask).tolist():
            expected = {names.index(targets[value])} if value else {255}
            assert set(row.label[mask == value].tolist()) == expected
