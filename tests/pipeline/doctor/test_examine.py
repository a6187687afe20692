from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.doctor.examine import examine
from scenepalette.pipeline.doctor.machine.timing import Measured
from scenepalette.pipeline.request import Request


def invoke(*arguments: str, expected: int = 0) -> str:
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert result.exit_code == expected, result.output
    return result.stdout


def test_the_command_prints_one_page_and_writes_it_as_html_and_json(tiny_recipe: Path, tmp_path: Path) -> None:
    page, document = tmp_path / "x.html", tmp_path / "x.json"
    arguments = [str(tiny_recipe), "--out", str(tmp_path / "run"), "--no-measure"]
    text = invoke(*arguments, "--html", str(page), "--json", str(document))
    assert "Nothing has to be fixed" in text and "\x1b" not in text
    content = json.loads(document.read_text())
    assert content["failed"] is False and content["facts"]["training samples"] == "16"
    statuses = {check["name"]: check["status"] for check in content["checks"]}
    assert statuses["amount"] == "warning" and statuses["leakage"] == "ok" and statuses["disk"] == "ok"
    assert page.read_text().startswith("<!doctype html>")
    assert not (tmp_path / "run").exists()
    assert "To be fixed" in invoke(*arguments, "--strict", expected=1)


def test_a_configuration_that_cannot_be_run_ends_with_1() -> None:
    text = invoke("demo", "--set", "images.step=3", "--set", "data.size=[7, 7]", expected=1)
    assert "images.step: there is no such key" in text
    assert "no recipe and no YAML file named 'nothing'" in invoke("nothing", expected=1)


def test_measured_steps_become_time_and_memory(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Measured({"images": 2.0, "segmenter": 1.0}, 10**9)
    monkeypatch.setattr("scenepalette.pipeline.doctor.examine.measure", lambda *arguments, **options: measured)
    checks = {check.name: check for check in examine(Request(str(tiny_recipe), (), tmp_path / "run")).checks}
    assert "images/oasis: 6 s (3 steps, 2.0 s each)" in checks["time"].details
    assert "954 MiB are needed (measured" in checks["memory"].summary


def test_memory_is_not_called_enough_if_measuring_it_failed(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(str(tiny_recipe), (), tmp_path / "run")
    for measured in (Measured(failure="nothing"), Measured({"images": 1.0}, 10**9, {"segmenter": "killed"})):
        monkeypatch.setattr(
            "scenepalette.pipeline.doctor.examine.measure", lambda *a, result=measured, **options: result
        )
        diagnosis = examine(request)
        memory = {check.name: check for check in diagnosis.checks}["memory"]
        assert memory.status == "warning" and memory.summary.startswith("Not measured. At least")
        assert diagnosis.failed() == bool(measured.errors)
    unasked = {check.name: check for check in examine(request, measured=False).checks}["memory"]
    assert unasked.status == "ok"


def test_progress_of_measuring_has_a_total(tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    totals: dict[str, int] = {}

    class Watching:
        def start(self, description: str, total: int, done: int = 0) -> None:
            totals[description] = total

        def advance(self, count: int = 1, **values: float) -> None: ...

        def finish(self) -> None: ...

    monkeypatch.setattr(
        "scenepalette.pipeline.doctor.examine.measure", lambda *arguments, **options: Measured({"images": 1.0}, 9)
    )
    examine(Request(str(tiny_recipe), (), tmp_path / "run"), progress=Watching())
    assert totals["measuring steps"] == 13


def test_classes_that_are_asked_for_and_do_not_exist_are_a_problem(tiny_recipe: Path, tmp_path: Path) -> None:
    diagnosis = examine(Request(str(tiny_recipe), ("generate.ban=[unicorn]",), tmp_path), measured=False)
    (check,) = diagnosis.of("problem")
    assert check.name == "palettes" and "unicorn" in check.details[0]


@pytest.mark.slow
def test_files_that_changed_since_a_run_read_them_are_noticed(
    tiny_recipe: Path, tmp_path: Path, write_folder: Callable[[Path], None]
) -> None:
    from scenepalette.pipeline.config import load_config
    from scenepalette.pipeline.run import Run

    root = tmp_path / "root"
    write_folder(root)
    recipe = tmp_path / "mine.yaml"
    values = yaml.safe_load(tiny_recipe.read_text())
    recipe.write_text(yaml.safe_dump({**values, "data": {"name": "folder", "root": str(root), "size": [32, 48]}}))
    run = Run(load_config(str(recipe)), tmp_path / "run")
    run.make(["data"])
    request = Request(str(recipe), (), tmp_path / "run")
    assert "changed data" not in {check.name for check in examine(request, measured=False).checks}
    (root / "train/images/0.png").touch()  # as in a copy: the content is the same
    assert "changed data" not in {check.name for check in examine(request, measured=False).checks}
    image = Image.open(root / "train/images/0.png")
    Image.fromarray(255 - np.asarray(image)).save(root / "train/images/0.png")
    found = {check.name: check for check in examine(request, measured=False).checks}
    assert found["changed data"].status == "warning" and "Files of train have changed" in found["changed data"].summary


@pytest.fixture
def write_folder() -> Callable[[Path], None]:
    def write(root: Path) -> None:
        random = np.random.default_rng(0)
        for split in ("train", "val"):
            for folder in ("images", "labels"):
                (root / split / folder).mkdir(parents=True)
            for index in range(4):
                picture = random.integers(0, 256, (32, 48, 3), dtype=np.uint8)
                Image.fromarray(picture).save(root / split / "images" / f"{index}.png")
                Image.fromarray((picture[:, :, 0] % 2).astype(np.uint8)).save(root / split / "labels" / f"{index}.png")
        (root / "classes.csv").write_text("name,red,green,blue\na,1,1,1\nb,2,2,2\n")

    return write
