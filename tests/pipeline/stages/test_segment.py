from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scenepalette.common.progress import NO_PROGRESS
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.pipeline.arms import ARMS
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.data import read_data
from scenepalette.pipeline.stages.segment import CONFUSION, arm_settings, read_confusion, train_arm


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
    train, validation, _ = read_data(finished_run / "data")
    train_arm(
        tmp_path,
        arm,
        tiny_config.segmenters,
        train=train,
        validation=validation,
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
