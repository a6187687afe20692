"""Edits of scenes with the models of a run, written as strips or animations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.arrays import Pairs
from data.classes import ClassTable
from data.errors import ConfigError
from generators.crops import EditBox
from generators.editing import Scene
from generators.pictures import write_frames


def frames_of(scenes: Sequence[Scene], table: ClassTable) -> list[np.ndarray]:
    """Return each scene as its layout above its image, uint8 [2H, W, 3]."""
    return [np.concatenate([table.colorize(scene.label), scene.image]) for scene in scenes]


def write_scenes(path: Path, scenes: Sequence[Scene], table: ClassTable) -> None:
    """Write scenes as a strip (.png) or an animation (.gif, .webp)."""
    write_frames(path, frames_of(scenes, table))


def class_ids(names: Sequence[str], table: ClassTable) -> list[int]:
    """Return the ids of classes by name.

    Raises:
        ConfigError: All unknown names at once.
    """
    unknown = [name for name in names if name not in table.names]
    if unknown:
        raise ConfigError(f"There is no class {', '.join(map(repr, unknown))}. Classes are {', '.join(table.names)}.")
    return [table.names.index(name) for name in names]


def factors_by_id(changes: Mapping[str, float], table: ClassTable) -> dict[int, float]:
    """Return factors on shares by class id.

    Raises:
        ConfigError: An unknown class, or a factor below 0.
    """
    negative = [name for name, factor in changes.items() if not factor >= 0]
    if negative:
        raise ConfigError(f"The factor of {', '.join(negative)} is below 0; 0 removes a class, 2 doubles its share.")
    return dict(zip(class_ids(list(changes), table), changes.values(), strict=True))


def sample_index(sample: str, pairs: Pairs) -> int:
    """Return the position of a training sample given by its id or its number from 0.

    Raises:
        ConfigError: There is no such sample.
    """
    if sample in pairs.ids:
        return list(pairs.ids).index(sample)
    if sample.isdecimal() and int(sample) < len(pairs):
        return int(sample)
    raise ConfigError(
        f"There is no training sample {sample!r}. Give a number from 0 to {len(pairs) - 1}, or an id such as "
        f"{pairs.ids[0]!r}."
    )


def region_of(label: np.ndarray, class_name: str | None, box: EditBox | None, table: ClassTable) -> np.ndarray | None:
    """Return the pixels of a class or a box as bool [H, W], or None where neither is given.

    Raises:
        ConfigError: Both are given, or there is no such pixel.
    """
    if class_name is not None and box is not None:
        raise ConfigError("A class and a box were given; give one of them.")
    if class_name is not None:
        region = label == class_ids([class_name], table)[0]
        if not region.any():
            present = ", ".join(table.names[i] for i in np.unique(label))
            raise ConfigError(f"The sample has no {class_name}; its classes are {present}.")
        return region
    if box is not None:
        check_box(box, label.shape)
        region = np.zeros(label.shape, dtype=bool)
        top, left, height, width = box
        region[top : top + height, left : left + width] = True
        return region
    return None


def check_box(box: EditBox, shape: tuple[int, ...]) -> None:
    """Check that a box lies inside the image.

    Raises:
        ConfigError: It does not.
    """
    top, left, height, width = box
    if min(top, left) < 0 or min(height, width) < 1 or top + height > shape[0] or left + width > shape[1]:
        raise ConfigError(
            f"The box {top},{left},{height},{width} (top, left, height, width) does not lie inside the image, which "
            f"is {shape[0]} high and {shape[1]} wide."
        )
