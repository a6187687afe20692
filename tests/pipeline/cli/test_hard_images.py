"""Images and names that are hard to work with, from the command line: nearly flat, finely textured, not UTF-8."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from scenepalette.pipeline.cli.main import app

COUNTS = {"train": 6, "val": 3}


def flat(index: int, shape: tuple[int, int]) -> np.ndarray:
    """One grey per image, with a trace of noise: its standard deviation is below 1."""
    return 90 + 10 * index + np.random.default_rng(index).integers(0, 2, shape)


def textured(index: int, shape: tuple[int, int]) -> np.ndarray:
    """Grain of full contrast, of which nothing is left in a thumbnail."""
    return np.random.default_rng(index).normal(128, 30, shape)


def write(root: Path, draw: Any, shape: tuple[int, int], name: str = "part {:d}") -> Path:
    """Write a folder of parts with a defect each, which is brighter by 30."""
    root.mkdir()
    (root / "classes.csv").write_text("name,red,green,blue\nsurface,0,0,0\ndefect,255,0,0\n")
    index = 0
    for split, count in COUNTS.items():
        for folder in ("images", "labels"):
            (root / split / folder).mkdir(parents=True)
        for _ in range(count):
            random = np.random.default_rng(100 + index)
            label, side = np.zeros(shape, np.uint8), shape[0] // 6
            y, x = random.integers(0, shape[0] - side), random.integers(0, shape[1] - side)
            label[y : y + side, x : x + side] = 1
            image = np.clip(draw(index, shape) + 30 * label * (draw is textured), 0, 255).astype(np.uint8)
            for folder, pixels in (("images", image), ("labels", label)):
                path = root / split / folder / f"{name.format(index)}.png"
                Image.fromarray(pixels).save(path)
            index += 1
    return root


@pytest.fixture
def recipe(tiny_values: dict[str, Any], tmp_path: Path) -> Path:
    """The tiny recipe of full pairs alone, for a folder."""
    tiny_values["data"] = {"name": "folder", "root": str(tmp_path / "data"), "size": [32, 48]}
    tiny_values["layouts"].pop("partial")
    tiny_values["generate"].update(kinds=["full"], pairs=4)
    tiny_values["segmenters"]["arms"] = ["real"]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_values))
    return path


def doctor(recipe: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Return the checks of the doctor's page, after a look at the HTML page."""
    html, found = folder / "doctor.html", folder / "doctor.json"
    arguments = ["doctor", str(recipe), "--no-measure", "--out", str(folder / "run")]
    result = CliRunner().invoke(app, [*arguments, "--html", str(html), "--json", str(found)])
    assert result.exit_code in (0, 1) and (result.exception is None or isinstance(result.exception, SystemExit))
    page = html.read_text(encoding="utf-8")
    checks = {check["name"]: check for check in json.loads(found.read_text())["checks"]}
    assert page.startswith("<!") and all(name in page for name in checks)
    return checks


@pytest.mark.parametrize("shape", [(64, 96), (600, 640)])
def test_the_doctor_finishes_on_nearly_flat_images(recipe: Path, tmp_path: Path, shape: tuple[int, int]) -> None:
    write(tmp_path / "data", flat, shape)
    checks = doctor(recipe, tmp_path)
    assert checks["empty images"]["status"] == "warning"
    assert checks["empty images"]["summary"].startswith("9 images are of one colour")
    assert [check["name"] for check in checks.values() if check["status"] == "problem"] == []


@pytest.mark.parametrize("shape", [(64, 96), (600, 640)])
def test_the_doctor_tells_fine_textures_apart(recipe: Path, tmp_path: Path, shape: tuple[int, int]) -> None:
    write(tmp_path / "data", textured, shape)
    checks = doctor(recipe, tmp_path)
    assert {checks[name]["status"] for name in ("empty images", "duplicates", "leakage")} == {"ok"}
    assert [check["name"] for check in checks.values() if check["status"] == "problem"] == []


def rename(root: Path, encoding: str, text: str) -> None:
    """Give images and labels names of some text, in an encoding."""
    for path in list(root.glob("*/*/*.png")):
        name = f"{text} {path.stem}.png".encode(encoding)
        os.rename(path, os.path.join(os.fsencode(path.parent), name))


@pytest.mark.parametrize(("encoding", "text", "shown"), [("latin-1", "café", "caf\\xe9"), ("gbk", "街道", "\\xbd")])
def test_generate_refuses_names_that_are_not_utf_8_before_anything_is_made(
    recipe: Path, tmp_path: Path, encoding: str, text: str, shown: str
) -> None:
    try:
        rename(write(tmp_path / "data", textured, (32, 48)), encoding, text)
    except OSError:
        pytest.skip("this file system keeps names in UTF-8 alone")
    result = CliRunner().invoke(app, ["generate", str(recipe), "--out", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert shown in result.output and "its name is not text in UTF-8; rename it" in result.output
    assert not [path for path in (tmp_path / "run").glob("*") if path.name in ("palettes", "layouts", "shards")]
    checks = doctor(recipe, tmp_path)
    assert checks["pairing"]["status"] == "problem" and shown in " ".join(checks["pairing"]["details"])


@pytest.mark.slow
@pytest.mark.parametrize("text", ["cafe\u0301", "街道 🌳 'b' #%&"])
def test_generate_makes_pairs_of_images_whose_names_are_any_text(recipe: Path, tmp_path: Path, text: str) -> None:
    rename(write(tmp_path / "data", textured, (32, 48)), "utf-8", text)
    result = CliRunner().invoke(app, ["generate", str(recipe), "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "run/shards/full").glob("*.parquet"))) == 1
