"""Weights & Biases: a run for each unit, in one group with a run for the whole run directory.

Project, server and mode are those of its own environment variables: WANDB_PROJECT, WANDB_BASE_URL, WANDB_MODE (offline
writes to disk alone).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenepalette.training.tracking.base import PROJECT, Status, UnitRun

_SECONDS = 30
_ID_BYTES = 8


class WandbTracker:
    """Writes through the client of Weights & Biases."""

    def begin(self, unit: UnitRun, memory: dict[str, Any]) -> None:
        """Open the unit's run; that of the whole run is made first, and closed until something is published."""
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb  # pyright: ignore[reportMissingImports]  # optional, and slow to import

        self._wandb, self._unit, self._memory = wandb, unit, memory
        settings = wandb.setup().settings
        if settings.mode not in ("offline", "disabled") and not _is_logged_in(settings):
            # Its client would ask at the terminal.
            raise RuntimeError("nobody is logged in; run `wandb login`, or set WANDB_MODE=offline")
        if "parent" not in memory:
            memory["parent"] = secrets.token_hex(_ID_BYTES)
            self._open_parent().finish()
        units = memory.setdefault("units", {})
        if unit.is_new or unit.name not in units:
            units[unit.name] = secrets.token_hex(_ID_BYTES)
        self._run = self._open(units[unit.name], unit.name, unit.stage, unit.settings)

    def _open(self, run_id: str, name: str, kind: str, settings: Mapping[str, str]) -> Any:
        return self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=run_id,
            resume="allow",
            # In the group of the whole run, whose own run has its name.
            group=f"{self._unit.parent}-{self._memory['parent']}",
            job_type=kind,
            name=name,
            config={**settings, **{f"tag.{key}": value for key, value in self._unit.tags.items()}},
            reinit="create_new",
            # Neither the terminal's text nor code and machine are sent.
            settings=self._wandb.Settings(
                console="off", init_timeout=_SECONDS, save_code=False, disable_git=True, x_disable_stats=True
            ),
        )

    def _open_parent(self) -> Any:
        return self._open(self._memory["parent"], self._unit.parent, "run", self._unit.parent_settings)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Pass on the numbers of a line of the metrics log."""
        self._run.log(dict(values), step=step)

    def show(self, name: str, path: Path, step: int) -> None:
        """Pass on an image."""
        self._run.log({name: self._wandb.Image(str(path))}, step=step)

    def publish(self, name: str, folder: Path, summary: Mapping[str, float]) -> None:
        """Pass on a folder with a page as an artifact of the whole run, and its numbers as its summary."""
        parent = self._open_parent()
        artifact = self._wandb.Artifact(f"{name.replace('/', '-')}-{self._memory['parent']}", type="report")
        artifact.add_dir(str(folder))
        parent.log_artifact(artifact)
        parent.summary.update(dict(summary))
        parent.finish()

    def end(self, status: Status) -> None:
        """Close the unit's run."""
        self._run.finish(exit_code=0 if status == "finished" else 1)


def _is_logged_in(settings: Any) -> bool:
    """Tell whether W&B's client finds a key or a token; `wandb login` leaves its key in ~/.netrc."""
    from requests.utils import get_netrc_auth  # which wandb brings with it

    if settings.api_key or getattr(settings, "identity_token_file", None):
        return True
    return get_netrc_auth(settings.base_url) is not None
