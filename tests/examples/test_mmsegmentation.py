"""The commands of examples/mmsegmentation, against stand-ins of the few functions that they call."""

from __future__ import annotations

import ast
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.segmenters.command import TrainerSettings, predict_by_command, train_by_command, trainer_problems

FOLDER = Path(__file__).parents[2] / "examples/mmsegmentation"
PAGE = Path(__file__).parents[2] / "docs/extending/your-own-generator.md"
CONFIG = """
import runpy
class Config(dict):
    def __getattr__(self, name):
        return self[name]
    def __setattr__(self, name, value):
        self[name] = value
    @classmethod
    def fromfile(cls, path):
        values = {key: value for key, value in runpy.run_path(path).items() if not key.startswith("__")}
        return nested(values)
    def dump(self, path):
        open(path, "w").write(repr(dict(self)))
def nested(value):
    return Config({key: nested(entry) for key, entry in value.items()}) if isinstance(value, dict) else value
"""
RUNNER = """
from pathlib import Path
class Runner:
    @classmethod
    def from_cfg(cls, cfg):
        runner = cls()
        runner.cfg = cfg
        return runner
    def train(self):
        name = f"iter_{self.cfg.train_cfg.max_iters}.pth"
        Path(self.cfg.work_dir, name).write_text("weights")
        Path(self.cfg.work_dir, "last_checkpoint").write_text(f"/moved/since/{name}")
"""
APIS = """
from types import SimpleNamespace
import numpy as np, torch
from PIL import Image
def init_model(config, checkpoint, device):
    assert open(checkpoint).read() == "weights" and "decode_head" in open(config).read()
def inference_model(network, path):
    image = np.asarray(Image.open(path))
    labels = torch.from_numpy((image[None, ..., 0] // 128).astype(np.int64))
    return SimpleNamespace(pred_sem_seg=SimpleNamespace(data=labels))
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainerSettings:
    for name, code in {
        "mmengine/__init__.py": "",
        "mmengine/config.py": CONFIG,
        "mmengine/runner.py": RUNNER,
        "mmseg/__init__.py": "",
        "mmseg/apis.py": APIS,
    }.items():
        (tmp_path / "packages" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "packages" / name).write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    python, folder = shlex.quote(sys.executable), shlex.quote(str(FOLDER))
    return TrainerSettings(
        f"{python} {folder}/train.py {folder}/config.py {{pairs}} {{model}} {{steps}} {{seed}}",
        f"{python} {folder}/predict.py {{images}} {{out}} {{model}}",
    )


def test_a_training_is_configured_by_the_pairs_and_its_model_predicts(
    commands: TrainerSettings, make_pairs: Callable[..., Pairs], table: ClassTable, tmp_path: Path
) -> None:
    assert trainer_problems(commands) == []
    pairs, unit = make_pairs(2), tmp_path / "unit"
    train_by_command(unit, commands, real=pairs, synthetic=None, table=table, steps=70, seed=4, arm="real")
    used = ast.literal_eval((unit / "model/trained_config.py").read_text())
    assert used["model"]["decode_head"]["num_classes"] == 3
    assert used["train_cfg"]["max_iters"] == 70 and used["randomness"] == {"seed": 4}
    dataset = used["train_dataloader"]["dataset"]
    assert dataset["metainfo"]["classes"] == list(table.names)
    assert dataset["metainfo"]["palette"] == [list(entry.color) for entry in table.classes]
    assert Path(dataset["data_root"]) == unit / "pairs" and not dataset["reduce_zero_label"]
    predicted = predict_by_command(unit / "model", commands, pairs, table)
    np.testing.assert_array_equal(predicted, pairs.images[..., 0] // 128)


def test_the_documented_commands_are_those_of_the_folder() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if "examples/mmsegmentation/" in line and "--set" in line]
    words = [shlex.split(line.replace("\\", ""))[1].partition("=") for line in lines]
    texts = {key.rpartition(".")[2]: shlex.split(value)[0] for key, _, value in words}
    assert trainer_problems(TrainerSettings(**texts)) == []
    named = [word for text in texts.values() for word in shlex.split(text) if word.startswith("examples/")]
    assert len(named) == 3 and all((FOLDER.parents[1] / word).is_file() for word in named)
