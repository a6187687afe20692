"""A run with a test split and an extra test set: no training ever reads them, every arm is evaluated on them."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import ConfigError
from scenepalette.data import arrays
from scenepalette.data.streets.dataset import STREETS, Streets
from scenepalette.evaluation.miou import mean_iou
from scenepalette.pipeline.config import load_config, make_config, merge
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages import segment
from scenepalette.pipeline.units.workspace import PreparedData

SIZE = (32, 48)


def write_night(root: Path) -> Path:
    """Six drawn scenes at a fifth of their light, in the layout of folder."""
    for kind in ("images", "labels"):
        (root / "val" / kind).mkdir(parents=True)
    scenes = Streets("val", 6, SIZE, seed=99)
    for sample in (scenes[index] for index in range(len(scenes))):
        Image.fromarray(sample.image // 5).save(root / f"val/images/{sample.id}.png")
        Image.fromarray(sample.label).save(root / f"val/labels/{sample.id}.png")
    with (root / "classes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "red", "green", "blue", "evaluated"])
        writer.writerows([entry.name, *entry.color, str(entry.evaluated).lower()] for entry in STREETS.classes)
    return root


class Watch:
    """Lets test splits be opened only while `open` is true, and notes for which stages they were."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.open, self.stage, self.read = True, "", set[str]()
        test, extra, open_array = PreparedData.test.func, PreparedData.extra_tests.func, arrays.open_array

        def watched(function: Callable[..., Any], *arguments: Any) -> Any:
            assert self.open, f"{self.stage} reads a test split"
            self.read.add(self.stage)
            return function(*arguments)

        def open_watched(path: Path, *arguments: Any) -> np.ndarray:
            hidden = path.name.endswith("-test.npy") or "extra-tests" in path.parts
            return watched(open_array, path, *arguments) if hidden else open_array(path, *arguments)

        # Without a cache: each reading is looked at, not the first alone.
        patch.setattr(PreparedData, "test", property(lambda data: watched(test, data) if data.has_test else None))
        patch.setattr(PreparedData, "extra_tests", property(lambda data: watched(extra, data)))
        patch.setattr(arrays, "open_array", open_watched)
        make_one, train_arm = Run._make_one, segment.train_arm

        def make_watched(run: Run, name: str) -> None:
            self.stage = run.units[name].stage
            self.open = self.stage in ("data", "extra-tests", "segmenters", "report")
            make_one(run, name)

        def train_closed(*arguments: Any, **options: Any) -> Any:
            self.open = False
            try:
                return train_arm(*arguments, **options)
            finally:
                self.open = True

        patch.setattr(Run, "_make_one", make_watched)
        patch.setattr(segment, "train_arm", train_closed)


class Made(NamedTuple):
    """A finished run, what it is made of, and who read its test splits."""

    folder: Path
    values: dict[str, Any]
    read: set[str]
    stages: set[str]


@pytest.fixture(scope="module")
def made(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    place = tmp_path_factory.mktemp("unseen")
    values = merge(
        load_config(str(tiny_recipe)).model_dump(mode="json"),
        {
            "data": {"train_scenes": 24, "test_scenes": 5},
            "generate": {"kinds": ["full", "partial"], "pairs": 4, "candidates": 2},
            "finetune": {"kinds": ["full"], "steps": 1},
            "segmenters": {"arms": ["real", "syn", "real+partial", "real+partial-trusted", "relabelled"]},
            "report": {"extra_test": {"night": str(write_night(place / "night"))}},
        },
    )
    run = Run(make_config(values), place / "run")
    with pytest.MonkeyPatch.context() as patch:
        watch = Watch(patch)
        run.make(run.names_of("report"))
    yield Made(run.run_dir, values, watch.read, {unit.stage for unit in run.planned.run.values()})


@pytest.mark.slow
def test_evaluations_alone_read_what_is_tested_on(made: Made) -> None:
    trainings = {"palettes", "layouts", "images", "finetuned", "shards"}
    choices = {"teachers", "quality", "selected"}
    assert made.stages == trainings | choices | {"data", "extra-tests", "segmenters", "report"}
    assert made.read == {"data", "extra-tests", "segmenters", "report"}


@pytest.mark.slow
def test_the_report_is_of_the_test_split_with_validation_and_extra_sets_beside(made: Made) -> None:
    document = json.loads((made.folder / "report/report.json").read_text())
    split = document["dataset"]["split"]
    assert (split["name"], split["origin"], split["images"], split["blocks"]) == ("test", "drawn", 5, None)
    assert (document["dataset"]["val"], document["dataset"]["test"]) == (4, 5)
    assert document["bootstrap"]["images"] == 5
    for arm in document["arms"]:
        folder = made.folder / "segmenters" / arm["name"] / "seed0"
        for key, file in (("miou", "test-confusion.npy"), ("validation_miou", "validation-confusion.npy")):
            confusion = np.load(folder / file)
            assert len(confusion) == {"miou": 5, "validation_miou": 4}[key]
            assert arm[key]["mean"] == pytest.approx(mean_iou(confusion, STREETS.eval_ids))
        assert document["extra_tests"]["night"]["arms"][arm["name"]]["miou"]["mean"] is not None
    assert document["extra_tests"]["night"]["images"] == 6
    page = (made.folder / "report/report.md").read_text()
    assert "24 training, 4 validation and 5 test images" in page and "## Extra test sets" in page
    assert "all pixels of the test split" in page and "Validation mIoU, %" in page


@pytest.mark.slow
def test_a_further_extra_set_needs_a_report_and_no_training(made: Made, tmp_path: Path) -> None:
    values = copy.deepcopy(made.values)
    values["report"]["extra_test"]["dusk"] = str(write_night(tmp_path / "dusk"))
    run = Run(make_config(values), made.folder)
    assert run.missing(run.names_of("report")) == ["extra-tests/dusk", "report"]
    values["report"]["extra_test"]["dusk"] = str(tmp_path / "nowhere")
    with pytest.raises(ConfigError) as caught:
        Run(make_config(values), made.folder).missing(["report"])
    assert caught.value.problems == (f"report.extra_test.dusk: there is no folder {tmp_path / 'nowhere'}",)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"data": {"test_scenes": 4, "holdout": 0.2}}, "data.holdout: 4 test scenes are drawn already"),
        ({"data": {"test_scenes": 1}}, "data.test_scenes: one image is no test split"),
        ({"data": {"name": "camvid", "root": ".", "test_scenes": 4}}, "data.test_scenes: camvid is read, not drawn"),
        ({"data": {"holdout": 0.5}}, "data.holdout: input should be less than or equal to 0.4"),
        ({"report": {"extra_test": {"test": "."}}}, "report.extra_test.test: this is the name of a split"),
        ({"report": {"extra_test": {"../x": "."}}}, "report.extra_test.../x"),
    ],
)
def test_wishes_for_test_splits_that_contradict_each_other_are_refused(
    changes: dict[str, Any], problem: str, tiny_values: dict[str, Any]
) -> None:
    base = load_config("demo").model_dump(mode="json")
    with pytest.raises(ConfigError) as caught:
        make_config(merge(base, changes))
    (found,) = caught.value.problems
    assert found.startswith(problem)
