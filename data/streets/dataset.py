"""The embedded data set as the rest of the package reads it."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from types import MappingProxyType

from scenepalette.common.errors import ConfigError
from scenepalette.common.randomness import derive_seed
from scenepalette.common.storage.files import sha256_of_json
from scenepalette.data.decoding.class_files import packaged_table
from scenepalette.data.sample import DatasetEntry, Sample
from scenepalette.data.streets.render import render
from scenepalette.data.streets.scene import Scene, sample_scene

LICENCE = "Apache-2.0"
SPLITS = ("train", "val", "test")
SMALLEST_SIDE = 16

# Raised whenever the same arguments would give other pixels, so that prepared arrays are made again.
DRAWING_VERSION = 1

STREETS = packaged_table("streets")


class Streets:
    """Street scenes drawn on demand: a sample depends on (seed, split, index, size) and on nothing else.

    The scene itself depends on (seed, split, index); the size only decides how finely it is drawn. Trucks and buses
    share the class "truck", traffic lights belong to "traffic sign"; the camera car's bonnet and some clutter are
    ignored (255).
    """

    name = "streets"
    table = STREETS
    licence = LICENCE
    label_origins: Mapping[str, str] = MappingProxyType({})

    def __init__(self, split: str, count: int, size: tuple[int, int], seed: int = 0) -> None:
        """Describes `count` scenes; none is drawn before it is asked for.

        Args:
            split: "train", "val" or "test"; their scenes have nothing in common.
            count: number of samples, at least 1.
            size: (height, width) in pixels, each at least 16.
            seed: any integer.

        Raises:
            ConfigError: an argument is out of its range; all problems are listed.
        """
        problems: list[str] = []
        if split not in SPLITS:
            problems.append(f"split: received {split!r}; choose one of {', '.join(SPLITS)}")
        if count < 1:
            problems.append(f"count: received {count}; at least 1 is required")
        if min(size) < SMALLEST_SIDE:
            problems.append(f"size: received {size[0]}x{size[1]}; each side must be at least {SMALLEST_SIDE} pixels")
        if problems:
            raise ConfigError("The street scenes cannot be drawn as asked.", problems)
        self.split = split
        self.size = (int(size[0]), int(size[1]))
        self.seed = int(seed)
        self.ids = tuple(f"{split}-{index:05d}" for index in range(count))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Draws one sample: image uint8 [H, W, 3], label uint8 [H, W] of class ids or 255."""
        position = self._position(index)
        image, label = render(self.scene(position), self.size)
        return Sample(id=self.ids[position], image=image, label=label)

    def scene(self, index: int) -> Scene:
        """The description from which sample `index` is drawn, whatever the size."""
        return sample_scene(derive_seed("streets", self.seed, self.split, self._position(index)))

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the pixels."""
        content = {"split": self.split, "count": len(self.ids), "size": list(self.size), "seed": self.seed}
        return sha256_of_json({"name": self.name, "version": DRAWING_VERSION, **content})

    @property
    def content(self) -> str:
        """The same: scenes are drawn from these numbers alone."""
        return self.fingerprint

    def _position(self, index: int) -> int:
        position = operator.index(index)
        if position < 0:
            position += len(self.ids)
        if not 0 <= position < len(self.ids):
            raise IndexError(f"sample {index} was asked for, but there are {len(self.ids)}")
        return position


DATASET = DatasetEntry(
    name="streets",
    open=Streets,
    description="embedded street scenes, drawn by code, 14 classes",
    drawn=True,
    recordings=False,
)
