"""The commands `scenepalette shards ...`."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import sealed, sha256_of_file, write_json
from scenepalette.data.datasets import open_dataset
from scenepalette.data.exports import exporting, images
from scenepalette.data.shards.manifest import MANIFEST_NAME, read_manifest
from scenepalette.data.shards.schema import SCHEMA
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.cli.terminal import progress
from scenepalette.pipeline.cli.terminal.progress import RichProgress

SHARD = "train-00001-of-00003.parquet"


def invoke(*arguments: str, expected: int = 0) -> tuple[str, str]:
    """Return what a `shards` command printed on standard output and standard error."""
    result = CliRunner().invoke(app, ["shards", *arguments])
    assert result.exit_code == expected, result.output
    assert "Traceback" not in result.output
    return result.stdout, result.stderr


@pytest.fixture
def damaged(copy_of_run: Callable[..., Path]) -> Path:
    """A folder whose second shard has a flipped bit, and whose third is missing."""
    folder = copy_of_run() / "shards/full"
    content = bytearray((folder / SHARD).read_bytes())
    content[1000] ^= 1
    (folder / SHARD).write_bytes(content)
    (folder / "train-00002-of-00003.parquet").unlink()
    return folder


@pytest.mark.parametrize("verb", ["verify", "show", "regenerate", "export"])
def test_help_says_what_a_command_does(verb: str) -> None:
    output, _ = invoke(verb, "--help")
    assert "Usage" in output and "FOLDER" in output and f"scenepalette shards {verb}" in output


def test_verify_tells_machines_the_same(damaged: Path, finished_run: Path) -> None:
    output, errors = invoke("verify", str(damaged), "--json", expected=1)
    told = json.loads(output)
    assert (told["folder"], told["ok"], told["count"]) == (str(damaged), False, len(told["problems"]))
    assert told["problems"][0]["problem"] == "train-00002-of-00003.parquet is missing" and errors == ""
    assert {problem["file"] for problem in told["problems"]} == {None, SHARD}
    _, errors = invoke("verify", str(damaged), expected=1)
    assert len(errors.strip().splitlines()) == told["count"] + 2
    good = str(finished_run / "shards/full")
    told = {"folder": good, "problems": [], "count": 0, "warnings": [], "ok": True}
    assert json.loads(invoke("verify", good, "--json")[0]) == told


def test_verify_ends_with_the_command_that_mends(damaged: Path, finished_run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(damaged, tmp_path / "copied")
    shutil.copy(damaged / "train-00000-of-00003.parquet", damaged / "more.parquet")
    _, errors = invoke("verify", str(damaged), expected=1)
    command = errors.strip().splitlines()[-1].partition(": ")[2]
    shards = f"--shard {SHARD} --shard train-00002-of-00003.parquet"
    assert command == f"scenepalette shards regenerate {damaged} {shards}"
    invoke(*shlex.split(command)[2:])
    _, errors = invoke("verify", str(damaged), expected=1)
    assert "move what does not belong to them out of the folder" in errors.strip().splitlines()[-1]
    (damaged / "more.parquet").unlink()
    invoke("verify", str(damaged))
    last = invoke("verify", str(copied), expected=1)[1].strip().splitlines()[-1]
    assert last.startswith("Copy the damaged shards again, or ask whoever made them")
    command = last.partition(": ")[2].replace("RUN_DIR", str(finished_run))
    invoke(*shlex.split(command)[2:])
    invoke("verify", str(copied))
    (copied / "manifest.json").write_text("{}")
    assert "copy manifest.json or the whole folder again" in invoke("verify", str(copied), expected=1)[1]


def test_verify_says_that_shards_were_written_damaged(copy_of_run: Callable[..., Path]) -> None:
    folder = copy_of_run() / "shards/full"
    rows = pq.read_table(folder / SHARD).to_pylist()
    rows[0]["palette_target"] = [1.0]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / SHARD)
    manifest = json.loads((folder / "manifest.json").read_text())
    shard = next(shard for shard in manifest["shards"] if shard["name"] == SHARD)
    size = (folder / SHARD).stat().st_size
    manifest["bytes"] += size - shard["bytes"]
    shard |= {"bytes": size, "sha256": sha256_of_file(folder / SHARD)}
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))
    assert (
        "regenerating them will not help. Contact the author."
        in invoke("verify", str(folder), expected=1)[1].strip().splitlines()[-1]
    )


def test_verify_says_that_there_is_no_such_folder(tmp_path: Path) -> None:
    _, errors = invoke("verify", str(tmp_path / "nope"), expected=1)
    assert errors.startswith(f"Error: {tmp_path / 'nope'} does not exist. Give") and "generation" not in errors
    told = json.loads(invoke("verify", str(tmp_path / "nope"), "--json", expected=1)[0])
    problem = told["problems"][0]["problem"]
    assert not told["ok"] and problem.startswith(f"{tmp_path / 'nope'} does not exist.")
    (tmp_path / "file").touch()
    assert "is no folder" in invoke("verify", str(tmp_path / "file"), expected=1)[1]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/manifest.json").write_text("{}")  # of another unit of a run
    errors = invoke("verify", str(tmp_path / "data"), expected=1)[1]
    assert "There are no shards in it. Give the folder of one kind" in errors


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("palette_target", [1.0], "palette_target has 1 shares, the manifest 14 classes"),
        ("palette_achieved", [], "palette_achieved has 0 shares, the manifest 14 classes"),
        ("edit_box", [1, 2, 3], "edit_box has 3 numbers, not 4"),
        ("label", "another size", "the image is [32, 48] and the label [2, 3]"),
    ],
)
def test_show_tells_of_a_row_that_cannot_be_shown(
    column: str, value: Any, told: str, copy_of_run: Callable[..., Path], tmp_path: Path
) -> None:
    folder = copy_of_run() / "shards/full"
    rows = pq.read_table(folder / SHARD).to_pylist()
    if column == "label":
        content = io.BytesIO()
        Image.new("L", (3, 2)).save(content, "PNG")
        value = {"bytes": content.getvalue(), "path": None}
    rows[0][column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / SHARD)
    manifest = read_manifest(folder)
    next(shard for shard in manifest["shards"] if shard["name"] == SHARD)["bytes"] = (folder / SHARD).stat().st_size
    total = sum(shard["bytes"] for shard in manifest["shards"])
    write_json(folder / MANIFEST_NAME, sealed({**manifest, "bytes": total}))
    for picture in ([], ["--picture", str(tmp_path / "sheet.png")]):
        output, errors = invoke("show", str(folder), "--id", rows[0]["id"], *picture, expected=1)
        assert output == "" and told in errors
        assert f"`scenepalette shards verify {folder}`" in errors
    invoke("show", str(folder), "--id", rows[1]["id"])


def test_regenerate_makes_rows_and_mends_shards(damaged: Path, tmp_path: Path) -> None:
    first, *_, third = pq.read_table(damaged / "train-00000-of-00003.parquet")["id"].to_pylist()
    output, _ = invoke("regenerate", str(damaged), "--row", third, "--row", "0", "--out", str(tmp_path / "out"))
    assert output.count("equal, byte for byte") == 2
    assert Image.open(tmp_path / f"out/{first}.jpg").size == (48, 32)
    output, _ = invoke("regenerate", str(damaged), "--row", "9", expected=1)
    assert "differs" in output and "the stored row cannot be read" in output
    shards = ["--shard", "train-00002-of-00003.parquet", "--shard", SHARD, "--shard", "train-00000-of-00003.parquet"]
    output, _ = invoke("regenerate", str(damaged), *shards)
    assert output.count("made again, as the manifest says") == 2 and output.count("as it was written") == 1
    invoke("verify", str(damaged))
    _, errors = invoke("regenerate", str(damaged), expected=1)
    assert "Nothing to make again" in errors
    _, errors = invoke("regenerate", str(damaged), "--shard", SHARD, "--out", str(tmp_path), expected=1)
    assert "--out takes the images of rows" in errors


def test_export_writes_an_image_folder_and_refuses_others(finished_run: Path, tmp_path: Path) -> None:
    folder, out = str(finished_run / "shards/full"), tmp_path / "out"
    output, _ = invoke("export", folder, "--to", "images", "--out", str(out))
    assert f"Done: {out}" in output
    assert len(open_dataset("folder", "train", out)) == 10
    invoke("export", folder, "--to", "images", "--out", str(out))
    _, errors = invoke("export", folder, "--to", "coco", "--out", str(out), expected=1)
    assert "holds an export of other shards or in another form" in errors
    _, errors = invoke("export", folder, "--to", "voc", "--out", str(tmp_path / "voc"), expected=1)
    assert ", ".join(exporting.FORMATS) in errors
    helped, _ = invoke("export", "--help")
    assert all(name in helped for name in exporting.FORMATS)


def moved(row: dict[str, Any], column: str, levels: int) -> None:
    """Move one pixel of a stored image by some levels; the file becomes a PNG."""
    pixels = np.array(Image.open(io.BytesIO(row[column]["bytes"]))).astype(int)
    pixels.flat[0] += levels if pixels.flat[0] < 128 else -levels
    content = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(content, "PNG")
    row[column]["bytes"] = content.getvalue()


@pytest.mark.parametrize(
    ("change", "slight"),
    [
        (lambda row: moved(row, "image", 0), True),
        (lambda row: moved(row, "image", 2), True),
        (lambda row: moved(row, "image", 3), False),
        (lambda row: moved(row, "label", 1), False),
        (lambda row: row.update(id="full-00000009"), False),
        (lambda row: row.update(image=None), False),
        (lambda row: row["image"].update(bytes=b"damaged"), False),
        (lambda row: row["image"].update(path="other.jpg"), False),
    ],
)
def test_last_bits_explain_slight_differences_of_pixels_alone(
    change: Callable[[dict[str, Any]], object], slight: bool, copy_of_run: Callable[..., Path]
) -> None:
    folder = copy_of_run() / "shards/full"
    rows = pq.read_table(folder / SHARD).to_pylist()
    name = rows[0]["id"]
    change(rows[0])
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / SHARD)
    output, _ = invoke("regenerate", str(folder), "--row", "4", "--row", "5", expected=1)
    assert output.count("differs") == 1 and f"{rows[1]['id']} (" in output
    last = output.strip().splitlines()[-1]
    assert last.startswith(f"{name}: " + ("Another processor" if slight else "That is more than last bits"))


def test_done_is_said_once_and_only_of_work_that_ended(
    damaged: Path, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, errors = invoke("regenerate", str(damaged), "--shard", SHARD)
    assert errors.count("make shards again: done in") == errors.count("done in") == 1
    _, errors = invoke("regenerate", str(damaged), "--shard", SHARD)
    assert errors == ""
    _, errors = invoke("regenerate", str(damaged), "--shard", "other", expected=1)
    assert "done in" not in errors
    good, out = str(finished_run / "shards/full"), str(tmp_path / "out")
    _, errors = invoke("export", good, "--to", "voc", "--out", out, expected=1)
    assert "done in" not in errors
    real, count = images.write_atomically, [0]

    def full(path: Path, content: bytes | str, *, durable: bool = True) -> None:
        count[0] += 1
        if count[0] == 9:
            raise DataError("the disk is full")
        real(path, content, durable=durable)

    with monkeypatch.context() as patch:
        patch.setattr(images, "write_atomically", full)
        _, errors = invoke("export", good, "--to", "images", "--out", out, expected=1)
    assert "export images: 10" in errors and "the disk is full" in errors and "done in" not in errors
    _, errors = invoke("export", good, "--to", "images", "--out", out)
    assert errors.count("export images: done in") == errors.count("done in") == 1
    output, errors = invoke("export", good, "--to", "images", "--out", out)
    assert (output, errors) == (f"Done: {out}\n", "")


def test_an_error_gives_the_terminal_back(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, finished = io.StringIO(), []

    class Watched(RichProgress):
        def finish(self) -> None:
            finished.append(self._bar is not None)
            super().finish()

    bar = Watched(Console(file=screen, force_terminal=True, width=160))
    monkeypatch.setattr(progress, "choose_progress", lambda: bar)

    def full() -> None:
        # The bar is drawn when the first row is written.
        if finished:
            raise DataError("the disk is full")

    monkeypatch.setattr(exporting, "sync_disks", full)
    invoke("export", str(finished_run / "shards/full"), "--to", "images", "--out", str(tmp_path / "out"), expected=1)
    assert finished == [False, True]


def test_commands_in_the_documentation_run(
    copy_of_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    copy_of_run().rename(tmp_path / "runs/demo")
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[3] / "docs/shards.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("scenepalette shards ")]
    assert len(commands) == 12
    for command in commands:
        invoke(*shlex.split(command)[2:])
    names = {"images", "coco", "webdataset", "mmseg", "fiftyone", "yolo", "hub"}
    assert {path.name for path in (tmp_path / "exports").iterdir()} == names
