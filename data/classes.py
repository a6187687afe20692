"""Class tables: which class each id stands for, its colour, and whether it counts in the official evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from scenepalette.common.errors import ConfigError
from scenepalette.common.files import sha256_of_json

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
        """Check the table."""
        problems: list[str] = []
        if not 2 <= len(self.classes) <= IGNORE_ID:
            problems.append(
                f"{len(self.classes)} classes; 2 to {IGNORE_ID} are required ({IGNORE_ID} is the ignore id)"
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
        """Return the number of classes K."""
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
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"A class table cannot be read ({type(error).__name__}: {error}); required are 'name' and 'classes', "
                "each class with 'name', 'color' (three integers) and 'evaluated'. Make the file anew."
            ) from error
        return cls(name=name, classes=tuple(classes))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the table's JSON: equal for equal names, order, colours and evaluation flags."""
        return sha256_of_json(self.to_dict())


CAMVID = ClassTable(
    name="camvid",
    classes=(
        SemanticClass("sky", (128, 128, 128)),
        SemanticClass("building", (128, 0, 0)),
        SemanticClass("pole", (192, 192, 128)),
        SemanticClass("road", (128, 64, 128)),
        SemanticClass("pavement", (60, 40, 222)),
        SemanticClass("tree", (128, 128, 0)),
        SemanticClass("sign_symbol", (192, 128, 128)),
        SemanticClass("fence", (64, 64, 128)),
        SemanticClass("car", (64, 0, 128)),
        SemanticClass("pedestrian", (64, 64, 0)),
        SemanticClass("bicyclist", (0, 128, 192)),
    ),
)
"""CamVid's 11 classes in the order and colours of the SegNet release; 11, its "unlabelled", is ignored."""

CITYSCAPES = ClassTable(
    name="cityscapes",
    classes=(
        SemanticClass("unlabeled", (0, 0, 0), evaluated=False),
        SemanticClass("ego vehicle", (0, 0, 0), evaluated=False),
        SemanticClass("rectification border", (0, 0, 0), evaluated=False),
        SemanticClass("out of roi", (0, 0, 0), evaluated=False),
        SemanticClass("static", (0, 0, 0), evaluated=False),
        SemanticClass("dynamic", (111, 74, 0), evaluated=False),
        SemanticClass("ground", (81, 0, 81), evaluated=False),
        SemanticClass("road", (128, 64, 128)),
        SemanticClass("sidewalk", (244, 35, 232)),
        SemanticClass("parking", (250, 170, 160), evaluated=False),
        SemanticClass("rail track", (230, 150, 140), evaluated=False),
        SemanticClass("building", (70, 70, 70)),
        SemanticClass("wall", (102, 102, 156)),
        SemanticClass("fence", (190, 153, 153)),
        SemanticClass("guard rail", (180, 165, 180), evaluated=False),
        SemanticClass("bridge", (150, 100, 100), evaluated=False),
        SemanticClass("tunnel", (150, 120, 90), evaluated=False),
        SemanticClass("pole", (153, 153, 153)),
        SemanticClass("polegroup", (153, 153, 153), evaluated=False),
        SemanticClass("traffic light", (250, 170, 30)),
        SemanticClass("traffic sign", (220, 220, 0)),
        SemanticClass("vegetation", (107, 142, 35)),
        SemanticClass("terrain", (152, 251, 152)),
        SemanticClass("sky", (70, 130, 180)),
        SemanticClass("person", (220, 20, 60)),
        SemanticClass("rider", (255, 0, 0)),
        SemanticClass("car", (0, 0, 142)),
        SemanticClass("truck", (0, 0, 70)),
        SemanticClass("bus", (0, 60, 100)),
        SemanticClass("caravan", (0, 0, 90), evaluated=False),
        SemanticClass("trailer", (0, 0, 110), evaluated=False),
        SemanticClass("train", (0, 80, 100)),
        SemanticClass("motorcycle", (0, 0, 230)),
        SemanticClass("bicycle", (119, 11, 32)),
        SemanticClass("license plate", (0, 0, 142), evaluated=False),
    ),
)
"""Cityscapes' 35 classes, 19 of them in the official evaluation.

Ids 0 to 33 are the published label ids. "license plate", published as -1 and therefore never drawn into the label
files, is 34. The void classes (unlabeled, ego vehicle, ...) are classes like any other, because a layout generator has
to draw them too (Semantic Palette, section 5, trains on all 35); they count in mIoU* only.
"""

IDD = ClassTable(
    name="idd",
    classes=(
        SemanticClass("road", (128, 64, 128)),
        SemanticClass("parking", (250, 170, 160)),
        SemanticClass("drivable fallback", (81, 0, 81)),
        SemanticClass("sidewalk", (244, 35, 232)),
        SemanticClass("rail track", (230, 150, 140)),
        SemanticClass("non-drivable fallback", (152, 251, 152)),
        SemanticClass("person", (220, 20, 60)),
        SemanticClass("animal", (246, 198, 145), evaluated=False),
        SemanticClass("rider", (255, 0, 0)),
        SemanticClass("motorcycle", (0, 0, 230)),
        SemanticClass("bicycle", (119, 11, 32)),
        SemanticClass("autorickshaw", (255, 204, 54)),
        SemanticClass("car", (0, 0, 142)),
        SemanticClass("truck", (0, 0, 70)),
        SemanticClass("bus", (0, 60, 100)),
        SemanticClass("caravan", (0, 0, 90), evaluated=False),
        SemanticClass("trailer", (0, 0, 110), evaluated=False),
        SemanticClass("train", (0, 80, 100), evaluated=False),
        SemanticClass("vehicle fallback", (136, 143, 153)),
        SemanticClass("curb", (220, 190, 40)),
        SemanticClass("wall", (102, 102, 156)),
        SemanticClass("fence", (190, 153, 153)),
        SemanticClass("guard rail", (180, 165, 180)),
        SemanticClass("billboard", (174, 64, 67)),
        SemanticClass("traffic sign", (220, 220, 0)),
        SemanticClass("traffic light", (250, 170, 30)),
        SemanticClass("pole", (153, 153, 153)),
        SemanticClass("polegroup", (153, 153, 153)),
        SemanticClass("obs-str-bar-fallback", (169, 187, 214)),
        SemanticClass("building", (70, 70, 70)),
        SemanticClass("bridge", (150, 100, 100)),
        SemanticClass("tunnel", (150, 120, 90)),
        SemanticClass("vegetation", (107, 142, 35)),
        SemanticClass("sky", (70, 130, 180)),
        SemanticClass("fallback background", (169, 187, 214)),
        SemanticClass("unlabeled", (0, 0, 0), evaluated=False),
        SemanticClass("ego vehicle", (0, 0, 0), evaluated=False),
        SemanticClass("rectification border", (0, 0, 0), evaluated=False),
        SemanticClass("out of roi", (0, 0, 0), evaluated=False),
        SemanticClass("license plate", (0, 0, 142), evaluated=False),
    ),
)
"""The India Driving Dataset's 40 ids, as its preparation script writes them with `--id-type id`.

Evaluated are the 31 classes that the published label table does not mark as ignored in evaluation.
"""

CELEBAMASK_HQ = ClassTable(
    name="celebamask-hq",
    classes=(
        SemanticClass("background", (0, 0, 0)),
        SemanticClass("skin", (204, 0, 0)),
        SemanticClass("nose", (76, 153, 0)),
        SemanticClass("eye_g", (204, 204, 0)),
        SemanticClass("l_eye", (51, 51, 255)),
        SemanticClass("r_eye", (204, 0, 204)),
        SemanticClass("l_brow", (0, 255, 255)),
        SemanticClass("r_brow", (255, 204, 204)),
        SemanticClass("l_ear", (102, 51, 0)),
        SemanticClass("r_ear", (255, 0, 0)),
        SemanticClass("mouth", (102, 204, 0)),
        SemanticClass("u_lip", (255, 255, 0)),
        SemanticClass("l_lip", (0, 0, 153)),
        SemanticClass("hair", (0, 0, 204)),
        SemanticClass("hat", (255, 51, 153)),
        SemanticClass("ear_r", (0, 204, 204)),
        SemanticClass("neck_l", (0, 51, 0)),
        SemanticClass("neck", (255, 153, 51)),
        SemanticClass("cloth", (0, 204, 0)),
    ),
)
"""CelebAMask-HQ's 19 classes in the order and colours of its face parsing code (Lee et al. 2020).

The names are those in the mask files' names: eye_g are glasses, ear_r is an earring, neck_l a necklace.
"""
