"""Finished parts of a run at a URL: whole, resumable, and not against the terms of the data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from buckets import MEMORY, refusing
from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.remote.store import Store, StoreError
from scenepalette.common.storage.files import read_json, sealed, sha256_of_file, write_json
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.places import local_shards
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.finished.pushing import push

FREE = {"source": {"name": "tiny", "licence": "MIT", "split": "train"}}
HOME = "/scenepalette-tests"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENEPALETTE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shards(tmp_path: Path, write_shards: Callable) -> Path:
    write_shards(tmp_path / "full", [3, 2, 4], **FREE)
    return tmp_path / "full"


@pytest.fixture
def puts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are copied, in order."""
    names, put = list[str](), Store.put

    def noted(self: Store, path: Path, name: str) -> None:
        names.append(name)
        put(self, path, name)

    monkeypatch.setattr(Store, "put", noted)
    return names


def _names(memory: Any) -> list[str]:
    return sorted(path.removeprefix(f"{HOME}/") for path in memory.find(HOME))


def test_a_run_lies_at_the_url_as_readers_want_it(finished_run: Path, memory: Any, puts: list[str]) -> None:
    pushed = push(finished_run, MEMORY)
    assert [part.place for part in pushed] == ["full", "partial", "semi", "report"]
    assert {"README.md", "full/manifest.json", "semi/README.md", "report/report.html"} <= {*_names(memory)}
    for place in ("full", "partial", "semi", "report"):
        mine = [name for name in puts if name.startswith(f"{place}/")]
        assert mine[-1] == f"{place}/manifest.json" and mine.count(mine[-1]) == 1
    assert verify_shards(local_shards(f"{MEMORY}/full")) == []
    for name in _names(memory):
        home = finished_run if name.startswith("report") else finished_run / "shards"
        if name != "README.md":
            assert memory.cat_file(f"{HOME}/{name}") == (home / name).read_bytes()
    card = memory.cat_file(f"{HOME}/README.md").decode()
    assert card.startswith((finished_run / "shards/README.md").read_text())
    puts.clear()
    assert [part.copied for part in push(finished_run, MEMORY)] == [0, 0, 0, 0] and puts == []


def test_kinds_and_parts_are_chosen(finished_run: Path, memory: Any) -> None:
    push(finished_run, MEMORY, whats=["shards"], kinds=["semi"])
    assert {name.partition("/")[0] for name in _names(memory)} == {"README.md", "semi"}
    push(finished_run, MEMORY, whats=["shards", "weights"], kinds=["full"])
    card = memory.cat_file(f"{HOME}/README.md").decode()
    assert "semi/train-*.parquet" in card and "full/train-*.parquet" in card and "partial/" not in card
    weights = "weights/images/oasis/weights.safetensors"
    assert memory.cat_file(f"{HOME}/{weights}") == (finished_run / "images/oasis/weights.safetensors").read_bytes()
    assert not any("checkpoint" in name for name in _names(memory))


def test_a_card_that_somebody_changed_stays(finished_run: Path, memory: Any) -> None:
    notes = list[str]()
    push(finished_run, MEMORY, whats=["shards"], kinds=["semi"], note=notes.append)
    changed = memory.cat_file(f"{HOME}/README.md").replace(b"pairs", b"PAIRS")
    memory.pipe_file(f"{HOME}/README.md", changed)
    push(finished_run, MEMORY, whats=["shards"], kinds=["full"], note=notes.append)
    assert memory.cat_file(f"{HOME}/README.md") == changed and "stays as it is" in notes[0]


def test_what_is_not_finished_is_told(finished_run: Path, copy_of_run: Callable, memory: Any) -> None:
    with pytest.raises(ConfigError, match="shards/pseudo is not finished; finished are full, partial, semi"):
        push(finished_run, MEMORY, kinds=["pseudo"])
    run = copy_of_run("report")
    with pytest.raises(ConfigError, match="report: nothing of it is finished"):
        push(run, MEMORY, whats=["report"])
    (run / "shards/full/manifest.json").unlink()
    assert [part.place for part in push(run, MEMORY)] == ["partial", "semi"]
    shutil.rmtree(run / "shards")
    with pytest.raises(ConfigError, match="neither shards nor a report are finished"):
        push(run, MEMORY)
    with pytest.raises(ScenepaletteError, match="run"):
        push(run / "data", MEMORY)


def test_an_upload_that_is_cut_off_is_taken_up(
    shards: Path, memory: Any, puts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Store.put

    def cut_off(self: Store, path: Path, name: str) -> None:
        if "00001" in name:
            memory.pipe_file(f"{HOME}/{name}", path.read_bytes()[:100])
            raise StoreError("cut off")
        put(self, path, name)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put", cut_off)
        with pytest.raises(StoreError, match="cut off"):
            push(shards, MEMORY)
    assert "manifest.json" not in _names(memory)
    kept = [name for name in puts if name.endswith(".parquet")]
    assert kept
    puts.clear()
    push(shards, MEMORY)
    assert not {*kept} & {*puts} and puts[-1] == "manifest.json"
    assert verify_shards(local_shards(MEMORY)) == []


def test_a_store_that_alters_what_it_is_given_is_told(
    shards: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alter(self: Store, path: Path, name: str) -> None:
        memory.pipe_file(f"{HOME}/{name}", path.read_bytes()[:-1] + b"?")

    monkeypatch.setattr(Store, "put", alter)
    with pytest.raises(ScenepaletteError, match="is not what was copied there"):
        push(shards, MEMORY)
    assert "manifest.json" not in _names(memory)


def test_a_half_written_folder_is_completed_and_a_damaged_file_replaced(
    shards: Path, bucket: str, puts: list[str]
) -> None:
    store, name = Store.open(f"{bucket}/full"), "train-00001-of-00003.parquet"
    content = (shards / name).read_bytes()
    store.write(name, content[:-1] + b"?")  # of the same size
    store.write("train-00000-of-00003.parquet", (shards / "train-00000-of-00003.parquet").read_bytes())
    (pushed,) = push(shards, store.url)
    assert (pushed.files, pushed.copied) == (6, 5) and "train-00000-of-00003.parquet" not in puts
    assert store.read(name) == content
    assert verify_shards(local_shards(store.url)) == []
    store.remove(name)  # of a folder with its manifest
    puts.clear()
    push(shards, store.url)
    assert puts == [name]


def test_a_set_that_grew_is_completed(tmp_path: Path, memory: Any, write_shards: Callable, puts: list[str]) -> None:
    more = tmp_path / "full"
    write_shards(more, [3, 2, 4], **FREE)
    manifest = read_json(more / "manifest.json")
    less = tmp_path / "less"
    shutil.copytree(more, less)
    last = manifest["shards"][-1]
    (less / last["name"]).unlink()
    shards = [{**shard, "name": shard["name"].replace("-of-00003", "-of-00002")} for shard in manifest["shards"][:2]]
    for folder, kept in ((less, shards), (more, [*shards, last])):
        for number in range(2):
            (folder / f"train-0000{number}-of-00003.parquet").rename(folder / shards[number]["name"])
        totals = {key: sum(shard[key] for shard in kept) for key in ("rows", "bytes")}
        write_json(folder / "manifest.json", sealed({**manifest, "shards": kept, **totals}))
    push(less, MEMORY)
    puts.clear()
    push(more, MEMORY)
    assert puts == [last["name"], "manifest.json"]
    assert verify_shards(local_shards(MEMORY)) == []
    with pytest.raises(DataError, match=f"it has other pairs, such as {last['name']}"):
        push(less, MEMORY)


def test_what_is_there_is_not_replaced(shards: Path, tmp_path: Path, write_shards: Callable, memory: Any) -> None:
    write_shards(tmp_path / "other", [5, 4], kind="semi", **FREE)
    push(tmp_path / "other", MEMORY)
    before = {name: memory.cat_file(f"{HOME}/{name}") for name in _names(memory)}
    with pytest.raises(DataError, match="it has other pairs, such as train-00000-of-00002"):
        push(shards, MEMORY)
    assert before == {name: memory.cat_file(f"{HOME}/{name}") for name in _names(memory)}
    memory.rm(f"{HOME}/manifest.json")
    with pytest.raises(DataError, match="it has Parquet files of another set: train-00000-of-00002"):
        push(shards, MEMORY)
    memory.pipe_file(f"{HOME}/manifest.json", b'{"name": "an app"}')
    with pytest.raises(DataError, match=r"it has a manifest.json that is not one of shards"):
        push(shards, MEMORY)


def test_a_report_that_was_made_again_takes_the_place_of_the_first(
    copy_of_run: Callable, memory: Any, puts: list[str]
) -> None:
    run = copy_of_run()
    push(run, MEMORY, whats=["report"])
    (run / "report/report.md").write_text("another")
    manifest = read_json(run / "report/manifest.json")
    gone = next(name for name in manifest["files"] if name.startswith("figures/"))
    del manifest["files"][gone]
    manifest["files"]["report.md"] = {"bytes": 7, "sha256": sha256_of_file(run / "report/report.md")}
    write_json(run / "report/manifest.json", sealed(manifest))
    puts.clear()
    push(run, MEMORY, whats=["report"])
    assert puts == ["report/report.md", "report/manifest.json"] and f"report/{gone}" not in _names(memory)


def test_damaged_files_are_not_pushed(shards: Path, memory: Any) -> None:
    (shards / "README.md").write_text("other terms")
    with pytest.raises(DataError, match=r"shards verify .* --mend"):
        push(shards, MEMORY)
    path = shards / "train-00001-of-00003.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ScenepaletteError, match="is damaged"):
        push(shards, MEMORY)
    assert _names(memory) == []


def test_terms_of_the_data_are_heeded(
    tmp_path: Path, copy_of_run: Callable, memory: Any, write_shards: Callable
) -> None:
    write_shards(tmp_path / "nc", [2])
    with pytest.raises(ConfigError, match="--i-may") as refused:
        push(tmp_path / "nc", MEMORY)
    assert refused.value.problems == (
        "nc: the terms are 'CC BY-NC-SA 4.0, non-commercial': they allow no commercial use",
    )
    run = copy_of_run()
    content = read_json(run / "data/train.json")
    write_json(run / "data/train.json", {**content, "licence": "not stated"})
    for what in ("report", "weights"):
        with pytest.raises(ConfigError, match="none are stated"):
            push(run, MEMORY, whats=[what])
    assert _names(memory) == []
    push(tmp_path / "nc", MEMORY, allowed=True)
    assert "manifest.json" in _names(memory)


def test_the_command_pushes_to_a_bucket_and_shards_are_read_from_there(
    finished_run: Path, bucket: str, tmp_path: Path
) -> None:
    def invoke(*arguments: str, expected: int = 0) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == expected, result.output
        assert "Traceback" not in result.output
        return result.output

    url = f"{bucket}/demo"
    assert f"{url}/full: 6 files, 6 of them copied now" in invoke("push", str(finished_run), url)
    assert f"{url}/full: 6 files, none of them copied now" in invoke("push", str(finished_run), url)
    assert "10 full pairs" in invoke("shards", "show", f"{url}/full")
    assert f"{url}/full: 10 pairs in 3 shard(s), all as they were written." in invoke("shards", "verify", f"{url}/full")
    out = tmp_path / "coco"
    invoke("shards", "export", f"{url}/semi", "--to", "images", "--out", str(out))
    assert len(list((out / "train/images").iterdir())) == 10
    invoke("shards", "filter", f"{url}/full", str(tmp_path / "few"), "--where", "index < 3", "--at-least", "1")
    assert verify_shards(tmp_path / "few") == []
    assert "--mend writes into the folder" in invoke("shards", "verify", f"{url}/full", "--mend", expected=1)
    assert "is a URL" in invoke("shards", "regenerate", f"{url}/full", "--row", "1", expected=2)
    assert "is a URL" in invoke("shards", "export", f"{url}/full", "--to", "coco", "--out", url, expected=2)
    assert "what can be pushed is shards" in invoke("push", str(finished_run), url, "--what", "all", expected=1)


def test_the_command_never_shows_credentials(finished_run: Path) -> None:
    for arguments in (
        ["push", str(finished_run), "s3://key:secret@bucket/x"],
        ["push", "s3://key:secret@bucket/x", "s3://bucket/x"],
        ["shards", "show", "s3://key:secret@bucket/x"],
        ["shards", "regenerate", "s3://key:secret@bucket/x"],
        ["run", "demo", "--set", "data.name=folder", "--set", "data.root=s3://key:secret@bucket/x"],
        ["run", "demo", "--out", "s3://key:secret@bucket/x"],
        ["run", "demo", "--set", "s3://key:secret@bucket/x"],
        ["doctor", "demo", "--set", "data.root=s3://key:secret@bucket/x"],
        ["run", "demo", "--models-from", "s3://key:secret@bucket/x"],
        ["init", "s3://key:secret@bucket/x"],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code in (1, 2), arguments
        assert "secret" not in result.output + repr(result.exception), arguments


def test_a_bucket_that_refuses_is_told(shards: Path, bucket: str, s3_server: str) -> None:
    with refusing(s3_server), pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID"):
        push(shards, bucket)
    push(shards, bucket)
