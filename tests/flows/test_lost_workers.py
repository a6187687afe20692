"""A shard whose worker is lost is made again within the run: same bytes, no row twice."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prefect.settings import get_current_settings

from benchmarks.clusters.loopback import CLUSTERS, descendants, open_files
from benchmarks.clusters.loopback import lose as end_at_once
from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.flows import shards, stages
from scenepalette.flows.shards import MOST_LOSSES, PACKAGES, ShardPool, all_made

Results = Callable[[Path], dict[str, Any]]
TEMPORARY, SHARD_BEING_WRITTEN = ".scenepalette-tmp", "/.train-"
WORK = [{"label": f"generate {name}", "name": name} for name in "abcdef"]


class StandIn:
    """A task runner whose tasks end as a function of their shard's name says, at once and in order."""

    def __init__(self, outcome: Callable[[str], str | Exception]) -> None:
        self.outcome, self.started, self.under_way, self.most = outcome, 0, 0, 0
        self.begun: list[str] = []

    def __enter__(self) -> StandIn:
        self.started += 1
        return self

    def __exit__(self, *error: object) -> None:
        self.under_way = 0

    def submit(self, task: Any, parameters: dict[str, Any]) -> Any:
        self.begun.append(parameters["name"])
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        future: Future[str] = Future()
        outcome = self.outcome(parameters["name"])
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        result = future.result

        def taken() -> str:
            self.under_way -= 1
            return result()

        future.result = taken  # type: ignore[method-assign, assignment]
        return future


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., StandIn]]:
    def install(outcome: Callable[[str], str | Exception], runner: str = "processes") -> StandIn:
        made = StandIn(outcome)
        monkeypatch.setitem(shards.TASK_RUNNERS, runner, lambda pool: made)
        return made

    yield install


def test_shards_of_a_lost_process_are_begun_again_and_no_other(stand_in: Callable[..., StandIn]) -> None:
    lost = {"b": 2, "c": 1}

    def outcome(name: str) -> str | Exception:
        lost[name] = lost.get(name, 0) - 1
        return BrokenProcessPool("ended abruptly") if lost[name] >= 0 else name

    runner = stand_in(outcome)
    assert sorted(all_made(WORK, ShardPool("processes", 2))) == list("abcdef")
    assert runner.started == 3
    assert runner.begun.count("a") == 1 and runner.begun.count("b") == 3


def test_a_shard_that_ends_every_process_is_told_with_what_to_do(stand_in: Callable[..., StandIn]) -> None:
    runner = stand_in(lambda name: BrokenProcessPool("ended abruptly") if name == "c" else name)
    made: list[str] = []
    with pytest.raises(ScenepaletteError, match=r"generate c.*lost 4 times.*generate\.batch_size.*Rerun"):
        for path in all_made(WORK, ShardPool("processes", 2)):
            made.append(path)
    assert made == ["a", "b"] and runner.begun.count("c") == MOST_LOSSES + 1 == 4


@pytest.mark.parametrize("package", ["distributed.scheduler", "ray.exceptions"])
def test_what_a_cluster_gives_up_is_told_in_a_sentence(package: str, stand_in: Callable[..., StandIn]) -> None:
    error = type("KilledWorker", (Exception,), {"__module__": package})("three workers died\nand more")
    stand_in(lambda name: error if name == "d" else name, "dask")
    with pytest.raises(ScenepaletteError, match=r"generate d: workers were lost.*KilledWorker: three workers died\)"):
        list(all_made(WORK, ShardPool("dask", 2)))


def test_a_worker_without_this_package_is_told_in_a_sentence(stand_in: Callable[..., StandIn]) -> None:
    error = ModuleNotFoundError("No module named 'scenepalette'", name="scenepalette")
    stand_in(lambda name: error, "ray")
    with pytest.raises(ConfigError, match=r"a worker cannot import scenepalette; pip install 'scenepalette\[ray\]'"):
        list(all_made(WORK, ShardPool("ray", 2)))


def test_errors_of_a_shard_itself_pass_as_they_are(stand_in: Callable[..., StandIn]) -> None:
    runner = stand_in(lambda name: DataError("damaged") if name == "b" else name)
    with pytest.raises(DataError, match="damaged"):
        list(all_made(WORK, ShardPool("processes", 2)))
    assert runner.started == 1


def test_no_more_shards_are_submitted_than_memory_is_meant_for(
    stand_in: Callable[..., StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MOST_SUBMITTED", 2)
    runner = stand_in(lambda name: name)
    assert list(all_made(WORK, ShardPool("processes", 2))) == list("abcdef")
    assert runner.most == 2


@pytest.mark.parametrize("error", [TimeoutError, ConnectionError, RuntimeError, ValueError])
def test_an_address_without_a_cluster_is_told_in_a_sentence(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(StandIn):
        def __enter__(self) -> StandIn:
            raise error("Nobody is\nthere")

    monkeypatch.setitem(shards.TASK_RUNNERS, "dask", lambda pool: Silent(str))
    words = rf"no dask cluster answers at tcp://127\.0\.0\.1:1 \({error.__name__}: Nobody is\)"
    with pytest.raises(ConfigError, match=words):
        list(all_made(WORK, ShardPool("dask", 1, "tcp://127.0.0.1:1")))
    with pytest.raises(error):  # of one that is started here, no address is to blame
        list(all_made(WORK, ShardPool("dask", 1)))


def without_full_pairs(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "shards/full")


def lose_one(lose: Callable[[], str | None], lost: list[str]) -> threading.Thread:
    """Call `lose` until it has met a worker that writes a shard, in a thread."""

    def watch() -> None:
        end = time.monotonic() + 500
        while not lost and time.monotonic() < end:
            if (name := lose()) is not None:
                lost.append(name)
            time.sleep(0.005)  # the threads of the flow have to get on

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def check_whole(run_dir: Path) -> None:
    folder = run_dir / "shards/full"
    ids = [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path)["id"].to_pylist()]
    assert len(ids) == len(set(ids)) == 10
    assert not list(folder.rglob(f"*{TEMPORARY}"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to meet a worker while it writes")
@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("kind", list(CLUSTERS))
def test_the_shard_of_a_lost_worker_is_made_again_by_another(
    kind: Any, copy_of_run: Callable[..., Path], tiny_recipe: Path, results_of: Results
) -> None:
    pytest.importorskip(PACKAGES[kind], reason=f"the extra {kind} is not installed")
    run_dir, lost = copy_of_run("report"), list[str]()
    before = results_of(run_dir)
    without_full_pairs(run_dir)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PREFECT_API_URL": str(get_current_settings().api.url)}
    environment |= {"PREFECT_PLUGINS_ENABLED": "false", "RAY_USAGE_STATS_ENABLED": "0"}
    with CLUSTERS[kind](2, environment) as cluster:

        def lose() -> str | None:
            if (found := cluster.worker_with_open(SHARD_BEING_WRITTEN)) is None:
                return None
            end_at_once(found[0])
            return found[1]

        watching = lose_one(lose, lost)
        stages.generate_dataset(
            str(tiny_recipe), str(run_dir), task_runner=kind, shard_workers=2, cluster_address=cluster.address
        )
        watching.join(5)
        assert len(lost) == 1
    assert results_of(run_dir) == before
    check_whole(run_dir)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to meet a process while it writes")
@pytest.mark.usefixtures("server")
def test_the_shard_of_a_lost_process_is_made_again(
    copy_of_run: Callable[..., Path], tiny_recipe: Path, results_of: Results
) -> None:
    run_dir, lost = copy_of_run("report"), list[str]()
    before = results_of(run_dir)
    without_full_pairs(run_dir)

    def lose() -> str | None:
        for process in descendants(os.getpid()):
            for name in open_files(process):
                if SHARD_BEING_WRITTEN in name:
                    end_at_once(process)
                    return name
        return None

    watching = lose_one(lose, lost)
    stages.generate_dataset(str(tiny_recipe), str(run_dir), task_runner="processes", shard_workers=2)
    watching.join(5)
    assert len(lost) == 1
    assert results_of(run_dir) == before
    check_whole(run_dir)
