"""One flow per verb of the command line; those of stages make whatever the stage needs that is not finished.

Flows and tasks give and take paths and plain values only. What is finished is decided by the run directory, not by
Prefect's cache: running a flow again continues where an earlier one, or the command line, stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import Field

from scenepalette.common.errors import ScenepaletteError
from scenepalette.flows.artifacts import (
    ProgressArtifact,
    PublishedProgress,
    publish_picture,
    publish_report,
    publish_samples,
)
from scenepalette.flows.forms import Changes, ChangesTo, OverridesForm, assignments, override_texts
from scenepalette.flows.lost_tasks import end_lost_tasks
from scenepalette.flows.retries import RETRIES
from scenepalette.flows.shards import LOG_SECONDS, ONE_AT_A_TIME, RunnerName, ShardPool, Workers, generate_pairs
from scenepalette.pipeline.config import (
    CompareConfig,
    ComputeConfig,
    DataConfig,
    FinetuneConfig,
    GenerateConfig,
    ImagesConfig,
    LayoutsConfig,
    PalettesConfig,
    ReportConfig,
    RunConfig,
    SegmentersConfig,
)
from scenepalette.pipeline.doctor.examine import examine
from scenepalette.pipeline.doctor.page import to_markdown, to_text
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.request import OUT_PATTERN, Request, waiting_text
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.ownership import exclusive
from scenepalette.pipeline.scene_editor import Edit, write_edit
from scenepalette.pipeline.stages.compare import STAGE as COMPARISON
from scenepalette.pipeline.stages.generate import PairsUnit

# Checked when a run is submitted: the message of a refusal shows the pattern, and with it the names there are.
Recipe = Annotated[str, Field(pattern=rf"^({'|'.join(RECIPES)}|.+\.ya?ml)$")]
# Neither blank nor with braces that say nothing: a variable that is not set must not stand for runs/RECIPE.
Out = Annotated[str, Field(pattern=OUT_PATTERN)]
Given = Annotated[str, Field(pattern=r"\S")]
Overrides = Annotated[list[str] | dict[str, Any] | None, OverridesForm()]

Minutes = Annotated[float, Field(ge=0, le=7 * 24 * 60)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
WAIT_MINUTES = 12 * 60.0

# Sections of the configuration as forms.
DataForm = Annotated[Changes | None, ChangesTo(DataConfig)]
PalettesForm = Annotated[Changes | None, ChangesTo(PalettesConfig)]
LayoutsForm = Annotated[Changes | None, ChangesTo(LayoutsConfig)]
ImagesForm = Annotated[Changes | None, ChangesTo(ImagesConfig)]
FinetuneForm = Annotated[Changes | None, ChangesTo(FinetuneConfig)]
GenerateForm = Annotated[Changes | None, ChangesTo(GenerateConfig)]
SegmentersForm = Annotated[Changes | None, ChangesTo(SegmentersConfig)]
ReportForm = Annotated[Changes | None, ChangesTo(ReportConfig)]
CompareForm = Annotated[Changes | None, ChangesTo(CompareConfig)]
ComputeForm = Annotated[Changes | None, ChangesTo(ComputeConfig)]

VERBS = {
    "layouts": "train-layouts",
    "images": "train-images",
    "segmenters": "train-segmenter",
    "palettes": "fit-palettes",
    "finetuned": "finetune",
    "comparison": "compare",
}


def make_stage(
    stage: str,
    recipe: str,
    out: str | None,
    overrides: Sequence[str] | Mapping[str, Any] | None,
    changes: Mapping[str, Any],
    wait_minutes: float,
    force: ShardPool = ONE_AT_A_TIME,
) -> str:
    """Make a stage as tasks of the current flow run, holding the run directory; return the stage's folder.

    Args:
        stage: One of the stages of `scenepalette.pipeline.run`, or "comparison".
        recipe: Name of a recipe, or a YAML file.
        out: Run directory, see `request_of`; runs/RECIPE if it is None.
        overrides: Further changes by key or as `section.key=value`, which come after `changes`.
        changes: Values and forms by their key or section.
        wait_minutes: How long another run may go on holding the run directory.
        force: Who makes shards.

    Raises:
        ScenepaletteError: Anything that a user can mend; finished work stays.
    """
    force.check()
    end_lost_tasks()
    request = request_of(recipe, out, overrides, changes)
    # The verb that makes the same again, for the report to name.
    verb = VERBS[stage] if stage == COMPARISON else "run"
    run = Run(request.config(), request.run_dir, command=request.command(verb))
    config = run.config.model_dump_json()

    def waiting() -> None:
        print(waiting_text(run.run_dir, wait_minutes))

    if not run.run_dir.exists():
        run.missing(run.names_of(stage))  # what cannot be made leaves no folder behind
    with exclusive(run.run_dir, 60 * wait_minutes, waiting):
        names = run.names_of(stage)
        missing = run.missing(names)
        run.write_documents()
        progress = ProgressArtifact("progress", f"{len(missing)} unfinished part(s) of {run.run_dir}", len(missing))
        for done, name in enumerate(run.each_missing(names)):
            progress.show(done)
            unit = run.units[name]
            if isinstance(unit, PairsUnit):
                generate_pairs(run, name, force)
            else:
                label = f"{VERBS.get(unit.stage, unit.stage)} {unit.part}".strip()
                make_unit(label, config, str(run.run_dir), name, run.command)
                publish_samples(run.run_dir / name, name)
        progress.show(len(missing) or 1)
        if stage == "report":
            publish_report(run.run_dir / "report")
        elif stage == COMPARISON:
            publish_report(run.run_dir / COMPARISON / "report", "comparison")
    return str(run.run_dir / stage)


def request_of(
    recipe: str,
    out: str | None,
    overrides: Sequence[str] | Mapping[str, Any] | None,
    changes: Mapping[str, Any] | None = None,
) -> Request:
    """Return what a flow's parameters ask for; {date} and {time} in `out` say when the flow run was due, in UTC.

    So each run of a schedule has a run directory of its own. A retry of a flow run has the one it had.

    Raises:
        ConfigError: `out` is blank, or has braces that say nothing.
    """
    texts = (*assignments(changes or {}), *override_texts(overrides))
    return Request(recipe, texts, out, flow_run.scheduled_start_time)


@task(name="make-unit", task_run_name="{label}", log_prints=True, **RETRIES)
def make_unit(label: str, config: str, run_dir: str, name: str, command: str) -> str:
    """Make one unit whose inputs are finished.

    Args:
        label: Name of the task run.
        config: The run's configuration as JSON.
        run_dir: The run directory.
        name: Name of the unit, which is its folder in the run directory.
        command: The command that the report names for making the run again.

    Returns:
        The unit's folder.
    """
    progress = PublishedProgress(LOG_SECONDS)
    run = Run(RunConfig.model_validate_json(config), Path(run_dir), progress, command)
    try:
        run.make_one(name)
    finally:
        progress.finish()
    return str(run.run_dir / name)


# Settings that all flows share: what stages print becomes the flow run's log.
FLOW: dict[str, Any] = {"log_prints": True, "validate_parameters": True}


@flow(name="fit-palettes", flow_run_name="fit-palettes {recipe}", **FLOW)
def fit_palettes(
    recipe: Recipe = "demo",
    out: Out | None = None,
    overrides: Overrides = None,
    seed: Seed | None = None,
    data: DataForm = None,
    palettes: PalettesForm = None,
    compute: ComputeForm = None,
    wait_minutes: Minutes = WAIT_MINUTES,
) -> str:
    """Learn which scenes occur: fit the sampler of class shares to the training layouts.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out. {date} and {time} in it are those of the scheduled start.
        overrides: Further changes by key, as {"palettes.max_components": 10}, or a list of section.key=value.
        seed: All randomness follows from it.
        data: Which data set; what is left out stays as the recipe has it, here and below.
        palettes: The palette sampler.
        compute: Device, precision and threads.
        wait_minutes: How long to wait while another run works in the same run directory.
    """
    changes = {"seed": seed, "data": data, "palettes": palettes, "compute": compute}
    return make_stage("palettes", recipe, out, overrides, changes, wait_minutes)


@flow(name="train-layouts", flow_run_name="train-layouts {recipe}", **FLOW)
def train_layouts(
    recipe: Recipe = "demo",
    out: Out | None = None,
    overrides: Overrides = None,
    seed: Seed | None = None,
    data: DataForm = None,
    palettes: PalettesForm = None,
    layouts: LayoutsForm = None,
    compute: ComputeForm = None,
    wait_minutes: Minutes = WAIT_MINUTES,
) -> str:
    """Learn how scenes are arranged: train the generators of layouts.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out. {date} and {time} in it are those of the scheduled start.
        overrides: Further changes by key, as {"layouts.full.learning_rate": 0.0005}, or a list of section.key=value.
        seed: All randomness follows from it.
        data: Which data set; what is left out stays as the recipe has it, here and below.
        palettes: The palette sampler.
        layouts: The layout generators and their training.
        compute: Device, precision and threads.
        wait_minutes: How long to wait while another run works in the same run directory.
    """
    changes = {"seed": seed, "data": data, "palettes": palettes, "layouts": layouts, "compute": compute}
    return make_stage("layouts", recipe, out, overrides, changes, wait_minutes)


@flow(name="train-images", flow_run_name="train-images {recipe}", **FLOW)
def train_images(
    recipe: Recipe = "demo",
    out: Out | None = None,
    overrides: Overrides = None,
    seed: Seed | None = None,
    data: DataForm = None,
    images: ImagesForm = None,
    compute: ComputeForm = None,
    wait_minutes: Minutes = WAIT_MINUTES,
) -> str:
    """Learn what scenes look like: train the generator of images for layouts.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out. {date} and {time} in it are those of the scheduled start.
        overrides: Further changes by key, as {"images.steps": 1000}, or a list of section.key=value.
        seed: All randomness follows from it.
        data: Which data set; what is left out stays as the recipe has it, here and below.
        images: The image generator and its training.
        compute: Device, precision and threads.
        wait_minutes: How long to wait while another run works in the same run directory.
    """
    changes = {"seed": seed, "data": data, "images": images, "compute": compute}
    return make_stage("images", recipe, out, overrides, changes, wait_minutes)


@flow(name="finetune", flow_run_name="finetune {recipe}", **FLOW)
def finetune(
    recipe: Recipe = "demo",
    out: Out | None = None,
    overrides: Overrides = None,
    seed: Seed | None = None,
    data: DataForm = None,
    finetune: FinetuneForm = None,
    compute: ComputeForm = None,
    wait_minutes: Minutes = WAIT_MINUTES,
) -> str:
    """Train layout and image generators together, end to end; `finetune.kinds` says for which kinds of pairs.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out. {date} and {time} in it are those of the scheduled start.
        overrides: Further changes by key, as {"finetune.kinds": ["full"]}, or a list of section.key=value.
        seed: All randomness follows from it.
        data: Which data set; what is left out stays as the recipe has it, here and below.
        finetune: End-to-end fine-tuning.
        compute: Device, precision and threads.
        wait_minutes: How long to wait while another run works in the same run directory.
    """
    changes = {"seed": seed, "data": data, "finetune": finetune, "compute": compute}
    return make_stage("finetuned", recipe, out, overrides, changes, wait_minutes)


@flow(name="compare", flow_run_name="compare {recipe}", **FLOW)
def compare(
    recipe: Recipe = "demo",
    out: Out | None = None,
    overrides: Overrides = None,
    seed: Seed | None = None,
    data: DataForm = None,
    compare: CompareForm = None,
    compute: ComputeForm = None,
    task_runner: RunnerName = "threads",
    shard_workers: Workers = 1,
    cluster_address: Given | None = None,
    models_from: Given | None = None,
    wait_minutes: Minutes = WAIT_MINUTES,
) -> str:
    """Train and measure systems under one budget, and write the table that compares them.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out. {date} and {time} in it are those of the scheduled start.
        overrides: Further changes by key, as {"compare.rows": ["sb-gan"]}, or a list of section.key=value.
        seed: All randomness follows from it.
        data: Which data set; what is left out stays as the recipe has it, here and below.
        compare: The comparison of systems.
        compute: Device, precision and threads.
        task_runner: Where shards are made.
        shard_workers: Shards that are made at once. One already uses all cores; more help where loading or encoding
            waits.
        cluster_address: Of a Dask scheduler or Ray cluster; without it one is started on this machine.
        models_from: Folder of another run whose trained models are used.
        wait_minutes: How long to wait while another run works in the same run directory.
    """
    changes = {"seed": seed, "data": data, "compare": compare, "compute": compute, "models_from": models_from}
    return make_stage(
        COMPARISON,
        recipe,
        out,
        overrides,
        changes,
        wait_minutes,
        ShardPool(task_runner, shard_workers, cluster_address),
    )


@flow(name="generate-dataset", flow_run_name="generate-dataset {recipe}", **FLOW)
def generate_dataset(
    recipe: Recipe = "demo",
    out: Out | None = None,
    overrides: Overrides = None,
    seed: Seed | None = None,
    data: DataForm = None,
    generate: GenerateForm = None,
    compute: ComputeForm = None,
    task_runner: RunnerName = "threads",
    shard_workers: Workers = 1,
    cluster_address: Given | None = None,
    models_from: Given | None = None,
    wait_minutes: Minutes = WAIT_MINUTES,
) -> str:
    """Write layout-image pairs to Parquet shards, one task per shard.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out. {date} and {time} in it are those of the scheduled start.
        overrides: Further changes by key, as {"generate.pairs": 5000}, or a list of section.key=value.
        seed: All randomness follows from it.
        data: Which data set; what is left out stays as the recipe has it, here and below.
        generate: Mass production of pairs.
        compute: Device, precision and threads.
        task_runner: Where shards are made.
        shard_workers: Shards that are made at once. One already uses all cores; more help where loading or encoding
            waits.
        cluster_address: Of a Dask scheduler or Ray cluster; without it one is started on this machine.
        models_from: Folder of another run whose trained models are used.
        wait_minutes: How long to wait while another run works in the same run directory.
    """
    changes = {"seed": seed, "data": data, "generate": generate, "compute": compute, "models_from": models_from}
    return make_stage(
        "shards", recipe, out, overrides, changes, wait_minutes, ShardPool(task_runner, shard_workers, cluster_address)
    )


@flow(name="train-segmenter", flow_run_name="train-segmenter {recipe}", **FLOW)
def train_segmenter(
    recipe: Recipe = "demo",
    out: Out | None = None,
    overrides: Overrides = None,
    seed: Seed | None = None,
    data: DataForm = None,
    generate: GenerateForm = None,
    segmenters: SegmentersForm = None,
    compute: ComputeForm = None,
    models_from: Given | None = None,
    wait_minutes: Minutes = WAIT_MINUTES,
) -> str:
    """Train a segmenter per arm and seed, with and without generated pairs.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out. {date} and {time} in it are those of the scheduled start.
        overrides: Further changes by key, as {"segmenters.steps": 500}, or a list of section.key=value.
        seed: All randomness follows from it.
        data: Which data set; what is left out stays as the recipe has it, here and below.
        generate: Mass production of pairs.
        segmenters: The segmenters that are compared.
        compute: Device, precision and threads.
        models_from: Folder of another run whose trained models are used.
        wait_minutes: How long to wait while another run works in the same run directory.
    """
    changes = {
        "seed": seed,
        "data": data,
        "generate": generate,
        "segmenters": segmenters,
        "compute": compute,
        "models_from": models_from,
    }
    return make_stage("segmenters", recipe, out, overrides, changes, wait_minutes)


@flow(name="report", flow_run_name="report {recipe}", **FLOW)
def report(
    recipe: Recipe = "demo",
    out: Out | None = None,
    overrides: Overrides = None,
    seed: Seed | None = None,
    data: DataForm = None,
    report: ReportForm = None,
    compute: ComputeForm = None,
    models_from: Given | None = None,
    wait_minutes: Minutes = WAIT_MINUTES,
) -> str:
    """Compare the arms, write the report, and show it as an artifact.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out. {date} and {time} in it are those of the scheduled start.
        overrides: Further changes by key, as {"report.bootstrap_samples": 500}, or a list of section.key=value.
        seed: All randomness follows from it.
        data: Which data set; what is left out stays as the recipe has it, here and below.
        report: The comparison of arms.
        compute: Device, precision and threads.
        models_from: Folder of another run whose trained models are used.
        wait_minutes: How long to wait while another run works in the same run directory.
    """
    changes = {"seed": seed, "data": data, "report": report, "compute": compute, "models_from": models_from}
    return make_stage("report", recipe, out, overrides, changes, wait_minutes)


@flow(name="edit", flow_run_name="edit {what}", **FLOW)
def edit(what: Edit, run_dir: Given, picture: Given, options: dict[str, Any] | None = None) -> str:
    """Edit scenes with the models of a finished run, and show the picture as an artifact.

    Args:
        what: The edit.
        run_dir: Folder of a run.
        picture: File to write: .png for a strip, .gif or .webp for an animation.
        options: Options of the edit by name, for example {"sample": "5", "class_name": "road"}; see docs/editing.md.
    """
    write_edit(what, Path(run_dir), Path(picture), options or {})
    publish_picture(Path(picture), f"edit {what} of {run_dir}")
    return picture


@flow(name="doctor", flow_run_name="doctor {recipe}", **FLOW)
def doctor(
    recipe: Recipe = "demo",
    out: Out | None = None,
    overrides: Overrides = None,
    measure: bool = True,
    strict: bool = False,
) -> str:
    """Say what is wrong, or will be, with the data, the configuration and this machine; the page is an artifact.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out. {date} and {time} in it are those of the scheduled start.
        overrides: Changes by key, as {"data.root": "/data/camvid"}, or a list of section.key=value.
        measure: Whether some steps of every training are timed, for up to a minute.
        strict: Whether warnings count as problems.

    Returns:
        The verdict; with problems the flow run fails, and its message is the page.
    """
    diagnosis = examine(request_of(recipe, out, overrides), measured=measure)
    create_markdown_artifact(to_markdown(diagnosis, strict), key="doctor", description=diagnosis.subject)
    if diagnosis.failed(strict):
        raise ScenepaletteError(to_text(diagnosis, strict))
    return diagnosis.verdict(strict)
