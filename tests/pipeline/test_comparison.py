from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from plugins import Plugins
from scenepalette.common.errors import ConfigError
from scenepalette.data.shards.checking import verify_shards
from scenepalette.evaluation.images.features import CHOSEN_SEGMENTER, SegmenterFeatures
from scenepalette.evaluation.registry import METRICS
from scenepalette.generators.images.registry import EXTERNAL, IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.pipeline.comparisons import DEFAULT_ROWS, ROWS
from scenepalette.pipeline.config import RunConfig, load_config
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.report.comparison import comparison_page, perceptual_notes
from scenepalette.pipeline.report.page import to_markdown
from scenepalette.pipeline.run import Run, units_of
from scenepalette.pipeline.stages.studies.compare import comparison_units, row_models
from scenepalette.pipeline.units.sources import Sources

CHOSEN = ["sb-gan", "semantic-palette-e2e", "real-layouts-oasis", "ablation-saa"]


@pytest.fixture(scope="module")
def config(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    values: dict[str, Any] = yaml.safe_load(tiny_recipe.read_text())
    small = {"width": 2, "hidden_channels": 4, "discriminator_width": 4}
    values["images"]["systems"]["gaugan"] = small
    # Unreadable, so that the real segmenter's features take its place and nothing is downloaded.
    vgg_weights = tmp_path_factory.mktemp("weights") / "vgg.pth"
    vgg_weights.write_bytes(b"no weights")
    values["images"]["vgg_weights"] = str(vgg_weights)
    values["finetune"] = {"steps": 2, "batch_size": 2, "width": 4, "checkpoint_every": 1}
    values["compare"] = {
        "rows": CHOSEN,
        "pairs": 8,
        "segmenter_steps": 2,
        "layouts": 2,
        "draws": 2,
        "alexnet_weights": "no-alexnet-weights.pth",
    }
    path = tmp_path_factory.mktemp("comparison") / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return load_config(str(path))


@pytest.fixture(scope="module")
def compared(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared") / "run"
    run = Run(config, folder)
    run.make(run.names_of("comparison"))
    return folder


def document_of(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "comparison/report/comparison.json").read_text())


def test_rows_that_were_trained_on_what_judges_them_are_named(compared: Path) -> None:
    page = (compared / "comparison/report/comparison.md").read_text()
    favoured = "sb-gan, semantic-palette-e2e, ablation-saa"  # GauGAN has a perceptual loss, OASIS none
    assert f"They favour {favoured}, whose perceptual loss compared features of the same segmenter" in page
    by_name = {row["name"]: row["metrics"] for row in document_of(compared)["rows"]}
    assert by_name["real-layouts-oasis"]["perceptual_features"] is None


@pytest.mark.parametrize(
    ("network", "favoured"),
    [("VGG-19", False), (SegmenterFeatures.description, True), (CHOSEN_SEGMENTER, True), (None, False)],
)
def test_rows_are_named_whether_the_segmenter_was_chosen_or_vgg19_lacked(network: str | None, favoured: bool) -> None:
    document = {"rows": [{"name": "sb-gan", "metrics": {"perceptual_features": network}}]}
    assert ("They favour sb-gan, whose perceptual loss" in perceptual_notes(document)) is favoured


def test_every_system_has_a_row() -> None:
    named = {row.layouts for row in ROWS.values()}
    assert {name for name, system in LAYOUT_SYSTEMS.items() if not system.partial} <= named
    alone = {row.images for row in ROWS.values() if row.layouts is None}
    assert alone == set(IMAGE_SYSTEMS)
    elsewhere = {f"real-layouts-{name}" for name in EXTERNAL}
    assert elsewhere < set(ROWS)
    assert set(DEFAULT_ROWS) == {name for name in ROWS if not name.startswith("ablation-")} - elsewhere


def test_rows_share_models_with_each_other_and_with_the_run() -> None:
    config = load_config("demo")
    main, comparison = units_of(config), comparison_units(config, Sources(), units_of(config))
    shared = main.keys() & comparison.keys()
    assert {"data", "palettes", "layouts/semantic-palette", "images/oasis", "segmenters/real/seed0"} <= shared
    assert all(main[name] == comparison[name] for name in shared)
    assert sum(name == "images/gaugan" for name in comparison) == 1
    assert [row_models(config, name).image.unit for name in ("sb-gan", "baseline-1")] == ["images/gaugan"] * 2


def test_all_layout_systems_get_the_budget_of_the_full_one() -> None:
    config = load_config("demo")
    full = config.layouts.full.settings()
    for name in ROWS:
        layout = row_models(config, name).layout
        if layout is not None:
            assert (layout.settings.fade_steps, layout.settings.stable_steps) == (full.fade_steps, full.stable_steps)
            assert layout.settings.batch_sizes == full.batch_sizes
    bare = row_models(config, "ablation-saa").layout
    assert bare is not None and bare.unit == "layouts/ablation-saa"
    assert (bare.settings.residual_fusion, bare.settings.soft_layouts, bare.settings.palettes) == (False, False, "real")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_row_of_every_recipe_can_be_built(recipe: str, tmp_path: Path) -> None:
    needs_root = "root" not in RECIPES[recipe]()["data"] and RECIPES[recipe]()["data"]["name"] != "streets"
    config = load_config(recipe, [f"data.root={tmp_path}"] if needs_root else [])
    assert len(comparison_units(config, Sources(), units_of(config))) > len(ROWS)


@pytest.mark.slow
def test_a_comparison_measures_every_row(compared: Path) -> None:
    document = document_of(compared)
    assert [row["name"] for row in document["rows"]] == CHOSEN
    for row in document["rows"]:
        metrics = row["metrics"]
        assert 0 <= metrics["gan_train_miou"] <= 1 and 0 <= metrics["gan_test_miou"] <= 1
        assert metrics["fid"] is None and "no-inception-weights" in metrics["fid_absent_because"]
        assert metrics["lpips"] is None and "no-alexnet-weights" in metrics["lpips_absent_because"]
        assert row["gan_train"]["mean"] == pytest.approx(metrics["gan_train_miou"])
        with Image.open(compared / "comparison/report" / row["figure"]) as strip:
            assert strip.width > strip.height
        assert verify_shards(compared / "comparison" / row["name"] / "pairs") == []
    by_name = {row["name"]: row["metrics"] for row in document["rows"]}
    # No palette is asked of sb-gan, and a row on real layouts makes none.
    assert "palette_kl" not in by_name["sb-gan"] and by_name["sb-gan"]["fsd"] > 0
    assert by_name["semantic-palette-e2e"]["palette_kl"] > 0
    assert "fsd" not in by_name["real-layouts-oasis"] and "discriminator_miou" in by_name["real-layouts-oasis"]
    # GauGAN takes no noise: one image per layout.
    assert by_name["sb-gan"]["ms_ssim"] == pytest.approx(1.0, abs=1e-5)
    assert by_name["sb-gan"]["class_variance"] == 0


@pytest.mark.slow
def test_pages_name_every_row_and_what_is_absent(compared: Path) -> None:
    folder = compared / "comparison/report"
    page, text = (folder / "comparison.html").read_text(), (folder / "comparison.md").read_text()
    assert text == to_markdown(comparison_page(document_of(compared)))
    for name in CHOSEN:
        assert name in page and f"figures/{name}.png" in text
    assert page.count("data:image/png;base64,") == len(CHOSEN)
    assert "FID is absent" in text and "used as a segmenter" in text


@pytest.mark.slow
def test_a_metric_from_elsewhere_is_added_to_a_finished_comparison(
    config: RunConfig, compared: Path, tmp_path: Path, plugins: Plugins
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(compared, folder)
    source = """
from scenepalette.evaluation.registry import Metric
LEVEL = Metric("level", "mean of all pixels", ("generated",), lambda pairs: float(pairs.batch([0])[0].mean()))
"""
    plugins.install(METRICS, {"level": "{module}:LEVEL", "lost": "{module}:LOST"}, source=source)
    run = Run(config, folder)
    missing = [f"comparison/{name}/metrics" for name in CHOSEN]
    assert run.missing(run.names_of("comparison")) == [*missing, "comparison/report"]
    run.make(run.names_of("comparison"))
    document = document_of(folder)
    assert document["columns"][-1]["key"] == "level"
    assert all(-1 <= row["metrics"]["level"] <= 1 for row in document["rows"])
    for form in ("md", "html"):
        page = (folder / f"comparison/report/comparison.{form}").read_text()
        assert "level: mean of all pixels." in page and "stranger 1.0: its metric" in page


@pytest.mark.slow
def test_a_comparison_is_continued_and_a_row_can_be_added(
    config: RunConfig, compared: Path, tmp_path: Path, results_of: Callable[[Path], dict[str, Any]]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(compared, folder)
    before = results_of(folder)
    shutil.rmtree(folder / "comparison/report")
    rows = config.compare.model_copy(update={"rows": ("real-layouts-gaugan", *config.compare.rows)})
    run = Run(config.model_copy(update={"compare": rows}), folder)
    assert run.missing(run.names_of("comparison")) == [
        "comparison/real-layouts-gaugan/pairs",
        "comparison/real-layouts-gaugan/segmenter",
        "comparison/real-layouts-gaugan/metrics",
        "comparison/report",
    ]
    run.make(run.names_of("comparison"))
    after = results_of(folder)
    assert {name: after[name] for name in before} == before
    assert [row["name"] for row in document_of(folder)["rows"]] == ["real-layouts-gaugan", *CHOSEN]


def test_rows_that_cannot_be_made_are_refused_before_anything_is_trained(config: RunConfig, tmp_path: Path) -> None:
    images = config.images.model_copy(update={"noise_scheme": "pixel"})
    rows = config.compare.model_copy(update={"rows": ("real-layouts-oasis", "real-layouts-crn", "pcgan")})
    run = Run(config.model_copy(update={"images": images, "compare": rows}), tmp_path)
    with pytest.raises(ConfigError) as caught:
        run.missing(run.names_of("comparison"))
    assert [problem.split(":")[1].strip() for problem in caught.value.problems] == ["real-layouts-crn", "pcgan"]
    assert "noise scheme" in caught.value.problems[0]
    assert not list(tmp_path.iterdir())
