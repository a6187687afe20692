"""Class tables: published ids and colours, validation, and what is derived from a table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.decoding.class_files import CAMVID, CELEBAMASK_HQ, CITYSCAPES, IDD

TWO = ClassTable("two", (SemanticClass("a", (1, 2, 3)), SemanticClass("b", (4, 5, 6), evaluated=False)))


def test_camvid_has_the_segnet_order_and_colours() -> None:
    expected = ["sky", "building", "pole", "road", "pavement", "tree", "sign_symbol", "fence", "car", "pedestrian"]
    assert list(CAMVID.names) == [*expected, "bicyclist"]
    assert CAMVID.classes[4].color == (60, 40, 222)
    assert CAMVID.eval_ids == tuple(range(11))


def test_cityscapes_evaluates_the_19_classes_with_a_train_id() -> None:
    assert CITYSCAPES.num_classes == 35
    official = {7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light"}
    official |= {20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car"}
    official |= {27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle"}
    assert {class_id: CITYSCAPES.names[class_id] for class_id in CITYSCAPES.eval_ids} == official
    assert CITYSCAPES.names[0] == "unlabeled"
    assert CITYSCAPES.names[34] == "license plate"


def test_idd_evaluates_all_but_the_ids_marked_as_ignored() -> None:
    assert IDD.num_classes == 40
    ignored = {7: "animal", 15: "caravan", 16: "trailer", 17: "train", 35: "unlabeled", 36: "ego vehicle"}
    ignored |= {37: "rectification border", 38: "out of roi", 39: "license plate"}
    assert {i: IDD.names[i] for i in range(40) if i not in IDD.eval_ids} == ignored
    assert [IDD.names[i] for i in (0, 11, 28, 33)] == ["road", "autorickshaw", "obs-str-bar-fallback", "sky"]


def test_celebamask_hq_has_the_order_in_which_parts_cover_each_other() -> None:
    assert CELEBAMASK_HQ.num_classes == 19
    assert [CELEBAMASK_HQ.names[i] for i in (0, 1, 3, 13, 18)] == ["background", "skin", "eye_g", "hair", "cloth"]
    assert CELEBAMASK_HQ.eval_ids == tuple(range(19))


def test_colorize_paints_ids_and_leaves_ignored_pixels_black() -> None:
    label = np.array([[0, 1], [255, 200]], dtype=np.uint8)
    painted = TWO.colorize(label)
    assert painted.dtype == np.uint8
    assert painted.tolist() == [[[1, 2, 3], [4, 5, 6]], [[0, 0, 0], [0, 0, 0]]]
    assert np.array_equal(TWO.colorize(label.astype(np.int64)), painted)


def test_color_lookup_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        TWO.colors[0, 0] = 9


@pytest.mark.parametrize("table", [TWO, CAMVID, CITYSCAPES, IDD, CELEBAMASK_HQ], ids=lambda table: table.name)
def test_dict_and_back_is_the_same_table(table: ClassTable) -> None:
    again = ClassTable.from_dict(table.to_dict())
    assert again == table
    assert again.fingerprint == table.fingerprint


def test_fingerprint_changes_with_order_and_evaluation() -> None:
    swapped = replace(TWO, classes=TWO.classes[::-1])
    evaluated = replace(TWO, classes=(TWO.classes[0], replace(TWO.classes[1], evaluated=True)))
    assert len({TWO.fingerprint, swapped.fingerprint, evaluated.fingerprint}) == 3


def test_all_problems_of_a_table_are_listed() -> None:
    classes = (
        SemanticClass("a", (1, 2, 300), evaluated=False),
        SemanticClass("a", (1, 2, -1), evaluated=False),
        SemanticClass("", (0, 0, 0), evaluated=False),
    )
    with pytest.raises(ConfigError) as caught:
        ClassTable("bad", classes)
    text = str(caught.value)
    for part in ["(1, 2, 300)", "(1, 2, -1)", "classes 0 and 1 are both named 'a'", "class 2 has no name"]:
        assert part in text
    assert "no class is evaluated" in text


@pytest.mark.parametrize("count", [0, 1, 256])
def test_number_of_classes_is_limited(count: int) -> None:
    with pytest.raises(ConfigError, match=f"{count} {'class' if count == 1 else 'classes'}; 2 to 255"):
        ClassTable("many", tuple(SemanticClass(str(i), (0, 0, 0)) for i in range(count)))


def test_255_classes_fit() -> None:
    assert ClassTable("many", tuple(SemanticClass(str(i), (0, 0, i)) for i in range(255))).num_classes == 255


@pytest.mark.parametrize("values", [{}, {"name": "x"}, {"name": "x", "classes": [{"name": "a"}]}])
def test_from_dict_refuses_incomplete_values(values: dict) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        ClassTable.from_dict(values)
