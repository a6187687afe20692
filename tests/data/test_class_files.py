"""The class tables that are shipped as class files; what users may write is tested with the reader of folders."""

from __future__ import annotations

import pytest

from scenepalette.data.class_files import packaged_table


def test_ade20k_has_the_published_order_and_colours() -> None:
    table = packaged_table("ade20k")
    assert (table.name, table.num_classes) == ("ade20k", 150)
    published = {1: "wall", 9: "windowpane", 13: "person", 75: "computer", 116: "bag", 131: "screen", 150: "flag"}
    assert {number: table.names[number - 1] for number in published} == published
    assert table.classes[2].color == (6, 230, 230)
    assert table.classes[149].color == (92, 0, 255)
    assert table.eval_ids == tuple(range(150))


def test_coco_stuff_has_the_published_order_and_evaluates_the_classes_that_occur() -> None:
    table = packaged_table("coco-stuff")
    assert (table.name, table.num_classes) == ("coco-stuff", 182)
    published = {1: "person", 12: "street sign", 91: "hair brush", 92: "banner", 133: "mirror-stuff", 182: "wood"}
    assert {number: table.names[number - 1] for number in published} == published
    without_annotations = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
    assert {class_id + 1 for class_id in range(182)} - {i + 1 for i in table.eval_ids} == without_annotations


@pytest.mark.parametrize("number", [1, 2, 3, 8, 91, 182])
def test_coco_stuff_has_the_colours_of_pascal_vocs_rule(number: int) -> None:
    # Everingham et al.: bit 3k of the number is bit 7-k of red, bit 3k+1 of green, bit 3k+2 of blue.
    bits = f"{number:024b}"[::-1]
    expected = tuple(int(bits[channel::3], 2) for channel in range(3))
    assert packaged_table("coco-stuff").classes[number - 1].color == expected


def test_colours_of_coco_stuff_differ() -> None:
    assert len({entry.color for entry in packaged_table("coco-stuff").classes}) == 182
