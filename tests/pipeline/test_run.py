from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.common.errors import CheckpointError, DataError, ScenepaletteError, TrainingError
from scenepalette.common.progress import NoProgress
from scenepalette.common.storage.files import is_temporary, sha256_of_file
from scenepalette.data.classes import SemanticClass
from scenepalette.data.shards.checking import verify_shards
from scenepalette.generators.images.loading import load_image_generator
from scenepalette.generators.layouts.loading import load_layout_generator
from scenepalette.pipeline.config import FinetuneConfig, RunConfig, load_config
from scenepalette.pipeline.run import Run, units_of
from scenepalette.pipeline.stages.generate import make_shard
from scenepalette.pipeline.stages.inputs.data import read_data
from scenepalette.pipeline.stages.shard_files import ShardPlan, is_written, place_of, plan_shards, plans_for
from scenepalette.pipeline.stages.studies.compare import comparison_units
from scenepalette.pipeline.units.records import fingerprint_of
from scenepalette.pipeline.units.sources import Sources

ROOT = Path(__file__).parents[2]


class StopIn(NoProgress):
    """Progress that ends the work by an exception the first time a piece of work of a given name advances."""

    def __init__(self, description: str, advances: int = 2) -> None:
        self.description, self.left, self.inside = description, advances, False

    def start(self, description: str, total: int, done: int = 0) -> None:
        self.inside = self.description in description

    def advance(self, count: int = 1, **values: float) -> None:
        if self.inside:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def make_stage(stage: str, config: RunConfig, run_dir: Path) -> None:
    run = Run(config, run_dir)
    run.make(run.names_of(stage))


def modification_times(folder: Path) -> dict[str, int]:
    kept = ("config.yaml", ".scenepalette.lock")
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name not in kept
    }


def test_units_come_after_what_they_read(tiny_config: RunConfig, tmp_path: Path) -> None:
    units = list(Run(tiny_config, tmp_path).units.values())
    names = [unit.name for unit in units]
    assert all(names.index(other) < names.index(unit.name) for unit in units for other in unit.inputs)
    stages = "data palettes layouts images finetuned shards segmenters report comparison curve loop"
    assert {name.partition("/")[0] for name in names} == set(stages.split())


@pytest.mark.parametrize(
    ("section", "units"),
    [
        ("layouts.full", ["layouts/semantic-palette"]),
        ("images", ["images/oasis"]),
        ("finetune", ["finetuned/full"]),
        ("segmenters", ["segmenters/real/seed0"]),
    ],
)
def test_how_often_a_training_is_kept_does_not_identify_its_result(
    section: str, units: list[str], tiny_recipe: Path
) -> None:
    overrides = ["finetune.kinds=[full]"]
    before, after = (
        units_of(load_config(str(tiny_recipe), [*overrides, f"{section}.{change}"]))
        for change in ("checkpoint_every=7", "checkpoint_every=9")
    )
    assert [fingerprint_of(before[name], before) for name in units] == [
        fingerprint_of(after[name], after) for name in units
    ]


def test_weights_for_a_perceptual_loss_identify_the_systems_that_have_one(tiny_recipe: Path) -> None:
    rows = "compare.rows=[semantic-palette-oasis, real-layouts-crn]"
    without, given = (
        comparison_units(config, Sources(), units_of(config))
        for config in (load_config(str(tiny_recipe), [rows, *more]) for more in ([], ["images.vgg_weights=vgg19.pth"]))
    )
    changed = {name for name in without if without[name].settings != given[name].settings}
    assert changed == {"images/crn"}


def test_a_training_that_must_not_go_on_is_told_with_its_folder(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run("segmenters/real", "report")
    changes = {"segmenters": tiny_config.segmenters.model_copy(update={"learning_rate": 1e20})}
    run = Run(tiny_config.model_copy(update=changes), run_dir)
    with pytest.raises(
        TrainingError, match=r"segmenters/real/seed0: The .* at step \d+.*another --out folder"
    ) as caught:
        run.make_one("segmenters/real/seed0")
    assert isinstance(caught.value.__cause__, TrainingError)


def test_only_used_layout_generators_are_trained(tiny_config: RunConfig, tmp_path: Path) -> None:
    generate = tiny_config.generate.model_copy(update={"kinds": ("semi",)})
    segmenters = tiny_config.segmenters.model_copy(update={"arms": ("real", "semi")})
    config = tiny_config.model_copy(update={"generate": generate, "segmenters": segmenters})
    assert Run(config, tmp_path).names_of("layouts") == []


def test_a_run_has_every_folder_of_a_run_directory(finished_run: Path, tiny_config: RunConfig) -> None:
    for name in units_of(tiny_config):
        assert (finished_run / name / "manifest.json").is_file(), name
    for file in ("report.json", "report.md", "report.html", "figures/arms.png"):
        assert (finished_run / "report" / file).is_file()
    assert (finished_run / "layouts/semantic-palette/metrics.jsonl").is_file()
    assert [verify_shards(finished_run / "shards" / kind) for kind in ("full", "partial", "semi")] == [[], [], []]
    assert load_config(str(finished_run / "config.yaml")) == tiny_config


def test_finished_units_are_not_made_again(
    finished_run: Path, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = modification_times(finished_run)
    monkeypatch.setattr(Run, "make_one", lambda self, name: pytest.fail(f"{name} was made again"))
    make_stage("report", tiny_config, finished_run)
    assert modification_times(finished_run) == before


def test_new_shards_come_after_those_that_are_there() -> None:
    assert plan_shards(10, 4, [("train-00000-of-00002.parquet", 4), ("train-00001-of-00002.parquet", 1)]) == [
        ShardPlan("train-00000-of-00002.parquet", 0, 4),
        ShardPlan("train-00001-of-00002.parquet", 4, 1),
        ShardPlan("train-00002-of-00004.parquet", 5, 4),
        ShardPlan("train-00003-of-00004.parquet", 9, 1),
    ]


def test_data_are_read_once(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run("palettes", "report", "shards/semi")
    calls: list[Path] = []

    def read(folder: Path, extra_tests: Mapping[str, Path]) -> Any:
        calls.append(folder)
        return read_data(folder, extra_tests)

    monkeypatch.setattr("scenepalette.pipeline.run_state.read_data", read)
    make_stage("report", tiny_config, run_dir)
    assert calls == [run_dir / "data"]


def test_a_new_number_of_pairs_leaves_the_models_alone(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run("shards", "segmenters", "report")
    config = tiny_config.model_copy(update={"generate": tiny_config.generate.model_copy(update={"pairs": 3})})
    run = Run(config, run_dir)
    assert run.missing(run.names_of("shards")) == ["shards/full", "shards/partial", "shards/semi"]


def test_a_folder_of_another_run_is_refused_and_left_as_it_is(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run()
    before = (run_dir / "config.yaml").read_text()
    with pytest.raises(ScenepaletteError, match="made with other settings") as caught:
        make_stage("report", tiny_config.model_copy(update={"seed": 1}), run_dir)
    assert (run_dir / "config.yaml").read_text() == before
    assert any("seed: 0 there, 1 now" in problem for problem in caught.value.problems)


@pytest.mark.slow
def test_fine_tuned_generators_make_the_pairs_of_their_kind(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run("report", "segmenters", "shards")
    tuning = FinetuneConfig(kinds=("full",), steps=2, batch_size=2, width=4, checkpoint_every=1)
    run = Run(tiny_config.model_copy(update={"finetune": tuning}), run_dir)
    assert run.missing(run.names_of("shards")) == ["finetuned/full", "shards/full", "shards/partial", "shards/semi"]
    run.make(run.names_of("shards"))
    full, partial = (json.loads((run_dir / f"shards/{kind}/manifest.json").read_text()) for kind in ("full", "partial"))
    assert full["models"] == {
        "layout_model": sha256_of_file(run_dir / "finetuned/full/layouts.safetensors"),
        "image_model": sha256_of_file(run_dir / "finetuned/full/images.safetensors"),
    }
    assert partial["models"]["image_model"] == sha256_of_file(run_dir / "images/oasis/weights.safetensors")


def test_a_report_says_nothing_of_trainings_that_are_not_its_runs(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, results_of: Callable[[Path], dict[str, Any]]
) -> None:
    run_dir = copy_of_run()
    before = results_of(run_dir)
    figure = run_dir / "report/figures/training-generators.png"
    drawn = figure.read_bytes()
    shutil.rmtree(run_dir / "report")
    # A comparison of systems keeps its models in the same folders.
    shutil.copytree(run_dir / "layouts/semantic-palette", run_dir / "layouts/sb-gan")
    shutil.copytree(run_dir / "images/oasis", run_dir / "images/gaugan")
    make_stage("report", tiny_config, run_dir)
    assert results_of(run_dir)["report"] == before["report"]
    assert figure.read_bytes() == drawn


@pytest.mark.slow
def test_interruption_in_every_stage_changes_nothing(
    finished_run: Path, tiny_config: RunConfig, tmp_path: Path, results_of: Callable[[Path], dict[str, Any]]
) -> None:
    run_dir = tmp_path / "run"
    pieces = [
        "data streets",
        "train-layouts semantic-palette",
        "train-layouts semantic-palette-partial",
        "train-images oasis",
        "generate full",
        "generate partial",
        "Training the segmenter",
        "Segmenter features of real images",
    ]
    for piece in pieces:
        run = Run(tiny_config, run_dir, StopIn(piece, 1 if "features" in piece else 2))
        with pytest.raises(KeyboardInterrupt):
            run.make(run.names_of("report"))
    run = Run(tiny_config, run_dir)
    run.make(run.names_of("report"))
    assert results_of(run_dir) == results_of(finished_run)


@pytest.mark.slow
def test_killed_process_continues_to_the_same_results(
    finished_run: Path, tiny_recipe: Path, tmp_path: Path, results_of: Callable[[Path], dict[str, Any]]
) -> None:
    run_dir = tmp_path / "run"
    command = [sys.executable, "-m", "scenepalette.pipeline.cli.main", "run", str(tiny_recipe), "--out", str(run_dir)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first_receipt = run_dir / "shards/full/.finished/train-00000-of-00003.parquet.json"
    deadline = time.monotonic() + 300
    try:
        while not first_receipt.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert first_receipt.exists() and not (run_dir / "report/manifest.json").exists()
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    assert str(run_dir / "report" / "report.html") in finished.stdout
    assert results_of(run_dir) == results_of(finished_run)


def test_truncated_and_altered_shards_are_made_again(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, results_of: Callable[[Path], dict[str, Any]]
) -> None:
    run_dir = copy_of_run("report")
    before = results_of(run_dir)
    folder = run_dir / "shards" / "full"
    # As if the process had been killed before the folder was finished, and the disk had then lost some blocks.
    (folder / "manifest.json").unlink()
    first, second, _ = sorted(folder.glob("*.parquet"))
    first.write_bytes(first.read_bytes()[:-100])
    content = bytearray(second.read_bytes())
    content[1000] ^= 1
    second.write_bytes(content)
    assert is_written(folder, plans_for(folder, tiny_config.generate)[0]) is None
    run = Run(tiny_config, run_dir)
    run.make(run.names_of("shards"))
    assert results_of(run_dir) == before
    assert verify_shards(folder) == []


def test_shards_do_not_depend_on_who_makes_them(finished_run: Path, tiny_config: RunConfig, tmp_path: Path) -> None:
    run = Run(tiny_config, finished_run)
    plans = plans_for(tmp_path, tiny_config.generate)
    for plan in reversed(plans):
        make_shard(tmp_path, plan, run.pair_maker("shards/partial"), tiny_config.generate, NoProgress())
        assert place_of(tmp_path, plan.name).read_bytes() == (finished_run / "shards/partial" / plan.name).read_bytes()


def test_plan_covers_all_pairs_once() -> None:
    for pairs, rows in [(10, 4), (1, 4), (8, 4), (1000, 7)]:
        plans = plan_shards(pairs, rows)
        assert [index for plan in plans for index in range(plan.first, plan.first + plan.rows)] == list(range(pairs))
        assert max(plan.rows for plan in plans) <= rows


def test_a_full_disk_is_told_and_the_work_continues_later(
    copy_of_run: Callable[..., Path],
    tiny_config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    results_of: Callable[[Path], dict[str, Any]],
) -> None:
    run_dir = copy_of_run("report")
    before = results_of(run_dir)
    shutil.rmtree(run_dir / "shards/semi")
    written: list[int] = []

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ScenepaletteError, match=r"the disk is full\. Free some space"):
            make_stage("shards", tiny_config, run_dir)
    assert not [path for path in run_dir.rglob(".*") if is_temporary(path.name)]
    make_stage("shards", tiny_config, run_dir)
    assert results_of(run_dir) == before


def test_a_palette_that_does_not_sum_to_one_is_never_written(
    finished_run: Path, tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Exact hardening would refuse it before it comes to be written.
    maker = replace(Run(tiny_config, finished_run).pair_maker("shards/full"), hardening="argmax")
    sample = type(maker.sampler).sample
    monkeypatch.setattr(type(maker.sampler), "sample", lambda *arguments: np.asarray(sample(*arguments)) * 1.1)
    plan = plans_for(tmp_path, tiny_config.generate)[0]
    with pytest.raises(DataError, match=r"palette_target must hold shares that sum to 1; the sum is 1\.1"):
        make_shard(tmp_path, plan, maker, tiny_config.generate, NoProgress())
    assert not list(tmp_path.rglob("*.parquet"))


def test_weights_of_another_class_table_are_refused(finished_run: Path, tiny_config: RunConfig) -> None:
    train = read_data(finished_run / "data").train
    table = replace(train.table, classes=(*train.table.classes[:-1], SemanticClass("unicorn", (1, 2, 3))))
    with pytest.raises(CheckpointError, match="another set-up") as caught:
        load_image_generator(
            finished_run / "images/oasis/weights.safetensors", "oasis", table, train.size, tiny_config.images.settings()
        )
    assert "class_table" in str(caught.value)
    settings = tiny_config.layouts.full.settings()
    with pytest.raises(CheckpointError, match="class_table"):
        load_layout_generator(
            finished_run / "layouts/semantic-palette/weights.safetensors",
            "semantic-palette",
            table,
            train.size,
            settings,
        )


def test_classes_that_there_are_not_are_told_before_anything_is_trained(tiny_config: RunConfig, tmp_path: Path) -> None:
    wishes = tiny_config.generate.model_copy(update={"ban": ("boat",), "palette": {"road": 0.5}})
    run = Run(tiny_config.model_copy(update={"generate": wishes}), tmp_path / "run")
    for _ in range(2):  # the data set is prepared by the first and found by the second
        with pytest.raises(ScenepaletteError) as raised:
            run.make(run.names_of("shards"))
        assert "generate.ban: unknown class 'boat'" in str(raised.value)
        assert "which sums to 0.5000" in str(raised.value)
        assert run.is_finished("data") and not (tmp_path / "run" / "palettes").exists()
