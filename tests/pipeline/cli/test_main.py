from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from scenepalette.common.errors import ConfigError
from scenepalette.data.datasets import DATASETS
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.evaluation.registry import METRICS
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.pipeline import run as run_module
from scenepalette.pipeline.arms import ARMS
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.config import load_config, with_overrides
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.request import Request
from scenepalette.pipeline.run import Run
from scenepalette.segmenters.registry import SEGMENTERS

ROOT = Path(__file__).parents[3]
VERBS = {
    "run": "report",
    "fit-palettes": "palettes",
    "train-layouts": "layouts",
    "train-images": "images",
    "generate": "shards",
    "train-segmenter": "segmenters",
    "report": "report",
}


def invoke(*arguments: str, expected: int = 0) -> tuple[str, str]:
    """Return what a command printed on standard output and standard error."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == expected, result.output
    return result.stdout, result.stderr


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys, scenepalette.pipeline.cli.main as c; from typer.testing import CliRunner; "
        "r = CliRunner().invoke(c.app, ['--help']); assert r.exit_code == 0 and 'train-layouts' in r.output; "
        "print(sorted(sys.modules.keys() & {'torch', 'numpy', 'pandas', 'matplotlib', 'prefect', 'pyarrow'}))"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


@pytest.mark.parametrize(
    "verb", [*VERBS, "demo", "finetune", "compare", "systems", "datasets", "recipes", "shards", "edit"]
)
def test_help_of_every_verb_says_what_it_does(verb: str) -> None:
    output, _ = invoke(verb, "--help")
    assert "Usage" in output and verb in output
    if verb in VERBS:
        assert "--set" in output and "--out" in output and "For example" in output


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_make_their_stage(
    verb: str, finished_run: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Path, list[str], int]] = []

    def make(self: Run, names: list[str], **waiting: object) -> None:
        made.append((self.run_dir, names, self.config.generate.pairs))
        shutil.copytree(finished_run / "report", self.run_dir / "report")
        shutil.copy(finished_run / "scenepalette-run.json", self.run_dir)

    monkeypatch.setattr(Run, "make", make)
    output, _ = invoke(verb, str(tiny_recipe), "--set", "generate.pairs=11", "--out", str(tmp_path / "out"))
    (run_dir, names, pairs), *others = made
    assert (run_dir, pairs, others) == (tmp_path / "out", 11, [])
    assert {name.partition("/")[0] for name in names} == {VERBS[verb]}
    assert str(tmp_path / "out" / VERBS[verb]) in output


def test_run_prints_the_arms_and_the_reports_paths(finished_run: Path, tiny_recipe: Path) -> None:
    output, _ = invoke("run", str(tiny_recipe), "--out", str(finished_run))
    lines = output.splitlines()
    assert lines[0].split() == ["arm", "mIoU,", "%", "95", "%", "interval", "against", "real,", "points"]
    arms = json.loads((finished_run / "report/report.json").read_text())["arms"]
    assert [line.split()[0] for line in lines[1 : 1 + len(arms)]] == [arm["name"] for arm in arms]
    assert lines[1].split()[1] == f"{100 * arms[0]['miou']['mean']:.1f}"
    assert str(finished_run / "report/report.html") in output and str(finished_run / "report/report.md") in output


def test_an_empty_run_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set must not fill the current folder."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["fit-palettes", "demo", "--out", ""])
    assert result.exit_code == 2 and "is empty" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["run", "generate", "doctor"])
@pytest.mark.parametrize("out", ["x/{data}", "x/{Date}", "x/{date", "x}", " "])
def test_a_run_directory_with_braces_that_say_nothing_is_refused(
    verb: str, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [verb, "demo", "--out", out])
    assert result.exit_code == 2 and ("{date}" in result.output or "is empty" in result.output)
    assert list(tmp_path.iterdir()) == []


def test_a_dated_run_is_made_printed_and_continued_in_one_folder(
    finished_run: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def make(self: Run, names: list[str], **waiting: object) -> None:
        made.append(self.run_dir)
        if len(made) == 2:
            raise KeyboardInterrupt
        shutil.copytree(finished_run / "report", self.run_dir / "report")
        shutil.copy(finished_run / "scenepalette-run.json", self.run_dir)

    monkeypatch.setattr(Run, "make", make)
    out = str(tmp_path / "{date}" / "{time}")
    output, _ = invoke("run", str(tiny_recipe), "--out", out)
    assert "{" not in str(made[0]) and f"Report: {made[0] / 'report/report.html'}" in output
    _, errors = invoke("run", str(tiny_recipe), "--out", out, expected=130)
    assert f"Rerun the same command with --out {made[1]} to continue" in errors


def test_a_run_waits_for_its_directory_if_it_is_told_to(
    finished_run: Path, occupied: Callable[..., Any], tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("report", str(tiny_recipe), "--out", str(finished_run))
    _, errors = invoke(*arguments, expected=1)
    assert "Another process is working in" in errors and "waits" not in errors
    monkeypatch.setattr(run_module, "exclusive", occupied)
    _, errors = invoke(*arguments, "--wait", "1")
    assert f"Another run is working in {finished_run}; this one waits for it, up to 1 minute." in errors


@pytest.mark.parametrize("verb", [*VERBS, "finetune", "compare", "doctor"])
def test_models_of_another_run_are_a_setting(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []

    def load(recipe: str, overrides: tuple[str, ...], run_dir: Path) -> None:
        asked.append(Request(recipe, overrides, run_dir))
        raise ConfigError("enough")

    for module in ("config", "doctor.examine"):
        monkeypatch.setattr(f"scenepalette.pipeline.{module}.load_config", load)
    CliRunner().invoke(app, [verb, "demo", "--set", "seed=1", "--models-from", "runs/2026: a"])
    (request,) = asked
    assert with_overrides({}, request.overrides) == {"seed": 1, "models_from": "runs/2026: a"}
    assert request.overrides[1] in shlex.split(request.command())
    assert CliRunner().invoke(app, [verb, "demo", "--models-from", ""]).exit_code == 2


@pytest.mark.parametrize("option", ["--html", "--json", "--models-from", "--out"])
def test_an_empty_name_is_refused_before_anything_is_looked_at(option: str) -> None:
    result = CliRunner().invoke(app, ["doctor", "demo", option, ""])
    assert result.exit_code == 2 and "is empty" in result.output


def test_run_directory_is_named_after_the_recipe() -> None:
    assert Request("demo").run_dir == Path("runs/demo")
    assert Request("configs/mine.yaml").run_dir == Path("runs/mine")
    assert Request("demo", out=Path("x")).run_dir == Path("x")


def test_command_can_be_pasted_into_a_shell() -> None:
    request = Request("my recipe.yaml", ("segmenters.seeds=[0, 1]",), Path("out"))
    expected = "scenepalette run 'my recipe.yaml' --set 'segmenters.seeds=[0, 1]' --out out"
    assert request.command() == expected


def test_problems_are_told_without_traceback() -> None:
    output, errors = invoke("run", "demo", "--set", "images.stepz=1", "--set", "seed=-1", expected=1)
    assert "images.stepz: there is no such key" in errors and "seed: " in errors
    assert "Traceback" not in output + errors
    _, errors = invoke("train-layouts", "nowhere.yaml", expected=1)
    assert "no recipe and no YAML file named 'nowhere.yaml'" in errors


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_interruption_says_how_to_continue(
    number: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[bool] = []

    def make(self: Run, names: list[str], **waiting: object) -> None:
        try:
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 5)
        finally:
            cleaned.append(True)

    monkeypatch.setattr(Run, "make", make)
    before = signal.getsignal(signal.SIGTERM)
    # A process in the background of a script starts with Ctrl-C ignored.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        output, errors = invoke("run", "demo", "--out", str(tmp_path), expected=expected)
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert "Rerun the same command to continue" in errors and "Traceback" not in output + errors
    assert cleaned == [True] and signal.getsignal(signal.SIGTERM) == before


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def make(self: Run, names: list[str], **waiting: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Run, "make", make)
    result = CliRunner().invoke(app, ["run", "demo", "--out", str(tmp_path)])
    assert isinstance(result.exception, ZeroDivisionError)


def test_systems_have_the_papers_sizes() -> None:
    output, _ = invoke("systems", "--classes", "12", "--size", "128x256", "--json")
    listed = json.loads(output)
    entries = {entry["name"]: entry for entry in listed if entry["kind"] in ("layout", "image")}
    assert list(entries) == [*LAYOUT_SYSTEMS, *IMAGE_SYSTEMS]
    for kind, names in (("segmenter", SEGMENTERS), ("data set", DATASETS), ("metric", METRICS), ("arm", ARMS)):
        assert [entry["name"] for entry in listed if entry["kind"] == kind] == list(names)
    assert {entry["source"] for entry in listed} == {"scenepalette"}
    assert entries["semantic-palette"]["generator_parameters"] / 1e6 == pytest.approx(27.6, abs=0.05)
    assert entries["oasis"]["generator_parameters"] / 1e6 == pytest.approx(70.47, abs=0.005)
    assert entries["oasis"]["kind"] == "image" and "ICLR 2021" in entries["oasis"]["paper"]
    output, _ = invoke("systems", "--classes", "151", "--size", "256x256", "--json")
    larger = {entry["name"]: entry for entry in json.loads(output) if entry["kind"] in ("layout", "image")}
    oasis = larger["oasis"]
    assert larger["gaugan"]["generator_parameters"] / 1e6 == pytest.approx(96, rel=0.01)
    assert larger["crn"]["discriminator_parameters"] == 0
    # The paper counts 72 M, 2 M for the 3D noise, and 22 M for the discriminator.
    assert oasis["generator_parameters"] / 1e6 == pytest.approx(74, abs=1)
    assert oasis["discriminator_parameters"] / 1e6 == pytest.approx(22, abs=1)


def test_datasets_are_listed_with_the_packages_that_read_them() -> None:
    output, _ = invoke("datasets")
    lines = [line.split() for line in output.splitlines()[1:]]
    assert [line[0] for line in lines] == list(DATASETS)
    assert {line[1] for line in lines} == {"scenepalette"} and all(len(line) > 3 for line in lines)


def test_systems_table_names_all_and_their_papers() -> None:
    output, _ = invoke("systems")
    assert "27.61 M" in output and "70.47 M" in output and "CVPR 2021" in output


@pytest.mark.parametrize("size", ["128", "128x", "33x33", "x"])
def test_systems_refuse_a_size_that_is_none(size: str) -> None:
    _, errors = invoke("systems", "--size", size, expected=1)
    assert "HxW" in errors or "33x33" in errors


def test_a_fine_tuning_of_nothing_is_refused() -> None:
    _, errors = invoke("finetune", "demo", expected=1)
    assert "finetune.kinds=[full]" in errors


def test_recipes_are_listed_and_shown_as_yaml(tmp_path: Path) -> None:
    output, _ = invoke("recipes")
    assert [line.split()[0] for line in output.splitlines()] == list(RECIPES)
    output, _ = invoke("recipes", "show", "demo")
    path = tmp_path / "mine.yaml"
    path.write_text(output)
    assert load_config(str(path)) == load_config("demo")
    assert next(iter(yaml.safe_load(output))) == "recipe"
    _, errors = invoke("recipes", "show", "dmeo", expected=1)
    assert "Recipes are demo" in errors


def test_shards_verify_tells_whole_from_damaged(finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    shutil.copytree(finished_run / "shards/full", folder)
    output, _ = invoke("shards", "verify", str(folder))
    assert "10 pairs in 3 shard(s)" in output
    shard = folder / "train-00001-of-00003.parquet"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    _, errors = invoke("shards", "verify", str(folder), expected=1)
    assert "train-00001-of-00003.parquet has SHA-256" in errors
    _, errors = invoke("shards", "verify", str(tmp_path / "nowhere"), expected=1)
    assert "nowhere does not exist" in errors


def test_shards_show_describes_and_draws(finished_run: Path, tmp_path: Path) -> None:
    folder = str(finished_run / "shards/partial")
    output, _ = invoke("shards", "show", folder, "--picture", str(tmp_path / "sheet.png"), "--count", "3")
    ids = [row.id for row in iterate_rows(folder)]
    assert "10 partial pairs, 3 shard(s)" in output and ids[0] in output
    assert "source: streets (Apache-2.0)" in output and "a part that a layout model generated" in output
    assert Image.open(tmp_path / "sheet.png").size[0] > 3 * 48
    output, _ = invoke("shards", "show", folder, "--id", ids[4], "--picture", str(tmp_path / "pair.png"))
    assert "generated again" in output and "real sample" in output
    shares = np.array([line.split()[-2:] for line in output.splitlines() if line.endswith(tuple("0123456789"))][-14:])
    assert shares.astype(float).sum(axis=0) == pytest.approx([100, 100], abs=1)
    assert Image.open(tmp_path / "pair.png").size == (48, 64)
    _, errors = invoke("shards", "show", folder, "--id", "nobody", expected=1)
    assert "No row" in errors
