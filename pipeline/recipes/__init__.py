"""Recipes: a YAML file each of what differs from defaults, whose first line says its command and what to expect."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenepalette.common.storage.untrusted import parse_yaml


@dataclass(frozen=True)
class Recipe:
    """A recipe of this package."""

    path: Path

    def __call__(self) -> dict[str, Any]:
        """Return its values, nested, which the caller may change."""
        # Through JSON: sections that are one in the file, by an alias, must not change together.
        return json.loads(json.dumps(parse_yaml(self.path.read_text(encoding="utf-8"))))

    @property
    def summary(self) -> str:
        """Its command, and what to expect of it."""
        return self.path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


RECIPES = {
    name: Recipe(Path(__file__).with_name(f"{name}.yaml")) for name in ("demo", "camvid-cpu", "camvid", "cityscapes")
}
"""By name, from the quickest to the longest."""
