"""MLflow: a run for each unit, nested under one for the whole run directory.

Server and experiment are those of MLflow's own environment variables, MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scenepalette.training.tracking.base import PROJECT, Status, UnitRun

_STATES: Mapping[Status, str] = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
# Most that one call takes (MLflow's REST API, "Log Batch"), and the most characters of a value.
_PARAMETERS_A_CALL, _METRICS_A_CALL, _CHARACTERS = 100, 1000, 500
# A server that does not answer is given up in seconds; MLflow's own numbers keep on for minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


class MlflowTracker:
    """Writes to a tracking server, a database or a folder."""

    def begin(self, unit: UnitRun, memory: dict[str, Any]) -> None:
        """Open the unit's run and, if there is none, that of the whole run."""
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]  # optional, and slow to import
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

        self._metric, self._parameter, self._client = Metric, Param, MlflowClient()
        self._parent = self._open(unit, memory)
        units = memory.setdefault("units", {})
        if unit.is_new or unit.name not in units:
            tags = {**unit.tags, "unit": unit.name, "mlflow.parentRunId": self._parent}
            made = self._client.create_run(memory["experiment"], run_name=unit.name, tags=tags)
            units[unit.name] = made.info.run_id
            self._describe(units[unit.name], unit.settings)
        else:
            self._client.update_run(units[unit.name], status="RUNNING")
        self._run = units[unit.name]

    def _open(self, unit: UnitRun, memory: dict[str, Any]) -> str:
        """Return the id of the whole run, which is made if the store has it no more."""
        if "parent" in memory and self._has(memory["parent"]):
            self._client.update_run(memory["parent"], status="RUNNING")
            return memory["parent"]
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found is not None else self._client.create_experiment(name)
        made = self._client.create_run(experiment, run_name=unit.parent, tags=dict(unit.tags))
        memory.clear()
        memory.update(parent=made.info.run_id, experiment=experiment)
        self._describe(memory["parent"], unit.parent_settings)
        return memory["parent"]

    def _has(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]

        try:
            return self._client.get_run(run).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _describe(self, run: str, settings: Mapping[str, str]) -> None:
        parameters = [self._parameter(_name(key), value[:_CHARACTERS]) for key, value in settings.items()]
        for part in _parts(parameters, _PARAMETERS_A_CALL):
            self._client.log_batch(run, params=part)

    def _measure(self, run: str, values: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        metrics = [self._metric(_name(key), value, now, step) for key, value in values.items()]
        for part in _parts(metrics, _METRICS_A_CALL):
            self._client.log_batch(run, metrics=part)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Pass on the numbers of a line of the metrics log."""
        self._measure(self._run, values, step)

    def show(self, name: str, path: Path, step: int) -> None:
        """Pass on an image as an artifact of the unit's run."""
        self._client.log_artifact(self._run, str(path), "samples")

    def publish(self, name: str, folder: Path, summary: Mapping[str, float]) -> None:
        """Pass on a folder with a page as artifacts of the whole run, and its numbers."""
        self._client.log_artifacts(self._parent, str(folder), name)
        self._measure(self._parent, summary, 0)

    def end(self, status: Status) -> None:
        """Close the unit's run, and with it, until another unit is begun, the whole one."""
        for run in (self._run, self._parent):
            self._client.set_terminated(run, _STATES[status])


def _name(key: str) -> str:
    """Return a name with the characters that MLflow allows in one: `miou/real+syn` -> `miou/real_syn`."""
    return re.sub(r"[^\w\-. /]", "_", key)


def _parts(values: Iterable[Any], size: int) -> Iterable[list[Any]]:
    remaining = iter(values)
    return iter(lambda: list(itertools.islice(remaining, size)), [])
