from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from scenepalette.data import similarity
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.doctor import data_checks
from scenepalette.pipeline.doctor.machine import resources
from scenepalette.pipeline.doctor.machine.timing import Measured

TEXT = (Path(__file__).parents[3] / "docs/doctor.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^scenepalette (doctor .*?)(?: && .*)?$", TEXT, re.MULTILINE)


@pytest.fixture
def camvid_root(tmp_path: Path) -> Path:
    """CamVid's layout with images of noise."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
        for index in range(4):
            image = random.integers(0, 256, (96, 128, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "camvid" / split / f"{index}.png")
            Image.fromarray(image[:, :, 0] % 11).save(tmp_path / "camvid" / f"{split}annot" / f"{index}.png")
    return tmp_path / "camvid"


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_run(
    command: str, camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "scenepalette.pipeline.doctor.examine.measure", lambda *arguments, **options: Measured(failure="not here")
    )
    smaller = ["--set", "data.train_scenes=20", "--set", "data.val_scenes=4"] if " demo " in command else []
    result = CliRunner().invoke(app, [*shlex.split(command.replace("CAMVID", str(camvid_root))), *smaller])
    assert result.exit_code == 0, result.output
    assert "doctor.json" not in command or (tmp_path / "doctor.json").exists()


@pytest.mark.slow
def test_the_example_of_the_page_is_what_the_published_data_set_gives(camvid: Path, tmp_path: Path) -> None:
    changes = ["--set", f"data.root={camvid}", "--set", "compute.accelerator=cpu"]
    arguments = ["doctor", "camvid-cpu", *changes, "--no-measure", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and result.output.count("WARNING") == 1, result.output
    for line in re.findall(
        r"^(?:WARNING|note   )  (?:best possible IoU|rare classes|leakage): .*$", TEXT, re.MULTILINE
    ):
        assert line in result.stdout.splitlines()


def test_every_command_was_found() -> None:
    assert len(COMMANDS) == 2


def test_the_rules_that_the_page_states_are_those_of_the_code() -> None:
    assert (data_checks.FEW_TRAINING, data_checks.FEW_VALIDATION) == (100, 20)
    assert (data_checks.STRETCHED, data_checks.STRONGLY_STRETCHED) == (1.05, 1.35)
    assert (data_checks.RARE_IMAGES, data_checks.TINY_PIXELS, data_checks.RARE_SHARE) == (10, 16, 0.005)
    assert (similarity.ALIKE, similarity.ALIGNED, similarity.DETAILED, data_checks.MOST_LAID_OVER) == (
        0.9,
        0.985,
        0.8,
        300,
    )
    assert (data_checks.NEARLY, data_checks.FIT_SHARE, resources.SPARE) == (0.9985, 0.75, 1.2)
