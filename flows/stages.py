"""One flow per verb of the command line; those of stages make whatever the stage needs that is not finished.

Flows and tasks give and take paths and plain values only. What is finished is decided by the run directory, not by
Prefect's cache: running a flow again continues where an earlier one, or the command line, stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from data.errors import ScenepaletteError
from flows.artifacts import publish_picture, publish_report
from flows.retries import RETRIES
from flows.shards import LOG_SECONDS, RunnerName, Workers, generate_pairs
from pipeline.config import RunConfig
from pipeline.doctor.examine import examine
from pipeline.doctor.page import to_markdown, to_text
from pipeline.editing import Edit, write_edit
from pipeline.request import Request
from pipeline.run import COMPARISON, Run
from pipeline.units import exclusive
from training.loop import PlainProgress

Recipe = Annotated[str, Field(min_length=1)]
Override = Annotated[str, Field(pattern=r"^[a-z_]+(\.[^.=]+)*=")]

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
    overrides: list[str] | None,
    *,
    task_runner: RunnerName = "threads",
    shard_workers: int = 1,
) -> str:
    """Make a stage as tasks of the current flow run, holding the run directory; return the stage's folder."""
    request = Request(recipe, tuple(overrides or ()), Path(out) if out else None)
    run = Run(request.config(), request.run_dir, command=request.command())
    config = run.config.model_dump_json()
    with exclusive(run.run_dir):
        missing = run.missing(run.names_of(stage))
        run.write_config()
        for name in missing:
            kind, _, rest = name.partition("/")
            if kind == "shards" or rest.endswith("/pairs"):
                generate_pairs(run, name, task_runner, shard_workers)
            else:
                label = f"{VERBS.get(kind, kind)} {rest}".strip()
                make_unit(label, config, str(run.run_dir), name, run.command)
        if stage == "report":
            publish_report(run.run_dir / "report")
        elif stage == COMPARISON:
            publish_report(run.run_dir / COMPARISON / "report", "comparison")
    return str(run.run_dir / stage)


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
    run = Run(RunConfig.model_validate_json(config), Path(run_dir), PlainProgress(LOG_SECONDS), command)
    run.make_one(name)
    return str(run.run_dir / name)


# Settings that all flows share: what stages print becomes the flow run's log.
FLOW: dict[str, Any] = {"log_prints": True, "validate_parameters": True}


@flow(name="fit-palettes", flow_run_name="fit-palettes {recipe}", **FLOW)
def fit_palettes(recipe: Recipe = "demo", out: str | None = None, overrides: list[Override] | None = None) -> str:
    """Learn which scenes occur: fit the sampler of class shares to the training layouts.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out.
        overrides: Changes to the recipe as section.key=value, for example generate.pairs=500.
    """
    return make_stage("palettes", recipe, out, list(overrides or ()))


@flow(name="train-layouts", flow_run_name="train-layouts {recipe}", **FLOW)
def train_layouts(recipe: Recipe = "demo", out: str | None = None, overrides: list[Override] | None = None) -> str:
    """Learn how scenes are arranged: train the generators of layouts.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out.
        overrides: Changes to the recipe as section.key=value, for example generate.pairs=500.
    """
    return make_stage("layouts", recipe, out, list(overrides or ()))


@flow(name="train-images", flow_run_name="train-images {recipe}", **FLOW)
def train_images(recipe: Recipe = "demo", out: str | None = None, overrides: list[Override] | None = None) -> str:
    """Learn what scenes look like: train the generator of images for layouts.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out.
        overrides: Changes to the recipe as section.key=value, for example images.steps=1000.
    """
    return make_stage("images", recipe, out, list(overrides or ()))


@flow(name="finetune", flow_run_name="finetune {recipe}", **FLOW)
def finetune(recipe: Recipe = "demo", out: str | None = None, overrides: list[Override] | None = None) -> str:
    """Train layout and image generators together, end to end; `finetune.kinds` says for which kinds of pairs.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out.
        overrides: Changes to the recipe as section.key=value, for example finetune.kinds=[full].
    """
    return make_stage("finetuned", recipe, out, list(overrides or ()))


@flow(name="compare", flow_run_name="compare {recipe}", **FLOW)
def compare(
    recipe: Recipe = "demo",
    out: str | None = None,
    overrides: list[Override] | None = None,
    task_runner: RunnerName = "threads",
    shard_workers: Workers = 1,
) -> str:
    """Train and measure systems under one budget, and write the table that compares them.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out.
        overrides: Changes to the recipe as section.key=value, for example compare.rows=[sb-gan, semantic-palette].
        task_runner: Where shards are made.
        shard_workers: Shards that are made at once.
    """
    return make_stage(
        COMPARISON, recipe, out, list(overrides or ()), task_runner=task_runner, shard_workers=shard_workers
    )


@flow(name="generate-dataset", flow_run_name="generate-dataset {recipe}", **FLOW)
def generate_dataset(
    recipe: Recipe = "demo",
    out: str | None = None,
    overrides: list[Override] | None = None,
    task_runner: RunnerName = "threads",
    shard_workers: Workers = 1,
) -> str:
    """Write layout-image pairs to Parquet shards, one task per shard.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out.
        overrides: Changes to the recipe as section.key=value, for example generate.pairs=5000.
        task_runner: Where shards are made.
        shard_workers: Shards that are made at once. One already uses all cores; more help where loading or encoding
            waits.
    """
    return make_stage(
        "shards", recipe, out, list(overrides or ()), task_runner=task_runner, shard_workers=shard_workers
    )


@flow(name="train-segmenter", flow_run_name="train-segmenter {recipe}", **FLOW)
def train_segmenter(recipe: Recipe = "demo", out: str | None = None, overrides: list[Override] | None = None) -> str:
    """Train a segmenter per arm and seed, with and without generated pairs.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out.
        overrides: Changes to the recipe as section.key=value, for example segmenters.steps=500.
    """
    return make_stage("segmenters", recipe, out, list(overrides or ()))


@flow(name="report", flow_run_name="report {recipe}", **FLOW)
def report(recipe: Recipe = "demo", out: str | None = None, overrides: list[Override] | None = None) -> str:
    """Compare the arms, write the report, and show it as an artifact.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out.
        overrides: Changes to the recipe as section.key=value, for example report.bootstrap_samples=500.
    """
    return make_stage("report", recipe, out, list(overrides or ()))


@flow(name="edit", flow_run_name="edit {what}", **FLOW)
def edit(what: Edit, run_dir: str, picture: str, options: dict[str, Any] | None = None) -> str:
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
    out: str | None = None,
    overrides: list[Override] | None = None,
    measure: bool = True,
    strict: bool = False,
) -> str:
    """Say what is wrong, or will be, with the data, the configuration and this machine; the page is an artifact.

    Args:
        recipe: Name of a recipe, or a YAML file.
        out: Run directory; runs/RECIPE if it is left out.
        overrides: Changes to the recipe as section.key=value, for example data.root=/data/camvid.
        measure: Whether some steps of every training are timed, for up to a minute.
        strict: Whether warnings count as problems.

    Returns:
        The verdict; with problems the flow run fails, and its message is the page.
    """
    diagnosis = examine(Request(recipe, tuple(overrides or ()), Path(out) if out else None), measured=measure)
    create_markdown_artifact(to_markdown(diagnosis, strict), key="doctor", description=diagnosis.subject)
    if diagnosis.failed(strict):
        raise ScenepaletteError(to_text(diagnosis, strict))
    return diagnosis.verdict(strict)
