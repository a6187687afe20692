"""What a configuration can name, of this package or of others: systems, segmenters, data sets, metrics, arms."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scenepalette.common.errors import ConfigError
from scenepalette.common.registry import PACKAGE, Registry
from scenepalette.data.classes import ClassTable
from scenepalette.data.datasets import DATASETS
from scenepalette.data.sample import DatasetEntry
from scenepalette.evaluation.registry import METRICS, Metric
from scenepalette.generators.images.base import ImageSystem
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS, LayoutSystem
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.nn.blocks import count_parameters
from scenepalette.pipeline.arms import ARMS
from scenepalette.segmenters.registry import SEGMENTERS, Segmenter
from scenepalette.training.arms import Arm

_REGISTRIES: dict[type, Registry[Any]] = {
    LayoutSystem: LAYOUT_SYSTEMS,
    ImageSystem: IMAGE_SYSTEMS,
    Segmenter: SEGMENTERS,
    DatasetEntry: DATASETS,
    Metric: METRICS,
    Arm: ARMS,
}

# With what an entry says about itself.
_OTHERS: list[tuple[Registry[Any], Callable[[Any], str]]] = [
    (SEGMENTERS, lambda entry: entry.title),
    (DATASETS, lambda entry: entry.description),
    (METRICS, lambda entry: entry.meaning),
    (ARMS, lambda entry: entry.description),
]


Networks = tuple[nn.Module, nn.Module | None]


@dataclass(frozen=True)
class System:
    """A generator.

    Attributes:
        name: Name in run directories and tables.
        kind: "layout" (noise and palette to label map) or "image" (label map to image).
        paper: Where it comes from.
        generator_parameters: Of the generator at the paper's settings.
        discriminator_parameters: Of the network that it is trained against; 0 if there is none.
        source: "scenepalette", or name and version of the distribution that it comes from.
    """

    name: str
    kind: str
    paper: str
    generator_parameters: int
    discriminator_parameters: int
    source: str


@dataclass(frozen=True)
class Entry:
    """Anything else that a configuration can name, or a report shows.

    Attributes:
        name: Its name.
        kind: "segmenter", "data set", "metric" or "arm".
        description: What it is, in a few words.
        source: As in System.
    """

    name: str
    kind: str
    description: str
    source: str


def register(name: str, entry: LayoutSystem | ImageSystem | Segmenter | DatasetEntry | Metric | Arm) -> None:
    """Let configurations of this process name an entry of one's own, as an entry point does for every process.

    Registering under the same name again replaces the entry, so that a notebook's cell can be run twice.

    Args:
        name: What configurations call it; an entry that has a name has the same.
        entry: A layout system, image system, segmenter, data set, metric or arm.

    Raises:
        ConfigError: The name is taken, or the entry is of another type or lacks something.
    """
    if type(entry) not in _REGISTRIES:
        known = ", ".join(entry_type.__name__ for entry_type in _REGISTRIES)
        raise ConfigError(f"Cannot register '{name}', received {type(entry).__name__}; pass one of {known}.")
    _REGISTRIES[type(entry)].add(name, entry)


def systems(num_classes: int, size: tuple[int, int]) -> list[System]:
    """Return all generators with their parameter counts at the papers' settings.

    Args:
        num_classes: K.
        size: Height and width, pixels.

    Raises:
        ConfigError: No base grid reaches the size.
    """
    entries, table = [], ClassTable.unnamed(num_classes)
    # Nothing is computed: on the meta device networks have shapes and no memory.
    with torch.device("meta"):
        registries: list[tuple[Registry[Any], str, Callable[..., Networks]]] = [
            (LAYOUT_SYSTEMS, "layout", _layout_networks),
            (IMAGE_SYSTEMS, "image", _image_networks),
        ]
        for registry, makes, build in registries:
            for name, system in registry.items():
                source = registry.source(name)
                try:
                    generator, discriminator = map(count_parameters, build(system, table, size))
                except Exception as error:
                    if source == PACKAGE:
                        raise
                    print(
                        f"{source}: its {makes} system {name} cannot be built: {error!r}. Correct it there.",
                        file=sys.stderr,
                    )
                    continue
                entries.append(System(name, makes, system.paper, generator, discriminator, source))
    return entries


def _layout_networks(system: LayoutSystem, table: ClassTable, size: tuple[int, int]) -> Networks:
    numbers = LayoutSettings()
    discriminator = system.build_discriminator(table, size, numbers) if system.losses else None
    return system.build_generator(table, size, numbers), discriminator


def _image_networks(system: ImageSystem, table: ClassTable, size: tuple[int, int]) -> Networks:
    settings, build = system.settings(), system.build_objective
    discriminator = build(table, size, settings, None).discriminator if build else None
    return system.build_generator(table, size, settings), discriminator


def other_entries() -> list[Entry]:
    """Return everything that has a name beside the generators."""
    return [
        Entry(name, registry.noun, describe(entry), registry.source(name))
        for registry, describe in _OTHERS
        for name, entry in registry.items()
    ]


def plugin_entries() -> list[str]:
    """Return what other packages add, one text each."""
    return [
        f"{registry.noun} {name} ({registry.source(name)})"
        for registry in _REGISTRIES.values()
        for name in registry
        if registry.source(name) != PACKAGE
    ]


def plugin_problems() -> list[str]:
    """Return one line for each entry of another package that cannot be used, naming the package and the remedy."""
    return [line for registry in _REGISTRIES.values() for line in registry.problems()]
