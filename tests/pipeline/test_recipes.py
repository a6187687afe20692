from __future__ import annotations

from pathlib import Path

import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.pipeline.config import write_config
from scenepalette.pipeline.recipes import RECIPES, load_config


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_complete_and_says_its_command(name: str, tmp_path: Path) -> None:
    root = [] if name == "demo" else [f"data.root={tmp_path}"]
    config = load_config(name, root)
    assert config.recipe == name
    first_line = (RECIPES[name].__doc__ or "").strip().splitlines()[0]
    assert first_line.startswith(f"`scenepalette run {name} ") and ("data.root=" in first_line) == bool(root)


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
