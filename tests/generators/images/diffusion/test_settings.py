from __future__ import annotations

import pytest

from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.generators.images.diffusion.settings import (
    ControlnetSettings,
    class_colours,
    settings_problems,
    table_problems,
    working_size,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GIVEN = {"base": "base", "controlnet": "controlnet"}
STREET = ClassTable(
    "street",
    (SemanticClass("Road", (128, 64, 128)), SemanticClass("sky", (1, 2, 3)), SemanticClass("bus stop", (4, 5, 6))),
)


def settings(**values: object) -> ControlnetSettings:
    return ControlnetSettings(**{**GIVEN, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"base": " "}, "systems.controlnet.base: it is missing; give the folder"),
        ({"controlnet": ""}, "systems.controlnet.controlnet: it is missing"),
        ({"base": "hf://org/name"}, "with the 40 digits of a commit"),
        ({"base": "hf://org/name@main"}, "with the 40 digits of a commit"),
        ({"base": f"hf://org/name@{COMMIT}"}, "systems.controlnet.base_licence: it is missing"),
        ({"controlnet": "s3://bucket/weights"}, "weights have to lie in a folder, or on the hub"),
        ({"size": (64, 100)}, "systems.controlnet.size: got 64 x 100; multiples of 8 are required"),
        ({"prompt": "{class} on {names}"}, "systems.controlnet.prompt: it has {class}; placeholders are {classes}"),
        ({"negative_prompt": "{names}"}, "systems.controlnet.negative_prompt: it has {names}; it has no placeholders"),
        ({"steps": 5, "dtype": "float16"}, "gradients of the fine-tuning vanish in float16"),
        ({"scheduler": "pndm", "inference_steps": 3}, "inference_steps: got 3; pndm takes 4 or more"),
        ({"noise_scheme": "pixel"}, "noise_scheme: got 'pixel'"),
        ({"colours": "classes", "ade20k_names": {"a": "road"}}, "colours=classes does not use it"),
        ({"ade20k_names": {"a": "unicorn"}}, "unicorn: ADE20K has no such class; its classes are wall, building"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, object], words: str) -> None:
    (problem,) = settings_problems(settings(**values))
    assert words in problem


def test_what_can_be_meant_is_taken() -> None:
    assert settings_problems(settings()) == []
    assert settings_problems(settings(base=f"hf://org/name@{COMMIT}", base_licence="mit", size=(64, 96))) == []
    # A ControlNet that is trained may begin as a copy of the base's encoder.
    assert settings_problems(settings(controlnet="", steps=5)) == []


def test_images_are_made_at_a_shorter_side_of_512_unless_a_size_is_given() -> None:
    assert working_size(settings(), (256, 512)) == (512, 1024)
    assert working_size(settings(), (720, 960)) == (512, 680)  # 682.67, to the next multiple of 8
    assert working_size(settings(), (64, 30)) == (1096, 512)
    assert working_size(settings(size=(256, 320)), (64, 96)) == (256, 320)


def test_classes_have_the_colours_that_the_controlnet_knows() -> None:
    named = settings(ade20k_names={"bus stop": "Building"})
    expected = {"Road": (140, 140, 140), "sky": (6, 230, 230), "bus stop": (180, 120, 120)}
    assert class_colours(named, STREET) == expected
    assert class_colours(settings(colours="classes"), STREET)["sky"] == (1, 2, 3)


def test_classes_that_ade20k_lacks_are_listed_with_what_to_do() -> None:
    (problem,) = table_problems(settings(), STREET)
    assert "ADE20K has no class 'bus stop'" in problem and 'ade20k_names={"bus stop": "..."}' in problem
    (problem,) = table_problems(settings(ade20k_names={"bus stop": "building", "tram": "bus"}), STREET)
    assert "the data has no class 'tram'" in problem
    assert table_problems(settings(colours="classes"), STREET) == []
