from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_imports_point_down_and_only_flows_know_prefect() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "5 kept, 0 broken" in finished.stdout


def test_everything_but_flows_imports_without_prefect() -> None:
    code = "import sys; sys.modules['prefect'] = None; "
    code += "from scenepalette.pipeline import run; from scenepalette.pipeline.cli import main"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


TRAININGS = {
    "scenepalette.training.loop",
    "scenepalette.generators.fine_tuning",
    "scenepalette.generators.images.training",
    "scenepalette.generators.layouts.training",
    "scenepalette.segmenters.train",
}


def test_the_named_training_modules_exist() -> None:
    assert all(importlib.util.find_spec(name) for name in TRAININGS)


def test_weights_are_loaded_without_a_training_loop() -> None:
    modules = [f"scenepalette.{name}.loading" for name in ("generators.layouts", "generators.images", "segmenters")]
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = finished.stdout.split()
    assert {*modules} <= {*loaded}
    assert TRAININGS.isdisjoint(loaded)
