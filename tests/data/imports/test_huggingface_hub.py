"""A data set by its name on the hub: `scenepalette import` in a process of its own, against a hub on loopback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hub import REPOSITORY, Hub
from labelled_folders import random_image, random_label
from scenepalette.data.datasets import open_dataset

datasets = pytest.importorskip("datasets")
NAMES = {"0": "road", "1": "car", "2": "sky"}
COUNTS = {"train": 6, "validation": 3}


def png(pixels: np.ndarray, name: str) -> dict[str, object]:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": f"{name}.png"}


def write_parquet(path: Path, seeds: range) -> bytes:
    images = [png(random_image(seed), f"scene_{seed:03d}") for seed in seeds]
    labels = [png(random_label(seed, 3), f"scene_{seed:03d}") for seed in seeds]
    features = datasets.Features({"image": datasets.Image(), "annotation": datasets.Image()})
    datasets.Dataset.from_dict({"image": images, "annotation": labels}, features=features).to_parquet(str(path))
    return path.read_bytes()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    files = {"README.md": b"---\nlicense: cc-by-4.0\n---\nStreets.\n"}
    first = 0
    for split, count in COUNTS.items():
        content = write_parquet(tmp_path / f"{split}.parquet", range(first, first + count))
        files[f"data/{split}-00000-of-00001.parquet"] = content
        first += count
    with Hub.served(files) as hub:
        yield hub


def imported_by_name(name: str, hub: Hub, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "id2label.json").write_text(json.dumps(NAMES))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    options = ["--from", "huggingface", "--classes", "id2label.json", "--to", "out"]
    return subprocess.run(
        [sys.executable, "-m", "scenepalette.pipeline.cli.main", "import", name, *options],
        cwd=folder,
        env={**kept, "HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "home"), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_name_on_the_hub_is_downloaded_and_imported(hub: Hub, tmp_path: Path) -> None:
    done = imported_by_name(REPOSITORY, hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Done: out (6 train, 3 val; 3 classes)" in done.stdout
    assert [path for path in hub.asked if path.endswith("train-00000-of-00001.parquet")]
    first = 0
    for split, count in zip(("train", "val"), COUNTS.values(), strict=True):
        dataset = open_dataset("folder", split, tmp_path / "out")
        assert dataset.ids == tuple(f"scene_{seed:03d}" for seed in range(first, first + count))
        for place in range(count):
            assert np.array_equal(dataset[place].label, random_label(first + place, 3))
        first += count


@pytest.mark.slow
def test_a_name_that_the_hub_does_not_have_is_told(hub: Hub, tmp_path: Path) -> None:
    done = imported_by_name("someone/nothing", hub, tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "The package datasets cannot read someone/nothing" in done.stderr
    assert not (tmp_path / "out/import.json").exists()
