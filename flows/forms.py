"""Sections of the configuration as parameters of flows: a form in Prefect's UI, checked when a run is submitted.

A recipe has a value for everything, so that a form asks for changes only: each section's fields come without default
and may be left out. Names, types, ranges and descriptions are those of `scenepalette.pipeline.config`. Overrides
change any section, as a mapping or as a list of assignments.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, create_model
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function

from scenepalette.common.storage.untrusted import short
from scenepalette.pipeline.config.run_config import KeyKind, keys
from scenepalette.pipeline.request import assignment
from scenepalette.pipeline.sections import Section


class Changes(BaseModel):
    """Changes to a section; a field that is left out, or null, stays as the recipe has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ChangesTo:
    """Marks a parameter as changes to a section: `Annotated[Changes | None, ChangesTo(GenerateConfig)]`."""

    def __init__(self, section: type[Section]) -> None:
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
    """Return values and `Changes` by key as `section.key=value`, as a command line says them; None changes nothing."""
    given = {
        key: value.model_dump(mode="json", exclude_none=True) if isinstance(value, Changes) else value
        for key, value in changes.items()
        if value is not None
    }
    return override_texts(given)


def override_texts(overrides: Sequence[str] | Mapping[str, Any] | None) -> list[str]:
    """Return overrides as `section.key=value`; a mapping's keys are nested, dotted or both."""
    if isinstance(overrides, Mapping):
        return [text for key, value in overrides.items() for text in _flat(key, value)]
    return list(overrides or ())


def _flat(key: str, value: Any) -> list[str]:
    # A section is changed key by key; a dictionary without entries, or with names that are no keys, is a value.
    if isinstance(value, Mapping) and (
        key in keys()["section"] or (value and not any("." in name or "=" in name for name in value))
    ):
        return [text for name, entry in value.items() for text in _flat(f"{key}.{name}", entry)]
    return [assignment(key, value)]


class OverridesForm:
    """Marks a parameter as changes to any section: `Annotated[list[str] | dict[str, Any] | None, OverridesForm()]`.

    Its keys are checked wherever a run is submitted, by the parameter's schema, and again when it begins.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the types and then the keys."""
        return no_info_after_validator_function(_with_known_keys, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe a list of assignments or a mapping; a refusal shows the keys of the section that was meant."""
        nested = {f"^{section}$": _nested_schema(section) for section in _tops("section")}
        choices = [
            {"type": "array", "title": "List of section.key=value", "items": _names_schema("=")},
            {"type": "object", "title": "Mapping", "propertyNames": _names_schema("$"), "patternProperties": nested},
            {"type": "null"},
        ]
        return {"anyOf": choices}


def _tops(kind: KeyKind, section: str = "") -> list[str]:
    """Return the names of a kind that are directly in a section, or in the configuration."""
    prefix = f"{section}." if section else ""
    below = [key.removeprefix(prefix) for key in keys()[kind] if key.startswith(prefix)]
    return [name for name in below if "." not in name]


def _pattern_within(section: str) -> str:
    """Return a pattern of the keys within a section, through all sections in it."""
    return "|".join(
        [
            *_tops("value", section),
            *(rf"{name}(\.[^=]+)?" for name in _tops("dictionary", section)),
            *(rf"{name}(\.({_pattern_within(f'{section}.{name}')}))?" for name in _tops("section", section)),
        ]
    )


def _names_schema(end: str) -> dict[str, Any]:
    """Return the schema of a dotted key, or of an assignment to one; each section has a pattern of its own."""
    sections = _tops("section")
    within = [
        {
            "if": {"pattern": rf"^{section}\."},
            "then": {"type": "string", "pattern": rf"^{section}\.({_pattern_within(section)}){end}"},
        }
        for section in sections
    ]
    # One refusal at a time: this pattern leaves what follows a section to the section's own.
    first = rf"^(({'|'.join(_tops('value'))}){end}|({'|'.join(sections)})(\.|{end}))"
    return {"type": "string", "pattern": first, "allOf": within}


def _nested_schema(section: str) -> dict[str, Any]:
    """Return the schema of a mapping that stands for a section."""
    nested = {f"^{name}$": _nested_schema(f"{section}.{name}") for name in _tops("section", section)}
    names = {"type": "string", "pattern": rf"^({_pattern_within(section)})$"}
    return {"type": "object", "propertyNames": names, **({"patternProperties": nested} if nested else {})}


def _with_known_keys(overrides: list[str] | dict[str, Any] | None) -> list[str] | dict[str, Any] | None:
    """Return overrides as they are.

    Raises:
        ValueError: Names all keys that there are not, each with the one that may be meant.
    """
    texts = override_texts(overrides)
    known = [key for kind in keys().values() for key in kind]
    problems = [
        f"{short(repr(key))}: write a name with = within its dictionary, as {{{key.partition('.')[0]!r}: ...}}"
        for key in (overrides if isinstance(overrides, dict) else ())
        if "=" in key
    ]
    for text in texts:
        key, equals, _ = text.partition("=")
        if not equals:
            problems.append(f"{short(repr(text))}: write it as section.key=value, for example generate.pairs=500")
        elif key not in known and not any(key.startswith(f"{name}.") for name in keys()["dictionary"]):
            meant = difflib.get_close_matches(key, known, n=1)
            hint = f"; is {meant[0]} meant?" if meant else f"; sections are {', '.join(_tops('section'))}"
            problems.append(f"{short(repr(key))}: there is no such key{hint}")
    if problems:
        raise ValueError("; ".join(problems))
    return overrides
