"""The flow `augment`: the whole path from a data set to the report."""

from __future__ import annotations

from prefect import flow

from flows.shards import RunnerName, Workers
from flows.stages import FLOW, Override, Recipe, make_stage


@flow(name="augment", flow_run_name="augment {recipe}", **FLOW)
def augment(
    recipe: Recipe = "demo",
    out: str | None = None,
    overrides: list[Override] | None = None,
    task_runner: RunnerName = "threads",
    shard_workers: Workers = 1,
) -> str:
    """Make everything: palettes, layouts, images, pairs, segmenters, and the report on what they gain.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out.
        overrides: Changes to the recipe as section.key=value, for example data.root=/data/camvid.
        task_runner: Where shards are made.
        shard_workers: Shards that are made at once. One already uses all cores; more help where loading or encoding
            waits.
    """
    return make_stage(
        "report", recipe, out, list(overrides or ()), task_runner=task_runner, shard_workers=shard_workers
    )
