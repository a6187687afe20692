from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.common.progress import NO_PROGRESS
from scenepalette.data.shards.pairs import FirstPairs, ShardPairs
from scenepalette.pipeline.arms import ARMS
from scenepalette.pipeline.config import RunConfig, make_config
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.inputs.data import read_data
from scenepalette.pipeline.stages.segment import CONFUSION, SegmenterUnit, arm_settings, read_confusion, train_arm
from scenepalette.pipeline.units.sources import Sources


def test_confusions_stay_on_disk_until_they_are_asked_for(finished_run: Path) -> None:
    """With 182 classes and 5,000 images they take 1.3 GB for each arm and seed, and a report opens all of them."""
    folder = finished_run / "segmenters/real/seed0"
    confusion = read_confusion(folder)
    assert isinstance(confusion, np.memmap)
    np.testing.assert_array_equal(confusion, np.load(folder / CONFUSION))


@pytest.mark.parametrize(("arm", "loss"), [("syn-minent", "entropy_loss"), ("real+syn-minent", "entropy_loss")])
def test_arms_of_minimum_entropy_train_with_it(
    arm: str, loss: str, finished_run: Path, tiny_config: RunConfig, tmp_path: Path
) -> None:
    data = read_data(finished_run / "data")
    train_arm(
        tmp_path,
        arm,
        tiny_config.segmenters,
        train=data.train,
        validation=data.validation,
        synthetic=ShardPairs(finished_run / "shards" / str(ARMS[arm].synthetic)),
        seed=0,
        fabric=Run(tiny_config, tmp_path).fabric,
        progress=NO_PROGRESS,
    )
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert loss in first and "adversarial_loss" not in first
    assert ("real_loss" in first) is (ARMS[arm].real == "labelled")


def test_an_adapted_domain_is_for_arms_that_have_the_choice(tiny_config: RunConfig) -> None:
    config = tiny_config.segmenters.model_copy(update={"adapted_domain": "synthetic", "entropy_weight": 0.5})
    chosen = arm_settings(config, "real+syn-minent")
    assert (chosen.adaptation, chosen.adapted_domain, chosen.entropy_weight) == ("minent", "synthetic", 0.5)
    assert arm_settings(config, "syn-minent").adapted_domain is None


def test_gan_train_learns_nothing_from_real_pairs(finished_run: Path, tiny_config: RunConfig, tmp_path: Path) -> None:
    data = read_data(finished_run / "data")
    train = data.train
    blank = replace(train, images=np.zeros_like(train.images), labels=np.zeros_like(train.labels))
    config = tiny_config.segmenters.model_copy(update={"class_weights": "median-frequency"})
    for name, pairs in (("real", train), ("blank", blank)):
        train_arm(
            tmp_path / name,
            "syn",
            config,
            train=pairs,
            validation=data.validation,
            synthetic=FirstPairs(ShardPairs(finished_run / "shards/full"), 10),
            seed=0,
            fabric=Run(tiny_config, tmp_path).fabric,
            progress=NO_PROGRESS,
        )
    for file in ("weights.safetensors", "metrics.jsonl"):
        assert (tmp_path / "real" / file).read_bytes() == (tmp_path / "blank" / file).read_bytes()


def test_an_arm_is_identified_by_what_it_has_a_use_for(tiny_values: dict[str, Any]) -> None:
    """Another share of generated pairs must not train `real` again, nor other rare classes any arm but copy-paste."""
    tiny_values["segmenters"]["arms"] = ["real", "syn", "semi", "semi-alone", "copy-paste", "real-long"]

    def units(**changes: Any) -> dict[str, SegmenterUnit]:
        config = make_config({**tiny_values, "segmenters": {**tiny_values["segmenters"], **changes}})
        return {unit.arm: unit for unit in SegmenterUnit.of_arms(config, Sources())}

    before = units()

    def changed(**changes: Any) -> set[str]:
        return {arm for arm, unit in units(**changes).items() if unit.settings != before[arm].settings}

    assert changed(synthetic_share=0.4, synthetic_weight=1.0, synthetic_fade=0.0, schedule="pretrain") == {"semi"}
    assert changed(rare_classes=["car"]) == {"copy-paste"}
    assert changed(statistics_images=3) == {"real", "semi", "copy-paste", "real-long"}
    assert changed(prior_correction=True) == {"semi", "copy-paste"}
    assert changed(prior_correction=False) == changed(validation_images=0) == set()
    assert [unit.steps for unit in before.values()] == [2, 2, 2, 2, 2, 4]
    config = make_config({**tiny_values, "segmenters": {**tiny_values["segmenters"], "synthetic_share": 0.4}})
    assert arm_settings(config.segmenters, "real") == arm_settings(make_config(tiny_values).segmenters, "real")
    assert arm_settings(config.segmenters, "semi").synthetic_share == 0.4
    assert arm_settings(config.segmenters, "copy-paste").mixing == "copy-paste"


def test_batches_and_classes_that_cannot_be_used_are_said_beforehand(
    finished_run: Path, tiny_values: dict[str, Any]
) -> None:
    tiny_values["segmenters"] |= {"arms": ["real", "semi", "real+syn-advent", "copy-paste"], "schedule": "pretrain"}
    tiny_values["segmenters"] |= {"rare_classes": ["moon", "car"], "class_weights": "median-frequency"}
    config = make_config(tiny_values)
    units = SegmenterUnit.of_arms(config, Sources())
    (problem,) = SegmenterUnit.problems(units, config, fetch=False)
    assert "use mixed, or leave out the arms with an adaptation (arms: real+syn-advent)" in problem
    data = read_data(finished_run / "data")
    car = data.train.table.names.index("car")
    without = data.train.labels.copy()
    without[without == car] = 255
    data = replace(data, train=replace(data.train, labels=without))
    problems = SegmenterUnit.problems_of_data(units, config, data)
    assert problems[0].startswith("segmenters.rare_classes: unknown class 'moon'; classes are ")
    for field in ("rare_classes", "class_weights"):
        assert any(text.startswith(f"segmenters.{field}: 'car' has no pixel in the training") for text in problems)
