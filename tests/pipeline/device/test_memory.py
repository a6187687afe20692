from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scenepalette.common.errors import ScenepaletteError
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.device.memory import available_memory, memory_explained
from scenepalette.pipeline.run import Run, units_of
from scenepalette.pipeline.stages import segment


@pytest.mark.parametrize(
    ("unit", "setting"),
    [
        ("images/oasis", "images.batch_size"),
        ("layouts/semantic-palette", "layouts.full.batch_sizes"),
        ("shards/full", "generate.batch_size"),
        ("segmenters/syn/seed0", "segmenters.batch_size"),
    ],
)
def test_a_lack_of_memory_names_the_setting_that_decides(unit: str, setting: str, tiny_config: RunConfig) -> None:
    message = f"{unit}: the memory of the GPU is too small.*{setting}"
    with pytest.raises(ScenepaletteError, match=message), memory_explained(units_of(tiny_config)[unit]):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_a_unit_that_lacks_memory_is_told_with_its_setting(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*positional: Any, **named: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(segment, "train_arm", fail)
    run_dir = copy_of_run("segmenters/real", "report")
    with pytest.raises(ScenepaletteError, match=r"segmenters/real/seed0: .*\(CUDA out of memory\).*nvidia-smi"):
        Run(tiny_config, run_dir).make_one("segmenters/real/seed0")


@pytest.mark.parametrize(
    ("folder", "limit", "usage", "cache"),
    [("", "max", "current", "inactive_file"), ("memory", "limit_in_bytes", "usage_in_bytes", "total_inactive_file")],
)
def test_available_memory_is_that_of_the_control_group_with_its_file_cache(
    folder: str, limit: str, usage: str, cache: str, tmp_path: Path
) -> None:
    everything = available_memory(tmp_path)  # no control groups
    group = tmp_path / "sys/fs/cgroup" / folder
    group.mkdir(parents=True)
    (group / f"memory.{limit}").write_text("1000\n")
    (group / f"memory.{usage}").write_text("900\n")
    (group / "memory.stat").write_text(f"anon 600\n{cache} 300\n")
    assert available_memory(tmp_path) == 400 < everything
    (group / f"memory.{limit}").write_text("max\n")
    assert available_memory(tmp_path) > 400
