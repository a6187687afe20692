"""The flow `augment`: the whole path from a data set to the report."""

from __future__ import annotations

from prefect import flow

from scenepalette.flows.shards import RunnerName, ShardPool, Workers
from scenepalette.flows.stages import (
    FLOW,
    WAIT_MINUTES,
    ComputeForm,
    DataForm,
    FinetuneForm,
    GenerateForm,
    Given,
    ImagesForm,
    LayoutsForm,
    Minutes,
    Out,
    Overrides,
    PalettesForm,
    Recipe,
    ReportForm,
    Seed,
    SegmentersForm,
    make_stage,
)


@flow(name="augment", flow_run_name="augment {recipe}", **FLOW)
def augment(
    recipe: Recipe = "demo",
    out: Out | None = None,
    overrides: Overrides = None,
    seed: Seed | None = None,
    data: DataForm = None,
    palettes: PalettesForm = None,
    layouts: LayoutsForm = None,
    images: ImagesForm = None,
    finetune: FinetuneForm = None,
    generate: GenerateForm = None,
    segmenters: SegmentersForm = None,
    report: ReportForm = None,
    compute: ComputeForm = None,
    task_runner: RunnerName = "threads",
    shard_workers: Workers = 1,
    cluster_address: Given | None = None,
    models_from: Given | None = None,
    wait_minutes: Minutes = WAIT_MINUTES,
) -> str:
    """Make everything: palettes, layouts, images, pairs, segmenters, and the report on what they gain.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out. {date} and {time} in it are those of the scheduled start.
        overrides: Further changes by key, as {"data.root": "/data/camvid"}, or a list of section.key=value.
        seed: All randomness follows from it.
        data: Which data set; what is left out stays as the recipe has it, here and below.
        palettes: The palette sampler.
        layouts: The layout generators and their training.
        images: The image generator and its training.
        finetune: End-to-end fine-tuning.
        generate: Mass production of pairs.
        segmenters: The segmenters that are compared.
        report: The comparison of arms.
        compute: Device, precision and threads.
        task_runner: Where shards are made.
        shard_workers: Shards that are made at once. One already uses all cores; more help where loading or encoding
            waits.
        cluster_address: Of a Dask scheduler or Ray cluster; without it one is started on this machine.
        models_from: Folder of another run whose trained models are used.
        wait_minutes: How long to wait while another run works in the same run directory.
    """
    changes = {
        "seed": seed,
        "data": data,
        "palettes": palettes,
        "layouts": layouts,
        "images": images,
        "finetune": finetune,
        "generate": generate,
        "segmenters": segmenters,
        "report": report,
        "compute": compute,
        "models_from": models_from,
    }
    return make_stage(
        "report", recipe, out, overrides, changes, wait_minutes, ShardPool(task_runner, shard_workers, cluster_address)
    )
