"""The package in examples/plugin, installed and used; and that docs/extending/*.md show its code and ours."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from scenepalette.evaluation.evidence import NEEDS

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples/plugin"
PAGES = sorted((ROOT / "docs/extending").glob("adding-*.md"))
Scenepalette = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def scenepalette(tmp_path_factory: pytest.TempPathFactory) -> Scenepalette:
    """Runs the command line where the example package is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", "--target", folder / "site", folder / "source"], check=True)
    path = os.pathsep.join([str(folder / "site"), *(entry for entry in sys.path if entry)])

    def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "scenepalette.pipeline.cli.main", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def allotments(root: Path) -> Path:
    """Write a small data set in the layout that the example package reads."""
    random = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 4)):
        for kind in ("photos", "masks"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            mask = np.zeros((32, 48), np.uint8)
            mask[random.integers(4, 28) :] = 1
            photo = np.array([[200, 60, 60], [40, 60, 200]], np.uint8)[mask]
            Image.fromarray(photo).save(root / f"photos/{split}/{i}.jpg", quality=95)
            Image.fromarray(mask).save(root / f"masks/{split}/{i}.png")
    return root


@pytest.mark.slow
def test_the_documented_run_uses_one_extension_of_each_kind(scenepalette: Scenepalette, tmp_path: Path) -> None:
    (text,) = (text for language, text in blocks(ROOT / "docs/extending/adding-your-own.md") if language == "yaml")
    values = yaml.safe_load(text)
    values["data"] = {"name": "allotments", "root": str(allotments(tmp_path / "data")), "size": [32, 48]}
    values["report"]["inception_weights"] = "no-inception-weights.pth"  # not there: no test waits for a download
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    run = tmp_path / "run"
    scenepalette("run", tmp_path / "tiny.yaml", "--out", run)

    manifest = json.loads((run / "images/mean-colors/manifest.json").read_text(encoding="utf-8"))
    assert manifest["comes_trained"] is True and "weights.safetensors" in manifest["files"]
    manifest = json.loads((run / "layouts/smooth-palette/manifest.json").read_text(encoding="utf-8"))
    assert "comes_trained" not in manifest
    log = (run / "layouts/smooth-palette/metrics.jsonl").read_text(encoding="utf-8")
    assert "border" in json.loads(log.splitlines()[-1])
    report = json.loads((run / "report/report.json").read_text(encoding="utf-8"))
    assert [arm["name"] for arm in report["arms"]] == ["real", "syn-standard"]
    assert report["dataset"]["classes"] == ["path", "bed"]
    assert 0 <= report["images"]["contrast_gap"] <= 1
    # The network has seen the real colors: red paths and blue beds.
    image = mean_of_first_image(run)
    assert image[0] > image[1] + 20 or image[2] > image[1] + 20

    # Fine-tuning has nothing to work with, and that is said before anything is made.
    refused = scenepalette(
        "run", tmp_path / "tiny.yaml", "--out", tmp_path / "other", "--set", "finetune.kinds=[full]", code=1
    )
    assert "finetune.kinds: mean-colors comes trained" in refused.stderr
    assert not (tmp_path / "other").exists()


def mean_of_first_image(run: Path) -> np.ndarray:
    """Return the mean red, green and blue of the first generated image."""
    row = pq.read_table(next((run / "shards/full").glob("*.parquet"))).slice(0, 1).to_pylist()[0]
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).mean(axis=(0, 1))


@pytest.mark.slow
def test_systems_and_doctor_say_where_extensions_come_from(scenepalette: Scenepalette) -> None:
    entries = json.loads(scenepalette("systems", "--json", "--size", "32x64").stdout)
    theirs = {(entry["kind"], entry["name"]) for entry in entries if entry["source"] == "scenepalette-example 1.0"}
    assert theirs == {
        ("layout", "smooth-palette"),
        ("image", "mean-colors"),
        ("segmenter", "two-scales"),
        ("data set", "allotments"),
        ("metric", "contrast_gap"),
        ("arm", "syn-standard"),
    }
    assert {entry["source"] for entry in entries} == {"scenepalette", "scenepalette-example 1.0"}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return language and text of a page's code blocks."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_page_on_metrics_lists_everything_that_they_can_be_given() -> None:
    table = (ROOT / "docs/extending/adding-a-metric.md").read_text(encoding="utf-8").partition("| Name |")[2]
    names = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    assert sorted(names) == sorted(NEEDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_pages_show_code_that_is_there(page: Path) -> None:
    shown = 0
    own = page.stem.removeprefix("adding-a-") in ("data-set", "metric")  # pages with packages of their own
    for language, text in blocks(page):
        if language == "diff":
            for file, changes in re.findall(r"^\+\+\+ b/(\S+)\n(.*?)(?=^--- |\Z)", text, re.MULTILINE | re.DOTALL):
                code = (ROOT / file).read_text(encoding="utf-8")
                for part in changes.split("@@\n"):
                    lines = [line[1:] for line in part.splitlines()]
                    assert "\n".join(lines) in code, f"{file} has no\n" + "\n".join(lines)
            added = re.findall(r"^\+(?!\+\+).*\S", text, re.MULTILINE)
            assert len(added) <= 30 and text.count("+++ b/") <= 2
            shown += 1
    assert own or shown == 2  # from a package, and in this repository
