"""Stage data on a data set whose label files do not hold class ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.config import DataConfig
from pipeline.stages.data import prepare_data, read_data
from training.loop import NO_PROGRESS


def test_label_values_become_class_ids_and_ignored_pixels_are_filled(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 1, 150], [0, 1, 9, 150]], dtype=np.uint8)
    for folder, part in [("training", "train"), ("validation", "val")]:
        for kind in ("images", "annotations"):
            (tmp_path / "ade" / kind / folder).mkdir(parents=True)
        Image.fromarray(np.full((2, 4, 3), 90, np.uint8)).save(
            tmp_path / f"ade/images/{folder}/ADE_{part}_00000001.jpg"
        )
        Image.fromarray(stored).save(tmp_path / f"ade/annotations/{folder}/ADE_{part}_00000001.png")
    config = DataConfig(name="ade20k", root=tmp_path / "ade", size=(2, 4))
    prepare_data(tmp_path / "out", config, 0, NO_PROGRESS)
    train, validation, filled = read_data(tmp_path / "out")
    expected = [[255, 0, 0, 149], [255, 0, 8, 149]]
    assert train.labels[0].tolist() == validation.labels[0].tolist() == expected
    assert filled.dtype == np.uint8
    assert filled.tolist() == [[[0, 0, 0, 149], [0, 0, 8, 149]]]
