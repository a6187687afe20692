"""The export for MMSegmentation, read as its documentation says that `BaseSegDataset` reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.exports.exporting import export_shards
from scenepalette.data.shards.schema import Row
from scenepalette.data.shards.writing import write_shard
from shard_rows import describe, make_row


def settings_of(out: Path) -> dict[str, Any]:
    """Run the file of settings, the folder's path put in as MMEngine does."""
    names: dict[str, Any] = {}
    exec((out / "mmseg_dataset.py").read_text().replace("{{ fileDirname }}", str(out)), names)
    return names["train_dataset"]


def test_the_settings_lead_to_every_pair(make_shards: Callable[..., list[Row]], tmp_path: Path) -> None:
    rows = make_shards(tmp_path / "shards", (3, 4))
    out = export_shards(tmp_path / "shards", "mmseg", tmp_path / "out")
    settings = settings_of(out)
    assert settings["type"] == "BaseSegDataset" and settings["ignore_index"] == 255
    assert settings["reduce_zero_label"] is False
    assert settings["metainfo"]["classes"] == ("road", "car, parked", "sky")
    assert len(settings["metainfo"]["palette"]) == 3 and len(settings["metainfo"]["palette"][0]) == 3
    folders = {key: Path(settings["data_root"], prefix) for key, prefix in settings["data_prefix"].items()}
    images = sorted(folders["img_path"].glob(f"*{settings['img_suffix']}"))
    assert len(images) == len(rows) == len(list(folders["seg_map_path"].iterdir()))
    for path, row in zip(images, rows, strict=True):
        label = folders["seg_map_path"] / path.name.replace(settings["img_suffix"], settings["seg_map_suffix"])
        np.testing.assert_array_equal(np.array(Image.open(path)), row.image)
        np.testing.assert_array_equal(np.array(Image.open(label)), row.label)


def test_images_of_two_forms_are_refused(tmp_path: Path) -> None:
    """MMSegmentation would pass over those of the other suffix without a word."""
    shards = [
        write_shard(tmp_path / "shards" / f"train-0000{number}-of-00002.parquet", [make_row(number)], image_format=form)
        for number, form in enumerate(("jpeg", "png"))
    ]
    describe(tmp_path / "shards", shards)
    with pytest.raises(DataError, match=r"two forms, \.jpg and \.png .*--to images"):
        export_shards(tmp_path / "shards", "mmseg", tmp_path / "out")
    assert not (tmp_path / "out/export.json").exists()
