"""Sets that are as good as they were written, however they are stored: grown, linked, under any path, beside notes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.storage.files import sealed
from scenepalette.data.cards.croissant import write_croissant
from scenepalette.data.cards.dataset_card import collection_card, write_card
from scenepalette.data.exports.exporting import FORMATS, export_shards
from scenepalette.data.shards.checking import find_problems, find_warnings
from scenepalette.data.shards.manifest import link_problems, make_manifest, read_manifest, write_manifest
from scenepalette.data.shards.pairs import ShardPairs, decode_shards
from scenepalette.data.shards.reading import contact_sheet, iterate_rows, read_row
from scenepalette.data.shards.schema import Row, collection_of, row_id, shard_name
from scenepalette.data.shards.training.stream import ShardStream
from scenepalette.data.shards.writing import ShardInfo, write_shard
from scenepalette.pipeline.cli.main import app

ROOT = Path(__file__).parents[4]
GROWN = [shard_name(0, 2), shard_name(1, 2), shard_name(2, 3), shard_name(3, 5), shard_name(4, 5)]
COUNTS = (3, 2, 2, 1, 4)


def assert_is_read(folder: Path, rows: list[Row], scratch: Path) -> None:
    """Read a folder in all ways of this package, each of which must give these rows, and verify it."""
    names = [row.id for row in rows]
    assert list(find_problems(folder)) == []
    assert [row.id for row in iterate_rows(folder)] == names
    np.testing.assert_array_equal(read_row(folder, names[-1]).label, rows[-1].label)
    pairs = pickle.loads(pickle.dumps(ShardPairs(folder)))
    assert pairs.ids == names
    np.testing.assert_array_equal(pairs.batch(range(len(rows)))[1].numpy(), np.stack([row.label for row in rows]))
    stream = ShardStream(folder, 4, decoded=decode_shards(folder, scratch / "decoded"))
    assert sorted(name for batch in stream for name in batch["id"]) == sorted(names)
    assert contact_sheet(folder, 2).width > 0
    for to in FORMATS:
        assert json.loads((export_shards(folder, to, scratch / to) / "export.json").read_text())["rows"] == len(rows)


def test_parquet_files_are_not_exported_into_the_set(make_shards: Callable[..., list[Row]], tmp_path: Path) -> None:
    make_shards(tmp_path / "shards", (2,), "partial")
    with pytest.raises(ConfigError) as caught:
        export_shards(tmp_path / "shards", "huggingface", tmp_path / "shards/hub")
    (problem,) = caught.value.problems
    assert "lies in" in problem and not (tmp_path / "shards/hub").exists()
    assert export_shards(tmp_path / "shards", "coco", tmp_path / "shards/coco").is_dir()
    assert list(find_problems(tmp_path / "shards")) == []


# Sets that grew


@pytest.fixture
def grown(make_shards: Callable[..., list[Row]], tmp_path: Path) -> tuple[Path, list[Row]]:
    """A set of two shards that grew to three, and then to five."""
    return tmp_path / "shards", make_shards(tmp_path / "shards", COUNTS, "partial", GROWN)


def test_a_set_that_grew_is_read(grown: tuple[Path, list[Row]], tmp_path: Path) -> None:
    folder, rows = grown
    assert [shard["name"] for shard in read_manifest(folder)["shards"]] == GROWN
    assert_is_read(folder, rows, tmp_path)


def test_other_readers_read_a_set_that_grew(
    grown: tuple[Path, list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets
    import polars
    import pyarrow.dataset
    import pyarrow.parquet

    folder, rows = grown
    names, files = [row.id for row in rows], sorted(map(str, folder.glob("train-*.parquet")))
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["id"][:] == names
    stream = datasets.load_dataset(str(folder), split="train", streaming=True)
    assert [row["id"] for row in stream] == names
    assert polars.scan_parquet(folder / "train-*.parquet").collect()["id"].to_list() == names
    assert pyarrow.parquet.read_table(files)["id"].to_pylist() == names
    assert pyarrow.dataset.dataset(files).to_table(["id"])["id"].to_pylist() == names


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([shard_name(0, 2)], "1 of the 2 shards that the names tell of are not listed: 1"),
        ([shard_name(0, 2), shard_name(2, 3)], "1 of the 3 shards that the names tell of are not listed: 1"),
        ([shard_name(0, 3), shard_name(1, 2)], "1 of the 3 shards"),
        ([shard_name(0, 3), shard_name(1, 2), shard_name(2, 3)], "fewer shards than that of one before it"),
        ([shard_name(0, 1), shard_name(0, 2), shard_name(1, 2)], "a shard is listed twice"),
        ([shard_name(0, 1), "train-00001-of-00001.parquet"], "does not belong to a set of 1"),
        ([shard_name(0, 90_000)], "89999 of the 90000 shards that the names tell of are not listed: 1, 2, 3"),
        ([shard_name(0, 1), "train-1-of-2.parquet"], "is not the name of a shard"),
    ],
)
def test_names_that_make_no_set_are_refused(names: list[str], told: str, grown: tuple[Path, list[Row]]) -> None:
    folder, _ = grown
    manifest = read_manifest(folder)
    shards = [ShardInfo(name, 1, 9, "0" * 64) for name in names]
    about = {key: manifest[key] for key in ("kind", "config_hash", "models", "source")}
    with pytest.raises(DataError) as caught:
        make_manifest(shards, table=ShardPairs(folder).table, **about)
    assert told in str(caught.value) and len(str(caught.value)) < 1000
    (folder / "manifest.json").write_text(
        json.dumps(sealed({**manifest, "shards": [asdict(shard) for shard in shards], "rows": len(shards)}))
    )
    assert any(told in str(problem) for problem in find_problems(folder))


# Links


def behind_links(folder: Path, link: Callable[[Path, Path], object]) -> None:
    """Move every file of a folder into a store of files named by content, and link to it."""
    store = folder.parent / "blobs"
    store.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        blob = path.rename(store / f"{number:032x}")
        link(path, blob)


LINKS: dict[str, Callable[[Path, Path], object]] = {
    # As the cache of a hub has them, as DVC does, and as git-annex does, which also makes the content read-only.
    "relative": lambda path, blob: path.symlink_to(os.path.relpath(blob, path.parent)),
    "absolute": lambda path, blob: path.symlink_to(blob),
    "read-only": lambda path, blob: (path.symlink_to(blob), blob.chmod(0o444)),
    "through-another": lambda path, blob: (
        blob.with_suffix(".link").symlink_to(blob),
        path.symlink_to(blob.with_suffix(".link")),
    ),
    "hard": lambda path, blob: path.hardlink_to(blob),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_to_the_right_content_are_read(kind: str, make_shards: Callable[..., list[Row]], tmp_path: Path) -> None:
    rows = make_shards(tmp_path / "shards", (3, 4), "partial")
    behind_links(tmp_path / "shards", LINKS[kind])
    assert_is_read(tmp_path / "shards", rows, tmp_path)
    assert CliRunner().invoke(app, ["shards", "verify", str(tmp_path / "shards")]).exit_code == 0


def test_a_link_to_the_folder_is_read(make_shards: Callable[..., list[Row]], tmp_path: Path) -> None:
    rows = make_shards(tmp_path / "shards", (3, 4))
    (tmp_path / "link").symlink_to(tmp_path / "shards")
    assert_is_read(tmp_path / "link", rows, tmp_path)


def test_what_a_link_leads_to_is_hashed_once_and_again_when_it_changed(
    make_shards: Callable[..., list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scenepalette.data.shards import manifest as module

    folder = tmp_path / "shards"
    make_shards(folder, (3, 4))
    behind_links(folder, LINKS["absolute"])
    hashed: list[Path] = []
    real = module.sha256_of_file
    monkeypatch.setattr(module, "sha256_of_file", lambda path: hashed.append(path) or real(path))
    ShardStream(folder, 2)
    list(iterate_rows(folder))
    assert len(hashed) == len(set(hashed)) == 2
    blob = (folder / shard_name(1, 2)).resolve()
    content = bytearray(blob.read_bytes())
    content[content.rindex(b"parquet-cpp")] ^= 1
    blob.write_bytes(content)
    os.utime(blob, ns=(0, 0))
    (problem,) = link_problems(folder, read_manifest(folder))
    assert problem.startswith(f"{shard_name(1, 2)} is a link to other content")
    opened: list[Callable[[], Any]] = [
        lambda: ShardPairs(folder),
        lambda: ShardStream(folder, 2),
        lambda: list(iterate_rows(folder)),
        lambda: read_row(folder, row_id("full", "44444444", 0)),
        lambda: contact_sheet(folder),
        lambda: export_shards(folder, "images", tmp_path / "out"),
    ]
    for open_ in opened:
        with pytest.raises(DataError, match="SHA-256"):
            open_()


def test_a_link_to_what_cannot_be_read_is_told(
    make_shards: Callable[..., list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scenepalette.data.shards import manifest as module

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    make_shards(tmp_path / "shards", (3,))
    behind_links(tmp_path / "shards", LINKS["absolute"])
    monkeypatch.setattr(module, "sha256_of_file", refuse)
    with pytest.raises(DataError, match="a link to what cannot be read") as caught:
        ShardPairs(tmp_path / "shards")
    assert "Permission denied" in str(caught.value)


# Paths that are no text


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are text on this system")
@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", "Straße 東京".encode(), b"a\nb"])
def test_a_folder_under_any_path_is_read(name: bytes, make_shards: Callable[..., list[Row]], tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(name)
    rows = make_shards(folder, (3, 4), "partial")
    assert_is_read(folder, rows, tmp_path / os.fsdecode(name + b" read"))
    commands = [["verify"], ["verify", "--json"], ["show", "--picture", str(folder / "sheet.png")]]
    commands += [["show", "--id", rows[1].id], ["export", "--to", "coco", "--out", str(folder / "again")]]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT / "src")}
    code = "import json, sys; from scenepalette.pipeline.cli.main import main; "
    code += "sys.argv[1:] = json.loads(sys.argv[1]); main()"
    for verb, *options in commands:
        call = [sys.executable, "-c", code, json.dumps(["shards", verb, str(folder), *options])]
        done = subprocess.run(call, capture_output=True, env=environment, cwd=ROOT)
        assert done.returncode == 0 and done.stderr.count(b"Traceback") == 0, done.stderr
    (folder / shard_name(0, 2)).write_bytes(b"damaged")
    call[-1] = json.dumps(["shards", "verify", str(folder)])
    done = subprocess.run(call, capture_output=True, env=environment, cwd=ROOT)
    assert done.returncode == 1 and b"Traceback" not in done.stderr and b"cannot be read" in done.stderr
    assert name in done.stderr
    with pytest.raises(DataError, match="bytes, the manifest says"):
        ShardPairs(folder)


def test_a_source_whose_name_is_no_text_is_spelled_out(write_shards: Callable[..., list[Row]], tmp_path: Path) -> None:
    name, folder = os.fsdecode(b"caf\xe9"), tmp_path / "shards"
    row = replace(write_shards(folder, (1,), "semi")[0], source_id=f"real/{name}")
    table = ShardPairs(folder).table
    about: dict[str, Any] = {"kind": "semi", "table": table, "config_hash": "c" * 64}
    about |= {"models": {"image_model": "b" * 64}, "source": {"name": name, "licence": name, "split": name}}
    manifest = make_manifest([write_shard(folder / shard_name(0, 1), [row], table=table)], **about)
    write_card(folder, manifest)
    write_croissant(folder, manifest)
    write_manifest(folder, manifest)
    assert_is_read(folder, [row], tmp_path)
    assert read_row(folder, row.id).source_id == "real/caf\\udce9"
    assert "**caf\\udce9**" in (folder / "README.md").read_text(encoding="utf-8")
    collection_card({"semi": manifest}).encode()


# What lies beside the shards


BESIDE: dict[str, Callable[[Path], object]] = {
    "card-with-a-line-more": lambda folder: (folder / "README.md").open("a").write("Copied from the cluster.\n"),
    "card-removed": lambda folder: (folder / "README.md").unlink(),
    "card-a-folder": lambda folder: ((folder / "README.md").unlink(), (folder / "README.md").mkdir()),
    "croissant-changed": lambda folder: (folder / "croissant.json").write_text("{}"),
    "croissant-removed": lambda folder: (folder / "croissant.json").unlink(),
    "croissant-a-dead-link": lambda folder: (
        (folder / "croissant.json").unlink(),
        (folder / "croissant.json").symlink_to("nowhere"),
    ),
}
FOREIGN: dict[str, Callable[[Path], object]] = {
    "of-a-hub": lambda folder: (folder / ".gitattributes").write_text("*.parquet filter=lfs"),
    "of-a-desktop": lambda folder: (folder / ".DS_Store").write_bytes(b"\0"),
    "notes": lambda folder: (folder / "notes.txt").write_text("mine"),
    "of-a-cache": lambda folder: shutil.copytree(folder, folder / ".cache/huggingface"),
}


@pytest.mark.parametrize("name", [*BESIDE, *FOREIGN])
def test_what_lies_beside_the_shards_keeps_nobody_from_the_rows(
    name: str, write_shards: Callable[..., list[Row]], tmp_path: Path
) -> None:
    rows = write_shards(tmp_path / "shards", (3, 4))
    {**BESIDE, **FOREIGN}[name](tmp_path / "shards")
    assert_is_read(tmp_path / "shards", rows, tmp_path)
    assert len(find_warnings(tmp_path / "shards")) == (name in BESIDE)
    assert CliRunner().invoke(app, ["shards", "verify", str(tmp_path / "shards")]).exit_code == 0


def test_a_parquet_file_of_somebody_else_is_told_and_keeps_nobody_from_the_rows(
    write_shards: Callable[..., list[Row]], tmp_path: Path
) -> None:
    rows = write_shards(tmp_path, (3, 4))
    shutil.copy(tmp_path / shard_name(0, 2), tmp_path / "scores.parquet")
    assert ShardPairs(tmp_path).ids == [row.id for row in rows]
    (problem,) = find_problems(tmp_path)
    assert str(problem) == "scores.parquet is in the folder but not in the manifest"


# Ids


def test_ids_differ_between_runs_and_kinds() -> None:
    manifests = [{"extra": {"fingerprint": digit * 64}} for digit in "ab"]
    ids = {row_id(kind, str(collection_of(manifest)), 3) for kind in ("full", "semi") for manifest in manifests}
    assert ids == {f"{kind}-{digit * 8}-00000003" for kind in ("full", "semi") for digit in "ab"}


@pytest.mark.parametrize("extra", [{}, {"fingerprint": None}, {"fingerprint": "f"}, {"fingerprint": "no digits"}])
def test_rows_that_no_run_made_have_no_collection(extra: dict[str, Any]) -> None:
    assert collection_of({"extra": extra}) is None


@pytest.mark.parametrize("old", [True, False])
def test_both_forms_of_ids_are_verified(
    old: bool, make_shards: Callable[..., list[Row]], write_shards: Callable[..., list[Row]], tmp_path: Path
) -> None:
    rows = make_shards(tmp_path / "shards", (3, 4), old=old)
    assert rows[2].id == ("full-00000002" if old else "full-44444444-00000002")
    assert_is_read(tmp_path / "shards", rows, tmp_path)
    manifest = json.loads((tmp_path / "shards/manifest.json").read_text())
    manifest["extra"]["fingerprint"] = "5" * 64
    (tmp_path / "shards/manifest.json").write_text(json.dumps(sealed(manifest)))
    problems = [str(problem) for problem in find_problems(tmp_path / "shards")]
    assert len(problems) == (0 if old else 7)
    assert old or "the id of index 0 must be full-55555555-00000000" in problems[0]


# Class names for `datasets`


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("old", [True, False])
def test_features_of_datasets_carry_class_names_and_the_ignore_id(
    streaming: bool, old: bool, make_shards: Callable[..., list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    rows = make_shards(tmp_path / "shards", (3, 4), old=old)
    options = {"streaming": True} if streaming else {"cache_dir": str(tmp_path / "cache")}
    loaded = datasets.load_dataset(str(tmp_path / "shards"), split="train", **options)
    stated = loaded.features["label"].id
    expected = {"classes": ["road", "car, parked", "sky"], "ignore_id": 255}
    assert stated is None if old else json.loads(stated) == expected
    shown = next(iter(loaded))["label"]
    assert isinstance(shown, Image.Image) and np.array_equal(np.array(shown), rows[0].label)
    chosen = loaded.select_columns(["id", "label"])
    assert chosen.features["label"].id == stated


def test_a_set_of_version_0_1_0_is_joined_to_a_new_one_once_it_has_its_features(
    make_shards: Callable[..., list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    loaded = []
    for name, old in (("old", True), ("new", False)):
        make_shards(tmp_path / name, (3,), old=old)
        loaded.append(datasets.load_dataset(str(tmp_path / name), split="train", cache_dir=str(tmp_path / "cache")))
    before, after = loaded
    joined = datasets.concatenate_datasets([before.cast(after.features), after])
    assert joined.num_rows == 6 and joined.features["label"].id == after.features["label"].id
