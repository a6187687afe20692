"""Exports, read back by other readers than the code that wrote them."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from data.datasets import open_dataset
from data.errors import ConfigError, DataError, ScenepaletteError
from data.exports import exporting
from data.exports import images as images_module
from data.exports.exporting import FORMATS, export_shards
from data.exports.rows import ExportedRow
from data.files import sha256_of_file
from data.shards.schema import Row

COUNTS = (3, 4)


@pytest.fixture
def shards(make_shards: Callable[..., list[Row]], tmp_path: Path) -> tuple[Path, list[Row]]:
    return tmp_path / "shards", make_shards(tmp_path / "shards", COUNTS)


def all_files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in folder.rglob("*") if path.is_file()}


def test_an_image_folder_is_read_back_as_a_data_set(shards: tuple[Path, list[Row]], tmp_path: Path) -> None:
    folder, rows = shards
    out = export_shards(folder, "images", tmp_path / "out")
    found = open_dataset("folder", "train", out)
    assert list(found.ids) == [row.id for row in rows]
    for sample, row in zip((found[index] for index in range(len(found))), rows, strict=True):
        np.testing.assert_array_equal(sample.image, row.image)
        np.testing.assert_array_equal(sample.label, row.label)
    assert (found.licence, found.table.name) == ("CC BY-NC 4.0", "three")
    assert found.table.names == ("road", "car, parked", "sky")
    assert [entry.evaluated for entry in found.table.classes] == [True, True, False]


def test_coco_documents_hold_every_pixel(shards: tuple[Path, list[Row]], tmp_path: Path) -> None:
    folder, rows = shards
    out = export_shards(folder, "coco", tmp_path / "out")
    stuff = COCO(out / "annotations/stuff_train.json")
    panoptic = json.loads((out / "annotations/panoptic_train.json").read_text())
    assert [entry["name"] for entry in panoptic["categories"]] == ["road", "car, parked", "sky"]
    assert panoptic["licenses"][0]["name"] == "CC BY-NC 4.0"
    assert len(stuff.getImgIds()) == len(panoptic["annotations"]) == len(rows)
    by_image = {entry["image_id"]: entry for entry in panoptic["annotations"]}
    for entry in panoptic["images"]:
        row = rows[entry["id"] - 1]
        assert (entry["file_name"], entry["height"], entry["width"]) == (f"{row.id}.png", 10, 14)
        np.testing.assert_array_equal(np.array(Image.open(out / "train" / entry["file_name"])), row.image)
        annotation = by_image[entry["id"]]
        pixels = np.array(Image.open(out / "annotations/panoptic_train" / annotation["file_name"])).astype(int)
        ids = pixels @ np.array([1, 256, 65536])
        label = np.full(row.label.shape, 255)
        for segment in annotation["segments_info"]:
            inside = ids == segment["id"]
            label[inside] = segment["category_id"] - 1
            left, top, width, height = segment["bbox"]
            assert (
                segment["area"] == inside.sum()
                and inside[top : top + height, left : left + width].sum() == inside.sum()
            )
            assert inside[top].any() and inside[top + height - 1].any()
            assert inside[:, left].any() and inside[:, left + width - 1].any()
        np.testing.assert_array_equal(label, row.label)
        masks = stuff.loadAnns(stuff.getAnnIds(imgIds=[entry["id"]]))
        painted = np.full(row.label.shape, 255)
        for mask in masks:
            painted[stuff.annToMask(mask) == 1] = mask["category_id"] - 1
        np.testing.assert_array_equal(painted, row.label)
    assert len({annotation["id"] for annotation in stuff.loadAnns(stuff.getAnnIds())}) == len(stuff.getAnnIds())


def test_webdataset_tars_hold_samples_in_order_and_are_equal_byte_for_byte(
    shards: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    folder, rows = shards
    out = export_shards(folder, "webdataset", tmp_path / "out", rows_per_tar=3)
    again = export_shards(folder, "webdataset", tmp_path / "again", rows_per_tar=3)
    tars = sorted(path.name for path in out.glob("*.tar"))
    assert tars == ["train-000000.tar", "train-000001.tar", "train-000002.tar"]
    assert all((out / name).read_bytes() == (again / name).read_bytes() for name in tars)
    samples: dict[str, dict[str, bytes]] = {}
    sizes = []
    for name in tars:
        with tarfile.open(out / name) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
                key, _, ending = member.name.partition(".")
                samples.setdefault(key, {})[ending] = tar.extractfile(member).read()  # type: ignore[union-attr]
        sizes.append(len(samples))
    assert sizes == [3, 6, 7] and list(samples) == [row.id for row in rows]
    for row in rows:
        sample = samples[row.id]
        assert sample.keys() == {"png", "json", "label.png"}
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(sample["label.png"]))), row.label)
        facts = json.loads(sample["json"])
        assert (facts["id"], facts["index"], facts["kind"]) == (row.id, row.index, "full")
        assert facts["palette_achieved"] == pytest.approx(list(row.palette_achieved), abs=1e-6)
    records = json.loads((out / "export.json").read_text())["parts"]
    assert [record["sha256"] for record in records] == [sha256_of_file(out / name) for name in tars]


def test_datasets_reads_the_tars(shards: tuple[Path, list[Row]], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    folder, rows = shards
    out = export_shards(folder, "webdataset", tmp_path / "out")
    files = {"train": str(out / "train-*.tar")}
    loaded = datasets.load_dataset("webdataset", data_files=files, split="train", streaming=True)
    for sample, row in zip(loaded, rows, strict=True):
        assert (sample["__key__"], sample["json"]["source_id"]) == (row.id, None)
        np.testing.assert_array_equal(np.array(sample["label.png"]), row.label)
        np.testing.assert_array_equal(np.array(sample["png"]), row.image)


@pytest.mark.parametrize("to", FORMATS)
def test_an_interrupted_export_goes_on_and_ends_like_another(
    to: str, shards: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    folder, _ = shards
    options = {"rows_per_tar": 3} if to == "webdataset" else {}
    expected = all_files(export_shards(folder, to, tmp_path / "whole", **options))
    out, told = tmp_path / "out", []

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_shards(folder, to, out, progress=stop, **options)
    assert not (out / "export.json").exists()
    (out / ".half.png.x.tmp").write_bytes(b"of a killed process")
    first = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".png", ".tar")}
    export_shards(folder, to, out, progress=lambda done, total: told.append((done, total)), **options)
    assert all_files(out) == expected and told[-1] == (7, 7)
    # What was recorded as finished was not written again.
    assert first and all(path.stat().st_mtime_ns == stamp for path, stamp in first.items())
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    export_shards(folder, to, out, **options)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == stamps
    assert {"export.json", "LICENCE.md"} <= expected.keys()


@pytest.mark.parametrize("to", FORMATS)
def test_a_second_process_is_told_and_disturbs_nothing(to: str, shards: tuple[Path, list[Row]], tmp_path: Path) -> None:
    folder, _ = shards
    expected = all_files(export_shards(folder, to, tmp_path / "whole"))
    out, second = tmp_path / "out", []

    def meanwhile(done: int, total: int) -> None:
        if not second:
            half = out / ".half.png.x.tmp"
            half.write_bytes(b"of this call")
            code = "import sys; from pathlib import Path; from data.exports.exporting import export_shards as export; "
            code += "export(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))"
            call = [sys.executable, "-c", code, str(folder), to, str(out)]
            second.append(subprocess.run(call, capture_output=True, text=True, cwd=Path(__file__).parents[3]))
            assert half.exists()
            half.unlink()

    export_shards(folder, to, out, progress=meanwhile)
    assert second[0].returncode == 1 and f"Another process is exporting into {out}" in second[0].stderr
    assert all_files(out) == expected
    assert not any(path.name.startswith(".") for path in out.rglob("*"))


def test_a_folder_that_is_being_written_is_refused_in_the_same_process_too(
    shards: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    def again(done: int, total: int) -> None:
        for to in ("images", "coco"):
            with pytest.raises(ScenepaletteError, match="Wait until it ends, or give another --out folder"):
                export_shards(shards[0], to, tmp_path / "out")

    export_shards(shards[0], "images", tmp_path / "out", progress=again)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("removed", [(), (exporting.RECORDS,), (exporting.RECORDS, exporting.UNFINISHED)])
def test_what_a_call_killed_at_its_end_left_is_cleaned_by_the_next(
    to: str, removed: tuple[str, ...], shards: tuple[Path, list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After export.json is written, records, mark and lock go, in this order."""
    folder, _ = shards
    expected = all_files(export_shards(folder, to, tmp_path / "whole"))
    out = tmp_path / "out"
    real = exporting.write_json

    def killed(path: Path, value: Any) -> None:
        real(path, value)
        if path.name == exporting.EXPORT:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            export_shards(folder, to, out)
    (out / ".export.lock").touch()
    for name in removed:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    export_shards(folder, to, out)
    assert all_files(out) == expected
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


def test_a_call_killed_before_it_marked_the_folder_is_gone_on_with(
    shards: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    folder, _ = shards
    expected = all_files(export_shards(folder, "images", tmp_path / "whole"))
    out = tmp_path / "out"
    out.mkdir()
    (out / ".export.lock").touch()
    (out / ".unfinished.json.0a1b2c3d.tmp").write_text("{")
    export_shards(folder, "images", out)
    assert all_files(out) == expected


def test_a_finished_export_is_recognised_where_nothing_can_be_written(
    shards: tuple[Path, list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export_shards(shards[0], "images", tmp_path / "out")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(exporting, "FileLock", refuse)
    assert export_shards(shards[0], "images", out) == out
    with pytest.raises(ScenepaletteError, match="cannot be written"):
        export_shards(shards[0], "images", tmp_path / "other")


def test_the_licence_goes_with_every_export(make_shards: Callable[..., list[Row]], tmp_path: Path) -> None:
    make_shards(tmp_path / "shards", (2,), "pseudo")
    for to in FORMATS:
        out = export_shards(tmp_path / "shards", to, tmp_path / to)
        licence, content = (out / "LICENCE.md").read_text(), json.loads((out / "export.json").read_text())
        assert "CC BY-NC 4.0" in licence and "The labels are predicted" in licence
        assert (content["source"]["licence"], content["models"]["image_model"]) == ("CC BY-NC 4.0", "2" * 64)


def test_what_cannot_be_exported_is_told(shards: tuple[Path, list[Row]], tmp_path: Path) -> None:
    folder, _ = shards
    with pytest.raises(ConfigError) as caught:
        export_shards(folder, "voc", tmp_path / "out", rows_per_tar=0)
    assert len(caught.value.problems) == 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="no export that was begun"):
        export_shards(folder, "images", tmp_path / "mine")
    with pytest.raises(ConfigError, match="no export that was begun"):
        export_shards(folder, "images", folder)
    out = export_shards(folder, "images", tmp_path / "out")
    with pytest.raises(ConfigError, match="other shards or in another form"):
        export_shards(folder, "coco", out)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["letter.txt"]
    with pytest.raises(ConfigError, match="no export that was begun"):
        export_shards(folder, "images", tmp_path / "mine/letter.txt")


def test_an_altered_shard_is_not_exported_and_finished_parts_stay(
    shards: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    folder, rows = shards
    path = folder / "train-00001-of-00002.parquet"
    content = bytearray(path.read_bytes())
    content[content.rindex(b"parquet-cpp")] ^= 1
    good = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(DataError, match="was altered since it was written"):
        export_shards(folder, "images", tmp_path / "out")
    assert len(list((tmp_path / "out/train/images").iterdir())) == COUNTS[0]
    path.write_bytes(good)
    export_shards(folder, "images", tmp_path / "out")
    assert len(list((tmp_path / "out/train/images").iterdir())) == len(rows)


def test_a_full_disk_is_told_and_the_same_call_goes_on(
    shards: tuple[Path, list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = shards
    expected = all_files(export_shards(folder, "images", tmp_path / "whole"))
    real, count = images_module.write_atomically, [0]

    def full(path: Path, content: bytes | str, *, durable: bool = True) -> None:
        count[0] += 1
        if count[0] == 9:
            raise DataError("the disk is full")
        real(path, content, durable=durable)

    monkeypatch.setattr(images_module, "write_atomically", full)
    with pytest.raises(DataError, match="the disk is full"):
        export_shards(folder, "images", tmp_path / "out")
    export_shards(folder, "images", tmp_path / "out")
    assert all_files(tmp_path / "out") == expected


@pytest.mark.parametrize(
    ("row_id", "key"),
    [("full-00000001", "full-00000001"), ("a/b.c", "a%2Fb%2Ec"), (".x", "%2Ex"), ("a%2Fb", "a%252Fb")],
)
def test_keys_are_one_file_name_without_a_dot(
    row_id: str, key: str, make_shards: Callable[..., list[Row]], tmp_path: Path
) -> None:
    row = make_shards(tmp_path, (1,))[0]
    named = Row(**{**vars(row), "id": row_id})
    assert ExportedRow(0, named, b"\xff\xd8", b"").image_name == f"{key}.jpg"


def test_an_id_that_comes_twice_is_refused(shards: tuple[Path, list[Row]], tmp_path: Path) -> None:
    """Files are named after ids, so that one of the two rows would be lost."""
    folder, _ = shards
    names = [f"train-{number:05d}-of-00002.parquet" for number in range(2)]
    shutil.copy(folder / names[0], folder / names[1])
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][1] = {**manifest["shards"][0], "name": names[1]}
    manifest["rows"], manifest["bytes"] = 6, 2 * manifest["shards"][0]["bytes"]
    del manifest["sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="come twice"):
        export_shards(folder, "images", tmp_path / "out")
