"""Sections of the configuration, and how one is made from the settings of the training that it is for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, create_model

from scenepalette.training.settings import fields_of

Settings = TypeVar("Settings")


class Section(BaseModel):
    """A part of the configuration: values cannot be changed, unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def keys_of(
    settings: type[Settings],
    *names: str,
    without: tuple[str, ...] = (),
    defaults: Mapping[str, Any] | None = None,
    kinds: Mapping[str, Any] | None = None,
) -> type[Settings]:
    """Return a base class for a section: the fields of a settings class as keys of the configuration.

    Keys of a base that stands behind it come first: `class MySection(keys_of(MySettings), MyFirstKeys)`.

    Args:
        settings: A dataclass whose fields have ranges and descriptions, see `scenepalette.training.settings`.
        names: The fields to take; all if none is named.
        without: Fields to leave out.
        defaults: Defaults by key, where the configuration has others than the settings class.
        kinds: Types by key, where a form shows another than the settings class has.
    """
    keys: dict[str, Any] = {}
    for name, field in fields_of(settings).items():
        if name in without or (names and name not in names):
            continue
        kind = (kinds or {}).get(name, field.kind)
        for bound in field.ranges:
            kind = Annotated[kind, bound]
        default = (defaults or {}).get(name, ... if field.default is dataclasses.MISSING else field.default)
        keys[name] = (kind, Field(default, description=field.description))
    # To a type checker the section has the attributes of the settings class.
    return cast("type[Settings]", create_model(f"{settings.__name__}Keys", __base__=Section, **keys))


def settings_from(section: Section, settings: type[Settings]) -> Settings:
    """Return settings with the values of the section's keys; fields that are no keys keep their defaults."""
    names = fields_of(settings).keys() & type(section).model_fields.keys()
    return settings(**{name: getattr(section, name) for name in names})
