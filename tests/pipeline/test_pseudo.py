"""Pairs from images without labels: configuration, the unit that holds them, and shards of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.storage.files import read_json, sha256_of_file
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.data.unlabelled import read_unlabelled
from scenepalette.generators.images.loading import load_image_discriminator
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.pipeline.arms import ARMS, DEFAULT_ARMS
from scenepalette.pipeline.checks.preflight import settings_problems
from scenepalette.pipeline.config import RunConfig, load_config, make_config, with_overrides
from scenepalette.pipeline.run import Run, units_of
from scenepalette.pipeline.stages.inputs.data import read_data
from scenepalette.pipeline.stages.reporting.report import _samples

MIXED = "segmenters.arms=[real, real+pseudo]"
PSEUDO = "generate.kinds=[pseudo]"


@pytest.fixture
def drives(finished_run: Path, tmp_path: Path) -> Path:
    """Three images of other sizes than the run's."""
    validation = read_data(finished_run / "data").validation
    folder = tmp_path / "drives"
    folder.mkdir()
    for index, name in enumerate(("b.jpg", "a.png", "c.png")):
        Image.fromarray(np.asarray(validation.images[index])).resize((60 + index, 40)).save(folder / name)
    return folder


def with_drives(recipe: Path, drives: Path, *more: str) -> RunConfig:
    return load_config(str(recipe), [f"data.unlabelled={drives}", PSEUDO, MIXED, *more])


def test_the_arm_is_there_but_not_by_default(tiny_config: RunConfig) -> None:
    assert ARMS["real+pseudo"].synthetic == "pseudo" and ARMS["real+pseudo"].real == "labelled"
    assert "real+pseudo" not in DEFAULT_ARMS
    assert "pseudo" not in tiny_config.generate.kinds


def test_what_pseudo_pairs_lack_is_told_at_once(tiny_config: RunConfig, tmp_path: Path) -> None:
    values = tiny_config.model_dump(mode="json")
    with pytest.raises(ConfigError) as caught:
        make_config(with_overrides(values, [PSEUDO, MIXED, "images.system=gaugan"]))
    first, second = caught.value.problems
    assert first == "data.unlabelled: pseudo pairs need images; add --set data.unlabelled=FOLDER"
    fitting = [name for name, system in IMAGE_SYSTEMS.items() if system.predict_labels is not None]
    assert second.startswith("generate.kinds: ") and second.endswith(
        f"which gaugan has not; image systems that have one are {', '.join(fitting)}"
    )
    with pytest.raises(ConfigError, match=r"the arm 'real\+pseudo' needs pseudo pairs"):
        make_config(with_overrides(values, [MIXED]))
    config = make_config(with_overrides(values, [PSEUDO, MIXED, f"data.unlabelled={tmp_path / 'nowhere'}"]))
    (problem,) = settings_problems(config, units_of(config).values())
    assert problem.startswith("data.unlabelled: there is no folder")


def test_unlabelled_images_leave_all_other_units_as_they_are(
    tiny_config: RunConfig, tiny_recipe: Path, finished_run: Path, drives: Path
) -> None:
    kinds = "generate.kinds=[full, partial, semi, pseudo]"
    run = Run(load_config(str(tiny_recipe), [f"data.unlabelled={drives}", kinds]), finished_run)
    assert run.missing(run.names_of("shards")) == ["unlabelled", "shards/pseudo"]


def test_an_empty_folder_is_told_before_anything_is_trained(tiny_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    run = Run(with_drives(tiny_recipe, tmp_path / "none"), tmp_path / "run")
    missing = run.missing(run.names_of("shards"))
    assert missing[:2] == ["data", "unlabelled"]
    with pytest.raises(DataError, match="there is no image in it"):
        run.make_one("unlabelled")
    assert not (tmp_path / "run/unlabelled/manifest.json").exists()


def test_pseudo_shards_hold_what_the_discriminator_sees(
    copy_of_run: Callable[..., Path], tiny_recipe: Path, drives: Path
) -> None:
    run_dir = copy_of_run("shards", "segmenters", "report")
    run = Run(with_drives(tiny_recipe, drives), run_dir)
    assert run.missing(run.names_of("shards")) == ["unlabelled", "shards/pseudo"]
    run.make(run.names_of("shards"))
    folder = run_dir / "shards/pseudo"
    assert verify_shards(folder) == []

    images = read_unlabelled(run_dir / "unlabelled")
    assert images.ids == ["a.png", "b.jpg", "c.png"] and images.size == (32, 48)
    rows = list(iterate_rows(folder))
    sources = [str(row.source_id) for row in rows]
    assert all(sorted(sources[first : first + 3]) == images.ids for first in (0, 3, 6)) and len(rows) == 10
    train = read_data(run_dir / "data").train
    weights = run_dir / "images/oasis/critic.safetensors"
    discriminator = load_image_discriminator(weights, "oasis", train.table, train.size, run.config.images.settings())
    predict = IMAGE_SYSTEMS["oasis"].predict_labels
    assert predict is not None
    with torch.no_grad():
        expected = predict(discriminator, images.batch(range(3))).numpy()
    assert all(
        (row.label == expected[images.ids.index(source)]).mean() > 0.999
        for row, source in zip(rows, sources, strict=True)
    )
    assert {row.layout_model for row in rows} == {sha256_of_file(weights)}
    assert all(np.array_equal(row.palette_target, row.palette_achieved) for row in rows)

    manifest = read_manifest(folder)
    assert manifest["models"]["layout_model"] == sha256_of_file(weights)
    assert manifest["source"]["images"] == "3 unlabelled images of the folder drives, under their own terms"
    card = (folder / "README.md").read_text()
    assert "The labels are predicted" in card and "3 unlabelled images of the folder drives" in card
    shown = _samples(folder, 10, train, images)
    assert len(shown) == 8 and all(sample.source_label is None for sample in shown)
    np.testing.assert_array_equal(shown[4].source_image, images.images[images.ids.index(sources[4])])


@pytest.mark.slow
def test_the_arm_is_trained_and_reported(copy_of_run: Callable[..., Path], tiny_recipe: Path, drives: Path) -> None:
    run_dir = copy_of_run("shards", "segmenters", "report")
    run = Run(with_drives(tiny_recipe, drives), run_dir)
    run.make(run.names_of("report"))
    report = read_json(run_dir / "report/report.json")
    assert [arm["name"] for arm in report["arms"]] == ["real", "real+pseudo"]
    assert report["gan_test"].keys() == {"pseudo"}
    assert (run_dir / "report/figures/samples-pseudo.png").is_file()
