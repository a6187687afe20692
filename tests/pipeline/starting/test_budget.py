from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from own_data import machine, write_own_data

from scenepalette.common.errors import ConfigError
from scenepalette.common.progress import NO_PROGRESS
from scenepalette.data.datasets import open_dataset
from scenepalette.data.sample import SegmentationDataset
from scenepalette.pipeline.config import make_config, merge, with_following_lists
from scenepalette.pipeline.doctor.machine.timing import Measured, estimates_of, total_of
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.starting import budget
from scenepalette.pipeline.starting.budget import CPU, EXTENTS, GPU, Base, Search

SIZES = [(64, 96), (96, 128), (160, 224), (192, 256)]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> SegmentationDataset:
    return open_dataset("folder", "train", write_own_data(tmp_path_factory.mktemp("own"), train=4, val=2))


def search(train: SegmentationDataset, timed: Any, base: Base = CPU) -> Search:
    return Search(base, {"name": "folder", "root": "/somewhere"}, train, 1.0, 50, NO_PROGRESS, timed)


@pytest.mark.parametrize("base", [CPU, GPU])
@pytest.mark.parametrize("minutes", [20, 60, 240, 2000])
@pytest.mark.parametrize(("speed", "at_once"), [(0.5, 1), (1.0, 2), (6.0, 1)])
def test_the_time_is_used_and_kept_by_the_doctors_own_estimate(
    train: SegmentationDataset, base: Base, minutes: float, speed: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "trainings_at_once", lambda config: at_once)
    timed = machine(speed * (30 if base == GPU else 1))
    try:
        choice = search(train, timed, base).choose(SIZES, minutes)
    except ConfigError as error:
        assert minutes * speed <= 20 and "--minutes" in str(error)
        return
    changes = merge({"data": {"name": "folder", "root": "/somewhere"}}, choice.values)
    config = make_config(with_following_lists(merge(RECIPES[base.recipe](), changes), changes))
    measured = timed(config, train, Path("/"))
    total = total_of(estimates_of(config, measured, 1.0, 50), at_once)
    assert total == pytest.approx(choice.seconds, rel=0.01)
    at_the_end = config.data.size == SIZES[-1] and config.images.steps >= 0.9 * base.most * _steps(base)
    assert (0.5 if not at_the_end else 0) * 60 * minutes <= total <= 60 * minutes
    assert base.least <= choice.part <= base.most


def _steps(base: Base) -> int:
    return RECIPES[base.recipe]()["images"]["steps"]


def test_more_time_gives_larger_sizes_and_more_to_compare(train: SegmentationDataset) -> None:
    found = [search(train, machine()).choose(SIZES, minutes) for minutes in (15, 60, 120, 600, 3000)]
    pixels = [choice.values["data"]["size"][0] * choice.values["data"]["size"][1] for choice in found]
    assert pixels == sorted(pixels) and pixels[0] < pixels[-1]
    arms = [len(choice.values["segmenters"]["arms"]) for choice in found]
    assert arms[0] == len(EXTENTS[-1].arms) and arms[-1] == len(EXTENTS[0].arms)
    assert found[0].larger == SIZES[1] and found[-1].larger is None
    assert set(found[0].values["layouts"]) == {"full"} and set(found[-1].values["layouts"]) == {"full", "partial"}


def test_too_little_time_names_what_is_enough(train: SegmentationDataset) -> None:
    with pytest.raises(ConfigError, match=r"--minutes 0.5 is too short .* at 64x96, the smallest size") as caught:
        search(train, machine()).choose(SIZES, 0.5)
    named = re.search(r"use --minutes (\d+) or more", str(caught.value))
    assert named is not None
    choice = search(train, machine()).choose(SIZES, float(named[1]))
    assert choice.values["data"]["size"] == [64, 96] and choice.part >= CPU.least
    with pytest.raises(ConfigError, match="too short"):
        search(train, machine()).choose(SIZES, 0.7 * float(named[1]))


def test_sizes_without_memory_are_passed_over(train: SegmentationDataset) -> None:
    measured: list[tuple[int, int]] = []

    def timed(config: Any, *arguments: Any, **options: Any) -> Measured:
        measured.append(config.data.size)
        lacking = {"errors": {"images": "no memory"}, "out_of_memory": True} if config.data.size > (100, 0) else {}
        return machine(50.0, **lacking)(config, *arguments, **options)

    choice = search(train, timed).choose(SIZES, 60)
    assert choice.values["data"]["size"] == [96, 128] and max(measured) > (100, 0) and len(measured) <= 3
    nowhere = machine(errors={"images": "no memory"}, out_of_memory=True)
    with pytest.raises(ConfigError, match="too little memory for a training at 64x96"):
        search(train, nowhere).choose(SIZES, 60)


def test_what_cannot_be_measured_is_told(train: SegmentationDataset) -> None:
    with pytest.raises(ConfigError, match=r"No step was finished in 40 s at 64x96.*: images, segmenter"):
        search(train, machine(seconds={}, missing=("images", "segmenter"))).choose(SIZES, 60)
    with pytest.raises(ConfigError, match="fail in their first steps at 96x128") as caught:
        search(train, machine(errors={"segmenter": "ValueError: no"})).choose(SIZES, 60)
    assert caught.value.problems == ("segmenter: ValueError: no",)
