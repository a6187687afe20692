"""Runs whose data lies at URLs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from buckets import MEMORY, Place, refusing
from labelled_folders import write_pixels
from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.remote.store import Store, StoreError
from scenepalette.pipeline.config import DataConfig, RunConfig, load_config, make_config, merge
from scenepalette.pipeline.doctor.examine import examine
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.request import Request
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.units.places import local_folder

HOME = MEMORY.removeprefix("memory:/")
DATA = ["data", "unlabelled", "extra-tests/more"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENEPALETTE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A data set folder, another with further pairs, and images without labels."""
    home, generator = tmp_path / "mine", np.random.default_rng(0)
    for part, count in {"set/train": 8, "set/val": 4, "more/train": 2, "more/val": 2, "images": 2}.items():
        for index in range(count):
            label = np.kron(generator.integers(0, 3, (4, 6), np.uint8), np.ones((8, 8), np.uint8))
            write_pixels(home / part / "images" / f"{index}.png", generator.integers(0, 256, (32, 48, 3), np.uint8))
            if part != "images":
                write_pixels(home / part / "labels" / f"{index}.png", label)
    for folder in ("set", "more"):
        (home / folder / "classes.csv").write_text("name,red,green,blue\nroad,1,2,3\ncar,4,5,6\nsky,7,8,9\n")
    return home


@pytest.fixture
def configure(tiny_values: dict[str, Any]) -> Callable[..., RunConfig]:
    """Return the function that makes a configuration from where the data lies."""

    def make(root: str, images: str, more: str) -> RunConfig:
        data = {"name": "folder", "root": root, "unlabelled": images}
        report = {"extra_test": {"more": more}}
        changes = {"data": data, "report": report, "generate": {"kinds": ["pseudo"]}, "segmenters": {"arms": ["real"]}}
        return make_config(merge(merge(RECIPES["demo"](), tiny_values), changes))

    return make


def _contents(run: Run) -> dict[str, Any]:
    return {name: run.units[name].settings["content"] for name in DATA}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_data_at_urls_are_the_data_of_a_folder(
    mine: Path, configure: Callable[..., RunConfig], tmp_path: Path, bucket: str, memory: Any
) -> None:
    """The same fingerprints, wherever the data lies; a run begun from folders goes on from a bucket and memory."""
    for name in ("set", "images", "more"):
        for path in (mine / name).rglob("*.*"):
            Store.open(bucket).put(path, path.relative_to(mine).as_posix())
            memory.pipe_file(f"{HOME}/{path.relative_to(mine).as_posix()}", path.read_bytes())
    places = {
        "folders": [str(mine / name) for name in ("set", "images", "more")],
        "file": [f"file://{mine}/{name}" for name in ("set", "images", "more")],
        "bucket": [f"{bucket}/{name}/" for name in ("set", "images", "more")],
    }
    runs = {}
    for place, urls in places.items():
        runs[place] = Run(configure(*urls), tmp_path / place)
        runs[place].make(DATA)
    assert _contents(runs["folders"]) == _contents(runs["file"]) == _contents(runs["bucket"])
    written = yaml.safe_load((tmp_path / "bucket/config.yaml").read_text())
    assert written["data"]["root"] == f"{bucket}/set" and written["report"]["extra_test"] == {"more": f"{bucket}/more"}
    assert load_config(str(tmp_path / "bucket/config.yaml")) == runs["bucket"].config
    there = configure(f"{MEMORY}/set", f"{MEMORY}/images", f"{MEMORY}/more")
    assert Run(there, tmp_path / "folders").missing(DATA) == []
    # Another content at another place is another data set.
    label = next(path for path in memory.find(f"{HOME}/set/train/labels"))
    memory.pipe_file(label, (mine / "set/train/labels/7.png").read_bytes())
    with pytest.raises(ScenepaletteError, match="its files are not those that were read"):
        Run(there, tmp_path / "folders").missing(DATA)
    # At the same place what was read is trusted, and nothing is asked of the other side.
    memory.store.clear()
    Store.open(bucket).remove("set/classes.csv")
    assert Run(configure(*places["bucket"]), tmp_path / "bucket").missing(DATA) == []


@pytest.mark.slow
def test_data_at_other_stores_are_the_data_of_a_folder(
    mine: Path, configure: Callable[..., RunConfig], tmp_path: Path, place: Place
) -> None:
    names = ("set", "images", "more")
    for name in names:
        for path in (mine / name).rglob("*.*"):
            Store.open(place.url).put(path, path.relative_to(mine).as_posix())
    here = Run(configure(*(str(mine / name) for name in names)), tmp_path / "folders")
    there = Run(configure(*(f"{place.url}/{name}" for name in names)), tmp_path / "store")
    for run in (here, there):
        run.make(DATA)
    assert _contents(here) == _contents(there)
    assert place.secret not in (tmp_path / "store/config.yaml").read_text()


def test_data_that_is_not_there_or_refused_leaves_nothing_behind(
    mine: Path, configure: Callable[..., RunConfig], tmp_path: Path, bucket: str, s3_server: str
) -> None:
    config = configure(f"{bucket}/set", str(mine / "images"), str(mine / "more"))
    with pytest.raises(StoreError, match="There are no files at s3://scenes/set"):
        Run(config, tmp_path / "run").make(["data"])
    with refusing(s3_server), pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID"):
        Run(config, tmp_path / "run").make(["data"])
    for path in (mine / "set").rglob("*.*"):
        Store.open(bucket).put(path, path.relative_to(mine).as_posix())
    run = Run(config, tmp_path / "run")
    run.make(["data"])
    assert run.is_finished("data")


def test_a_missing_package_is_told_before_anything_is_made(
    mine: Path, configure: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scenepalette.common.remote import store

    def absent(protocol: str) -> None:
        raise ImportError("Install it")

    monkeypatch.setattr(store.fsspec, "get_filesystem_class", absent)
    config = configure("gs://b/set", "az://b/images", "s3://b/more")
    with pytest.raises(ConfigError) as raised:
        Run(config, tmp_path / "run").make(DATA)
    assert [problem.rpartition("[")[2] for problem in raised.value.problems] == ["gcs]'", "s3]'", "azure]'"]
    assert not (tmp_path / "run").exists()


def test_the_doctor_looks_at_data_at_a_url(mine: Path, tmp_path: Path, memory: Any) -> None:
    changes = ("data.name=folder", f"data.root={MEMORY}/set", "data.size=[32, 48]")
    request = Request("demo", changes, tmp_path / "run")
    checks = {check.name: check for check in examine(request, measured=False).checks}
    assert "There are no files" in checks["data at a URL"].summary and checks["data at a URL"].status == "problem"
    for path in (mine / "set").rglob("*.*"):
        memory.pipe_file(f"{HOME}/{path.relative_to(mine).as_posix()}", path.read_bytes())
    checks = {check.name: check for check in examine(request, measured=False).checks}
    assert "data at a URL" not in checks and "amount" in checks


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"root": "s3://key:secret@b/x"}, "holds credentials"),
        ({"root": "s3://"}, "names no bucket"),
        ({"root": ""}, "an empty path"),
        ({"root": 5}, "a path or a URL is required"),
        ({"class_file": "s3://b/classes.csv"}, "this has to lie on a disk of this machine"),
    ],
)
def test_places_that_cannot_be_used_are_told(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        make_config({**RECIPES["demo"](), "data": {"name": "folder", **values}})
    assert "secret" not in str(raised.value)


def test_a_place_is_a_path_or_a_text(tmp_path: Path) -> None:
    assert DataConfig(root="file:///a/b").root == Path("/a/b")  # type: ignore[arg-type]
    assert DataConfig(root=" S3://b/x/ ").root == "S3://b/x"
    assert local_folder(tmp_path) == tmp_path


@pytest.mark.parametrize("out", ["s3://bucket/run", "memory://run", "hf://org/run"])
def test_a_run_directory_at_a_url_is_refused_with_the_remedy(out: str) -> None:
    with pytest.raises(ConfigError, match="scenepalette push"):
        Request("demo", (), out)
