"""Pairs that keep real pixels, in a run: settings, what is told before a training, shards, cards and repairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.data.cards.dataset_card import card_text
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.manifest import read_manifest, table_of_manifest
from scenepalette.data.shards.reading import iterate_rows, read_values
from scenepalette.data.shards.schema import decode_image
from scenepalette.generators.pairs.composite import usual_feather
from scenepalette.pipeline.arms import ARMS, DEFAULT_ARMS
from scenepalette.pipeline.checks.preflight import data_problems
from scenepalette.pipeline.config import RunConfig, load_config, make_config, with_overrides
from scenepalette.pipeline.finished.regenerate import regenerate_rows
from scenepalette.pipeline.run import Run, units_of
from scenepalette.pipeline.stages.inputs.data import read_data
from scenepalette.pipeline.stages.pair_quality.quality import sources_of

INSERT = "generate.kinds=[full, partial, semi, insert]"
CLASSES = "generate.insert_classes=[car, vegetation]"


def test_the_arm_is_there_but_not_by_default(tiny_config: RunConfig) -> None:
    assert ARMS["real+insert"].synthetic == "insert" and ARMS["real+insert"].real == "labelled"
    assert "real+insert" not in DEFAULT_ARMS and "insert" not in tiny_config.generate.kinds


@pytest.mark.parametrize(
    ("assignments", "problem"),
    [
        (["generate.composite=box", "layouts.partial.edits=add"], "generate.composite: box needs an edited box"),
        ([INSERT, "generate.feather=16"], "generate.feather: 16 pixels on either side of a box leave nothing real of"),
        ([INSERT, "generate.insert_classes=[car, car]"], "generate.insert_classes: car comes twice"),
        ([INSERT, "generate.insert_objects=0"], "generate.insert_objects: "),
        (["segmenters.arms=[real, real+insert]"], "generate.kinds: the arm 'real+insert' needs insert pairs"),
    ],
)
def test_what_cannot_be_painted_is_told_at_once(tiny_config: RunConfig, assignments: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(with_overrides(tiny_config.model_dump(mode="json"), assignments))
    assert any(text.startswith(problem) for text in caught.value.problems)


def test_a_feather_matters_only_where_real_pixels_are_kept(tiny_config: RunConfig) -> None:
    values = tiny_config.model_dump(mode="json")
    assert make_config(with_overrides(values, ["generate.feather=16"])).generate.feather == 16


def test_classes_that_cannot_be_inserted_are_told_before_a_training(tiny_recipe: Path, finished_run: Path) -> None:
    data = read_data(finished_run / "data")
    for wanted, expected in (("tram", "there is no class 'tram'"), ("sky", "'sky' cannot be inserted: ")):
        named = f"generate.insert_classes=[{wanted}]"
        for way in (INSERT, "generate.hardening=objects"):
            config = load_config(str(tiny_recipe), [way, named])
            (problem,) = data_problems(config, units_of(config).values(), data)
            assert problem.startswith(f"generate.insert_classes: {expected}")
        without = load_config(str(tiny_recipe), ["generate.hardening=exact", named])
        assert data_problems(without, units_of(without).values(), data) == []


def test_inserting_leaves_all_other_units_as_they_are(tiny_recipe: Path, finished_run: Path) -> None:
    more = [INSERT, CLASSES, "generate.insert_objects=2", "generate.feather=3"]
    run = Run(load_config(str(tiny_recipe), more), finished_run)
    assert run.missing(run.names_of("shards")) == ["shards/insert"]


def test_insert_shards_keep_the_real_pixels_and_can_be_made_again(
    copy_of_run: Callable[..., Path], tiny_recipe: Path
) -> None:
    run_dir = copy_of_run("segmenters", "report")
    run = Run(load_config(str(tiny_recipe), [INSERT, CLASSES]), run_dir)
    run.make(run.names_of("shards"))
    folder = run_dir / "shards/insert"
    assert verify_shards(folder) == []
    manifest = read_manifest(folder)
    assert manifest["schema"] == 2 and manifest["models"].keys() == {"image_model"}
    settings = manifest["extra"]["settings"]
    assert (settings["image_format"], settings["insert_classes"], settings["feather"]) == (
        "png",
        ["car", "vegetation"],
        2,
    )
    assert "`inserted_classes` names their" in card_text(manifest, table_of_manifest(manifest))
    train = read_data(run_dir / "data").train
    size, rows = train.size, list(iterate_rows(folder))
    # Segments give outlines alone: the teacher that did not see the image judges the row.
    assert sources_of(folder) == [[row.source_id] for row in rows]
    for row in rows:
        assert row.edit_box is not None and set(row.inserted_classes or ()) <= {"car", "vegetation"}
        outside, margin = np.ones(size, dtype=bool), usual_feather(size)
        top, left, height, width = row.edit_box
        outside[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin] = False
        real = train.images[train.ids.index(str(row.source_id))]
        assert np.array_equal(row.image[outside], real[outside])
    stored = read_values(folder / manifest["shards"][0]["name"], 0)["image"]
    assert stored["path"].endswith(".png") and np.array_equal(decode_image(stored["bytes"], "x"), rows[0].image)
    (again,) = regenerate_rows(folder, ["1"], run_dir)
    assert again.differences == ()


def test_full_shards_with_objects_are_made_again_alike_and_say_where_shapes_come_from(
    copy_of_run: Callable[..., Path], tiny_recipe: Path
) -> None:
    run_dir = copy_of_run("shards", "segmenters", "report")
    run = Run(load_config(str(tiny_recipe), ["generate.hardening=objects", CLASSES]), run_dir)
    run.make(["shards/full"])
    folder = run_dir / "shards/full"
    assert verify_shards(folder) == []
    manifest = read_manifest(folder)
    assert manifest["schema"] == 2 and manifest["extra"]["settings"]["insert_classes"] == ["car", "vegetation"]
    rows = list(iterate_rows(folder))
    assert any(row.source_ids for row in rows) and all(row.inserted_classes is not None for row in rows)
    assert "added in the shapes of real objects" in card_text(manifest, table_of_manifest(manifest))
    (again,) = regenerate_rows(folder, ["1"], run_dir)
    assert again.differences == ()


def test_boxed_partial_pairs_are_other_pairs(tiny_recipe: Path, finished_run: Path) -> None:
    run = Run(load_config(str(tiny_recipe), ["generate.composite=box"]), finished_run)
    states = {name: run.state(name).status for name in ("shards/full", "shards/semi", "shards/partial")}
    assert states == {"shards/full": "finished", "shards/semi": "finished", "shards/partial": "other"}
