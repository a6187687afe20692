"""What the doctor asks about the brightness of the sky, and what it must not ask."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.readers.camvid import open_camvid
from scenepalette.data.sample import Sample, SegmentationDataset
from scenepalette.data.streets.dataset import Streets
from scenepalette.pipeline.doctor.colour_checks import check_colours

NAMES = ("sky", "building", "road")


def dataset_of(
    greys: tuple[int, int, int], names: tuple[str, ...] = NAMES, count: int = 8, sky_rows: int = 8
) -> SegmentationDataset:
    """Images of 24 x 32: class 0 above, then 1 and 2, of these greys."""
    label = np.zeros((24, 32), np.uint8)
    label[sky_rows:16], label[16:] = 1, 2
    image = np.repeat(np.array(greys, np.uint8)[label][:, :, None], 3, axis=2)
    samples = [Sample(id=str(k), image=image, label=label) for k in range(count)]
    classes = tuple(SemanticClass(name, (9 * k, 0, 0)) for k, name in enumerate(names))

    def read(_: object, index: int) -> Sample:
        return samples[index]

    kind = type("Samples", (SimpleNamespace,), {"__len__": lambda _: count, "__getitem__": read})
    return cast(SegmentationDataset, kind(table=ClassTable("small", classes)))


def test_a_sky_that_is_darker_than_its_images_is_asked_about() -> None:
    check = check_colours([dataset_of((60, 200, 90))])
    assert check is not None and check.status == "warning"
    assert "'sky' (0) is darker than the rest of the 8 images looked at, by 85 of 255" in check.summary
    assert "The brightest is 'building' (1)" in check.summary


@pytest.mark.parametrize("name", ["Himmel", "céu", "небо", "天空"])
def test_the_sky_is_known_in_other_languages(name: str) -> None:
    check = check_colours([dataset_of((60, 200, 90), (name, "b", "c"))])
    assert check is not None and check.status == "warning"


def test_a_bright_sky_is_as_it_should_be() -> None:
    check = check_colours([dataset_of((200, 100, 90)), dataset_of((150, 120, 60))])
    assert check is not None and check.status == "ok"


@pytest.mark.parametrize(
    "dataset",
    [
        dataset_of((60, 200, 90), ("wall", "building", "road")),
        dataset_of((10, 60, 20)),  # by night
        dataset_of((60, 200, 90), count=5),
        dataset_of((60, 200, 90), sky_rows=0),
    ],
)
def test_nothing_is_said_where_nothing_can_be(dataset: SegmentationDataset) -> None:
    assert check_colours([dataset]) is None


def test_samples_that_cannot_be_read_are_passed_over() -> None:
    dataset = dataset_of((60, 200, 90))

    def fails(_: object, index: int) -> Sample:
        raise DataError("gone")

    kind = type("Gone", (SimpleNamespace,), {"__len__": lambda _: 8, "__getitem__": fails})
    assert check_colours([dataset, cast(SegmentationDataset, kind())]) is not None


def test_drawn_scenes_are_not_asked_about() -> None:
    check = check_colours([Streets("train", 8, size=(48, 64), seed=0)])
    assert check is None or check.status == "ok"


@pytest.mark.slow
def test_the_published_camvid_is_not_asked_about(camvid: Path) -> None:
    check = check_colours([open_camvid(camvid, "val")])
    assert check is not None and check.status == "ok"
