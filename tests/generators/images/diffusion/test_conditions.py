from __future__ import annotations

import pytest
import torch

from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.generators.images.diffusion.conditions import class_shares, colour_image, prompt_of

TABLE = ClassTable(
    "street",
    (
        SemanticClass("road", (0, 0, 0)),
        SemanticClass("sky", (0, 0, 255)),
        SemanticClass("void", (9, 9, 9), evaluated=False),
        SemanticClass("car", (255, 0, 0)),
        SemanticClass("bus", (255, 51, 0)),
    ),
)
SHARES = {"road": 0.344, "sky": 0.2, "pole": 0.004}


def test_evaluated_classes_come_in_the_order_of_their_shares() -> None:
    label = torch.tensor([[1, 1, 1, 0], [2, 2, 3, 3]])
    assert class_shares(label, TABLE) == {"sky": 3 / 8, "car": 2 / 8, "road": 1 / 8}
    assert list(class_shares(torch.tensor([[3, 0]]), TABLE)) == ["road", "car"]


@pytest.mark.parametrize(
    ("template", "longest", "expected"),
    [
        ("photo: {classes}", 99, "photo: road 34 %, sky 20 %, pole"),
        ("{names} in rain, {names}", 99, "road, sky, pole in rain, road, sky, pole"),
        ("photo: {classes}", 30, "photo: road 34 %, sky 20 %"),
        ("photo, {classes}", 10, "photo"),
        ("a photo of anything", 5, "a photo of anything"),
    ],
)
def test_as_many_classes_are_named_as_fit(template: str, longest: int, expected: str) -> None:
    assert prompt_of(template, SHARES, lambda text: len(text) <= longest) == expected


def test_a_class_that_is_named_like_a_placeholder_stays_a_word() -> None:
    assert prompt_of("{names}: {classes}", {"{names}": 0.5}, lambda text: True) == "{names}: {names} 50 %"


def test_layouts_are_painted_in_whole_colours_at_any_size() -> None:
    colours = torch.tensor([entry.color for entry in TABLE.classes]).float() / 255
    image = colour_image(torch.tensor([[[3, 1], [0, 4]]]), colours, (8, 8))
    assert image.shape == (1, 3, 8, 8)
    assert image[0, :, 0, 0].tolist() == [1.0, 0.0, 0.0] and image[0, :, 7, 7].tolist() == pytest.approx(
        [1.0, 0.2, 0.0]
    )
    assert image.flatten(2).unique(dim=2).shape[2] == 4
