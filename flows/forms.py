"""Sections of the configuration as parameters of flows: a form in Prefect's UI, checked when a run is submitted.

A recipe has a value for everything, so that a form asks for changes only: each section's fields come without default
and may be left out. Names, types, ranges and descriptions are those of `pipeline.config`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Optional

import yaml
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema

from pipeline.config import Section


class Changes(BaseModel):
    """Changes to a section; a field that is left out, or null, stays as the recipe has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ChangesTo:
    """Marks a parameter as changes to a section: `Annotated[Changes | None, ChangesTo(GenerateConfig)]`."""

    def __init__(self, section: type[Section]) -> None:
        """Take the section whose fields may be changed."""
        self.model = changes_to(section)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check, and describe in a JSON schema, the section's fields."""
        return handler.generate_schema(Optional[self.model])  # noqa: UP045 (built at run time)


@functools.cache
def changes_to(section: type[Section]) -> type[Changes]:
    """Return a model with a section's fields, none of them required, through all sections in it."""
    fields: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        kind, described = field.annotation, field.description
        if isinstance(kind, type) and issubclass(kind, Section):
            wanted, described = changes_to(kind), kind.__doc__
        else:
            wanted = field.rebuild_annotation()
        fields[name] = (
            Optional[wanted],  # noqa: UP045 (built at run time)
            Field(default=None, description=described, json_schema_extra=_as_left_out),
        )
    return create_model(section.__name__.removesuffix("Config"), __base__=Changes, __doc__=section.__doc__, **fields)


def _as_left_out(schema: dict[str, Any]) -> None:
    """Let a form show an empty field of the value's own type, in place of a choice between it and null."""
    schema.pop("default", None)
    choices = [choice for choice in schema.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        schema.update(choices[0])
    elif choices:
        schema["anyOf"] = choices


def assignments(changes: Mapping[str, Any]) -> list[str]:
    """Return changes as `section.key=value`, so that a command line can say the same.

    Args:
        changes: Values and `Changes` by the name of the key or section; None changes nothing.
    """
    result: list[str] = []
    for key, value in changes.items():
        if isinstance(value, Changes):
            value = value.model_dump(mode="json", exclude_none=True)
        result += _flat(key, value)
    return result


def _flat(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, Mapping) and not any("." in name or "=" in name for name in value):
        return [text for name, entry in value.items() for text in _flat(f"{key}.{name}", entry)]
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return [f"{key}={text.removesuffix('...' + chr(10)).strip()}"]
