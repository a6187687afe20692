from __future__ import annotations

import yaml

from scenepalette.pipeline.starting.text import WIDTH, recipe_text

VALUES = {"recipe": "demo", "data": {"root": "/a: #b/é", "size": [1, 2]}, "generate": {"kinds": ["full"]}}


def test_comments_stand_above_their_keys_and_values_come_back() -> None:
    text = recipe_text(["Head."], VALUES, {"data": ["Data."], "data.size": ["Why.", "What."]}, ["run it"])
    assert yaml.safe_load(text) == VALUES
    lines = text.splitlines()
    assert lines[0] == "# Head." and lines[-1] == "# run it"
    at = lines.index("  size: [1, 2]")
    assert lines[at - 2 : at] == ["  # Why.", "  # What."] and lines[lines.index("data:") - 1] == "# Data."


def test_no_comment_ends_early_whatever_it_says() -> None:
    hostile = ["a\nseed: 1", "b\r\x85\u2028seed: 2", "c\x00\x1b[2J", "\udcff d", "word " * 60]
    text = recipe_text(hostile, VALUES, {"data.size": hostile}, hostile)
    text.encode()
    assert yaml.safe_load(text) == VALUES
    comments = [line for line in text.splitlines() if line.lstrip().startswith("# ")]
    assert all(character.isprintable() for line in comments for character in line)
    assert max(map(len, text.split("\n\n")[0].splitlines())) <= WIDTH + 4
