from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.units import workspace
from scenepalette.training.device.speed import CompileMode, Speed


@pytest.mark.slow
def test_a_run_that_works_as_on_a_gpu_has_the_same_results(
    finished_run: Path,
    tiny_config: RunConfig,
    tmp_path: Path,
    results_of: Callable[[Path], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speed = Speed(deferred=True, resident=True, tuned=True, beside=True)  # fused steps round differently
    monkeypatch.setattr(workspace, "usual_speed", lambda *positional, **named: speed)
    run = Run(tiny_config, tmp_path / "run")
    run.make(run.names_of("report"))
    assert results_of(run.run_dir) == results_of(finished_run)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@pytest.mark.parametrize("compile", ["off", "default", "graphs"])
def test_a_gpu_makes_a_whole_run(compile: CompileMode, tiny_config: RunConfig, tmp_path: Path) -> None:
    compute = tiny_config.compute.model_copy(
        update={"accelerator": "cuda", "compile": compile, "label_patches": compile == "off", "fill_memory": True}
    )
    run = Run(tiny_config.model_copy(update={"compute": compute}), tmp_path / "run")
    run.make(run.names_of("report"))
    assert run.is_finished("report")
