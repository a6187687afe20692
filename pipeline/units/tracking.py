"""What experiment trackers are told of a run: a unit's settings and tags, the configuration, the scores of a report."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from scenepalette.common.provenance import code_version
from scenepalette.common.urls import masked
from scenepalette.pipeline.run_directory.manifests import partial_results
from scenepalette.pipeline.units.records import work_folder
from scenepalette.pipeline.units.workspace import Unit, Workspace
from scenepalette.training.loop import METRICS_FILE
from scenepalette.training.tracking.base import UnitRun, flat
from scenepalette.training.tracking.following import followed


@contextlib.contextmanager
def tracked(run: Workspace, unit: Unit) -> Iterator[None]:
    """Pass on what the block makes of a unit to the trackers of `compute.tracking`."""
    names = run.config.compute.tracking
    if not names:
        yield
        return
    folder = work_folder(run.run_dir, unit)
    begun = folder.is_dir() and ((folder / METRICS_FILE).exists() or bool(partial_results(folder)))
    code = code_version()
    tags = {f"scenepalette.{key}": value for key in ("version", "commit") if (value := code[key])}
    tags |= {"recipe": run.config.recipe, "command": masked(run.command)}
    told = UnitRun(
        name=unit.name,
        stage=unit.stage,
        folder=folder,
        parent=run.run_dir.absolute().name,
        settings=flat(unit.settings),
        parent_settings=flat(run.config.model_dump(mode="json")),
        tags=tags,
        is_new=not begun,
    )
    with followed(told, names, run.run_dir, scores_in):
        yield


def scores_in(folder: Path) -> Mapping[str, float]:
    """Return mIoU and gain of each arm of the report that a folder holds; nothing of other pages."""
    path = folder / "report.json"
    if not path.is_file():
        return {}
    found = {}
    for arm in json.loads(path.read_text(encoding="utf-8"))["arms"]:
        for key, entry in (("miou", arm["miou"]), ("gain", arm["delta_vs_real"])):
            if entry["mean"] is not None and not (key == "gain" and arm["name"] == "real"):
                found[f"{key}/{arm['name']}"] = entry["mean"]
    return found
