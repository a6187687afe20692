"""The commands `scenepalette edit ...` on a finished run, and what they refuse."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from scenepalette.common.errors import ConfigError
from scenepalette.data.labels import one_hot
from scenepalette.data.shards.schema import palette_of_label
from scenepalette.generators.editing import Painter
from scenepalette.generators.images.systems.sean import SeanGenerator
from scenepalette.pipeline.cli.edit import read_box, read_changes
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.config import load_config
from scenepalette.pipeline.finished.scene_editor import (
    Editor,
    check_present,
    factors_by_id,
    region_of,
    sample_index,
    write_edit,
)
from scenepalette.pipeline.finished.scene_strip import GAP, MARGIN
from scenepalette.pipeline.run import Run

EDITS = ("palettes", "noise", "resample", "partial", "autoencode")
HEIGHT, WIDTH = 2 * 32, 48  # layouts above images of 32x48 pixels


def invoke(*arguments: str, expected: int = 0) -> tuple[str, str]:
    """Return what a command printed on standard output and standard error."""
    result = CliRunner().invoke(app, ["edit", *arguments])
    assert result.exit_code == expected, result.output
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def editor(finished_run: Path) -> Editor:
    return Editor(finished_run)


@pytest.fixture
def changed_run(finished_run: Path, tmp_path: Path):
    """Return a function that copies what edits need of the run, with changes to its configuration."""

    def change(section: str, **values: object) -> Path:
        folder = tmp_path / "changed"
        folder.mkdir()
        for part in ("data", "palettes", "layouts", "images"):
            shutil.copytree(finished_run / part, folder / part)
        shutil.copy(finished_run / "scenepalette-run.json", folder)
        config = yaml.safe_load((finished_run / "config.yaml").read_text())
        target = config
        for key in section.split("."):
            target = target[key]
        target.update(values)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return folder

    return change


@pytest.mark.parametrize(
    ("arguments", "images", "factor"),  # the least factor by which so many images of 48 pixels are 900 pixels wide
    [
        (("palettes", "--from", "2", "--to", "3", "--frames", "3"), 3, 7),
        (("noise", "--sample", "1", "--frames", "4", "--class", "road"), 4, 5),
        (("resample", "--sample", "1", "--draws", "2", "--box", "0,0,16,24"), 2, 10),
        # The real pair, its layout painted, two edits.
        (("partial", "--sample", "1", "--change", "road=0.5", "--variants", "2"), 4, 5),
        (("autoencode", "--sample", "1", "--draws", "3"), 4, 5),
    ],
    ids=EDITS,
)
def test_every_edit_writes_a_strip_and_animations(
    arguments: tuple[str, ...], images: int, factor: int, finished_run: Path, tmp_path: Path
) -> None:
    name, *options = arguments
    for ending in (".png", ".webp"):
        path = tmp_path / f"new/{name}{ending}"
        output, _ = invoke(name, str(finished_run), *options, "--picture", str(path))
        assert str(path) in output
        with Image.open(path) as image:
            if ending == ".png":
                assert image.width == images * (factor * WIDTH + GAP) - GAP + 2 * MARGIN
                assert factor * HEIGHT < image.height < factor * HEIGHT + 100
            else:
                assert image.size == (7 * WIDTH, 7 * HEIGHT)  # 320 pixels wide or more
                assert 1 < image.n_frames <= 2 * images - 2


def test_animations_have_every_frame_there_and_back(editor: Editor, finished_run: Path, tmp_path: Path) -> None:
    frames = [scene.label.tobytes() + scene.image.tobytes() for scene in editor.palettes("0", "1", 4)]
    there_and_back = [*frames, *frames[-2:0:-1]]
    # Frames that show the same thing are one frame that lasts longer.
    expected = 1 + sum(before != after for before, after in pairwise(there_and_back))
    assert expected > 2
    for ending in (".gif", ".webp"):
        path = tmp_path / f"palettes{ending}"
        invoke("palettes", str(finished_run), "--frames", "4", "--picture", str(path))
        with Image.open(path) as picture:
            assert picture.n_frames == expected
            durations = []
            for index in range(expected):
                picture.seek(index)
                picture.load()
                durations.append(picture.info["duration"])
            assert sum(durations) == 250 * len(there_and_back)


def test_palettes_at_both_ends_are_those_of_the_samples(editor: Editor) -> None:
    scenes = editor.palettes("2", editor.train.ids[5], frames=3)
    count = editor.table.num_classes
    for scene, sample in ((scenes[0], 2), (scenes[-1], 5)):
        expected = palette_of_label(np.asarray(editor.filled_labels[sample]), count)
        np.testing.assert_allclose(scene.palette_target, expected, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["noise", "resample"])
def test_noise_in_a_part_moves_mostly_this_part(what: str, editor: Editor) -> None:
    box = (4, 6, 12, 16)
    draw = editor.noise if what == "noise" else editor.resample
    first, *_, last = draw("1", 3, 0, None, box)
    np.testing.assert_array_equal(first.label, last.label)
    difference = np.abs(first.image.astype(float) - last.image).mean(axis=2)
    inside = region_of(first.label, None, box, editor.table)
    assert inside is not None and inside.sum() == 12 * 16
    assert difference[inside].mean() > 2 * difference[~inside].mean()


def test_partial_edits_begin_with_the_real_pair_and_keep_the_rest(editor: Editor) -> None:
    box = (0, 0, 32, 16)
    real, whole, *variants = editor.partial("1", {}, 2, 0, box)
    np.testing.assert_array_equal(real.image, editor.train.images[1])
    np.testing.assert_array_equal(whole.label, real.label)
    assert len(variants) == 2
    for scene in variants:
        # Without changes the shares that are asked for are those of the layout.
        np.testing.assert_allclose(scene.palette_target, whole.palette_target, atol=1e-6)  # type: ignore[arg-type]
        # Barely trained, the network already keeps most of what lies outside the box.
        assert (scene.label[:, -8:] == real.label[:, -8:]).mean() > 0.5


def test_autoencoding_begins_with_the_real_pair_and_keeps_the_predicted_layout(editor: Editor) -> None:
    real, *scenes = editor.autoencode("1", 3, 0)
    np.testing.assert_array_equal(real.image, editor.validation.images[1])
    np.testing.assert_array_equal(real.label, editor.validation.labels[1])
    assert len(scenes) == 3
    assert all(np.array_equal(scene.label, scenes[0].label) for scene in scenes)
    assert len({scene.image.tobytes() for scene in scenes}) == 3


def test_the_same_command_gives_the_same_picture(finished_run: Path, tmp_path: Path) -> None:
    pictures = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        invoke("resample", str(finished_run), "--seed", seed, "--picture", str(tmp_path / f"{name}.png"))
        pictures.append((tmp_path / f"{name}.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("noise", "--class", "unicorn"), "There is no class 'unicorn'"),
        (("noise", "--class", "road", "--box", "0,0,4,4"), "give one of them"),
        (("resample", "--box", "0,40,8,16"), "does not lie inside the image, which is 32 high and 48 wide"),
        (("resample", "--box", "0,1,2"), "write top, left, height and width"),
        (("resample", "--sample", "99"), "There is no sample '99'"),
        (("partial", "--change", "unicorn=2", "--change", "dragon=1"), "There is no class 'unicorn', 'dragon'"),
        (("partial", "--change", "road"), "write it as class=factor"),
        (("partial", "--change", "road=2", "--change", "road=3"), "road is changed twice"),
        (("partial", "--change", "road=-1"), "is no number from 0"),
        (("partial", "--change", "road=inf"), "is no number from 0"),
        (("partial", "--change", "road=nan"), "is no number from 0"),
        (("partial", "--change", "road=1000"), "Use smaller factors"),
        (("partial", "--box", "0,0,40,8"), "does not lie inside"),
        (("palettes", "--to", "nobody"), "There is no sample 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_told(arguments: tuple[str, ...], text: str, finished_run: Path, tmp_path: Path) -> None:
    name, *options = arguments
    _, errors = invoke(name, str(finished_run), *options, "--picture", str(tmp_path / "x.png"), expected=1)
    assert text in " ".join(errors.split()) and "Traceback" not in errors
    assert not (tmp_path / "x.png").exists()


def test_a_picture_of_another_kind_is_refused_before_any_work(tmp_path: Path) -> None:
    _, errors = invoke("noise", str(tmp_path / "nowhere"), "--picture", "x.mp4", expected=1)
    assert "a strip is written as .png" in " ".join(errors.split())


def test_a_folder_without_run_is_told(tmp_path: Path) -> None:
    _, errors = invoke("noise", str(tmp_path), "--picture", str(tmp_path / "x.png"), expected=1)
    assert "holds no run" in " ".join(errors.split())


def test_models_that_are_not_trained_are_named(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run / "data", tmp_path / "run/data")
    for name in ("config.yaml", "scenepalette-run.json"):
        shutil.copy(finished_run / name, tmp_path / "run")
    for name, missing in (("palettes", "layouts/semantic-palette"), ("noise", "images/oasis")):
        _, errors = invoke(name, str(tmp_path / "run"), "--picture", str(tmp_path / "x.png"), expected=1)
        assert f"{missing} is not finished" in "".join(errors.split("\n")).replace("  ", " ")


def test_systems_that_cannot_are_told_with_those_that_can(changed_run, tmp_path: Path) -> None:
    run_dir = changed_run("layouts.full", system="sb-gan")
    _, errors = invoke("palettes", str(run_dir), "--picture", str(tmp_path / "x.png"), expected=1)
    text = " ".join(errors.split())
    assert "Palettes cannot be asked of sb-gan" in text and "semantic-palette" in text


def test_a_discriminator_that_does_not_label_is_told(changed_run, tmp_path: Path) -> None:
    run_dir = changed_run("images", system="gaugan")
    _, errors = invoke("autoencode", str(run_dir), "--picture", str(tmp_path / "x.png"), expected=1)
    text = " ".join(errors.split())
    assert "The discriminator of gaugan does not label pixels" in text and "oasis" in text


def test_a_generator_that_adds_cannot_replace_a_part(changed_run, tmp_path: Path) -> None:
    run_dir = changed_run("layouts.partial", edits="add")
    _, errors = invoke("partial", str(run_dir), "--picture", str(tmp_path / "x.png"), expected=1)
    assert "layouts.partial.edits=replace" in " ".join(errors.split())


@pytest.mark.parametrize("name", EDITS)
def test_help_has_an_example(name: str) -> None:
    output, _ = invoke(name, "--help")
    assert f"scenepalette edit {name} runs/demo" in " ".join(output.split())


def test_boxes_and_changes_are_read() -> None:
    assert read_box(None) is None and read_box(" 0, 24,64,48") == (0, 24, 64, 48)
    assert read_changes(["road=0.5", " sky = 2"]) == {"road": 0.5, "sky": 2.0}
    with pytest.raises(ConfigError) as caught:
        read_changes(["road", "=2", "sky=much", "car=1"])
    assert len(caught.value.problems) == 3


def test_samples_regions_and_factors_are_found(editor: Editor) -> None:
    ids, table, label = editor.train.ids, editor.table, editor.label("3")
    assert sample_index(ids[4], ids) == 4 and sample_index("4", ids) == 4
    present = table.names[int(label[0, 0])]
    np.testing.assert_array_equal(region_of(label, present, None, table), label == label[0, 0])
    assert region_of(label, None, None, table) is None
    absent = next(name for k, name in enumerate(table.names) if not (label == k).any())
    with pytest.raises(ConfigError, match=f"The sample has no {absent}; its classes are .*{present}"):
        region_of(label, absent, None, table)
    assert factors_by_id({table.names[2]: 2.0, table.names[0]: 0.0}, table) == {2: 2.0, 0: 0.0}


def test_options_by_name_are_checked_all_at_once(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write_edit("resample", finished_run, tmp_path / "x.png", {"draws": 1, "smaple": "0", "seed": -1})
    assert sorted(problem.split(":")[0] for problem in caught.value.problems) == ["draws", "seed", "smaple"]
    with pytest.raises(ConfigError, match="edits are palettes, noise"):
        write_edit("write", finished_run, tmp_path / "x.png", {})  # type: ignore[arg-type]
    write_edit("resample", finished_run, tmp_path / "x.png", {"draws": 2, "sample": 3, "box": [0, 0, 8, 8]})
    assert (tmp_path / "x.png").is_file()


def test_edits_with_sean_keep_the_styles_of_the_real_image(
    finished_run: Path, changed_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"width": 2, "hidden_channels": 4, "discriminator_width": 4, "style_channels": 4, "encoder_width": 2}
    folder = changed_run("images", system="sean", systems={"sean": small | {"bank_images": 4}}, steps=1)
    shutil.copytree(finished_run / "segmenters", folder / "segmenters")
    Run(load_config(str(folder / "config.yaml")), folder).make(["images/sean"])
    painted = []

    def watched(self: Painter, label: torch.Tensor, noise: torch.Tensor) -> np.ndarray:
        painted.append(noise)
        return paint(self, label, noise)

    paint = Painter.paint
    monkeypatch.setattr(Painter, "paint", watched)
    editor = Editor(folder)
    editor.partial("1", variants=2)
    generator, label = editor.painter().generator, torch.from_numpy(editor.label("1").astype(np.int64))[None]
    assert isinstance(generator, SeanGenerator)
    with torch.inference_mode():
        codes = generator.encode(editor.train.batch([1])[0], one_hot(label, editor.table.num_classes))
    present = torch.unique(label)
    assert codes[0, present].abs().amax(dim=1).all()
    for noise in painted[0]:
        torch.testing.assert_close(noise[present], codes[0, present])


def test_a_share_of_a_class_that_the_part_has_not_is_not_multiplied_in_silence(editor: Editor) -> None:
    label, names = np.zeros((32, 48), dtype=np.uint8), editor.table.names
    label[:, :8] = 1
    with pytest.raises(ConfigError, match=f"no {names[1]} whose share.* are {names[0]}[.] Choose another"):
        check_present({0: 0.5, 1: 2.0}, label, (0, 8, 32, 8), editor.table)
    check_present({0: 0.5, 1: 0.0}, label, (0, 8, 32, 8), editor.table)
    check_present({1: 2.0}, label, (0, 0, 32, 9), editor.table)
