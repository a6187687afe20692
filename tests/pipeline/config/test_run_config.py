from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plugins import Plugins
from scenepalette.common.errors import ConfigError
from scenepalette.common.registry import Registry
from scenepalette.data.datasets import DATASETS
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.nn.grids import base_grid
from scenepalette.pipeline.arms import ARMS
from scenepalette.pipeline.config import (
    DataConfig,
    RunConfig,
    config_of_pairs,
    load_config,
    make_config,
    merge,
    with_following_lists,
    with_overrides,
    write_config,
)
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.run import units_of
from scenepalette.segmenters.registry import SEGMENTERS


def problems_of(values: dict[str, Any], *assignments: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        make_config(with_overrides(values, assignments))
    return caught.value.problems


def test_unknown_key_is_named() -> None:
    assert problems_of(RECIPES["demo"](), "images.stepz=3", "sead=1") == (
        "images.stepz: there is no such key; is images.steps meant?",
        "sead: there is no such key; is seed meant?",
    )
    assert problems_of(RECIPES["demo"](), "nothing.like.it=3") == ("nothing: there is no such key",)


def test_a_folder_in_place_of_a_recipe_is_told_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match=r"is a folder.*give .*/run/config\.yaml, and --out .*/run to resume it"):
        load_config(str(tmp_path / "run"))


def test_every_data_set_can_be_named() -> None:
    assert DataConfig.model_json_schema()["properties"]["name"]["enum"] == list(DATASETS)


def test_a_data_set_of_another_package_can_be_named(plugins: Plugins, tmp_path: Path) -> None:
    source = "from scenepalette.data.sample import DatasetEntry\nMINE = DatasetEntry('mine', len, 'mine')"
    plugins.install(DATASETS, {"mine": "{module}:MINE", "broken": "{module}:ABSENT"}, source=source)
    assert DataConfig.model_json_schema()["properties"]["name"]["enum"] == [*DATASETS] and "mine" in DATASETS
    values = with_overrides(RECIPES["demo"](), ["data.name=mine", f"data.root={tmp_path}"])
    assert make_config(values).data.name == "mine"
    (problem,) = problems_of(values, "data.name=broken")
    assert problem.startswith("data.name: stranger 1.0: its data set 'broken' cannot be used: ")
    assert problems_of(values, "data.root=null") == ("data.root: mine needs its folder; add --set data.root=FOLDER",)


@pytest.mark.parametrize(
    ("registry", "field", "value"),
    [
        (LAYOUT_SYSTEMS, "layouts.full.system", "broken"),
        (LAYOUT_SYSTEMS, "layouts.partial.system", "broken"),
        (LAYOUT_SYSTEMS, "compare.rows", "[broken]"),
        (IMAGE_SYSTEMS, "compare.rows", "[real-layouts-broken]"),
        (IMAGE_SYSTEMS, "images.system", "broken"),
        (IMAGE_SYSTEMS, "images.systems.broken", "{width: 3}"),
        (SEGMENTERS, "segmenters.architecture", "broken"),
        (SEGMENTERS, "teachers.architecture", "broken"),
        (ARMS, "segmenters.arms", "[real, broken]"),
    ],
    ids=lambda value: value.noun if isinstance(value, Registry) else value,
)
def test_who_names_a_plugin_that_cannot_be_used_is_told_why(
    plugins: Plugins, registry: Registry, field: str, value: str
) -> None:
    plugins.install(registry, {"broken": "{module}:ABSENT"})
    (problem,) = problems_of(RECIPES["demo"](), f"{field}={value}")
    (line,) = registry.problems()
    assert problem == f"{field}: {line}" and "stranger 1.0" in line


def test_an_unknown_data_set_is_told_with_the_known_ones() -> None:
    (problem,) = problems_of(RECIPES["demo"](), "data.name=kitti")
    assert problem.startswith("data.name: there is no data set 'kitti'; known are streets, camvid, ")
    assert problem.endswith(", got 'kitti'")


def test_all_wrong_values_are_reported_at_once_with_their_fields() -> None:
    problems = problems_of(RECIPES["demo"](), "seed=-1", "generate.pairs=0", "data.name=kitti", "images.steps=many")
    assert [problem.split(":")[0] for problem in problems] == ["seed", "data.name", "images.steps", "generate.pairs"]
    assert problems[3].endswith("got 0") and problems[2].endswith("got 'many'")


def test_all_contradictions_are_reported_at_once() -> None:
    problems = problems_of(
        RECIPES["demo"](),
        "data.root=/somewhere",
        "layouts.full.batch_sizes=[4, 4]",
        "layouts.partial.batch_sizes=[4, 4, 4, 4, 1]",
        "segmenters.arms=[syn, magic, syn]",
        "generate.kinds=[semi]",
    )
    starts = [problem.split(":")[0] for problem in problems]
    assert starts == [
        "data.root",
        "layouts.full.batch_sizes",
        "layouts.partial.batch_sizes",
        "segmenters.arms",
        "segmenters.arms",
        "generate.kinds",
        "generate.kinds",
        "segmenters.arms",
    ]
    assert "'magic'" in problems[3] and "'real' is missing" in problems[4] and "comes twice" in problems[7]


@pytest.mark.parametrize("size", [(5, 48), (2, 2)])
def test_impossible_size_names_one_that_works(size: tuple[int, int]) -> None:
    (problem,) = problems_of(RECIPES["camvid"](), "data.root=/somewhere", f"data.size={list(size)}")
    assert problem.startswith("data.size:") and f"{size[0]}x{size[1]}" in problem
    height, width = map(int, problem.rpartition("Use ")[2].partition(",")[0].split("x"))
    # Another size has another number of levels, which is then all that is wrong.
    again = problems_of(RECIPES["camvid"](), "data.root=/somewhere", f"data.size=[{height}, {width}]")
    assert all("levels" in each for each in again)


def test_a_size_far_longer_than_wide_is_refused_with_what_is_possible() -> None:
    (problem,) = problems_of(RECIPES["camvid"](), "data.root=/somewhere", "data.size=[100, 2000]")
    assert problem.startswith("data.size: The size 100x2000 is 20.0 times as long as short")
    assert "up to 10.7 times is possible" in problem and "data.fit=tile" in problem


@pytest.mark.parametrize(
    ("size", "generators"),
    [
        ([1080, 1920], (1024, 1920)),
        ([720, 1280], (768, 1280)),
        ([360, 480], (384, 512)),
        ([45, 60], (48, 64)),
        ([96, 128], (96, 128)),
    ],
)
def test_any_size_is_taken_and_generators_work_near_it(size: list[int], generators: tuple[int, int]) -> None:
    changes = {"data": {"size": size, "root": "/somewhere"}}
    config = make_config(with_following_lists(merge(RECIPES["camvid"](), changes), changes))
    assert config.generator_size == generators and config.segmenter_size == tuple(size)
    levels = base_grid(generators)[1] + 1
    assert len(config.layouts.full.stable_steps) == levels
    assert config.data_of_segmenters == (("data",) if size == [96, 128] else ("data", "segmenter-data"))
    assert config.evaluates_natively == (size != [96, 128])


@pytest.mark.parametrize(
    ("changes", "natively"),
    [
        ([], False),
        (["segmenters.size=[64, 96]"], True),
        (["segmenters.size=[96, 144]"], True),
        (["segmenters.size=[96, 144]", "segmenters.evaluation=resized"], False),
        (["segmenters.evaluation=native"], True),
        (["segmenters.evaluation=resized"], False),
    ],
)
def test_segmenters_with_a_size_of_their_own_are_evaluated_natively(changes: list[str], natively: bool) -> None:
    config = make_config(with_overrides(RECIPES["demo"](), changes))
    assert config.evaluates_natively == natively
    assert (len(config.data_of_segmenters) > 1) == (natively or "segmenters.size=[96, 144]" in changes)


def test_ways_to_fit_that_cannot_be_are_told_together() -> None:
    values = with_overrides(RECIPES["demo"](), ["data.name=folder", "data.root=/somewhere"])
    assert problems_of(RECIPES["demo"](), "data.fit=crop") == (
        "data.fit: streets are drawn at data.size, got crop; leave it out",
    )
    assert problems_of(values, "data.tile_height=100") == (
        "data.tile_height: got 100 with data.fit=stretch, which cuts no tiles; leave it out, or set data.fit to tile",
    )
    found = problems_of(values, "data.fit=tile", "segmenters.size=[96, 96]", "segmenters.evaluation=resized")
    assert [text.split(":")[0] for text in found] == ["segmenters.size", "segmenters.evaluation"]
    assert "stretches parts of the aspect ratio of data.size 64x96 by 50 %" in found[0]
    assert make_config(with_overrides(values, ["segmenters.size=[96, 96]"])).segmenter_size == (96, 96)
    assert problems_of(values, "data.fit=pad")[0].startswith("data.fit: input should be 'stretch', 'crop' or 'tile'")


def test_what_identifies_data_names_no_fit_that_was_always_there() -> None:
    values = with_overrides(RECIPES["demo"](), ["data.name=folder", "data.root=/somewhere"])
    usual, tiled = (make_config(with_overrides(values, [f"data.fit={fit}"])) for fit in ("stretch", "tile"))
    assert not {"fit", "tile_height"} & usual.data.identity().keys() and tiled.data.identity()["fit"] == "tile"
    assert not {"fit", "tile_height"} & config_of_pairs(usual)["data"].keys()
    assert config_of_pairs(tiled)["data"]["fit"] == "tile"


def test_missing_root_says_what_to_add() -> None:
    assert problems_of(RECIPES["camvid"]()) == ("data.root: camvid needs its folder; add --set data.root=FOLDER",)


PATHS = [
    "data.root",
    "data.class_file",
    "data.unlabelled",
    "images.vgg_weights",
    "images.perceptual_encoder_weights",
    "report.inception_weights",
    "compare.alexnet_weights",
    "models_from",
]


@pytest.mark.parametrize("field", PATHS)
def test_paths_are_absolute_whatever_they_are_relative_to_and_need_not_exist(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    demo = merge(RECIPES["demo"](), {"data": {"name": "folder", "root": "."}})

    def resolved(text: str) -> Path:
        value: Any = make_config(with_overrides(demo, [f"{field}={text}"]))
        for name in field.split("."):
            value = getattr(value, name)
        return value

    assert resolved("sets/a") == resolved("./sets/a") == resolved(str(tmp_path / "sets/a")) == tmp_path / "sets/a"
    # What .. is to a link is not known before the link is there.
    assert resolved("link/../a") == tmp_path / "link/../a"
    assert resolved("~/a") == tmp_path / "home/a"
    for wrong in ("''", "~nobody-of-this-name/a"):
        (problem,) = problems_of(demo, f"{field}={wrong}")
        assert problem.startswith(f"{field}: ")


def test_a_written_config_means_the_same_files_from_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    config = make_config(with_overrides(RECIPES["camvid"](), ["data.root=camvid", "models_from=runs/a"]))
    write_config(tmp_path / "config.yaml", config)
    monkeypatch.chdir(tmp_path / "there")
    assert load_config("../config.yaml") == config


# It dilates its encoder, as the demo's FPN does not.
DEEPLAB = "segmenters.architecture=deeplabv3"


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["generate.kinds=[]", "segmenters.arms=[real]"], "generate.kinds: there is none"),
        (["segmenters.arms=[]"], "segmenters.arms: the arm 'real' is missing"),
        (["segmenters.seeds=[]"], "segmenters.seeds: "),
        (["compare.rows=[]"], "compare.rows: "),
        (["report.evaluated_pairs=1"], "report.evaluated_pairs: "),
        (["generate.rows_per_shard=0"], "generate.rows_per_shard: "),
        (["segmenters.batch_size=1"], "segmenters.batch_size: "),
        (["segmenters.encoder=resnett18"], "segmenters.encoder: got 'resnett18'"),
        ([DEEPLAB, "segmenters.encoder=vgg11"], "segmenters.encoder: vgg11 cannot be dilated"),
        ([DEEPLAB, "segmenters.encoder=densenet121"], "segmenters.encoder: densenet121 cannot be dilated"),
        (["segmenters.encoder=tu-resnett18"], "segmenters.encoder: got 'tu-resnett18', but timm has no model"),
        (["segmenters.encoder=tu-"], "segmenters.encoder: got 'tu-', but timm has no model"),
        (["segmenters.encoder=tu-resnet18.no_tag"], "segmenters.encoder: 'tu-resnet18.no_tag' cannot be"),
        (["segmenters.encoder=tu-vit_base_patch16_224"], "segmenters.encoder: 'tu-vit_base_patch16_224' cannot be"),
        ([DEEPLAB, "segmenters.encoder=tu-swin_tiny_patch4_window7_224"], "segmenters.encoder: 'tu-swin_tiny"),
        ([DEEPLAB, "segmenters.encoder=tu-hrnet_w18"], "segmenters.encoder: 'tu-hrnet_w18' cannot be"),
        (["segmenters.encoder_weights=imagenette"], "segmenters.encoder_weights: got 'imagenette'"),
        (["segmenters.encoder=resnet18", "segmenters.encoder_weights=ssll"], "segmenters.encoder_weights: got 'ssll'"),
        ([DEEPLAB, "segmenters.encoder=tu-vgg11_bn", "segmenters.encoder_weights=imagenet"], "segmenters.encoder: "),
        (["data.class_file=classes.csv"], "data.class_file: the classes of streets are fixed"),
        (["data.label_offset=-1", "data.ignore_ids=[0]"], "data.label_offset and data.ignore_ids: streets has no"),
        (["data.colour_tolerance=65"], "data.colour_tolerance"),
        (["data.label_encoding=colors"], "data.label_encoding"),
        (["data.ignore_ids=[256]"], "data.ignore_ids"),
    ],
)
def test_what_could_only_fail_late_is_refused_when_the_configuration_is_made(
    assignments: list[str], message: str
) -> None:
    (problem,) = problems_of(RECIPES["demo"](), *assignments)
    assert problem.startswith(message)


def test_streets_too_small_to_be_drawn_are_refused() -> None:
    assert "data.size: streets need at least 16 pixels each way, got 12x12" in problems_of(
        RECIPES["demo"](), "data.size=[12, 12]"
    )


def test_overrides_reach_into_sections_and_are_read_as_yaml() -> None:
    before = {"a": {"b": 1, "c": 2}, "d": 3}
    after = with_overrides(before, ["a.b=[1, x]", "d=null", "e.f.g=text=more"])
    assert after == {"a": {"b": [1, "x"], "c": 2}, "d": None, "e": {"f": {"g": "text=more"}}}
    assert before == {"a": {"b": 1, "c": 2}, "d": 3}


def test_all_malformed_overrides_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        with_overrides({"seed": 1}, ["seed", "=3", "seed.x=1", "a=[", "fine=1"])
    assert len(caught.value.problems) == 4
    assert "generate.pairs=500" in caught.value.problems[0]
    assert "seed is no section" in caught.value.problems[2]
    assert "not valid YAML" in caught.value.problems[3]


def test_merge_lays_changes_over_sections() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}, "d": 5}) == {"a": {"b": 1, "c": 4}, "d": 5}


@pytest.mark.parametrize("change", ["images.systems={}", "images.systems.oasis={width: 8}"])
def test_a_written_config_takes_back_nothing_from_its_recipe(change: str, tmp_path: Path) -> None:
    """Processes that train units of a run read it from there."""
    config = load_config("demo", [change])
    write_config(tmp_path / "config.yaml", config)
    assert load_config(str(tmp_path / "config.yaml")) == config
    assert load_config(str(tmp_path / "config.yaml"), written=True).images.settings() == config.images.settings()


def test_written_config_reads_back_equal(tiny_config: RunConfig, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_config(path, tiny_config)
    assert load_config(str(path)) == tiny_config


def test_a_config_sent_to_a_worker_means_the_same_folders_and_urls(tmp_path: Path) -> None:
    overrides = [
        f"data.root={tmp_path}",
        "data.unlabelled=s3://bucket/more",
        f"report.extra_test={{night: {tmp_path}/night, fog: 's3://bucket/fog'}}",
        f"report.inception_weights={tmp_path}/inception.pth",
    ]
    config = load_config("camvid", overrides)
    sent = RunConfig.model_validate_json(config.model_dump_json())
    assert sent == config and sent.data.root == tmp_path and sent.data.unlabelled == "s3://bucket/more"
    assert sent.report.extra_test == {"night": tmp_path / "night", "fog": "s3://bucket/fog"}


def test_values_cannot_be_changed(tiny_config: RunConfig) -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny_config.seed = 3  # type: ignore[misc]


def test_layout_switches_are_set_by_name_and_default_to_the_papers() -> None:
    switches = [
        "residual_fusion",
        "multi_scale",
        "soft_layouts",
        "palettes",
        "sinkhorn_iterations",
        "matching_weight",
        "edits",
        "novelty_weight",
    ]
    config = make_config(RECIPES["demo"]()).layouts.full
    assert config.system == "semantic-palette"
    assert {name: getattr(config.settings(), name) for name in switches} == {
        name: getattr(LayoutSettings(), name) for name in switches
    }
    assignments = ["layouts.full.system=baseline-1", "layouts.full.soft_layouts=false", "layouts.full.palettes=real"]
    changed = make_config(with_overrides(RECIPES["demo"](), assignments)).layouts.full
    assert changed.system == "baseline-1"
    assert (changed.settings().soft_layouts, changed.settings().palettes) == (False, "real")
    wrong = ["layouts.full.sinkhorn_iterations=0", "layouts.full.palettes=guessed", "layouts.full.novelty_weight=-1"]
    problems = problems_of(RECIPES["demo"](), *wrong)
    assert sorted(problem.split(":")[0] for problem in problems) == sorted(text.split("=")[0] for text in wrong)


def test_layout_systems_are_refused_where_they_do_not_fit() -> None:
    demo = RECIPES["demo"]()
    (problem,) = problems_of(demo, "layouts.full.system=semantic-palette-partial")
    assert problem.startswith("layouts.full.system") and "sb-gan" in problem
    (problem,) = problems_of(demo, "layouts.partial.system=sb-gan")
    assert problem.endswith("systems that edit layouts are semantic-palette-partial")
    (problem,) = problems_of(demo, "layouts.full.system=sb-gan", "layouts.full.sinkhorn_iterations=2")
    assert problem.startswith("layouts.full.sinkhorn_iterations: 2 means nothing to sb-gan")


def test_image_systems_are_checked_with_their_numbers() -> None:
    demo = RECIPES["demo"]()
    (problem,) = problems_of(demo, "images.system=oasiss")
    assert problem.startswith("images.system: got 'oasiss'; image systems are oasis")
    problems = problems_of(demo, "images.systems.oasis.widht=3", "images.systems.oasis.width=0", "images.systems.x.y=1")
    assert [problem.partition(":")[0] for problem in problems] == [
        "images.systems.x",
        "images.systems.oasis.width",
        "images.systems.oasis.widht",
    ]
    (problem,) = problems_of(demo, "images.system=pix2pixhd", "images.noise_scheme=region")
    assert problem.startswith("images.noise_scheme") and "takes no noise" in problem


def test_rows_of_the_comparison_and_fine_tuned_kinds_are_checked() -> None:
    problems = problems_of(
        RECIPES["demo"](), "compare.rows=[sb-gan, nothing]", "finetune.kinds=[partial]", "generate.kinds=[full, semi]"
    )
    assert any(problem.startswith("compare.rows: unknown row 'nothing'") for problem in problems)
    assert any(problem.startswith("finetune.kinds: 'partial'") for problem in problems)


def test_tensorboard_must_be_installed_and_is_no_part_of_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = RECIPES["demo"]()
    wanted = make_config(with_overrides(demo, ["compute.tensorboard=true"]))
    assert wanted.compute.tensorboard and units_of(wanted) == units_of(make_config(demo))
    monkeypatch.setattr("scenepalette.pipeline.config.compute.find_spec", lambda name: None)
    (problem,) = problems_of(demo, "compute.tensorboard=true")
    assert problem.startswith("compute.tensorboard: ") and "pip install 'scenepalette[tensorboard]'" in problem


def test_trackers_must_be_installed_and_are_no_part_of_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = RECIPES["demo"]()
    wanted = make_config(with_overrides(demo, ["compute.tracking=[tensorboard]"]))
    assert wanted.compute.writes_tensorboard and units_of(wanted) == units_of(make_config(demo))
    assert not make_config(demo).compute.writes_tensorboard and make_config(demo).compute.tracking == ()
    monkeypatch.setattr("scenepalette.pipeline.config.compute.find_spec", lambda name: None)
    (problem,) = problems_of(demo, "compute.tracking=[wandb, mlflow, wandb]")
    assert problem.startswith("compute.tracking: wandb and mlflow are not installed;")
    assert "pip install 'scenepalette[wandb,mlflow]'" in problem
    (problem,) = problems_of(demo, "compute.tracking=[comet]")
    assert "'tensorboard', 'mlflow' or 'wandb'" in problem and "'comet'" in problem


def test_the_primary_contrast_names_arms_that_are_trained(tiny_values: dict[str, Any]) -> None:
    config = make_config(tiny_values)
    assert config.treatments() == ("real+syn-advent", "real+partial", "semi") and config.controls() == ("real",)
    tiny_values["report"]["primary"] = {"treatment": ["semi"], "control": ["real"]}
    assert make_config(tiny_values).treatments() == ("semi",)
    tiny_values["report"]["primary"] = {
        "treatment": ["real", "real+syn", "semi", "semi"],
        "control": ["real+partial", "syn"],
    }
    with pytest.raises(ConfigError) as caught:
        make_config(tiny_values)
    message = str(caught.value)
    for part in (
        "report.primary.treatment: an entry comes twice",
        "report.primary.treatment: 'real' adds no generated pairs to real labels",
        "report.primary.treatment: 'real+syn' is not among segmenters.arms",
        "report.primary.control: 'real+partial' adds generated pairs",
        "report.primary.control: 'syn' has no real labels",
    ):
        assert part in message
