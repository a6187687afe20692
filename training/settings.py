"""Settings of trainings: dataclasses whose fields carry their range and description, for whoever checks or shows them.

A field reads `width: Annotated[Count, Doc("Channels of the first layer.")] = 64`. The configuration and its forms are
made from the class, so that a new setting is declared once, beside the training that uses it.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from annotated_types import BaseMetadata, Ge, Gt, Le, Lt
from typing_extensions import Doc

Count = Annotated[int, Ge(1)]
Rate = Annotated[float, Gt(0)]
Weight = Annotated[float, Ge(0)]
Decay = Annotated[float, Ge(0), Lt(1)]

NON_IDENTIFYING = ("checkpoint_every", "log_every")
IDLE = "changes no result"
"""Marks a field, `Annotated[type, IDLE, ...]`, that decides whether or when there is a result, never which."""
ADDED = "added later"
"""Marks a field, `Annotated[type, ADDED, ...]`, that leaves everything as it was while it has its default: results from
before there was such a field stay valid."""

_BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}


class SettingField(NamedTuple):
    """A field of a settings class.

    Attributes:
        kind: Its type, without metadata.
        ranges: Bounds of its values (annotated_types).
        description: One sentence, or "".
        default: Its default, or `dataclasses.MISSING`.
    """

    kind: Any
    ranges: tuple[BaseMetadata, ...]
    description: str
    default: Any


@functools.cache
def _hints_of(settings: type) -> dict[str, Any]:
    return get_type_hints(settings, include_extras=True)


@functools.cache
def fields_of(settings: type) -> Mapping[str, SettingField]:
    """Return the fields of a settings class by name, in their order; they are read once."""
    hints, result = _hints_of(settings), {}
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        kind, *given = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        ranges = tuple(entry for entry in given if isinstance(entry, BaseMetadata))
        text = "".join(entry.documentation for entry in given if isinstance(entry, Doc))
        make = field.default_factory
        default = field.default if make is dataclasses.MISSING else make()
        result[field.name] = SettingField(kind, ranges, text, default)
    return MappingProxyType(result)


def settings_of_result(settings: Any) -> dict[str, Any]:
    """Return the numbers that decide what a training ends with; how often it is kept, logged or waited for does not.

    Args:
        settings: A dataclass of settings. Paths in it are returned as texts, which records hold.
    """
    fields, hints = fields_of(type(settings)), _hints_of(type(settings))
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(settings).items()
        if name not in NON_IDENTIFYING
        and IDLE not in get_args(hints[name])
        and not (ADDED in get_args(hints[name]) and value == fields[name].default)
    }


def range_problems(settings: Any, section: str) -> list[str]:
    """Return what is out of its range in a settings instance, one text each that names section and field."""
    problems = []
    for name, field in fields_of(type(settings)).items():
        value, wrong = getattr(settings, name), []
        for bound in field.ranges:
            compare, words = _BOUNDS[type(bound)]
            limit = getattr(bound, compare)
            if not getattr(operator, compare)(value, limit):  # also if it is no number
                wrong.append(f"it must be {words} {limit}")
        choices = _choices(field.kind)
        if choices and value not in choices:
            wrong.append(f"use one of {', '.join(map(repr, choices))}")
        problems += [f"{section}.{name} is {value!r}; {text}." for text in wrong]
    return problems


def _choices(kind: Any) -> tuple[Any, ...]:
    """Return the values of a Literal, or of one that may be None; nothing for other types."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    literal, *others = get_args(kind) or (None,)
    choices = _choices(literal) if others == [NoneType] else ()
    return (None, *choices) if choices else ()
