"""What stages will find in a data set, asked before it is prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_data import write_own_data

from scenepalette.data.arrays import read_arrays, write_arrays
from scenepalette.data.streets.dataset import Streets
from scenepalette.pipeline.config import make_config, write_config
from scenepalette.pipeline.doctor.examine import examine
from scenepalette.pipeline.doctor.prepared import data_to_come
from scenepalette.pipeline.request import Request


def test_labels_are_those_that_a_run_would_write_and_read_late(tmp_path: Path) -> None:
    train = Streets(split="train", count=6, size=(32, 48), seed=0)
    validation = Streets(split="val", count=3, size=(32, 48), seed=0)
    (tmp_path / "late").mkdir()
    data = data_to_come(train, validation, (16, 24), tmp_path / "late")
    assert len(data.train) == 6 and len(data.validation) == 3 and data.train.size == (16, 24)
    assert not any((tmp_path / "late").iterdir())
    write_arrays(train, (16, 24), tmp_path / "arrays")
    written = read_arrays(tmp_path / "arrays", "train").labels
    np.testing.assert_array_equal(data.train.labels[2:4], written[2:4])
    np.testing.assert_array_equal(np.asarray(data.train.labels), written)
    np.testing.assert_array_equal(np.stack(list(data.train.labels)), written)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("segmenters.rare_classes=[unicorn]", "segmenters.rare_classes: unknown class 'unicorn'"),
        ("report.rare_classes=[unicorn]", "report.rare_classes: unknown class 'unicorn'"),
    ],
)
def test_what_a_stage_would_refuse_is_a_problem_of_the_doctor(
    change: str, words: str, tiny_recipe: Path, tmp_path: Path
) -> None:
    diagnosis = examine(Request(str(tiny_recipe), (change,), tmp_path / "run"), measured=False)
    (check,) = diagnosis.of("problem")
    assert check.name == "data for the stages" and check.details[0].startswith(words)


def test_what_only_the_comparison_would_refuse_is_a_note(tiny_recipe: Path, tmp_path: Path) -> None:
    diagnosis = examine(Request(str(tiny_recipe), ("data.val_scenes=3",), tmp_path / "run"), measured=False)
    assert not diagnosis.of("problem")
    (check,) = [check for check in diagnosis.of("note") if check.name == "data for compare"]
    assert "comparison needs at least 4 validation pairs, got 3" in check.details[0]


def test_tiles_count_and_not_the_images_that_they_are_of(tiny_values: dict[str, Any], tmp_path: Path) -> None:
    root = write_own_data(tmp_path / "data", train=8, val=2, size=(48, 216))
    tiny_values["data"] = {"name": "folder", "root": str(root), "size": [32, 48]}
    names = {}
    for fit in ("crop", "tile"):
        tiny_values["data"]["fit"] = fit
        write_config(tmp_path / f"{fit}.yaml", make_config(tiny_values))
        diagnosis = examine(Request(str(tmp_path / f"{fit}.yaml"), (), tmp_path / "run"), measured=False)
        assert not diagnosis.of("problem")
        names[fit] = {check.name for check in diagnosis.of("note")}
    assert "data for compare" in names["crop"] and "data for compare" not in names["tile"]
