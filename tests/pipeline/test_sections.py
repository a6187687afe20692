from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError
from typing_extensions import Doc

from scenepalette.pipeline.sections import Section, keys_of, settings_from
from scenepalette.training.settings import Count


@dataclass(frozen=True)
class Numbers:
    width: Annotated[Count, Doc("Channels.")] = 8
    mode: Annotated[Literal["a", "b"], Doc("Way.")] = "a"
    fixed: Annotated[float, Doc("No key.")] = 0.5


class Name(Section):
    name: str = Field(default="x", description="First key.")


class Numbered(keys_of(Numbers, without=("fixed",), defaults={"mode": ...}), Name):
    """A section."""


def test_a_section_has_the_fields_of_its_settings_behind_its_own() -> None:
    schema = Numbered.model_json_schema()
    assert list(schema["properties"]) == ["name", "width", "mode"] and schema["required"] == ["mode"]
    assert schema["properties"]["width"] == {
        "default": 8,
        "description": "Channels.",
        "minimum": 1,
        "title": "Width",
        "type": "integer",
    }
    with pytest.raises(ValidationError) as caught:
        Numbered.model_validate({"width": 0, "mode": "c", "fixed": 1})
    assert {entry["loc"] for entry in caught.value.errors()} == {("width",), ("mode",), ("fixed",)}


def test_settings_come_back_with_the_sections_values() -> None:
    assert settings_from(Numbered(mode="b", width=3), Numbers) == Numbers(3, "b", 0.5)


def test_only_the_fields_named_are_taken() -> None:
    class Short(keys_of(Numbers, "mode", kinds={"mode": str})):
        """A section."""

    assert Short.model_json_schema()["properties"] == {
        "mode": {"default": "a", "description": "Way.", "title": "Mode", "type": "string"}
    }
