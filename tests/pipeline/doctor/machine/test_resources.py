from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scenepalette.common.errors import ConfigError
from scenepalette.common.processors import ThreadChoice
from scenepalette.common.storage.files import read_json, write_json
from scenepalette.data.classes import ClassTable
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.pipeline.config import RunConfig, load_config
from scenepalette.pipeline.doctor.machine import resources
from scenepalette.pipeline.doctor.machine.resources import (
    Need,
    check_disk,
    check_memory,
    check_options,
    check_run_dir,
    check_threads,
    needs_of,
    show_bytes,
)
from scenepalette.pipeline.stages.layouts import layout_model
from scenepalette.training.checkpoint import CheckpointFolder


def test_disk_is_counted_from_the_configuration(tiny_config: RunConfig) -> None:
    needs = {need.name: need for need in needs_of(tiny_config, ClassTable.unnamed(12), 16, 4)}
    # Images and labels of both splits, and the training labels without gaps.
    assert needs["data"].disk == 32 * 48 * (4 * 20 + 16)
    assert {"layouts/semantic-palette", "images/oasis", "shards/full", "shards/semi", "segmenters"} <= needs.keys()
    assert needs["shards/full"].disk == 10 * (round(32 * 48 * 1.2) + 2000) + 3 * 4000


@pytest.mark.slow
def test_what_a_run_took_is_not_more_than_was_counted(tiny_config: RunConfig, finished_run: Path) -> None:
    for need in needs_of(tiny_config, ClassTable.unnamed(12), 16, 4):
        files = [
            path for path in (finished_run / need.name).rglob("*") if path.suffix not in (".png", ".jsonl", ".json")
        ]
        taken = sum(path.stat().st_size for path in files if path.is_file())
        assert 0 < taken <= need.disk * 1.3 or need.name == "report", need


def test_a_checkpoint_is_as_large_as_counted(tiny_config: RunConfig, tmp_path: Path) -> None:
    settings = layout_model(tiny_config, "full").settings
    system = LAYOUT_SYSTEMS["semantic-palette"]
    networks = [
        build(ClassTable.unnamed(12), (32, 48), settings)
        for build in (system.build_generator, system.build_discriminator)
    ]
    optimizers = {str(i): torch.optim.Adam(network.parameters()) for i, network in enumerate(networks)}
    for network, optimizer in zip(networks, optimizers.values(), strict=True):
        sum(parameter.sum() for parameter in network.parameters()).backward()  # type: ignore[union-attr]
        optimizer.step()
    modules = {"generator": networks[0], "critic": networks[1], "average": copy.deepcopy(networks[0])}
    written = CheckpointFolder(tmp_path).save(1, modules, optimizers).stat().st_size
    generator, discriminator = (sum(p.numel() for p in network.parameters()) for network in networks)
    (need,) = [n for n in needs_of(tiny_config, ClassTable.unnamed(12), 16, 4) if n.name == "layouts/semantic-palette"]
    counted = (need.disk - 4 * (generator + discriminator)) / resources.CHECKPOINTS
    # The file also holds buffers and names, which are a good part of so small a network's.
    assert counted <= written <= 1.6 * counted + 40_000


def test_an_unknown_encoder_is_said(tiny_config: RunConfig) -> None:
    config = tiny_config.model_copy(
        update={"segmenters": tiny_config.segmenters.model_copy(update={"encoder": "resnet17"})}
    )
    with pytest.raises(ConfigError, match="resnet17"):
        needs_of(config, ClassTable.unnamed(12), 16, 4)


@pytest.mark.parametrize(("free", "status"), [(999, "problem"), (1100, "warning"), (1300, "ok")])
def test_disk_and_memory_are_compared_with_what_there_is(
    free: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    monkeypatch.setattr(resources, "available_memory", lambda: free)
    needs = [Need("data", 400), Need("images/oasis", 600, 50)]
    disk = check_disk(needs, tmp_path / "new" / "run")
    assert disk.status == status and disk.details == ("images/oasis: 600 B", "data: 400 B")
    assert check_memory(needs, 1000, torch.device("cpu")).status == status
    assert bool(disk.remedy) == (status != "ok")


def test_what_is_already_there_is_not_needed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda folder: SimpleNamespace(free=700))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_bytes(bytes(400))
    check = check_disk([Need("data", 400), Need("images/oasis", 500)], tmp_path)
    assert check.status == "ok" and check.details[1] == "data: 400 B, 400 B of it there"


def test_absent_things_are_a_line_each(tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checks = {check.name: check for check in check_options(tiny_config)}
    assert checks["VGG-19 weights"].status == "note" and checks["AlexNet weights"].status == "note"
    # Named in the configuration, and not there.
    assert checks["Inception weights"].status == "warning"
    assert all("\n" not in check.summary for check in checks.values())

    images = tiny_config.images.model_copy(update={"perceptual_features": "segmenter"})
    own = tiny_config.model_copy(update={"images": images})
    assert {check.name for check in check_options(own)} == checks.keys() - {"VGG-19 weights"}


@pytest.mark.parametrize(
    ("choice", "status", "remedy"),
    [
        (ThreadChoice(2, 2.0, 0.0), "ok", ""),
        (ThreadChoice(1, 2.0, 0.9), "warning", "Other processes keep 0.9 of 2 processors busy"),
        (ThreadChoice(8, 2.0, 0.0, "compute.threads"), "warning", "compute.threads asks for 8 threads"),
        (ThreadChoice(1, 2.0, 0.9, "OMP_NUM_THREADS"), "ok", ""),
    ],
)
def test_the_choice_of_threads_is_named_and_a_busy_machine_is_a_warning(
    choice: ThreadChoice, status: str, remedy: str
) -> None:
    check = check_threads(choice)
    assert (check.name, check.status, check.summary) == ("threads", status, f"{choice}.")
    assert check.remedy.startswith(remedy) and bool(check.remedy) == bool(remedy)


def test_a_gpu_that_is_not_there_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = load_config("demo", ["compute.accelerator=cuda"])
    (check,) = check_options(config)
    assert (check.name, check.status) == ("device", "problem")


@pytest.mark.slow
def test_a_run_directory_is_new_ours_or_anothers(
    tiny_config: RunConfig, copy_of_run: Callable[..., Path], tmp_path: Path
) -> None:
    assert check_run_dir(tiny_config, tmp_path / "new").status == "ok"
    (tmp_path / "file").write_text("")
    assert check_run_dir(tiny_config, tmp_path / "file").status == "problem"
    folder = copy_of_run()
    ours = check_run_dir(tiny_config, folder)
    assert ours.status == "note" and "palettes" in ours.details
    count = len(ours.details)
    assert ours.summary == f"{folder} holds all {count} parts of this run; there is nothing left to make."
    for removed, rest in (("report", "the other one is made next"), ("images", "the other 2 are made next")):
        for path in (folder / removed).rglob("manifest.json"):
            path.rename(path.with_name("moved"))
        parts = check_run_dir(tiny_config, folder)
        assert parts.summary == f"{folder} holds {len(parts.details)} of {count} parts of this run; {rest}."
    for path in folder.rglob("moved"):
        path.rename(path.with_name("manifest.json"))
    other = check_run_dir(tiny_config.model_copy(update={"seed": 5}), folder)
    assert other.status == "problem" and any("seed: 0 there, 5 now" in detail for detail in other.details)
    write_json(folder / "palettes/manifest.json", [1])
    assert str(folder / "palettes/manifest.json") in check_run_dir(tiny_config, folder).summary
    assert read_json(folder / "data/manifest.json")["unit"] == "data"  # nothing else was changed


@pytest.mark.parametrize(
    ("count", "text"), [(10, "10 B"), (2048, "2.0 KiB"), (5 * 2**30, "5.0 GiB"), (2**41, "2.0 TiB")]
)
def test_bytes_are_shown_with_a_fitting_unit(count: int, text: str) -> None:
    assert show_bytes(count) == text
