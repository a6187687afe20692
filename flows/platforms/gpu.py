"""The tag of tasks that use a GPU, by which Prefect's concurrency limits keep them apart."""

from __future__ import annotations

from typing import Any

from prefect import Task

from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.units.workspace import Unit
from scenepalette.training.device.abilities import chosen_accelerator

GPU_TAG = "gpu"


def uses_gpu(config: RunConfig, unit: Unit) -> bool:
    """Tell whether the work of a unit takes a GPU, as the configuration and the machine of the flow run have it."""
    return unit.computes and chosen_accelerator(config.compute.accelerator) == "cuda"


def tagged(task: Task[..., Any], config: RunConfig, unit: Unit) -> Task[..., Any]:
    """Return a task that makes a unit, or a part of it, with the tag `gpu` if and only if it takes a GPU.

    `prefect concurrency-limit create gpu 1` lets one such task run at a time, whatever flow runs they are of.
    """
    return task.with_options(tags={*task.tags, GPU_TAG}) if uses_gpu(config, unit) else task
