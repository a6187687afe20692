"""The configuration of a run: frozen sections, checked as a whole before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import ValidationError, model_validator

from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.files import write_atomically
from scenepalette.generators.nn.grids import base_grid
from scenepalette.pipeline.config.agreement import disagreements
from scenepalette.pipeline.config.run_sections import RunSections
from scenepalette.pipeline.config.values import problems_of


class RunConfig(RunSections):
    """Everything that a run is made from."""

    @model_validator(mode="after")
    def _follow_totals(self) -> Self:
        try:
            _, doublings = base_grid(self.generator_size)
        except ConfigError:  # which is reported with all that is wrong
            return self
        full, partial = (section.with_lists(doublings + 1) for section in (self.layouts.full, self.layouts.partial))
        return self.model_copy(update={"layouts": self.layouts.model_copy(update={"full": full, "partial": partial})})

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if problems := disagreements(self):
            raise ValueError("\n".join(problems))
        return self


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """Check nested values as a whole.

    Raises:
        ConfigError: All problems, each with its field.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("The configuration cannot be run.", problems_of(error)) from error


def config_text(config: RunConfig) -> str:
    """Return the resolved configuration as YAML; a file of it can be given in place of a recipe."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def write_config(path: Path, config: RunConfig) -> None:
    """Write the resolved configuration as YAML, atomically."""
    write_atomically(path, config_text(config))


def config_of_pairs(config: RunConfig) -> dict[str, Any]:
    """Return the settings that decide generated pairs, as JSON values, for those who get the pairs alone.

    Paths are left out: they belong to one machine.
    """
    usual = {name for name in ("fit", "tile_height") if name not in config.data.identity()}
    return config.model_dump(
        mode="json",
        include={"recipe", "seed", "data", "palettes", "layouts", "images", "finetune", "generate"},
        exclude={
            "data": {"root", "class_file", "unlabelled"} | usual,
            "images": {"vgg_weights", "perceptual_encoder_weights"},
        },
    )
