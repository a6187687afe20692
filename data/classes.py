"""Class tables: which class each id stands for, its colour, and whether it counts in the official evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.files import sha256_of_json
from scenepalette.common.wording import counted

IGNORE_ID = 255
"""Value of pixels without a class, in memory, in arrays and in shards, whatever a source data set uses."""


@dataclass(frozen=True)
class SemanticClass:
    """One class.

    Attributes:
        name: Name, unique in its table.
        color: Red, green and blue, each 0..255, for images of label maps.
        evaluated: Whether the class counts in mIoU; mIoU* counts every class.
    """

    name: str
    color: tuple[int, int, int]
    evaluated: bool = True


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set; a class's id is its position.

    Attributes:
        name: Name of the table.
        classes: 2 to 255 classes with unique names, at least one of them evaluated.

    Raises:
        ConfigError: The classes break a rule above; every problem is listed.
    """

    name: str
    classes: tuple[SemanticClass, ...]

    def __post_init__(self) -> None:
        problems: list[str] = []
        if not 2 <= len(self.classes) <= IGNORE_ID:
            problems.append(
                f"{counted(len(self.classes), 'class', 'classes')}; 2 to {IGNORE_ID} are required ({IGNORE_ID} is the "
                "ignore id)"
            )
        first_ids: dict[str, int] = {}
        for class_id, entry in enumerate(self.classes):
            if not entry.name:
                problems.append(f"class {class_id} has no name")
            first_id = first_ids.setdefault(entry.name, class_id)
            if first_id != class_id:
                problems.append(
                    f"classes {first_id} and {class_id} are both named '{entry.name}'; names must be unique"
                )
            if len(entry.color) != 3 or not all(0 <= part <= 255 for part in entry.color):
                problems.append(
                    f"class {class_id} '{entry.name}' has colour {entry.color}; three values from 0 to 255 are required"
                )
        if self.classes and not any(entry.evaluated for entry in self.classes):
            problems.append("no class is evaluated; mark at least one")
        if problems:
            raise ConfigError(f"The class table '{self.name}' cannot be used. Correct:", problems)

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def num_classes(self) -> int:
        """Number of classes K; valid ids are 0..K-1."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of their ids."""
        return tuple(entry.name for entry in self.classes)

    @cached_property
    def colors(self) -> np.ndarray:
        """Colour of every label value: uint8 [256, 3], read-only; unused values and the ignore id are black."""
        lookup = np.zeros((256, 3), dtype=np.uint8)
        lookup[: self.num_classes] = [entry.color for entry in self.classes]
        lookup.setflags(write=False)
        return lookup

    @property
    def eval_ids(self) -> tuple[int, ...]:
        """Ids of the classes that count in the official evaluation."""
        return tuple(class_id for class_id, entry in enumerate(self.classes) if entry.evaluated)

    def colorize(self, label: np.ndarray) -> np.ndarray:
        """Paint a label map.

        Args:
            label: Integers [H, W] (or any shape) in 0..255.

        Returns:
            uint8 [H, W, 3].
        """
        return self.colors[label]

    @classmethod
    def unnamed(cls, count: int) -> ClassTable:
        """Return a table of `count` classes in shades of grey, where networks are built before data is known.

        Raises:
            ConfigError: A table cannot have so many classes.
        """
        return cls("unnamed", tuple(SemanticClass(f"class {k}", (k % 256, k % 256, k % 256)) for k in range(count)))

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain values for JSON; `from_dict` is the inverse."""
        return {
            "name": self.name,
            "classes": [
                {"name": entry.name, "color": list(entry.color), "evaluated": entry.evaluated} for entry in self.classes
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassTable:
        """Make a table from what `to_dict` returned.

        Raises:
            ConfigError: A key is missing or a value has the wrong form.
        """
        try:
            classes = []
            for entry in values["classes"]:
                red, green, blue = (int(part) for part in entry["color"])
                classes.append(SemanticClass(str(entry["name"]), (red, green, blue), bool(entry["evaluated"])))
            name = str(values["name"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:  # the last of an infinite colour
            raise ConfigError(
                f"A class table cannot be read ({type(error).__name__}: {error}); required are 'name' and 'classes', "
                "each class with 'name', 'color' (three integers) and 'evaluated'. Make the file again."
            ) from error
        return cls(name=name, classes=tuple(classes))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the table's JSON: equal for equal names, order, colours and evaluation flags."""
        return sha256_of_json(self.to_dict())
