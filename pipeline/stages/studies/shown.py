"""Which results of studies the report shows: those of the curve and of the loop, if they are finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from scenepalette.pipeline.run_directory.manifests import MANIFEST
from scenepalette.pipeline.run_directory.study_results import CURVE_RESULT, LOOP_RESULT
from scenepalette.pipeline.units.records import is_finished
from scenepalette.pipeline.units.workspace import Unit


def with_results(run_dir: Path, units: dict[str, Unit], studies: Mapping[str, Unit]) -> dict[str, Unit]:
    """Return the units of a run whose report reads the results of studies that are finished with these settings.

    Args:
        run_dir: The run directory.
        units: The units of the run, the report among them.
        studies: The units of all studies.
    """
    every = {**units, **studies}
    # What lies there unfinished, or damaged, concerns whoever asks for the study, and no other verb.
    shown = [
        name
        for name in (CURVE_RESULT, LOOP_RESULT)
        if name in studies and (run_dir / name / MANIFEST).is_file() and is_finished(run_dir, studies[name], every)
    ]
    report = units["report"]
    return {**units, "report": replace(report, inputs=(*report.inputs, *shown))} if shown else units
