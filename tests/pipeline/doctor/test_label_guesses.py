from __future__ import annotations

import numpy as np
import pytest

from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.decoding.class_files import CAMVID, CITYSCAPES
from scenepalette.pipeline.doctor.label_guesses import RawLabel, guess

SMALL = ClassTable(
    "small", (SemanticClass("a", (1, 2, 3)), SemanticClass("b", (9, 8, 7)), SemanticClass("c", (5, 5, 0)))
)


def raw(values: list, mode: str = "L") -> RawLabel:
    array = np.array(values)
    return RawLabel(mode, array, np.ones(len(array), np.int64))


@pytest.mark.parametrize(
    ("label", "table", "expected"),
    [
        (raw([[1, 2, 3], [9, 8, 7], [0, 0, 0]], "RGB"), SMALL, "colours are those of the class table 'small'"),
        (raw([list(entry.color) for entry in CAMVID.classes], "RGB"), SMALL, "of the class table 'camvid'"),
        (raw([[77, 1, 1], [78, 1, 1]], "RGB"), SMALL, "2 different colours, of no known class table"),
        (raw([[i, j, 0] for i in range(30) for j in range(30)], "RGB"), SMALL, "these are photographs"),
        (raw([1, 2, 3]), SMALL, "count classes from 1. Subtract 1"),
        (raw(list(range(0, 34))), CAMVID, "fit the class tables cityscapes"),
        (raw([0, 76, 150, 29]), ClassTable("rgb", tuple(
            SemanticClass(name, color) for name, color in
            (("r", (255, 0, 0)), ("g", (0, 255, 0)), ("b", (0, 0, 255)))
        )), "grey tones of the colours of 'rgb'"),
        (raw(list(range(19))), CITYSCAPES, "train ids"),
    ],
)  # fmt: skip
def test_what_labels_seem_to_be(label: RawLabel, table: ClassTable, expected: str) -> None:
    guesses = guess([label], table)
    assert expected in " ".join(guesses), guesses


def test_ignored_values_say_nothing_about_how_ids_are_counted() -> None:
    assert guess([raw([11])], CAMVID, ignored=[11, 255]) == []
    assert guess([raw([3, 11])], CAMVID, ignored=[11, 255]) == []
    assert not any("from 1" in text for text in guess([raw([11])], CAMVID))
    assert not any("from 1" in text for text in guess([raw([4, 7, 11])], CAMVID))
    # With an ignored value that was counted up as well.
    assert "Subtract 1" in guess([raw(list(range(1, 13)))], CAMVID, ignored=[11, 255])[0]


def test_a_stray_value_is_no_sign_of_another_class_table() -> None:
    assert guess([raw([0, 5, 33, 255])], CAMVID) == []
    assert guess([raw([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])], CAMVID, ignored=[255]) == []


def test_ids_that_are_multiples_are_not_to_be_divided() -> None:
    assert guess([raw([0, 2, 4])], CAMVID) == []


@pytest.mark.parametrize("values", [[0, 1, 2], [0, 2], [255], [0, 2, 255], [0]])
def test_class_ids_are_taken_for_what_they_are(values: list[int]) -> None:
    assert guess([raw(values)], SMALL) == []
