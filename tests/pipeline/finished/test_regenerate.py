"""Rows and shards made again from a finished run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.schema import ROW_GROUP, SCHEMA, row_id
from scenepalette.pipeline.config import load_config
from scenepalette.pipeline.finished.regenerate import regenerate_rows, regenerate_shards
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages import generate
from scenepalette.pipeline.stages.inputs.data import read_data

ALL_ROWS = [str(index) for index in range(10)]


def id_of(folder: Path, index: int) -> str:
    manifest = read_manifest(folder)
    return row_id(manifest["kind"], manifest["extra"]["fingerprint"][:8], index)


@pytest.fixture
def change_stored(copy_of_run: Callable[..., Path]) -> Path:
    """The folder of full pairs of a copied run, whose row 5 (of the second shard) was changed."""
    folder = copy_of_run() / "shards/full"
    path = folder / "train-00001-of-00003.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[1]["image"]["bytes"], rows[1]["seed"] = rows[0]["image"]["bytes"], 8
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, row_group_size=ROW_GROUP)
    return folder


@pytest.mark.parametrize("kind", ["full", "partial", "semi"])
def test_every_row_comes_out_equal_byte_for_byte(kind: str, finished_run: Path) -> None:
    made = list(regenerate_rows(finished_run / "shards" / kind, ALL_ROWS[::-1]))
    assert [row.index for row in made] == list(range(10))[::-1]
    assert [row.differences for row in made] == [()] * 10
    assert made[0].shard == "train-00002-of-00003.parquet"
    assert made[0].id == id_of(finished_run / "shards" / kind, 9)


def test_pseudo_rows_come_out_equal_too(
    finished_run: Path, copy_of_run: Callable[..., Path], tiny_recipe: Path, tmp_path: Path
) -> None:
    validation = read_data(finished_run / "data").validation
    drives = tmp_path / "drives"
    drives.mkdir()
    for index in range(3):
        Image.fromarray(np.asarray(validation.images[index])).save(drives / f"{index}.png")
    changes = [f"data.unlabelled={drives}", "generate.kinds=[pseudo]", "segmenters.arms=[real]"]
    run = Run(load_config(str(tiny_recipe), changes), copy_of_run("shards", "segmenters", "report"))
    run.make(run.names_of("shards"))
    made = list(regenerate_rows(run.run_dir / "shards/pseudo", ALL_ROWS))
    assert [row.differences for row in made] == [()] * 10


def test_a_row_is_made_within_the_batch_that_it_was_first_made_in(
    copy_of_run: Callable[..., Path], tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rows in the shard that was added, two in a batch: the third was made alone, as the others never are."""
    asked, run_dir = [], copy_of_run()
    run = Run(load_config(str(tiny_recipe), ["generate.pairs=13"]), run_dir)
    run.make(["shards/full"])
    assert [row.differences for row in regenerate_rows(run_dir / "shards/full", ["12", "10", "9"])] == [()] * 3
    maker = run.pair_maker("shards/full")

    class Watched:
        def rows(self, first: int, count: int, batch_size: int):
            asked.append((first, count))
            return maker.rows(first, count, batch_size)

    monkeypatch.setattr(Run, "pair_maker", lambda self, name: Watched())
    list(regenerate_rows(run_dir / "shards/full", ["1", "0", "12", "11", "9"]))
    assert asked == [(0, 2), (12, 1), (10, 2), (8, 2)]


def test_differences_are_told_and_pictures_written(change_stored: Path, tmp_path: Path) -> None:
    ids = [id_of(change_stored, index) for index in (4, 5)]
    (same, changed) = regenerate_rows(change_stored, ids, out=tmp_path / "out")
    assert same.differences == ()
    image, seed = changed.differences
    assert image.startswith("image: ") and "pixels differ, by at most" in image
    assert seed == "seed: 8 stored, 0 now"
    stored = pq.read_table(change_stored / same.shard).to_pylist()[0]
    assert [path.name for path in same.files] == [f"{ids[0]}.jpg", f"{ids[0]}.label.png"]
    assert [path.read_bytes() for path in same.files] == [stored["image"]["bytes"], stored["label"]["bytes"]]


def test_rows_of_a_damaged_shard_can_be_had(copy_of_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = copy_of_run() / "shards/full"
    (folder / "train-00000-of-00003.parquet").write_bytes(b"PAR1")
    (made,) = regenerate_rows(folder, ["0"], out=tmp_path / "out")
    assert "the stored row cannot be read" in made.differences[0]
    assert Image.open(made.files[0]).size == (48, 32)


def test_a_damaged_and_a_missing_shard_are_made_again_as_they_were(copy_of_run: Callable[..., Path]) -> None:
    folder = copy_of_run() / "shards/partial"
    names = [shard["name"] for shard in read_manifest(folder)["shards"]]
    before = {path.name: sha256_of_file(path) for path in folder.glob("*.parquet")}
    content = bytearray((folder / names[0]).read_bytes())
    content[2000] ^= 1
    (folder / names[0]).write_bytes(content)
    (folder / names[2]).unlink()
    assert regenerate_shards(folder, names) == [names[0], names[2]]
    assert {path.name: sha256_of_file(path) for path in folder.glob("*.parquet")} == before
    assert regenerate_shards(folder, names) == []


def test_a_shard_that_comes_out_different_leaves_the_file_alone(
    copy_of_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of_run() / "shards/full"
    path = folder / "train-00000-of-00003.parquet"
    path.write_bytes(b"damaged")
    real = Run.pair_maker
    monkeypatch.setattr(Run, "pair_maker", lambda self, name: replace(real(self, name), seed=9))
    with pytest.raises(DataError, match="it was left as it was") as caught:
        regenerate_shards(folder, [path.name])
    assert "Another processor" in str(caught.value)
    assert path.read_bytes() == b"damaged" and not list(folder.glob(".*-tmp"))


def test_a_copy_elsewhere_needs_the_run_that_made_it(finished_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished_run / "shards/semi", tmp_path / "semi"))
    with pytest.raises(DataError, match="--run RUN_DIR"):
        list(regenerate_rows(folder, ["0"]))
    assert [row.differences for row in regenerate_rows(folder, ["0", "5"], finished_run)] == [(), ()]
    with pytest.raises(ScenepaletteError, match="holds no run"):
        list(regenerate_rows(folder, ["0"], tmp_path))
    with pytest.raises(ScenepaletteError, match="There is no folder"):
        list(regenerate_rows(folder, ["0"], tmp_path / "nothing"))


def test_other_weights_settings_and_code_are_refused_together(
    copy_of_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run()
    folder = run_dir / "shards/full"
    weights = run_dir / "images/oasis/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config["generate"]["jpeg_quality"] = 80
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(generate, "VERSION", generate.VERSION + 1)
    for ask in (
        lambda: list(regenerate_rows(folder, ["0"])),
        lambda: regenerate_shards(folder, ["train-00000-of-00003.parquet"]),
    ):
        with pytest.raises(DataError, match="not as it was when it made") as caught:
            ask()
        quality, version, image = caught.value.problems
        now, before = generate.VERSION, generate.VERSION - 1
        assert version == f"it was made by version {before} of this stage, which now has {now}"
        assert quality == "jpeg_quality: 95 there, 80 now"
        assert image.startswith("image_model: the rows were made with") and str(weights) in image


def test_models_that_were_trained_otherwise_are_refused(copy_of_run: Callable[..., Path]) -> None:
    run_dir = copy_of_run()
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config["images"]["steps"] = 4
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(DataError) as caught:
        list(regenerate_rows(run_dir / "shards/full", ["0"]))
    assert "made from images/oasis" in caught.value.problems
    assert "images/oasis: it was made with other settings: steps: 3 there, 4 now" in caught.value.problems


def test_rows_and_shards_that_there_are_not_are_told_at_once(finished_run: Path) -> None:
    folder = finished_run / "shards/full"
    first, last = (id_of(folder, index) for index in (0, 9))
    with pytest.raises(DataError, match=f"0 to 9, or {first} to {last}") as caught:
        list(regenerate_rows(folder, ["0", "10", first.replace("full", "semi"), "-1", "full-00000001", last]))
    assert len(caught.value.problems) == 4
    with pytest.raises(DataError, match=r"other\.parquet is not a shard"):
        regenerate_shards(folder, ["../other.parquet"])
