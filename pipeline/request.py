"""What a command line or a flow asks for: a recipe, changes to it, and a run directory."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config import RunConfig


@dataclass(frozen=True)
class Request:
    """A recipe, changes to it, and where the run is kept.

    Attributes:
        recipe: Name of a recipe, or a YAML file.
        overrides: `section.key=value` changes.
        out: The run directory; without one it is runs/ and the recipe's name.
    """

    recipe: str
    overrides: tuple[str, ...] = ()
    out: Path | None = None

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return self.out or Path("runs") / Path(self.recipe).stem

    def config(self) -> RunConfig:
        """Resolve and check the configuration.

        Raises:
            ConfigError: It cannot be run; all problems at once.
        """
        # Imported here, as it brings torch with it: a command line must be able to explain itself without.
        from pipeline.recipes import load_config

        return load_config(self.recipe, self.overrides)

    def command(self, verb: str = "run") -> str:
        """Return the command line that does the same, for a report to name and an interrupted user to repeat."""
        changes = [part for change in self.overrides for part in ("--set", change)]
        return shlex.join(["scenepalette", verb, self.recipe, *changes, "--out", str(self.run_dir)])
