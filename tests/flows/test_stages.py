from __future__ import annotations

import errno
import inspect
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.exceptions import ParameterTypeError
from prefect.utilities.schema_tools.validation import validate

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.storage.files import explain_write_error, read_json, sha256_of_file
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.flows import artifacts, shards, stages
from scenepalette.flows.augment import augment
from scenepalette.flows.forms import changes_to
from scenepalette.flows.shards import PACKAGES, ShardPool, shared_pair_maker
from scenepalette.pipeline.config import CurveConfig, RunConfig, load_config
from scenepalette.pipeline.request import Request
from scenepalette.pipeline.run import Run, units_of
from scenepalette.pipeline.run_directory.ownership import exclusive
from scenepalette.pipeline.stages import segment

Results = Callable[[Path], dict[str, Any]]
FLOWS = {
    "fit-palettes": "palettes",
    "train-layouts": "layouts",
    "train-images": "images",
    "generate-dataset": "shards",
    "train-segmenter": "segmenters",
    "report": "report",
}


def task_runs(flow_run_id: UUID) -> dict[str, Any]:
    """Task runs of a flow run by name."""
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
    return {run.name: run for run in runs}


def artifacts_of(flow_run_id: UUID) -> dict[str, Any]:
    """Artifacts of a flow run by key: other tests publish theirs on the same server."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
    return {artifact.key: artifact for artifact in found}


def test_the_time_that_a_run_is_due_names_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    due = datetime(2026, 1, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    monkeypatch.setattr(stages, "flow_run", SimpleNamespace(scheduled_start_time=due))
    request = stages.request_of("demo", "runs/{date}/{time}/{date}", {"seed": 2}, {"seed": 1})
    assert request.run_dir == Path("runs/2026-01-01/2330/2026-01-01")
    assert request.overrides == ("seed=1", "seed=2")
    assert stages.request_of("demo", None, None).run_dir == Path("runs/demo")
    for out in ("runs/{data}", "", " "):
        with pytest.raises(ConfigError, match=r"The run directory \(out\)"):
            stages.request_of("demo", out, None)


@pytest.mark.usefixtures("server")
def test_a_flow_run_without_a_schedule_is_due_when_it_begins() -> None:
    @flow
    def where() -> str:
        return str(stages.request_of("demo", "{date}", None).run_dir)

    before = datetime.now(UTC)
    assert f"{before:%Y-%m-%d}" <= where() <= f"{datetime.now(UTC):%Y-%m-%d}"


@pytest.mark.parametrize("name", ["augment", *FLOWS, "finetune", "compare", "curve", "loop", "doctor"])
@pytest.mark.parametrize("out", ["", " ", "runs/{data}", "runs/{Date}", "runs/{date", "}"])
def test_a_run_directory_that_says_nothing_is_refused_when_a_run_is_submitted(name: str, out: str) -> None:
    chosen = augment if name == "augment" else getattr(stages, name.replace("-", "_"))
    schema = chosen.parameters.model_dump()
    validate({"out": "runs/{date}-{time}"}, schema, raise_on_error=True)
    with pytest.raises(Exception, match=r"'out'.*date\|time"):
        validate({"out": out}, schema, raise_on_error=True)
    with pytest.raises(ParameterTypeError, match="out"):
        chosen.validate_parameters({"out": out})


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (stages.edit, "run_dir"),
        (stages.edit, "picture"),
        (stages.compare, "cluster_address"),
        (augment, "models_from"),
        (stages.generate_dataset, "models_from"),
    ],
)
def test_an_empty_text_is_not_taken_for_a_default(chosen: Any, name: str) -> None:
    required = {"what": "noise", "run_dir": "x", "picture": "x"} if chosen is stages.edit else {}
    schema = chosen.parameters.model_dump()
    validate(required | {name: "x"}, schema, raise_on_error=True)
    for text in ("", "  "):
        with pytest.raises(Exception, match=name):
            validate(required | {name: text}, schema, raise_on_error=True)


@pytest.mark.parametrize(
    "name", ["augment", "generate-dataset", "train-segmenter", "report", "compare", "curve", "loop"]
)
def test_flows_that_make_pairs_can_use_models_of_another_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def load(recipe: str, overrides: tuple[str, ...], run_dir: Path) -> None:
        asked.append(overrides)
        raise ConfigError("enough")

    monkeypatch.setattr(stages, "load_config", load)
    chosen = augment if name == "augment" else getattr(stages, name.replace("-", "_"))
    with pytest.raises(ConfigError, match="enough"):
        chosen.fn("demo", models_from="runs/other")
    assert asked == [("models_from=runs/other",)]


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_augment_makes_what_the_command_line_makes(
    finished_run: Path, tiny_recipe: Path, tiny_config: RunConfig, tmp_path: Path, results_of: Results
) -> None:
    run_dir = tmp_path / "run"
    state = augment(str(tiny_recipe), str(run_dir), shard_workers=2, return_state=True)
    assert state.result() == str(run_dir / "report")
    assert results_of(run_dir) == results_of(finished_run)

    assert state.state_details.flow_run_id is not None
    runs = task_runs(state.state_details.flow_run_id)
    assert all(run.state_type == "COMPLETED" for run in runs.values())
    shard_names = {
        f"generate {k} train-0000{i}-of-00003.parquet" for k in ("full", "partial", "semi") for i in range(3)
    }
    other = {"data", "fit-palettes", "train-layouts semantic-palette", "train-images oasis", "generate semi finish"}
    assert shard_names | other | {"train-segmenter real+partial/seed0", "report"} <= runs.keys()
    assert len(runs) == len(units_of(tiny_config)) + len(shard_names)

    artifacts = artifacts_of(state.state_details.flow_run_id)
    assert "data:image/png;base64," in artifacts["report"].data  # type: ignore[operator]
    assert "](figures/" not in artifacts["report"].data  # type: ignore[operator]
    assert artifacts["shards-full"].data == artifacts["progress"].data == 100.0
    assert artifacts["progress-train-images-oasis"].data == 100.0
    for key in ("samples-images-oasis", "samples-layouts-semantic-palette"):
        assert "data:image/png;base64," in artifacts[key].data  # type: ignore[operator]
    assert str(run_dir / "report/report.html") in str(artifacts["report-file"].data)


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_segmenters_are_trained_at_once_where_that_is_asked_for(
    finished_run: Path, copy_of_run: Callable[..., Path], tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run("segmenters", "report")
    monkeypatch.setattr(segment, "train_arm", None)  # nothing is trained in this process
    state = stages.train_segmenter(str(tiny_recipe), str(run_dir), {"segmenters.parallel": 2}, return_state=True)
    assert state.result() == str(run_dir / "segmenters")
    names = sorted(str(path.parent.relative_to(run_dir)) for path in run_dir.glob("segmenters/*/*/manifest.json"))
    assert len(names) == 5
    for name in names:
        weights = (run / name / "weights.safetensors" for run in (run_dir, finished_run))
        assert len(set(map(sha256_of_file, weights))) == 1, name
    assert state.state_details.flow_run_id is not None
    assert task_runs(state.state_details.flow_run_id).keys() == {"train-segmenter 5 segmenters"}


def test_segmenters_that_are_finished_are_not_trained_again_with_the_others(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run("segmenters/syn", "segmenters/semi", "report")
    segmenters = tiny_config.segmenters.model_copy(update={"parallel": 2})
    run = Run(tiny_config.model_copy(update={"segmenters": segmenters}), run_dir)
    together = next(run.each_missing(run.names_of("segmenters")))
    assert together == ["segmenters/syn/seed0", "segmenters/semi/seed0"]
    trained: list[list[str]] = []
    monkeypatch.setattr("scenepalette.pipeline.run.make_beside", lambda run, names, count: trained.append(list(names)))
    run.make_together([*together, "segmenters/real/seed0"])
    assert trained == [together]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(("parallel", "expected"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 5])])
def test_progress_counts_the_units_that_are_made(
    parallel: int,
    expected: list[int],
    copy_of_run: Callable[..., Path],
    tiny_recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_dir, shown = copy_of_run("segmenters", "report"), list[int]()
    monkeypatch.setattr(stages, "ProgressArtifact", lambda *_: SimpleNamespace(show=shown.append))
    monkeypatch.setattr(stages, "make_units", lambda *_: None)
    stages.train_segmenter(str(tiny_recipe), str(run_dir), {"segmenters.parallel": parallel})
    assert shown == expected


@pytest.mark.usefixtures("server")
def test_generate_dataset_makes_missing_shards_only(
    copy_of_run: Callable[..., Path], tiny_recipe: Path, results_of: Results
) -> None:
    run_dir = copy_of_run("report")
    before = results_of(run_dir)
    (run_dir / "shards/full/manifest.json").unlink()
    kept, made, _ = sorted((run_dir / "shards/full").glob("*.parquet"))
    stamp = kept.stat().st_mtime_ns
    made.unlink()
    state = stages.generate_dataset(str(tiny_recipe), str(run_dir), return_state=True)
    assert results_of(run_dir) == before and kept.stat().st_mtime_ns == stamp
    assert state.state_details.flow_run_id is not None
    expected = {"generate full train-00001-of-00003.parquet", "generate full finish"}
    assert task_runs(state.state_details.flow_run_id).keys() == expected


@pytest.mark.usefixtures("server")
def test_generate_dataset_adds_pairs_to_a_finished_run(copy_of_run: Callable[..., Path], tiny_recipe: Path) -> None:
    run_dir = copy_of_run()
    before = {path: sha256_of_file(path) for path in run_dir.glob("shards/*/*.parquet")}
    stages.generate_dataset(str(tiny_recipe), str(run_dir), {"generate.pairs": 13})
    for kind in ("full", "partial", "semi"):
        assert read_manifest(run_dir / "shards" / kind)["rows"] == 13
        assert verify_shards(run_dir / "shards" / kind) == []
    assert {path: sha256_of_file(path) for path in before} == before


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_a_finished_run_starts_no_task(finished_run: Path, tiny_recipe: Path) -> None:
    for name, stage in FLOWS.items():
        state = getattr(stages, name.replace("-", "_"))(str(tiny_recipe), str(finished_run), return_state=True)
        assert state.result() == str(finished_run / stage)
        assert task_runs(state.state_details.flow_run_id) == {}, name


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_a_curve_makes_its_pairs_shard_by_shard_and_publishes_the_report(
    copy_of_run: Callable[..., Path], tiny_recipe: Path
) -> None:
    run_dir = copy_of_run()
    chosen = {"arm": "semi", "labels": [1], "doses": [2]}
    state = stages.curve(str(tiny_recipe), str(run_dir), curve=changes_to(CurveConfig)(**chosen), return_state=True)
    assert state.result() == str(run_dir / "curve")
    assert state.state_details.flow_run_id is not None
    shards = {f"generate curve/pairs train-0000{index}-of-00005.parquet" for index in range(5)}
    others = {"generate curve/pairs finish", "curve dose2/semi/seed0", "curve result", "report"}
    assert task_runs(state.state_details.flow_run_id).keys() == shards | others
    artifacts = artifacts_of(state.state_details.flow_run_id)
    assert "From 10 to 20 generated pairs with all 16 real ones" in str(artifacts["report"].data)


def test_the_loop_plans_its_control_once_the_last_round_is_known(
    finished_run: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    published: list[tuple[Path | str, ...]] = []
    monkeypatch.setattr(stages, "publish_report", lambda *given: published.append(given))
    chosen = {"rounds": 1, "pairs": 6}
    state = stages.loop(str(tiny_recipe), str(tmp_path / "run"), loop=chosen, return_state=True)
    assert state.result() == str(tmp_path / "run/loop")
    # The report that was there shows the loop from then on.
    assert published == [(tmp_path / "run/report",), (tmp_path / "run/loop/report", "loop")]
    made = task_runs(state.state_details.flow_run_id)
    assert {"loop round1/budget", "loop round1/decision", "loop random/seed0", "loop report"} <= made.keys()
    assert not any(name.startswith(("train-images", "train-layouts")) for name in made)
    assert read_manifest(tmp_path / "run/loop/random/pairs/full")["rows"] == 6
    artifacts.PAGES["loop"](read_json(tmp_path / "run/loop/report/loop.json"))


@pytest.mark.parametrize(
    ("stage", "verb"), [("report", "run"), ("comparison", "compare"), ("curve", "curve"), ("loop", "loop")]
)
def test_a_report_names_the_command_that_makes_it_again(
    stage: str, verb: str, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[str] = []

    def noted(run: Run, names: list[str]) -> list[str]:
        commands.append(run.command)
        raise ScenepaletteError("enough")

    monkeypatch.setattr(Run, "missing", noted)
    with pytest.raises(ScenepaletteError, match="enough"):
        stages.make_stage(stage, stages.request_of(str(tiny_recipe), str(tmp_path / "run"), ["seed=3"]), 0)
    assert commands == [f"scenepalette {verb} {tiny_recipe} --set seed=3 --out {tmp_path / 'run'}"]


@pytest.mark.usefixtures("server")
def test_what_a_user_must_mend_is_not_tried_again(
    copy_of_run: Callable[..., Path], tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run("palettes")
    calls: list[str] = []

    def fail(self: Run, name: str) -> None:
        calls.append(name)
        raise ScenepaletteError("the disk is full")

    monkeypatch.setattr(Run, "make_one", fail)
    with pytest.raises(ScenepaletteError, match="the disk is full"):
        stages.fit_palettes(str(tiny_recipe), str(run_dir))
    assert calls == ["palettes"]


@pytest.mark.parametrize("in_words", [False, True])
@pytest.mark.usefixtures("server")
def test_passing_trouble_with_files_is_tried_again(
    in_words: bool, copy_of_run: Callable[..., Path], tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run("palettes")
    make_one, calls = Run.make_one, []

    def fail_once(self: Run, name: str) -> None:
        calls.append(name)
        if len(calls) == 1:
            trouble = OSError(errno.ESTALE, "Stale file handle")
            if in_words:
                raise explain_write_error(run_dir, trouble) from trouble
            raise trouble
        make_one(self, name)

    monkeypatch.setattr(Run, "make_one", fail_once)
    monkeypatch.setattr(stages, "make_units", stages.make_units.with_options(retry_delay_seconds=0))
    stages.fit_palettes(str(tiny_recipe), str(run_dir))
    assert calls == ["palettes", "palettes"] and (run_dir / "palettes/manifest.json").exists()


@pytest.mark.usefixtures("server")
def test_a_failing_shard_leaves_a_folder_that_the_same_flow_finishes(
    copy_of_run: Callable[..., Path], tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch, results_of: Results
) -> None:
    run_dir = copy_of_run("report")
    before = results_of(run_dir)
    for path in (run_dir / "shards/full").iterdir():
        if path.is_file():
            path.unlink()
    make_shard = shards.make_shard

    def fail_in_second(folder: Path, plan: Any, *arguments: Any) -> Any:
        if plan.first:
            raise ScenepaletteError("stopped here")
        return make_shard(folder, plan, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "make_shard", fail_in_second)
        with pytest.raises(ScenepaletteError, match="stopped here"):
            stages.generate_dataset(str(tiny_recipe), str(run_dir))
    assert (run_dir / "shards/full/.scenepalette-new/train-00000-of-00003.parquet").exists()
    assert not (run_dir / "shards/full/manifest.json").exists()
    stages.generate_dataset(str(tiny_recipe), str(run_dir))
    assert results_of(run_dir) == before


@pytest.mark.usefixtures("server")
def test_wrong_parameters_are_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ParameterTypeError):
        stages.generate_dataset("demo", str(tmp_path / "run"), ["generate.pairs"])
    with pytest.raises(ParameterTypeError):
        stages.generate_dataset("demo", str(tmp_path / "run"), shard_workers=0)
    for overrides in (["images.stepz=1"], {"images.stepz": 1}, {"images": {"stepz": 1}}):
        with pytest.raises(ParameterTypeError, match=r"images\.stepz.*is images\.steps meant"):
            stages.generate_dataset("demo", str(tmp_path / "run"), overrides)
    # What a schema cannot tell is told by the run, before it makes anything.
    with pytest.raises(ConfigError, match=r"images\.systems\.oasis\.wide"):
        stages.generate_dataset("demo", str(tmp_path / "run"), {"images.systems.oasis.wide": 1})
    assert not (tmp_path / "run").exists()


def test_a_run_waits_for_the_run_directory(finished_run: Path, tiny_recipe: Path) -> None:
    with pytest.raises(ScenepaletteError, match="Another process is working"), exclusive(finished_run):
        stages.make_stage("report", Request(str(tiny_recipe), out=finished_run), 0)


@pytest.mark.usefixtures("server")
def test_a_run_goes_on_when_the_run_directory_is_free(
    finished_run: Path,
    occupied: Callable[..., Any],
    tiny_recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(stages, "exclusive", occupied)
    assert stages.report(str(tiny_recipe), str(finished_run), wait_minutes=1) == str(finished_run / "report")
    assert "this one waits for it, up to 1 minute." in caplog.text


@pytest.mark.usefixtures("server")
def test_forms_change_the_recipe(tiny_recipe: Path, tmp_path: Path) -> None:
    form: dict[str, Any] = {"train_scenes": 9, "val_scenes": 3}
    stages.fit_palettes(str(tiny_recipe), str(tmp_path / "run"), seed=3, data=form)  # type: ignore[arg-type]
    config = load_config(str(tmp_path / "run/config.yaml"))
    assert (config.seed, config.data.train_scenes, config.data.val_scenes) == (3, 9, 3)
    with pytest.raises(ParameterTypeError, match=r"data\.train_scenes"):
        stages.fit_palettes(str(tiny_recipe), str(tmp_path / "x"), data={"train_scenes": 1})  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("runner", ["processes", "dask", "ray"])
def test_shards_are_the_same_wherever_they_are_made(
    runner: str, copy_of_run: Callable[..., Path], tiny_recipe: Path, results_of: Results
) -> None:
    package = PACKAGES.get(runner)  # type: ignore[call-overload]
    if package is not None:
        pytest.importorskip(package, reason=f"the extra {runner} is not installed")
    run_dir = copy_of_run("report")
    before = results_of(run_dir)
    for path in (run_dir / "shards/full").iterdir():
        if path.is_file():
            path.unlink()
    shutil.rmtree(run_dir / "shards/full/.finished")
    stages.generate_dataset(str(tiny_recipe), str(run_dir), task_runner=runner, shard_workers=2)  # type: ignore[arg-type]
    assert results_of(run_dir) == before


def test_what_a_runner_lacks_is_told_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'scenepalette\[ray\]'"):
        ShardPool("ray").check()
    with pytest.raises(ConfigError, match="cluster_address: processes work on this machine alone"):
        pool = ShardPool("processes", 1, "tcp://127.0.0.1:1")
        stages.make_stage("shards", Request("demo", out=tmp_path / "run"), 0, pool)
    assert not (tmp_path / "run").exists()


def test_threads_of_this_machine_are_shared_and_those_of_a_cluster_are_not(tiny_config: RunConfig) -> None:
    compute = tiny_config.compute.model_copy(update={"threads": 8})
    config = tiny_config.model_copy(update={"compute": compute})
    assert shards.shared_among(config, ShardPool("processes", 4)).compute.threads == 2
    assert shards.shared_among(config, ShardPool("threads", 16)).compute.threads == 1
    assert shards.shared_among(config, ShardPool("dask", 4, "tcp://127.0.0.1:8786")).compute.threads == 8


@pytest.mark.parametrize("name", ["augment", *FLOWS])
def test_parameters_make_a_form_with_explanations(name: str) -> None:
    chosen = augment if name == "augment" else getattr(stages, name.replace("-", "_"))
    assert chosen.name == name
    properties = chosen.parameters.model_dump()["properties"]
    assert {"recipe", "out", "overrides"} <= properties.keys() == inspect.signature(chosen.fn).parameters.keys()
    assert all(field.get("description") for field in properties.values())
    assert "generate" in str(properties["overrides"]) or "=" in properties["overrides"]["description"]


def test_threads_share_one_pair_maker_until_weights_change(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run = Run(tiny_config, copy_of_run())
    first = shared_pair_maker(run, "shards/full")
    assert shared_pair_maker(Run(tiny_config, run.run_dir), "shards/full") is first
    assert not first.image_generator.training
    assert not any(parameter.requires_grad for parameter in first.image_generator.parameters())
    (run.run_dir / "images/oasis/weights.safetensors").touch()
    assert shared_pair_maker(run, "shards/full") is not first


@pytest.mark.usefixtures("server")
def test_stages_speak_to_the_flow_runs_log(
    copy_of_run: Callable[..., Path], tiny_recipe: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir = copy_of_run("palettes", "layouts", "shards", "segmenters", "report")
    stages.train_layouts(str(tiny_recipe), str(run_dir))
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("prefect.task_runs")]
    assert any(message.startswith("train-layouts semantic-palette-partial: done in") for message in logged)


def test_an_interrupted_task_is_not_said_to_be_done(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[int] = []
    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda *_, **__: None)
    monkeypatch.setattr(artifacts.ProgressArtifact, "show", lambda self, done: shown.append(done))

    def work(*arguments: Any) -> None:
        progress = next(
            part for part in (*arguments, getattr(arguments[0], "progress", None)) if hasattr(part, "start")
        )
        progress.start("piece", 3)
        progress.advance(2)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "make_one", work)
    monkeypatch.setattr(shards, "make_shard", work)
    monkeypatch.setattr(shards, "shared_pair_maker", lambda run, unit: None)
    monkeypatch.setattr(shards, "run_of_worker", lambda config, run_dir, *_: Run(tiny_config, Path(run_dir)))
    config = tiny_config.model_dump_json()
    with pytest.raises(KeyboardInterrupt):
        stages.make_units.fn("label", config, str(tmp_path), ["palettes"], "command")
    with pytest.raises(KeyboardInterrupt):
        shards.make_one_shard.fn("label", config, str(tmp_path), "shards/full", "", {}, "x.parquet", 0, 4)
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if "stopped after 2 of 3" in line]) == 2 and "done" not in "".join(lines)
    assert shown == [2]
