"""What would stop a run late, looked for before anything of it is made; each stage says what of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch

from scenepalette.common.errors import ConfigError
from scenepalette.common.registry import PACKAGE, Registry
from scenepalette.common.storage.untrusted import short
from scenepalette.data.classes import ClassTable
from scenepalette.generators.palettes import control_problems
from scenepalette.pipeline.checks.requirements import amount_problems
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.units.workspace import PreparedData, Unit


def settings_problems(config: RunConfig, units: Collection[Unit], *, fetch: bool = True) -> list[str]:
    """Return what keeps units from being made, as far as their settings tell, whatever the device.

    Only what the units need is looked for: who has the data prepared needs no data set, and who has the segmenters
    trained no weights for them.

    With `fetch`, pre-trained weights of a segmenter are loaded, which may download them.
    """
    texts = [text for kind, group in _by_class(units) for text in kind.problems(group, config, fetch=fetch)]
    return list(dict.fromkeys(texts))


def device_problems(config: RunConfig, units: Collection[Unit]) -> list[str]:
    """Return what is wrong with the device for units that are still to be made."""
    if config.compute.accelerator != "cuda" or torch.cuda.is_available() or not any(unit.computes for unit in units):
        return []
    return ["compute.accelerator: it is cuda, but torch sees no GPU; use cpu or auto"]


def data_problems(config: RunConfig, units: Collection[Unit], data: PreparedData) -> list[str]:
    """Return what keeps units from being made that only the prepared data set can tell, one text each with its field.

    Args:
        config: The run's configuration.
        units: Units that are still to be made.
        data: The data set.
    """
    return [
        *amount_problems(len(data.train), len(data.validation)),
        *(f"generate.{text}" for text in control_problems(config.generate.controls(), data.train.table.names)),
        *(text for kind, group in _by_class(units) for text in kind.problems_of_data(group, config, data)),
    ]


def _by_class(units: Collection[Unit]) -> list[tuple[type[Unit], list[Unit]]]:
    """Return units by their class, as what is the same for all of them is looked for once."""
    groups: dict[type[Unit], list[Unit]] = {}
    for unit in units:
        groups.setdefault(type(unit), []).append(unit)
    return list(groups.items())


def network_problem(
    registry: Registry[Any], system: str, build: Callable[[ClassTable], object], table: ClassTable | None
) -> str | None:
    """Return what keeps the networks of a system from being built; they are built without memory.

    Systems of other packages may depend on the names of classes: they are tried with the data's class table alone, and
    those of this package without one.
    """
    if (registry.source(system) == PACKAGE) != (table is None):
        return None
    try:
        with torch.device("meta"):
            build(table or ClassTable.unnamed(2))
    except ConfigError as error:
        return f"{system}: {error}"
    except (RuntimeError, OverflowError, MemoryError, TypeError) as error:
        # torch's ways of saying that no tensor has so many numbers.
        return f"{system}: no network can be built of these numbers ({short(str(error))})"
    except Exception as error:
        if table is None:
            raise
        return f"{system}: it cannot be built ({short(repr(error))}); correct it in {registry.source(system)}"
    return None
