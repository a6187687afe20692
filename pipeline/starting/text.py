"""A recipe as YAML whose comments say why each value was chosen, and what to change."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from scenepalette.pipeline.request import in_one_line

WIDTH = 110


def recipe_text(
    head: Sequence[str], values: Mapping[str, Any], comments: Mapping[str, Sequence[str]], foot: Sequence[str]
) -> str:
    """Return YAML of nested values with comments.

    Args:
        head: Lines of the comment at the beginning.
        values: Sections of values; what is no mapping is written in one line.
        comments: Lines of comments by dotted key, written above it.
        foot: Lines of the comment at the end; they are not broken, as they may be commands.
    """
    lines = _comment(head, 0)
    for key, value in values.items():
        lines += [*([""] if isinstance(value, Mapping) else []), *_lines(key, value, comments, key, 0)]
    return "\n".join([*lines, "", *(f"# {_plain(line)}".rstrip() for line in foot), ""])


def _lines(key: str, value: Any, comments: Mapping[str, Sequence[str]], path: str, depth: int) -> list[str]:
    lines, indent = _comment(comments.get(path, ()), depth), "  " * depth
    if not isinstance(value, Mapping):
        return [*lines, f"{indent}{key}: {in_one_line(value)}"]
    lines.append(f"{indent}{key}:")
    for name, entry in value.items():
        lines += _lines(name, entry, comments, f"{path}.{name}", depth + 1)
    return lines


def _comment(texts: Sequence[str], depth: int) -> list[str]:
    indent = "  " * depth
    return [
        f"{indent}# {line}"
        for text in texts
        for line in textwrap.wrap(
            _plain(text), WIDTH - len(indent), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    ]


def _plain(text: str) -> str:
    """Return a text in one line of characters that a comment in YAML may hold."""
    shown = " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").split())
    return "".join(character if character.isprintable() else "?" for character in shown)
