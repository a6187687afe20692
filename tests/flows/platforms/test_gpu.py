"""The tag of tasks that use a GPU: where it is, and that a limit on it keeps tasks apart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.concurrency import services

from scenepalette.flows import shards, stages
from scenepalette.flows.platforms import gpu
from scenepalette.flows.platforms.gpu import GPU_TAG, tagged, uses_gpu
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.run import units_of


def with_accelerator(config: RunConfig, name: str) -> RunConfig:
    return config.model_copy(update={"compute": config.compute.model_copy(update={"accelerator": name})})


@pytest.mark.parametrize(
    ("setting", "there", "expected"),
    [("cpu", True, False), ("cpu", False, False), ("cuda", True, True), ("auto", True, True), ("auto", False, False)],
)
def test_work_is_tagged_if_and_only_if_it_takes_a_gpu(
    setting: str, there: bool, expected: bool, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    config = with_accelerator(tiny_config, setting)
    units = units_of(tiny_config)
    for unit in units.values():
        wanted = expected and unit.computes
        assert uses_gpu(config, unit) is wanted, unit.name
        for each in (stages.make_units, shards.make_one_shard):
            assert tagged(each, config, unit).tags == ({GPU_TAG} if wanted else set()), unit.name
    trained = {name for name, unit in units.items() if unit.computes}
    assert {"images/oasis", "shards/full", "segmenters/real/seed0", "report"} <= trained
    assert {"data", "palettes"}.isdisjoint(trained)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("forced", [True, False])
def test_tasks_of_a_flow_carry_the_tag(
    forced: bool, copy_of_run: Callable[..., Path], tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run("palettes", "layouts", "shards", "segmenters", "report")
    if forced:  # the work itself stays on the CPU
        monkeypatch.setattr(gpu, "chosen_accelerator", lambda setting: "cuda")
    chosen = {"generate.kinds": ["full"], "generate.pairs": 4, "segmenters.arms": ["real", "syn"]}
    state = stages.generate_dataset(str(tiny_recipe), str(run_dir), chosen, return_state=True)
    assert state.result() == str(run_dir / "shards")
    with get_client(sync_client=True) as client:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        tags = {run.name: run.tags for run in client.read_task_runs(flow_run_filter=chosen)}
    expected = [GPU_TAG] if forced else []
    assert tags == {
        "fit-palettes": [],
        "train-layouts semantic-palette": expected,
        "generate full train-00000-of-00001.parquet": expected,
        "generate full finish": [],
    }


@contextmanager
def limited(tag: str) -> Iterator[None]:
    with get_client(sync_client=True) as client:
        client.create_concurrency_limit(tag=tag, concurrency_limit=1)
        # Prefect remembers for a while that a tag has no limit, here from the tests before.
        services._no_limits_cache.clear()
        try:
            yield
        finally:
            client.delete_concurrency_limit_by_tag(tag=tag)


@pytest.mark.usefixtures("server")
def test_a_limit_keeps_tasks_with_the_tag_apart_and_others_not(
    tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = units_of(tiny_config)["images/oasis"]
    lock, running, most = threading.Lock(), [0], [0]
    met = threading.Barrier(2)

    @task
    def work(together: bool) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        if together:
            met.wait(120)  # the other one is here at the same time
        else:
            time.sleep(0.5)
        with lock:
            running[0] -= 1

    @flow
    def both(chosen: Any, together: bool) -> None:
        for future in [chosen.submit(together) for _ in range(2)]:
            future.result()

    with limited(GPU_TAG):
        both(tagged(work, with_accelerator(tiny_config, "cpu"), unit), True)
        assert most == [2]
        most[0] = 0
        both(tagged(work, with_accelerator(tiny_config, "cuda"), unit), False)
        assert most == [1]
