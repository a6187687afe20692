"""Nested values of a configuration before it is checked: changes to them, and what is wrong with them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.untrusted import parse_yaml, short


def with_overrides(values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return nested values with `a.b=c` assignments applied; c is read as YAML.

    Raises:
        ConfigError: All assignments that are malformed or reach into something that is no section.
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    problems = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *sections, key = path.strip().split(".")
        if not equals or not key or not all(sections):
            problems.append(f"{short(repr(assignment))}: write it as section.key=value, for example generate.pairs=500")
            continue
        try:
            value = parse_yaml(text)
        except ValueError:
            problems.append(
                f"{short(path)}: {short(repr(text))} is not valid YAML; put text with special characters in quotes"
            )
            continue
        target: Any = result
        for section in sections:
            if not isinstance(target, dict) or not isinstance(target.setdefault(section, {}), dict):
                problems.append(f"{short(path)}: {short(section)} is no section")
                break
            target[section] = dict(target[section])
            target = target[section]
        else:
            target[key] = value
    if problems:
        raise ConfigError("Some --set assignments cannot be applied.", problems)
    return result


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values with a nested mapping of changes laid over them."""
    result = dict(values)
    for key, change in changes.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(change, Mapping)
        result[key] = merge(before, change) if both else change  # type: ignore[arg-type]
    return result


def problems_of(error: ValidationError, remedy: str = "", known: Sequence[str] = ()) -> list[str]:
    """Return a text for each problem; of an unknown key with the one of `known` that may be meant, else `remedy`."""
    problems: list[str] = []
    for entry in error.errors():
        field = ".".join(short(str(part)) for part in entry["loc"])
        message = entry["msg"].removeprefix("Value error, ")
        if not field:
            problems += message.split("\n")
        elif entry["type"] == "extra_forbidden":
            meant = difflib.get_close_matches(field, known, n=1)
            problems.append(f"{field}: there is no such key{f'; is {meant[0]} meant?' if meant else remedy}")
        else:
            problems.append(f"{field}: {message[:1].lower()}{message[1:]}, got {short(repr(entry['input']))}")
    return problems
