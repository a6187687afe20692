"""Finished shards at other stores than S3: Google's and Azure's, and the Hub, each a server on loopback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from buckets import Place
from scenepalette.common.errors import ConfigError
from scenepalette.common.remote.mirror import local_copy
from scenepalette.common.remote.store import Store, StoreError
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.places import local_shards
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.finished.pushing import push


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENEPALETTE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shards(tmp_path: Path, write_shards: Callable) -> Path:
    write_shards(tmp_path / "full", [3, 2, 4], source={"name": "tiny", "licence": "MIT", "split": "train"})
    return tmp_path / "full"


def test_shards_are_pushed_after_a_cut_compared_and_read(
    shards: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, put, puts = f"{place.url}/full", Store.put, list[str]()

    def cut_off(self: Store, path: Path, name: str) -> None:
        if "00001" in name:
            self.write(name, path.read_bytes()[:-1] + b"?")  # of the same size
            raise StoreError("cut off")
        put(self, path, name)

    def noted(self: Store, path: Path, name: str) -> None:
        puts.append(name)
        put(self, path, name)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put", cut_off)
        with pytest.raises(StoreError, match="cut off"):
            push(shards, url)
    assert "train-00001-of-00003.parquet" in (kept := Store.open(url).files()) and "manifest.json" not in kept
    monkeypatch.setattr(Store, "put", noted)
    (pushed,) = push(shards, url)
    assert (pushed.files, pushed.copied) == (6, len(puts)) and puts[-1] == "manifest.json"
    assert "train-00001-of-00003.parquet" in puts and not {*puts} & ({*kept} - {"train-00001-of-00003.parquet"})
    assert {name: Store.open(url).read(name) for name in Store.open(url).files()} == {
        path.name: path.read_bytes() for path in shards.iterdir()
    }
    puts.clear()
    assert push(shards, url)[0].copied == 0 and puts == []
    assert verify_shards(local_shards(url)) == []


def test_a_folder_at_a_store_is_followed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    url, fetch, fetched = f"{place.url}/data", Store.fetch, list[str]()

    def noted(self: Store, name: str, path: Path) -> None:
        fetched.append(name)
        fetch(self, name, path)

    monkeypatch.setattr(Store, "fetch", noted)
    with pytest.raises(StoreError, match="There are no files at"):
        local_copy(url)
    store = Store.open(url)
    for name in ("train/a b.png", "train/é.png", "classes.csv"):
        store.write(name, b"abc")
    folder = local_copy(url)
    assert sorted(fetched) == ["classes.csv", "train/a b.png", "train/é.png"]
    fetched.clear()
    store.write("train/a b.png", b"abd")  # as long as before
    store.remove("train/é.png")
    store.remove("train/é.png")
    assert local_copy(url) == folder and fetched == ["train/a b.png"]
    assert (folder / "train/a b.png").read_bytes() == b"abd" and not (folder / "train/é.png").exists()


def test_terms_of_the_data_are_heeded_at_every_store(tmp_path: Path, write_shards: Callable, place: Place) -> None:
    write_shards(tmp_path / "nc", [2])
    with pytest.raises(ConfigError, match="--i-may"):
        push(tmp_path / "nc", place.url)
    assert Store.open(place.url).files() == {}


@pytest.mark.slow  # gcsfs tries for half a minute
def test_what_authorises_is_not_shown_where_it_is_refused(shards: Path, place: Place) -> None:
    with place.refusing():
        for arguments in (["push", str(shards), f"{place.url}/full"], ["shards", "verify", f"{place.url}/full"]):
            result = CliRunner().invoke(app, arguments)
            output = " ".join(result.output.split())
            assert result.exit_code == 1 and "give credentials outside the URL" in output, output
            assert place.secret not in result.output + repr(result.exception) and "Traceback" not in result.output


def test_a_bucket_that_is_not_there_is_told(shards: Path, place: Place) -> None:
    scheme = place.url.partition("://")[0]
    with pytest.raises(StoreError, match="make one first"):
        push(shards, f"{scheme}://someone-else/nothing")
