"""The splits as segmenters take them, where these have a size of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelled_folders import write_pixels
from scenepalette.common.errors import DataError
from scenepalette.pipeline.config import load_config
from scenepalette.pipeline.run import Run


def test_labels_that_its_size_loses_are_listed_of_every_split(tmp_path: Path) -> None:
    root = tmp_path / "own"
    root.mkdir()
    (root / "classes.csv").write_text("name\nsky\nroad\n")
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for index in range(4):
            label = random.integers(0, 2, (48, 64), dtype=np.uint8)
            if index == 0:
                label[:] = 255
                label[0, 0] = 1
            image = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            write_pixels(root / split / "images" / f"{split}{index}.png", image)
            write_pixels(root / split / "labels" / f"{split}{index}.png", label)
    changes = ["data.name=folder", f"data.root={root}", "data.size=[48, 64]", "segmenters.size=[24, 32]"]
    run = Run(load_config("demo", changes), tmp_path / "run")
    with pytest.raises(DataError, match=r"2 labels are too fine for segmenters\.size 24 x 32") as caught:
        run.make(["segmenter-data"])
    assert [text.split("'")[1] for text in caught.value.problems] == ["train0", "val0"]
    assert not (tmp_path / "run" / "segmenter-data" / "manifest.json").exists()
