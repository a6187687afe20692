from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from own_data import machine, write_own_data
from typer.testing import CliRunner

from labelled_folders import camvid_root, write_pixels  # noqa: F401 (a fixture)
from scenepalette.common.errors import ConfigError, DataError
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.config import load_config
from scenepalette.pipeline.device.beside import trainings_at_once
from scenepalette.pipeline.doctor.examine import examine
from scenepalette.pipeline.doctor.machine.timing import estimates_of, total_of
from scenepalette.pipeline.request import Request
from scenepalette.pipeline.starting import propose as module
from scenepalette.pipeline.starting.budget import GPU
from scenepalette.pipeline.starting.propose import Proposal, propose


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_data(tmp_path_factory.mktemp("own"))


def written(proposal: Proposal, folder: Path) -> Path:
    path = folder / "mine.yaml"
    path.write_text(proposal.text, encoding="utf-8")
    return path


@pytest.mark.parametrize("minutes", [30, 5000])
@pytest.mark.parametrize("size", [(96, 128), (64, 64), (70, 150), (130, 66), (20, 30)])
def test_the_recipe_loads_and_the_doctor_accepts_it(tmp_path: Path, size: tuple[int, int], minutes: float) -> None:
    root = write_own_data(tmp_path / "own", train=12, val=6, size=size)
    path = written(propose(root, minutes, timed=machine()), tmp_path)
    config = load_config(str(path))
    assert (config.data.name, config.data.root, config.recipe) == ("folder", root, "camvid-cpu")
    estimates = estimates_of(config, machine()(config, [0], tmp_path), 0.1, 18)  # type: ignore[arg-type]
    total = total_of(estimates, trainings_at_once(config))
    assert total <= 60 * minutes
    if minutes == 30 and size[0] < 100:
        diagnosis = examine(Request(str(path), out=tmp_path / "run"), measured=False)
        assert not diagnosis.of("problem")


def test_every_choice_is_commented(own: Path, tmp_path: Path) -> None:
    proposal = propose(own, 60, timed=machine())
    lines = proposal.text.splitlines()
    assert lines[0].startswith("# A first recipe for ")
    for key in (
        "name:",
        "size:",
        "layouts:",
        "kinds:",
        "arms:",
        "seeds:",
        "architecture:",
        "encoder:",
        "class_weights:",
    ):
        at = next(index for index, line in enumerate(lines) if line.strip().startswith(key))
        assert lines[at - 1].lstrip().startswith("#") or lines[at - 2].lstrip().startswith("#"), key
    assert "- lamp: in 5 of 40 images" in proposal.text and "lamp: IoU" in proposal.text
    assert lines[-2:] == ["# scenepalette doctor mine.yaml", "# scenepalette run mine.yaml --out runs/mine"]
    values = yaml.safe_load(proposal.text)
    assert values["segmenters"]["architecture"] == "fpn"
    assert not {"fade_steps", "stable_steps", "batch_sizes"} & values["layouts"]["full"].keys()
    assert len(proposal.notes) >= 2 and proposal.notes[0] == "40 train, 10 val images of data.name=folder, 4 classes"


def test_a_class_without_a_training_pixel_keeps_weights_out(tmp_path: Path) -> None:
    root = write_own_data(tmp_path / "own", train=12, val=6)
    (root / "classes.csv").write_text((root / "classes.csv").read_text() + "tram,1,2,3\n")
    path = written(propose(root, 30, timed=machine()), tmp_path)
    assert load_config(str(path)).segmenters.class_weights == "none"
    assert "none in 12 training images of tram" in " ".join(path.read_text().replace("#", "").split())
    assert not examine(Request(str(path), out=tmp_path / "run"), measured=False).of("problem")


def test_long_recordings_give_a_test_split(tmp_path: Path) -> None:
    root = write_own_data(tmp_path / "own", train=240, val=4, size=(32, 32))
    proposal = propose(root, 60, timed=machine())
    config = load_config(str(written(proposal, tmp_path)))
    assert config.data.holdout == 0.2 and "48 test" in proposal.notes[0]
    assert "holdout" not in propose(root, 60, changes=["data.holdout=0"], timed=machine()).text.replace(
        "holdout: 0", ""
    )


def test_published_layouts_are_recognised_and_a_name_overrules(
    camvid_root: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    for path in (*camvid_root.rglob("*.png"),):
        pixels = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64) % 11
        write_pixels(path, pixels if "annot" in path.parent.name else np.stack([pixels * 20] * 3, -1))
    proposal = propose(camvid_root, 60, timed=machine())
    assert load_config(str(written(proposal, tmp_path))).data.name == "camvid"
    assert "Told from the folders" in proposal.text
    assert "Told from" not in propose(camvid_root, 60, name="camvid", timed=machine()).text
    with pytest.raises(DataError, match="class file"):
        propose(camvid_root, 60, name="folder", timed=machine())


def test_how_a_folder_is_read_is_written_down(own: Path, tmp_path: Path) -> None:
    root = tmp_path / "spread"
    shutil.copytree(own, root)
    for path in root.rglob("labels/*.png"):
        path.rename(path.with_name(f"{path.stem}_seg.png"))
    proposal = propose(root, 60, changes=["data.label_suffix=_seg", "data.size=[64, 64]"], timed=machine())
    config = load_config(str(written(proposal, tmp_path)))
    assert (config.data.label_suffix, config.data.size) == ("_seg", (64, 64))
    assert "The largest that the time allows" not in proposal.text


def test_notes_of_the_reader_are_comments(own: Path, tmp_path: Path) -> None:
    root = tmp_path / "own"
    shutil.copytree(own, root)
    (root / "train" / "images").rename(root / "train" / "rgb")
    proposal = propose(root, 60, timed=machine())
    assert any("rgb" in note for note in proposal.notes) and "# Read so: train: " in proposal.text


def test_a_larger_size_of_segmenters_and_tiles_are_proposed_where_images_have_them(tmp_path: Path) -> None:
    root = write_own_data(tmp_path / "own", train=4, val=4, size=(256, 384))
    text = propose(root, 60, changes=["data.size=[64, 96]"], timed=machine()).text
    assert "about 4.0 times as long:\n  # size: [128, 192]\n" in text
    assert "  # fit: tile\n  # tile_height: 128\n" in text
    # Without the marks of comments, they are settings that can be used.
    lines = ["size: [128, 192]", "fit: tile", "tile_height: 128"]
    for line in lines:
        text = text.replace(f"  # {line}\n", f"  {line}\n")
    path = tmp_path / "tiles.yaml"
    path.write_text(text, encoding="utf-8")
    config = load_config(str(path))
    assert (config.segmenters.size, config.data.fit, config.data.tile_height) == ((128, 192), "tile", 128)


def test_neither_is_proposed_where_images_are_not_larger(own: Path) -> None:
    text = propose(own, 60, changes=["data.size=[96, 128]"], timed=machine()).text
    assert "# size: [" not in text and "tile_height" not in text


def test_a_gpu_begins_with_the_papers_networks(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "base_of_machine", lambda: GPU)
    proposal = propose(own, 240, timed=machine(20))
    assert "are guesses: nobody has measured them" in " ".join(proposal.text.replace("#", "").split())
    config = load_config(str(written(proposal, tmp_path)))
    assert (config.recipe, config.segmenters.encoder) == ("camvid", "resnet50")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no folder": ({"root": Path("/nowhere/at/all")}, "DIR: there is no folder '/nowhere/at/all'"),
    "unknown name": ({"name": "kitti"}, "--data: got 'kitti'; data sets that are read from a folder are camvid"),
    "drawn": ({"name": "streets"}, "--data: got 'streets'; data sets that are read"),
    "no time": ({"minutes": 0}, "--minutes: got 0; use more than 0"),
    "negative": ({"minutes": -5}, "--minutes: got -5"),
    "no number": ({"minutes": float("nan")}, "--minutes: got nan"),
    "endless": ({"minutes": float("inf")}, "--minutes: got inf; .*60 days"),
    "other section": ({"changes": ["images.steps=3"]}, "images.steps=3 does not say how data is read"),
    "twice": ({"changes": ["data.root=/x"]}, "--set data.root: DIR and --data NAME say it"),
    "unknown key": ({"changes": ["data.sizes=[1]"]}, "data.sizes: there is no such key"),
    "bad size": ({"changes": ["data.size=[32, 1024]"]}, "data.size: The size 32x1024"),
    "not UTF-8": ({"root": Path("/tmp/\udcff")}, "cannot be used"),
}


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"set\.zip'; unpack it first"):
        propose(tmp_path / "set.zip", 60, timed=machine())


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told(case: str, own: Path) -> None:
    given, message = BAD[case]
    arguments = {"root": own, "minutes": 60, "timed": machine(), **given}
    with pytest.raises(ConfigError, match=message):
        propose(arguments.pop("root"), arguments.pop("minutes"), **arguments)


def test_all_that_is_wrong_with_arguments_is_told_at_once(own: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        propose(own / "absent", -1, name="kitti", changes=["seed=3"])
    assert len(caught.value.problems) == 4


def test_a_folder_without_data_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="exactly one class file"):
        propose(tmp_path, 60, timed=machine())


def test_a_single_image_of_a_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)1 training image .* 1 validation image") as caught:
        propose(write_own_data(tmp_path, train=1, val=1), 60, timed=machine())
    assert len(caught.value.problems) == 2


def test_standard_output_is_the_recipe_alone(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def fake(root: Path, minutes: float, **options: Any) -> Proposal:
        asked.update(root=root, minutes=minutes, **options)
        return Proposal("recipe: demo\n", ("found",))

    monkeypatch.setattr(module, "propose", fake)
    result = CliRunner().invoke(
        app, ["init", str(own), "--minutes", "7.5", "--data", "folder", "--set", "data.size=[8, 8]"]
    )
    assert (result.exit_code, result.stdout) == (0, "recipe: demo\n") and "Note: found" in result.stderr
    assert (asked["root"], asked["minutes"], asked["name"], asked["changes"]) == (
        own,
        7.5,
        "folder",
        ["data.size=[8, 8]"],
    )
    refused = CliRunner().invoke(app, ["init", ""])
    assert refused.exit_code == 2 and "it is empty" in refused.stderr


@pytest.mark.slow
def test_a_real_machine_is_measured(tmp_path: Path) -> None:
    root = write_own_data(tmp_path / "own", train=16, val=4)
    command = [sys.executable, "-m", "scenepalette.pipeline.cli.main", "init", str(root), "--minutes", "3000"]
    result = subprocess.run([*command, "--set", "data.size=[64, 64]"], capture_output=True, text=True, check=True)
    path = tmp_path / "mine.yaml"
    path.write_text(result.stdout, encoding="utf-8")
    assert load_config(str(path)).data.size == (64, 64) and "measuring steps at 64 x 64" in result.stderr
