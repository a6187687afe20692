"""One flow per verb of the command line; those of stages make whatever the stage needs that is not finished.

Flows and tasks give and take paths and plain values only. What is finished is decided by the run directory, not by
Prefect's cache: running a flow again continues where an earlier one, or the command line, stopped.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from prefect import Flow, flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.flows.artifacts import (
    LOG_SECONDS,
    ProgressArtifact,
    PublishedProgress,
    publish_image,
    publish_report,
    publish_samples,
)
from scenepalette.flows.forms import assignments, override_texts
from scenepalette.flows.parameters import (
    POOL,
    WAIT_MINUTES,
    Given,
    Minutes,
    Out,
    Overrides,
    PushTo,
    Recipe,
    documentation_of,
    parameters_of,
    signature_of,
)
from scenepalette.flows.platforms.events import emit_report_finished, expect_report
from scenepalette.flows.platforms.gpu import tagged
from scenepalette.flows.platforms.pushing import Part, PushRequest
from scenepalette.flows.shards import ONE_AT_A_TIME, ShardPool, generate_pairs
from scenepalette.flows.tasks.lost_tasks import end_lost_tasks
from scenepalette.flows.tasks.retries import RETRIES
from scenepalette.pipeline.config import RunConfig, load_config
from scenepalette.pipeline.doctor.examine import examine
from scenepalette.pipeline.doctor.page import to_markdown, to_text
from scenepalette.pipeline.finished.scene_editor import Edit, write_edit
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.request import Request, waiting_text
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.ownership import check_holds_run, exclusive
from scenepalette.pipeline.stages.generate import PairsUnit
from scenepalette.pipeline.stages.studies.compare import STAGE as COMPARISON
from scenepalette.pipeline.stages.studies.curve import STAGE as CURVE
from scenepalette.pipeline.stages.studies.loop_rounds import STAGE as LOOP
from scenepalette.pipeline.systems import plugin_problems
from scenepalette.pipeline.units.workspace import Unit
from scenepalette.pipeline.verbs import VERBS, verb_of


def make_stage(
    stage: str, request: Request, wait_minutes: float, pool: ShardPool = ONE_AT_A_TIME, push: PushRequest | None = None
) -> str:
    """Make a stage as tasks of the current flow run, holding the run directory; return the stage's folder.

    Args:
        stage: Stage of the units that are wanted, for example "layouts" or "comparison".
        request: A recipe, changes to it, and the run directory.
        wait_minutes: How long to wait for another run that holds the run directory.
        pool: Who makes shards.
        push: What is pushed at the end, and where to.

    Raises:
        ScenepaletteError: Anything that a user can fix; finished work stays.
    """
    check_recipe_file(request)
    pool.check()
    end_lost_tasks()
    for line in plugin_problems():
        print(line, file=sys.stderr)
    # The verb that makes the same again, for the report to name.
    verb = verb_of(stage) if stage in (COMPARISON, CURVE, LOOP) else "run"
    config = load_config(request.recipe, request.overrides, request.run_dir)
    run = Run(config, request.run_dir, command=request.command(verb))

    if not run.run_dir.exists():
        run.missing(run.names_of(stage))  # what cannot be made leaves no folder behind
    with held(run.run_dir, wait_minutes):
        names = run.names_of(stage)
        missing = run.missing(names)
        if push is not None:
            push.check(run, missing)
        run.write_documents()
        progress = ProgressArtifact("progress", f"{len(missing)} unfinished part(s) of {run.run_dir}", len(missing))
        done = 0
        for together in run.each_missing(names):
            progress.show(done)
            unit = run.units[together[0]]
            if isinstance(unit, PairsUnit):
                generate_pairs(run, unit.name, pool)
            else:
                if unit.name == "report":
                    expect_report(run.run_dir)
                task = tagged(make_units, config, unit)
                label = _label([run.units[name] for name in together])
                task(label, config.model_dump_json(), str(run.run_dir), together, run.command)
                for name in together:
                    publish_samples(run.run_dir / name, name)
            if unit.name == "data" and push is not None:
                push.check(run, missing)
            done += len(together)
        progress.show(len(missing) or 1)
        if "report" in names:
            emit_report_finished(run.run_dir)
            publish_report(run.run_dir / "report")
        if stage == COMPARISON:
            publish_report(run.run_dir / COMPARISON / "report", "comparison")
        elif stage == LOOP:
            publish_report(run.run_dir / LOOP / "report", "loop")
        if push is not None:
            push.run(run.run_dir)
    return str(run.run_dir / stage)


def _label(units: Sequence[Unit]) -> str:
    """Return what the task that makes some units at once is called."""
    stage = units[0].stage
    if len(units) == 1:
        return f"{verb_of(stage)} {units[0].part}".strip()
    if any(unit.stage != stage for unit in units):
        return f"train {len(units)} units"
    return f"{verb_of(stage)} {len(units)} {stage}"


def held(run_dir: Path, wait_minutes: float) -> AbstractContextManager[None]:
    """Hold a run directory for a block; while another run works there, say so in the log and wait."""
    return exclusive(run_dir, 60 * wait_minutes, lambda: print(waiting_text(run_dir, wait_minutes), file=sys.stderr))


def check_recipe_file(request: Request) -> None:
    """Check that the file of a recipe is on this machine, which may be another than where the run was submitted.

    Raises:
        ConfigError: It is not.
    """
    if request.recipe in RECIPES or Path(request.recipe).exists():
        return
    raise ConfigError(
        f"The worker on {socket.gethostname()}, in {Path.cwd()}, has no file {request.recipe}, and no recipe has this "
        "name. Give a path that is the same on every machine, or a recipe's name with changes as overrides."
    )


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


@task(name="make-units", task_run_name="{label}", log_prints=True, **RETRIES)
def make_units(label: str, config: str, run_dir: str, names: list[str], command: str) -> list[str]:
    """Make units whose inputs are finished: one, or trainings that are done at once.

    Args:
        label: Name of the task run.
        config: The run's configuration as JSON.
        run_dir: The run directory.
        names: Names of the units, which are their folders in the run directory.
        command: The command that the report names for making the run again.

    Returns:
        The units' folders.
    """
    progress = PublishedProgress(LOG_SECONDS)
    run = Run(RunConfig.model_validate_json(config), Path(run_dir), progress, command)
    try:
        run.make_together(names)
    finally:
        progress.finish()
    return [str(run.run_dir / name) for name in names]


# Settings that all flows share: what stages print becomes the flow run's log.
FLOW: dict[str, Any] = {"log_prints": True, "validate_parameters": True}


def stage_flow(
    verb: str,
    sections: Sequence[str],
    *,
    example: str,
    name: str = "",
    summary: str = "",
    makes_pairs: bool = False,
    borrows: bool = False,
    pushes: Sequence[Part] = (),
    module: str = __name__,
) -> Flow[..., str]:
    """Return the flow that makes the stage of a verb.

    Args:
        verb: Name of the verb.
        sections: Sections of the configuration that its form shows, beside the data set and the device.
        example: Changes that its parameter `overrides` could make.
        name: Name of the flow and of its deployment; by default the verb.
        summary: What it does, in a sentence; by default what the verb's own says.
        makes_pairs: Whether it makes shards, by a pool of workers.
        borrows: Whether it can use trained models of another run.
        pushes: What it can push at the end.
        module: Where it is found by its name.
    """
    declared = VERBS[verb]
    name = name or verb
    parameters = parameters_of(sections, makes_pairs=makes_pairs, borrows=borrows, pushes=bool(pushes))
    signature = signature_of(parameters)

    def make(*positional: Any, **named: Any) -> str:
        bound = signature.bind(*positional, **named)
        bound.apply_defaults()
        given = bound.arguments
        changes = {key: value for key, value in given.items() if key in RunConfig.model_fields and key != "recipe"}
        pool = ShardPool(*(given[key] for key in POOL)) if makes_pairs else ONE_AT_A_TIME
        request = request_of(given["recipe"], given["out"], given["overrides"], changes)
        push = None
        if given.get("push_to") is not None:
            push = PushRequest.of(given["push_to"], pushes, given["i_may"], flow_run.scheduled_start_time)
        return make_stage(declared.stage, request, given["wait_minutes"], pool, push)

    # What Prefect reads from a function.
    make.__name__ = make.__qualname__ = name.replace("-", "_")
    make.__module__ = module
    make.__doc__ = documentation_of(summary or declared.summary, example, parameters)
    make.__signature__ = signature  # type: ignore[attr-defined]
    return flow(name=name, flow_run_name=f"{name} {{recipe}}", **FLOW)(make)


fit_palettes = stage_flow("fit-palettes", ["palettes"], example='{"palettes.max_components": 10}')
train_layouts = stage_flow("train-layouts", ["palettes", "layouts"], example='{"layouts.full.learning_rate": 0.0005}')
train_images = stage_flow("train-images", ["images"], example='{"images.steps": 1000}')
finetune = stage_flow(
    "finetune",
    ["finetune"],
    summary="Train layout and image generators together, end to end; `finetune.kinds` says for which kinds of pairs.",
    example='{"finetune.kinds": ["full"]}',
)
compare = stage_flow("compare", ["compare"], example='{"compare.rows": ["sb-gan"]}', makes_pairs=True, borrows=True)
curve = stage_flow("curve", ["segmenters", "curve"], example='{"curve.doses": [1, 2]}', makes_pairs=True, borrows=True)
loop = stage_flow(
    "loop",
    ["generate", "segmenters", "loop"],
    summary="Ask for the classes that the segmenter lacks, add the pairs and retrain; show the page as an artifact.",
    example='{"loop.rounds": 2}',
    makes_pairs=True,
    borrows=True,
)
generate_dataset = stage_flow(
    "generate",
    ["generate"],
    name="generate-dataset",
    summary="Write layout-image pairs to Parquet shards, one task per shard.",
    example='{"generate.pairs": 5000}',
    makes_pairs=True,
    borrows=True,
    pushes=("shards",),
)
train_segmenter = stage_flow(
    "train-segmenter", ["generate", "segmenters"], example='{"segmenters.steps": 500}', borrows=True
)
report = stage_flow(
    "report",
    ["report"],
    summary="Compare the arms, write the report, and show it as an artifact.",
    example='{"report.bootstrap_samples": 500}',
    borrows=True,
)


@flow(name="edit", flow_run_name="edit {what}", **FLOW)
def edit(what: Edit, run_dir: Given, picture: Given, options: dict[str, Any] | None = None) -> str:
    """Edit scenes with the models of a finished run, and show the image as an artifact.

    Args:
        what: The edit.
        run_dir: Folder of a run.
        picture: File to write: .png for a strip, .gif or .webp for an animation.
        options: Options of the edit by name, for example {"sample": "5", "class_name": "road"}; see docs/systems.md.
    """
    write_edit(what, Path(run_dir), Path(picture), options or {})
    publish_image(Path(picture), f"edit {what} of {run_dir}")
    return picture


@flow(name="push", flow_run_name="push {run_dir}", **FLOW)
def push(
    run_dir: Given,
    push_to: PushTo,
    parts: list[Part] | None = None,
    kinds: list[str] | None = None,
    i_may: bool = False,
    wait_minutes: Minutes = WAIT_MINUTES,
) -> list[str]:
    """Copy what an existing run has finished to a bucket or a hub.

    Args:
        run_dir: Folder of a run.
        push_to: URL, or block as remote-file-system/NAME; {date} and {time} in it are those of the scheduled start.
        parts: Which parts of the run; shards and the report if it is left out.
        kinds: Which kinds of pairs; all that are finished if it is left out.
        i_may: Whether you may pass on what the terms of the data do not allow everyone to.
        wait_minutes: How long to wait while a run works in the run directory.

    Returns:
        Where each part lies.
    """
    request = PushRequest.of(push_to, parts or (), i_may, flow_run.scheduled_start_time, kinds or ())
    check_holds_run(Path(run_dir))
    with held(Path(run_dir), wait_minutes):
        return request.run(Path(run_dir))


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
