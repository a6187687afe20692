from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Le
from typing_extensions import Doc

from scenepalette.generators.fine_tuning import FineTuneSettings
from scenepalette.generators.images.base import ImageSettings
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.segmenters.settings import SegmenterSettings
from scenepalette.training.settings import ADDED, Count, Decay, fields_of, range_problems, settings_of_result


@dataclass(frozen=True)
class Numbers:
    count: Annotated[Count, Doc("How many.")]
    share: Annotated[float, Gt(0), Le(1)] = 0.5
    decay: Decay = 0.9
    mode: Literal["a", "b"] | None = None
    free: tuple[int, ...] = ()


def test_a_field_has_its_type_ranges_description_and_default() -> None:
    fields = fields_of(Numbers)
    assert list(fields) == ["count", "share", "decay", "mode", "free"]
    assert fields["count"] == (int, (Ge(1),), "How many.", MISSING)
    assert fields["share"].ranges == (Gt(0), Le(1)) and fields["share"].default == 0.5
    # Read once for all who ask: nobody can change what others get.
    assert fields_of(Numbers) is fields
    with pytest.raises(TypeError):
        fields["share"] = fields["decay"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("numbers", "problems"),
    [
        (Numbers(1, 1.0, 0.0, "b", (-3,)), []),
        (
            Numbers(0, 2.0, 1.0, "c"),  # type: ignore[arg-type]
            [
                "here.count is 0; it must be at least 1.",
                "here.share is 2.0; it must be at most 1.",
                "here.decay is 1.0; it must be below 1.",
                "here.mode is 'c'; use one of None, 'a', 'b'.",
            ],
        ),
        (Numbers(1, 0.0), ["here.share is 0.0; it must be above 0."]),
        (
            Numbers(1, float("nan")),
            ["here.share is nan; it must be above 0.", "here.share is nan; it must be at most 1."],
        ),
    ],
)
def test_every_value_out_of_range_is_named(numbers: Numbers, problems: list[str]) -> None:
    assert range_problems(numbers, "here") == problems


@pytest.mark.parametrize("settings", [FineTuneSettings, ImageSettings, LayoutSettings, SegmenterSettings])
def test_every_setting_is_described_and_has_a_default_within_its_range(settings: type) -> None:
    assert [name for name, field in fields_of(settings).items() if not field.description] == []
    assert range_problems(settings(), "") == []


def test_a_field_that_was_added_identifies_a_result_only_where_it_is_not_the_default() -> None:
    @dataclass(frozen=True)
    class Grown:
        count: Count = 3
        checkpoint_every: Count = 5
        warp: Annotated[float, ADDED, Ge(0), Doc("How far.")] = 0.0

    assert settings_of_result(Grown()) == {"count": 3}
    assert settings_of_result(Grown(4, 9, 0.5)) == {"count": 4, "warp": 0.5}
    assert fields_of(Grown)["warp"] == (float, (Ge(0),), "How far.", 0.0)


def test_a_result_is_of_a_path_as_a_text() -> None:
    @dataclass(frozen=True)
    class Files:
        weights: Path | None = Path("folder/weights.pt")

    assert settings_of_result(Files()) == {"weights": "folder/weights.pt"}
    assert settings_of_result(Files(None)) == {"weights": None}
