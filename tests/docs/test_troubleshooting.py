"""The messages that docs/troubleshooting.md quotes are those that a user sees: most of them are provoked here."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from labelled_folders import random_image
from scenepalette.common.processors import ThreadChoice
from scenepalette.common.storage.files import explain_write_error
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.device.memory import memory_explained
from scenepalette.pipeline.run_directory.ownership import exclusive

PAGE = (Path(__file__).parents[2] / "docs/troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = {
    title: re.sub(r"\n(?!  - |Error|Copy)\s*", " ", block[1]).splitlines()
    for title, text in (part.split("**", 1) for part in PAGE.split("\n**")[1:])
    if (block := re.search(r"\n```\n(.*?)\n```", text, re.DOTALL))
}
COLOURS = np.array([[128, 64, 128], [0, 0, 142], [70, 130, 180]], np.uint8)
CLASSES = "name,red,green,blue\nroad,128,64,128\ncar,0,0,142\nsky,70,130,180\n"


def sky_and_road(index: int) -> np.ndarray:
    label = np.zeros((64, 96), np.uint8)
    label[: 25 if index == 0 else 20 + index], label[40:50, index : index + 30] = 2, 1
    return label


def write_mine(
    root: Path, encode: Callable[[np.ndarray], np.ndarray] = lambda label: label, ending: str = ".png", count: int = 8
) -> None:
    """Write a folder of two splits, labels of ids 0 to 2 as `encode` changes them."""
    for split in ("train", "val"):
        for name in ("images", "labels"):
            (root / split / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(random_image(index, 64, 96)).save(root / split / f"images/{split}{index:03d}.png")
            Image.fromarray(encode(sky_and_road(index))).save(root / split / f"labels/{split}{index:03d}{ending}")
    (root / "classes.csv").write_text(CLASSES)


def without_class_file(root: Path) -> None:
    write_mine(root)
    (root / "classes.csv").unlink()


def without_validation(root: Path) -> None:
    write_mine(root)
    (root / "val").rename(root / "later")


def unpaired(root: Path) -> None:
    write_mine(root)
    (root / "train/labels/train003.png").unlink()
    (root / "train/images/train005.png").write_bytes(b"\x89PNG\r\n\x1a\nabc")


def said_by(*arguments: str) -> str:
    """Return what a command that fails prints, on one line."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 1, result.output
    return " ".join(result.stderr.split())


def check(title: str, said: str) -> None:
    """Compare what was said with what the page quotes under a title."""
    for line in MESSAGES[title]:
        assert " ".join(line.removeprefix("  - ").split()) in said


def setting(*changes: str) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


@pytest.mark.parametrize(
    ("title", "write"),
    [
        ("The folder has another layout.", without_class_file),
        ("There is no validation split.", without_validation),
        ("Labels count from 1.", lambda root: write_mine(root, lambda label: label + 1)),
        (
            "Colours of no class.",
            lambda root: write_mine(
                root, lambda label: COLOURS[label] + (label == 2)[..., None] * np.array([0, 0, 1], np.uint8)
            ),
        ),
        ("Labels are JPEG.", lambda root: write_mine(root, lambda label: COLOURS[label], ".jpg")),
        ("Images and labels do not pair, or a file is damaged.", unpaired),
        ("Image and label differ in size.", lambda root: write_mine(root, lambda label: label[::2, ::2])),
        ("Too few images.", lambda root: write_mine(root, count=1)),
    ],
)
def test_problems_of_a_data_set(
    title: str, write: Callable[[Path], None], tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "mine")
    run = ["run", str(tiny_recipe), *setting("data.name=folder", f"data.root={tmp_path}/mine")]
    said = said_by(*run, "--out", str(tmp_path / "run"))
    check(title, said.replace(str(tmp_path), "/data"))


@pytest.mark.parametrize(
    ("title", "arguments"),
    [
        ("An unknown key.", ["demo", *setting("generate.pair=10", "images.step=3")]),
        ("An arm without its pairs.", ["demo", *setting("segmenters.arms=[real, real+insert]")]),
        ("The folder is not named, or does not exist.", ["camvid-cpu"]),
        pytest.param(
            "No GPU is seen.",
            ["demo", *setting("compute.accelerator=cuda")],
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is seen here"),
        ),
    ],
)
def test_problems_of_a_configuration(title: str, arguments: list[str], tmp_path: Path) -> None:
    check(title, said_by("run", *arguments, "--out", str(tmp_path / "run")))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    said = said_by("run", "camvid-cpu", *setting(f"data.root={tmp_path}/mine"), "--out", str(tmp_path / "run"))
    expected = said.replace(str(tmp_path), "/data")
    assert expected in " ".join(PAGE.split()) and "there is no folder" in expected


def test_run_directories_in_use_or_of_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with exclusive(Path("runs/mine")):
        check("Another process works in the run directory.", said_by("run", "demo", "--out", "runs/mine"))
    (tmp_path / "runs/mine/scenepalette-run.json").unlink()
    (tmp_path / "runs/mine/notes.txt").write_text("mine")
    check("The folder holds something else.", said_by("run", "demo", "--out", "runs/mine"))


def test_an_extra_that_is_missing(
    write_shards: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    write_shards(tmp_path / "full", [4])
    said = said_by("shards", "filter", str(tmp_path / "full"), str(tmp_path / "out"), "--where", "true")
    check("An extra package is missing.", said)


def test_a_shard_that_was_changed(write_shards: Callable[..., Any], tmp_path: Path) -> None:
    write_shards(tmp_path, [4])
    path = next(tmp_path.glob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)
    result = CliRunner().invoke(app, ["shards", "verify", str(tmp_path)])
    damage, remedy = MESSAGES["A shard was changed."]
    assert damage.partition("column image: ")[2] in " ".join(result.output.split())
    assert remedy.partition("scenepalette")[0] in " ".join(result.output.split())


def test_machines_that_are_busy_full_or_too_small(tmp_path: Path) -> None:
    check("The machine is busy.", f"Warning: {ThreadChoice(1, 2.0, 1.9).warning}")
    full = OSError(errno.ENOSPC, "No space left on device")
    check("The disk is full.", f"Error: {explain_write_error(Path('runs/mine/data/images-train.npy'), full)}")
    unit: Any = SimpleNamespace(name="images/oasis", stage="images")
    with pytest.raises(Exception, match="the memory of the GPU") as caught, memory_explained(unit):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    check("Memory is too small.", f"Error: {caught.value}")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("Makefile", "Name another: make PYTHON=python3.12"),
        ("segmenters/model.py", "weights of the encoder"),
        ("pipeline/cli/main.py", "Stopped; finished work is kept. "),
        ("pipeline/units/records.py", "made with other settings or inputs than this command "),
        ("pipeline/starting/budget.py", "is too short to learn anything from these images "),
        ("flows/servers.py", "does not answer ("),
        ("pipeline/report/sections/page_one.py", "Do not adopt"),
    ],
)
def test_messages_that_are_not_provoked_are_in_the_source(file: str, text: str) -> None:
    assert text in " ".join(PAGE.split())
    assert text in (Path(__file__).parents[2] / file).read_text(encoding="utf-8")


def test_messages_are_found_on_the_page() -> None:
    assert len(MESSAGES) > 20 and all(all(lines) for lines in MESSAGES.values())
