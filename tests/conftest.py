"""A whole run in seconds, shared by the tests that need finished folders."""

from __future__ import annotations

import copy
import ctypes
import importlib.util
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from plugins import Plugins
from scenepalette.common.storage.files import sha256_of_file

if TYPE_CHECKING:
    from scenepalette.pipeline.config import RunConfig

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

LAYOUT = {
    "noise_features": 4,
    "max_width": 8,
    "base_width": 64,
    "hidden_channels": 4,
    "fade_steps": [0, 1, 1, 1],
    "stable_steps": [1, 1, 1, 1],
    "batch_sizes": [4, 4, 4, 4],
    "checkpoint_every": 2,
}
TINY: dict[str, Any] = {
    "recipe": "demo",
    "data": {"size": [32, 48], "train_scenes": 16, "val_scenes": 4},
    "palettes": {"max_components": 2},
    "layouts": {"full": LAYOUT, "partial": LAYOUT},
    "images": {
        "steps": 3,
        "batch_size": 2,
        "checkpoint_every": 2,
        "perceptual_features": "vgg19",
        "systems": {
            "oasis": {
                "width": 2,
                "noise_channels": 2,
                "hidden_channels": 4,
                "discriminator_width": 4,
                "upsampling": "nearest",
                "perceptual_weight": 0.0,
            }
        },
    },
    "generate": {
        "kinds": ["full", "partial", "semi"],
        "pairs": 10,
        "rows_per_shard": 4,
        "batch_size": 2,
        "hardening": "argmax",
    },
    "segmenters": {
        "arms": ["real", "real+syn-advent", "real+partial", "syn", "semi"],
        "steps": 2,
        "batch_size": 2,
        "architecture": "deeplabv3",
        "decoder_channels": 8,
        "optimizer": "sgd",
        "learning_rate": 0.02,
        "weight_decay": 5e-4,
        "class_weights": "none",
        "checkpoint_every": 1,
    },
    # A file that is not there: no test waits for a download.
    "report": {"bootstrap_samples": 100, "evaluated_pairs": 4, "inception_weights": "no-inception-weights.pth"},
    "compute": {"accelerator": "cpu", "precision": "32-true", "threads": 1},
}


def pytest_collectstart() -> None:
    """Import Prefect before any test: it ends log handlers, and one of absl would close pytest's captured output.

    Not with this file, which pytest-xdist reads in a process that runs no test. A GPU machine without Prefect runs the
    tests marked `gpu`.
    """
    if importlib.util.find_spec("prefect"):
        import prefect.main  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let nothing be remembered in the cache folder of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SCENEPALETTE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def _freed_memory() -> Iterator[None]:
    """Give freed memory back after each file: trainings set their process to keep it, gigabytes after many of them."""
    yield
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None:
        trim(0)


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[Plugins]:
    """Installs packages that extend scenepalette, for one test."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        installed = Plugins(tmp_path / "plugins", monkeypatch)
        yield installed
        installed.uninstall()


@pytest.fixture
def tiny_values() -> dict[str, Any]:
    """The values of a run that takes seconds."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def camvid() -> Path:
    """The folder of the CamVid data set, which is not in the repository."""
    if "SCENEPALETTE_CAMVID" not in os.environ:
        pytest.skip("needs the CamVid data set: set SCENEPALETTE_CAMVID to its folder")
    return Path(os.environ["SCENEPALETTE_CAMVID"])


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YAML file that turns the recipe demo into a run of seconds: 32x48, 16 and 4 scenes, a step or two a level."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="session")
def tiny_config(tiny_recipe: Path) -> RunConfig:
    from scenepalette.pipeline.config import load_config

    return load_config(str(tiny_recipe))


@pytest.fixture(scope="session")
def finished_run(tiny_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of the tiny recipe, made without interruption; tests must not change it."""
    from scenepalette.pipeline.run import Run

    folder = tmp_path_factory.mktemp("finished") / "run"
    run = Run(tiny_config, folder)
    run.make(run.names_of("report"))
    return folder


@pytest.fixture
def occupied(finished_run: Path) -> Iterator[Callable[..., Any]]:
    """Another thread works in the finished run, until what this gives, in place of `exclusive`, has told of it."""
    from scenepalette.pipeline.run_directory.ownership import exclusive

    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive(finished_run):
            held.set()
            release.wait(60)

    def released(run_dir: Path, wait: float, on_wait: Callable[[], object]) -> Any:
        def told() -> None:
            on_wait()
            release.set()

        return exclusive(run_dir, wait, told)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    yield released
    release.set()
    holder.join()


@pytest.fixture
def copy_of_run(finished_run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the finished run without the named units, as if these had not been begun."""

    def copy(*without: str) -> Path:
        folder = tmp_path / "copy"
        shutil.copytree(finished_run, folder)
        for name in without:
            shutil.rmtree(folder / name)
        return folder

    return copy


def _results(run_dir: Path) -> dict[str, Any]:
    """Content hashes of weights, shards and cards, and the report without times and provenance."""
    names = ("*.parquet", "weights.safetensors", "sampler.json", "*.npy", "README.md", "aic.png", "final.png")
    paths = sorted(path for name in names for path in run_dir.rglob(name))
    results: dict[str, Any] = {str(path.relative_to(run_dir)): sha256_of_file(path) for path in paths}
    report = run_dir / "report" / "report.json"
    if report.exists():
        document = json.loads(report.read_text())
        results["report"] = {
            key: value for key, value in document.items() if key not in ("provenance", "durations", "costs")
        }
    return results


@pytest.fixture
def results_of() -> Callable[[Path], dict[str, Any]]:
    return _results
