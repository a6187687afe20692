"""What a worker of a cluster lacks is told in a sentence, before it makes anything."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from scenepalette.common.errors import ConfigError
from scenepalette.common.processors import ThreadChoice
from scenepalette.flows import shards, stages
from scenepalette.flows.shards import ShardPool
from scenepalette.flows.tasks.workers import is_loopback, run_of_worker, server_problem, versions_here
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.request import Request
from scenepalette.pipeline.run import Run

UNIT = "shards/full"


@pytest.fixture
def begun(tiny_config: RunConfig, finished_run: Path, tmp_path: Path) -> dict[str, Any]:
    """Parameters of a run whose full pairs have begun."""
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    shutil.rmtree(folder / UNIT)
    run = Run(tiny_config, folder)
    run.begin(UNIT)
    return shards.tasks_of(run, UNIT, run.pairs(UNIT).plans(run)[:1], ShardPool())[0]


def parameters(task: dict[str, Any]) -> dict[str, Any]:
    return {key: task[key] for key in ("config", "run_dir", "unit", "fingerprint", "versions")}


def test_a_worker_with_all_that_it_needs_makes_a_shard(begun: dict[str, Any]) -> None:
    assert run_of_worker(**parameters(begun)).run_dir == Path(begun["run_dir"])
    path = shards.make_one_shard.fn(**begun)
    assert Path(begun["run_dir"]) in Path(path).parents


def test_all_that_a_worker_lacks_is_told_at_once(begun: dict[str, Any], tmp_path: Path) -> None:
    task = {**begun, "run_dir": str(tmp_path / "elsewhere"), "versions": {"scenepalette": "9.9", "torch": "1.0"}}
    with pytest.raises(ConfigError, match=r"The worker on \S+ cannot make shards") as caught:
        shards.make_one_shard.fn(**task)
    first, second, third = caught.value.problems
    assert f"it has scenepalette {versions_here()['scenepalette']}, and the flow run has 9.9; install" in first
    assert "torch 1.0" not in first and "flow run has 1.0" in second
    assert f"{tmp_path}/elsewhere/{UNIT}/unfinished.json is not there" in third and "Mount it" in third


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU")
def test_a_worker_without_the_gpu_that_is_asked_for(begun: dict[str, Any]) -> None:
    config = begun["config"].replace('"accelerator":"cpu"', '"accelerator":"cuda"')
    assert config != begun["config"]
    with pytest.raises(ConfigError, match=r"cuda, but torch sees no GPU\. Use compute\.accelerator=cpu or auto"):
        shards.make_one_shard.fn(**{**begun, "config": config})


def test_a_run_directory_of_another_run_is_not_written_into(begun: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"unfinished\.json is that of another run"):
        shards.make_one_shard.fn(**{**begun, "fingerprint": "0" * 64})
    assert not list(Path(begun["run_dir"]).glob(f"{UNIT}/**/*.parquet"))


def test_a_worker_without_a_package_that_the_configuration_names(begun: dict[str, Any]) -> None:
    config = begun["config"].replace('"system":"oasis"', '"system":"not-installed"')
    assert config != begun["config"]
    with pytest.raises(ConfigError, match=r"cannot use the configuration \(.*not-installed.*same packages"):
        run_of_worker(**{**parameters(begun), "config": config})


def test_code_that_would_make_other_pairs_is_refused(begun: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scenepalette.pipeline.stages.generate.VERSION", 99)
    with pytest.raises(ConfigError, match="shards/full would be another result here"):
        run_of_worker(**parameters(begun))


def test_what_follows_trainings_need_not_be_on_a_worker(
    tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = tiny_config.compute.model_copy(update={"tracking": ("mlflow",), "tensorboard": True})
    config = shards.shared_among(tiny_config.model_copy(update={"compute": compute}), ShardPool("dask", 1, "tcp://h:1"))
    assert config.compute.tracking == () and not config.compute.tensorboard


@pytest.mark.parametrize(
    ("cluster", "server", "fits"),
    [
        ("tcp://127.0.0.1:8786", None, True),
        ("tcp://10.0.0.5:8786", None, False),
        ("tcp://10.0.0.5:8786", "http://127.0.0.1:4200/api", False),
        ("ray://head:10001", "http://localhost:4200/api", False),
        ("tcp://10.0.0.5:8786", "http://10.0.0.1:4200/api", True),
        ("10.0.0.5:6379", "http://head:4200/api", True),
        ("auto", None, True),
    ],
)
def test_workers_have_to_reach_prefects_server(cluster: str, server: str | None, fits: bool) -> None:
    problem = server_problem(cluster, server)
    assert (problem is None) == fits
    if problem:
        assert "prefect server start --host" in problem and "PREFECT_API_URL" in problem and cluster in problem


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *(
            (each, True)
            for each in ("[::1]:8786", "tcp://127.0.0.2:1", "localhost", "auto", "http://localhost:4200/api")
        ),
        *(
            (each, False)
            for each in ("tcp://10.0.0.2:1", "head:6379", "ray://localhost.org:1", "http://[fe80::1]:1/api")
        ),
    ],
)
def test_loopback_is_known(address: str, expected: bool) -> None:
    assert is_loopback(address) == expected


def test_a_worker_without_the_recipes_file_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=rf"The worker on \S+, in {Path.cwd()}, has no file mine\.yaml.*every machine"
    ):
        stages.make_stage("shards", Request("mine.yaml", out=tmp_path / "run"), 0)
    assert not (tmp_path / "run").exists()


def test_more_workers_than_processors_are_told() -> None:
    assert "8 workers, but this process may use 2 processors" in ShardPool("processes", 8).warning(2.0)
    assert ShardPool("processes", 2).warning(2.0) == ShardPool("dask", 8, "tcp://h:1").warning(2.0) == ""


def test_threads_of_workers_are_within_the_quota(tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "choose_threads", lambda: ThreadChoice(2, 2.0, 0.0))
    compute = tiny_config.compute.model_copy(update={"threads": None})
    config = tiny_config.model_copy(update={"compute": compute})
    assert [shards.shared_among(config, ShardPool("processes", n)).compute.threads for n in (1, 2, 4)] == [2, 1, 1]
