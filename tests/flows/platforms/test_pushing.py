"""Results pushed at the end of a flow: what goes where, what is refused early, what is tried again."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.exceptions import ParameterTypeError
from prefect.filesystems import RemoteFileSystem

from buckets import MEMORY, refusing
from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.remote.store import Store, StoreError, TransferError
from scenepalette.common.storage.files import read_json, write_json
from scenepalette.data.licences import PRETRAINED
from scenepalette.flows import stages
from scenepalette.flows.augment import augment
from scenepalette.flows.platforms import pushing
from scenepalette.flows.tasks.retries import is_passing_trouble
from scenepalette.pipeline.finished import pushing as finished
from scenepalette.pipeline.run_directory.manifests import sealed
from scenepalette.pipeline.stages.images import ImagesUnit

HOME = "/scenepalette-tests"
SECRET = "TOPSECRET0123456789"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENEPALETTE_CACHE", str(tmp_path / "cache"))


def places(memory: Any) -> set[str]:
    return {path.removeprefix(f"{HOME}/").partition("/")[0] for path in memory.find(HOME)}


@pytest.mark.usefixtures("server")
def test_a_finished_run_is_pushed_as_the_command_pushes_it(finished_run: Path, memory: Any) -> None:
    state = stages.push(str(finished_run), f"{MEMORY}/flow", return_state=True)
    assert state.result() == [f"{MEMORY}/flow/{place}" for place in ("full", "partial", "semi", "report")]
    finished.push(finished_run, f"{MEMORY}/command")
    contents = [
        {path.removeprefix(f"{HOME}/{name}/"): memory.cat_file(path) for path in memory.find(f"{HOME}/{name}")}
        for name in ("flow", "command")
    ]
    assert contents[0] == contents[1] and len(contents[0]) > 10
    with get_client(sync_client=True) as client:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        assert [run.name for run in client.read_task_runs(flow_run_filter=chosen)] == [f"push {finished_run.name}"]
        artifacts = {each.key: str(each.data) for each in client.read_artifacts(flow_run_filter=chosen)}
    assert f"| {MEMORY}/flow/report |" in artifacts["pushed"]


@pytest.mark.usefixtures("server")
def test_flows_push_what_they_make(finished_run: Path, tiny_recipe: Path, memory: Any) -> None:
    stages.generate_dataset(str(tiny_recipe), str(finished_run), push_to=f"{MEMORY}/{{date}}")
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    assert {path.split("/")[2] for path in memory.find(HOME)} == {day}
    assert {path.split("/")[3] for path in memory.find(HOME)} == {"README.md", "full", "partial", "semi"}
    memory.store.clear()
    augment(str(tiny_recipe), str(finished_run), push_to=MEMORY)
    assert places(memory) == {"README.md", "full", "partial", "semi", "report"}
    memory.store.clear()
    stages.push(str(finished_run), MEMORY, ["shards"], ["semi"])
    assert places(memory) == {"README.md", "semi"}


def test_the_time_that_a_run_is_due_names_the_place() -> None:
    due = datetime(2026, 1, 2, 1, 30, tzinfo=UTC)
    assert pushing.PushRequest.of("memory://a/{date}/{time}", ["report"], False, due).to == "memory://a/2026-01-02/0130"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("push_to", "words"),
    [
        ("slack-webhook/mine", "neither a URL nor a block"),
        ("nowhere://x/y", "not known"),
        ("s3://KEY@b/x", "KEY|creden"),
    ],
)
def test_a_place_that_cannot_be_used_is_told_before_anything_is_made(
    push_to: str, words: str, tiny_recipe: Path, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, ParameterTypeError), match=words):
        stages.generate_dataset(str(tiny_recipe), str(tmp_path / "run"), push_to=push_to)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("server")
def test_credentials_in_a_url_are_refused_without_being_repeated(finished_run: Path) -> None:
    with pytest.raises(ParameterTypeError) as refused:
        stages.push(str(finished_run), f"s3://KEY:{SECRET}@bucket/x")
    assert SECRET not in str(refused.value)


@pytest.mark.usefixtures("server")
def test_a_folder_that_is_no_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ScenepaletteError):
            stages.push(str(folder), MEMORY)
    assert not any(tmp_path.glob("*lock*")) and not (tmp_path / "absent").exists()


@pytest.mark.usefixtures("server")
def test_terms_that_forbid_it_end_a_run_before_anything_is_trained(
    tiny_recipe: Path, tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finished, "licence_problem", lambda terms: "they allow no commercial use")
    run_dir = tmp_path / "run"
    for _ in range(2):  # with data that is made now, and with data that is there
        with pytest.raises(ConfigError, match=r"nothing was copied.*i_may"):
            stages.generate_dataset(str(tiny_recipe), str(run_dir), push_to=MEMORY)
        assert (run_dir / "data/manifest.json").exists() and not (run_dir / "palettes").exists()


@pytest.mark.usefixtures("server")
def test_terms_of_pretrained_weights_end_a_run_before_anything_is_made(
    tiny_recipe: Path, tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = {PRETRAINED: {"weights (base)": "creativeml-openrail-m"}}
    monkeypatch.setattr(ImagesUnit, "record", lambda unit: terms)
    with pytest.raises(ConfigError, match="pass the restrictions on"):
        stages.generate_dataset(str(tiny_recipe), str(tmp_path / "run"), push_to=MEMORY)
    assert not (tmp_path / "run/data").exists()


def test_terms_are_those_of_data_models_and_models_to_come(copy_of_run: Callable[..., Path]) -> None:
    run_dir = copy_of_run()
    finished.check_terms(run_dir)  # those of drawn scenes are free
    with pytest.raises(ConfigError, match="for research"):
        finished.check_terms(run_dir, [{"lender": {"licence": "for research"}}])
    path = run_dir / "images/oasis/manifest.json"
    write_json(path, sealed({**read_json(path), PRETRAINED: {"base": "openrail"}}))
    with pytest.raises(ConfigError, match="openrail"):
        finished.check_terms(run_dir)


@pytest.mark.usefixtures("server")
def test_whoever_may_says_so(copy_of_run: Callable[..., Path], tiny_recipe: Path, memory: Any) -> None:
    run_dir = copy_of_run()
    path = run_dir / "data/train.json"
    write_json(path, {**read_json(path), "licence": "for research"})
    with pytest.raises(ConfigError, match="i_may"):
        stages.push(str(run_dir), MEMORY, ["report"])
    assert memory.find(HOME) == [] if memory.exists(HOME) else True
    stages.push(str(run_dir), MEMORY, ["report"], i_may=True)
    assert places(memory) == {"report"}


def test_what_may_pass_is_tried_again_and_a_refusal_is_not() -> None:
    def judged(error: Exception) -> bool:
        state = SimpleNamespace(result=lambda raise_on_failure: error)
        return is_passing_trouble(None, None, state)  # type: ignore[arg-type]

    assert judged(TransferError("cut off"))
    assert not judged(StoreError("may not be written"))


@pytest.mark.usefixtures("server")
def test_a_transfer_that_is_cut_off_is_tried_again(
    finished_run: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, calls = Store.put, list[str]()

    def cut_off_once(self: Store, path: Path, name: str) -> None:
        calls.append(name)
        if len(calls) == 3:
            raise TransferError("the connection was cut off")
        put(self, path, name)

    monkeypatch.setattr(Store, "put", cut_off_once)
    monkeypatch.setattr(pushing, "push_results", pushing.push_results.with_options(retry_delay_seconds=0))
    stages.push(str(finished_run), MEMORY, ["report"])
    assert calls[-1] == "report/manifest.json" and calls.count(calls[2]) >= 2
    monkeypatch.undo()
    assert [part.copied for part in finished.push(finished_run, MEMORY, whats=["report"])] == [0]


@pytest.mark.usefixtures("server")
def test_a_block_opens_the_bucket_and_its_credentials_appear_nowhere(
    finished_run: Path,
    bucket: str,
    s3_server: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    settings = {"key": "AKIAEXAMPLE", "secret": SECRET, "endpoint_url": s3_server}
    RemoteFileSystem(basepath=bucket, settings=settings).save("scenes", overwrite=True)
    state = stages.push(str(finished_run), "remote-file-system/scenes/a", ["report"], return_state=True)
    assert state.result() == [f"{bucket}/a/report"]
    store = Store.open(f"{bucket}/a", settings)
    assert store.read("report/report.json") == (finished_run / "report/report.json").read_bytes()

    def refused(*_: Any, **__: Any) -> None:
        raise StoreError(f"{bucket} may not be written: {SECRET} of AKIAEXAMPLE is not known")

    with refusing(s3_server):
        failed = stages.push(str(finished_run), "remote-file-system/scenes/b", ["report"], return_state=True)
        with pytest.raises(StoreError, match="may not be"):
            failed.result()
    monkeypatch.setattr(pushing, "push", refused)
    hidden = stages.push(str(finished_run), "remote-file-system/scenes/c", ["report"], return_state=True)
    with pytest.raises(StoreError, match=r"\*\*\* of \*\*\* is not known"):
        hidden.result()
    kept = []
    with get_client(sync_client=True) as client:
        for each in (state, failed, hidden):
            chosen = FlowRunFilter(id=FlowRunFilterId(any_=[each.state_details.flow_run_id]))
            kept += client.read_flow_runs(flow_run_filter=chosen)
            kept += client.read_task_runs(flow_run_filter=chosen)
            kept += client.read_artifacts(flow_run_filter=chosen)
        assert len(kept) >= 7
    shown = capsys.readouterr()
    texts = [caplog.text, shown.out, shown.err, *(json.dumps(each.model_dump(mode="json")) for each in kept)]
    assert not any(SECRET in text or "AKIAEXAMPLE" in text for text in texts)
