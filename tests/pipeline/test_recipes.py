from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scenepalette.common.errors import ConfigError
from scenepalette.generators.layouts.schedule import lists_of
from scenepalette.generators.nn.grids import base_grid
from scenepalette.pipeline.config import config_of_pairs, load_config, write_config
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.run import units_of


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_complete_and_says_its_command(name: str, tmp_path: Path) -> None:
    root = [] if name == "demo" else [f"data.root={tmp_path}"]
    config = load_config(name, root)
    assert config.recipe == name
    summary = RECIPES[name].summary
    assert summary.startswith(f"`scenepalette run {name} ") and ("data.root=" in summary) == bool(root)


@pytest.mark.parametrize("name", RECIPES)
def test_sections_that_a_recipe_states_once_can_be_changed_apart(name: str) -> None:
    values, before = RECIPES[name](), RECIPES[name]()
    for key in before["layouts"]["full"]:
        values["layouts"]["full"][key] = "changed"
    for system in values["images"].get("systems", {}).values():
        system["width"] = "changed"
    assert values["layouts"]["partial"] == before["layouts"]["partial"]
    assert "&" not in yaml.safe_dump(before) and RECIPES[name]() == before


def test_the_demo_needs_no_weights_from_elsewhere_and_sets_its_pairs_against_a_control() -> None:
    config = load_config("demo")
    assert config.images.perceptual_features == "segmenter" and config.segmenters.encoder_weights is None
    assert min(config.data.size) >= 64
    assert config.controls() == ("copy-paste",) and config.treatments() == ("semi", "real+syn")
    # The generator of partial pairs is not trained for nothing.
    assert [name for name in units_of(config) if name.startswith("layouts/")] == ["layouts/semantic-palette"]


def test_cityscapes_recipe_has_the_papers_epochs(tmp_path: Path) -> None:
    full = load_config("cityscapes", [f"data.root={tmp_path}"]).layouts.full
    steps = [fade + stable for fade, stable in zip(full.fade_steps, full.stable_steps, strict=True)]
    epochs = [count * batch / 2975 for count, batch in zip(steps, full.batch_sizes, strict=True)]
    assert epochs == pytest.approx([600, 510, 420, 330, 240, 150], abs=0.2)


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="demo, camvid-cpu, camvid, cityscapes"):
        load_config("dmeo")


def test_yaml_changes_a_recipe_and_assignments_change_both(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: demo\ngenerate: {pairs: 7}\nseed: 5\n")
    config = load_config(str(path), ["seed=6"])
    assert (config.generate.pairs, config.seed, config.images.steps) == (7, 6, RECIPES["demo"]()["images"]["steps"])


def test_a_misspelt_recipe_is_not_taken_for_a_whole_configuration(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: dmeo\ndata: {size: [32, 48]}\n")
    with pytest.raises(ConfigError, match=r"says recipe: 'dmeo', which there is not.*demo, camvid-cpu"):
        load_config(str(path))
    # What a run has written is whole, and names its recipe for the reader alone.
    write_config(path, load_config("demo").model_copy(update={"recipe": "of-another-version"}))
    assert load_config(str(path)).recipe == "of-another-version"


@pytest.mark.parametrize(("text", "reason"), [("{", "cannot be read as YAML"), ("- 1\n", "got list"), ("", "NoneType")])
def test_unreadable_yaml_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        load_config(str(path))


ROOT = "data.root=/somewhere"


def lists_in(recipe: str, *assignments: str) -> tuple[tuple[int, ...], ...]:
    full = load_config(recipe, assignments).layouts.full
    assert full.steps is None
    return full.fade_steps, full.stable_steps, full.batch_sizes


@pytest.mark.parametrize("size", [(48, 64), (64, 64), (96, 128), (192, 256), (256, 512)])
def test_lists_follow_from_the_total_at_any_size(size: tuple[int, int]) -> None:
    lists = lists_in("camvid-cpu", ROOT, f"data.size={list(size)}", "layouts.full.steps=900")
    assert lists == lists_of(900, base_grid(size)[1] + 1)


@pytest.mark.parametrize("recipe", ["camvid-cpu", "camvid", "cityscapes"])
def test_a_recipes_lists_keep_their_total_at_another_number_of_levels(recipe: str) -> None:
    fades, stables, _ = lists_in(recipe, ROOT)
    assert lists_in(recipe, ROOT, "data.size=[48, 64]") == lists_of(sum(fades) + sum(stables), 5)
    # The same number of levels leaves what the recipe says.
    height = load_config(recipe, [ROOT]).data.size[0]
    assert lists_in(recipe, ROOT, f"data.size=[{height}, {height}]") == lists_in(recipe, ROOT)


def test_lists_follow_from_a_file_as_from_assignments(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: demo\ndata: {size: [96, 144]}\nlayouts: {full: {steps: 500}}\n")
    assert lists_in(str(path)) == lists_of(500, 5)
    assert lists_in(str(path), "data.size=[48, 72]") == lists_of(500, 4)
    assert lists_in(str(path), "layouts.full.steps=600") == lists_of(600, 5)
    # What was not said of the partial generator follows from the recipe's own steps.
    partial = load_config(str(path)).layouts.partial
    steps = RECIPES["demo"]()["layouts"]["partial"]["steps"]
    assert steps != 500 and (partial.fade_steps, partial.stable_steps, partial.batch_sizes) == lists_of(steps, 5)


def test_lists_by_hand_win_whatever_the_total() -> None:
    by_hand = ["layouts.full.fade_steps=[0, 1, 2, 3, 4]", "layouts.full.stable_steps=[5, 6, 7, 8, 9]"]
    steps = lists_in("demo", *by_hand, "layouts.full.steps=1000")[:2]
    assert steps == ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
    batches = lists_in("demo", "layouts.full.batch_sizes=[8, 8, 8, 8, 8]", "layouts.full.steps=1000")
    assert batches == lists_of(1000, 5, (8, 8, 8, 8, 8))


@pytest.mark.parametrize(
    ("assignments", "problem"),
    [
        (["layouts.full.steps=4"], r"layouts.full.steps: got 4, but data.size .* has 5 levels"),
        (["layouts.full={}"], r"layouts.full.steps: it has no steps"),
        (["layouts.full.steps=0"], r"layouts.full.steps: .* greater than or equal to 1, got 0"),
        (["layouts.full.steps=9.5"], r"layouts.full.steps: .* integer"),
        (
            ["layouts.full.batch_sizes=[8, 8, 8, 8, 8]", "layouts.full.fade_steps=[0, 1, 1, 1]"],
            r"fade_steps: 4 entries, .* 5 levels; .*layouts.full.steps in place of the lists",
        ),
        (["layouts.full.steps=99", "layouts.full.batch_sizes=[8, 8]"], r"batch_sizes: 2 entries, .* has 5 levels"),
    ],
)
def test_totals_and_lists_that_do_not_fit_are_told(assignments: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_config("demo", assignments)


def test_a_resolved_configuration_says_lists_alone(tmp_path: Path) -> None:
    config, path = load_config("demo", ["layouts.full.steps=600"]), tmp_path / "config.yaml"
    write_config(path, config)
    assert "steps" not in yaml.safe_load(path.read_text())["layouts"]["full"]
    assert load_config(str(path)) == config
    assert (
        config_of_pairs(load_config("demo"))["layouts"]["full"].keys()
        == config_of_pairs(config)["layouts"]["full"].keys()
    )
