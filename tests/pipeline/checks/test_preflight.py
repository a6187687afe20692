"""What would stop a run late is told before anything of it is made, and only by those who need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from plugins import Plugins
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.streets.dataset import STREETS
from scenepalette.evaluation.images.features import CHOSEN_SEGMENTER
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.pipeline.checks.preflight import data_problems, device_problems, settings_problems
from scenepalette.pipeline.config import RunConfig, load_config
from scenepalette.pipeline.run import units_of
from scenepalette.pipeline.stages.images import untrained_features
from scenepalette.pipeline.stages.studies.compare import comparison_units
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import PreparedData, Unit
from scenepalette.segmenters.registry import SEGMENTERS

FOLDER = "data.name=folder"
GAUGAN = "images.system=gaugan"
PERCEPTUAL = "images.systems.oasis.perceptual_weight=2"
LEVELS = [
    f"layouts.{kind}.{field}"
    for kind in ("full", "partial")
    for field in ("fade_steps=[0, 1, 1]", "stable_steps=[1, 1, 1]", "batch_sizes=[2, 2, 2]")
]

Config = Callable[..., RunConfig]


@pytest.fixture
def config(tiny_recipe: Path) -> Config:
    return lambda *assignments: load_config(str(tiny_recipe), assignments)


def problems_before(config: RunConfig, *, finished: Sequence[str] = (), comparison: bool = False) -> tuple[str, ...]:
    """Return the problems that are found if some stages are finished."""
    units = comparison_units(config, Sources(), units_of(config)) if comparison else units_of(config)
    left = [unit for unit in units.values() if unit.stage not in finished]
    return (*settings_problems(config, left), *device_problems(config, left))


# (changes, the stage that needs what is missing, the beginning of the problem)
BEFORE: list[tuple[list[str], str, str]] = [
    ([FOLDER, "data.root=/nowhere"], "data", "data.root: there is no folder /nowhere"),
    ([FOLDER, "data.root=/dev/null"], "data", "data.root: there is no folder /dev/null"),
    ([FOLDER, "data.root=/", "data.class_file=/nowhere.csv"], "data", "data.class_file: there is no file /nowhere.csv"),
    (
        ["generate.kinds=[full, partial, semi, pseudo]", "data.unlabelled=/nowhere"],
        "unlabelled",
        "data.unlabelled: there is no folder /nowhere",
    ),
    ([GAUGAN, "images.vgg_weights=/nowhere.pth"], "images", "images.vgg_weights: there is no file /nowhere.pth"),
    ([GAUGAN, "images.vgg_weights=/"], "images", "images.vgg_weights: there is no file /"),
    ([PERCEPTUAL, "images.vgg_weights=/nowhere.pth"], "images", "images.vgg_weights: there is no file /nowhere.pth"),
    (
        [PERCEPTUAL, "images.perceptual_encoder_weights=/nowhere.pth"],
        "images",
        "images.perceptual_encoder_weights: there is no file /nowhere.pth",
    ),
    (
        [PERCEPTUAL, "images.perceptual_encoder_weights=/dev/null"],
        "images",
        "images.perceptual_encoder_weights: there is no file /dev/null",
    ),
    (["generate.pairs=1"], "report", "generate.pairs: the report needs at least 2 pairs of each kind, got 1"),
    (["data.size=[16, 24]", *LEVELS], "segmenters", "data.size: 16x24; AdvEnt needs at least 32 each way"),
    (["layouts.full.max_width=10000000000", "layouts.full.base_width=100000000000"], "layouts", "layouts.full: "),
    (["layouts.partial.hidden_channels=100000000000000000000"], "layouts", "layouts.partial: "),
    (["segmenters.encoder=tu-local-dir:/nowhere"], "segmenters", "segmenters.encoder: "),
]


def test_an_archive_in_place_of_a_folder_is_to_be_unpacked(config: Config, tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"PK")
    (problem,) = problems_before(config(FOLDER, f"data.root={tmp_path / 'set.zip'}"))
    assert problem == f"data.root: there is no folder {tmp_path / 'set.zip'}; unpack it first"


@pytest.mark.parametrize(("changes", "stage", "problem"), BEFORE)
def test_the_impossible_is_told_before_anything_is_made(
    changes: list[str], stage: str, problem: str, config: Config
) -> None:
    (found,) = problems_before(config(*changes))
    assert found.startswith(problem)


@pytest.mark.parametrize(("changes", "stage", "problem"), BEFORE)
def test_it_is_no_problem_once_what_needs_it_is_finished(
    changes: list[str], stage: str, problem: str, config: Config
) -> None:
    finished = ["layouts", "images"] if stage == "images" else [stage]
    assert problems_before(config(*changes), finished=finished) == ()


def test_a_file_that_is_not_of_the_encoder_is_told_before_anything_is_made(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(smp.encoders.get_encoder("mobilenet_v2", weights=None).state_dict(), file)
    named = [PERCEPTUAL, f"images.perceptual_encoder_weights={file}"]
    assert problems_before(config(*named)) == ()
    (found,) = problems_before(config(*named, "images.perceptual_encoder=resnet18"))
    assert found.startswith("images.perceptual_encoder_weights: ") and "does not fit the encoder resnet18" in found
    (found,) = problems_before(config(*named, "images.perceptual_encoder=resnet9000"))
    assert found.startswith("images.perceptual_encoder: 'resnet9000'")


def test_features_of_a_file_need_no_segmenter_and_decide_what_is_trained(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(smp.encoders.get_encoder("mobilenet_v2", weights=None).state_dict(), file)

    def unit(*changes: str) -> Unit:
        return units_of(config(*changes))["images/oasis"]

    assert unit().inputs == ("data",) and "perceptual_weight" not in unit().settings
    assert unit(f"images.perceptual_encoder_weights={file}").settings == unit().settings
    assert unit(PERCEPTUAL).inputs[1].startswith("segmenters/real/")
    named = unit(PERCEPTUAL, f"images.perceptual_encoder_weights={file}")
    assert named.inputs == ("data",) and named.settings["perceptual_encoder"] == "mobilenet_v2"
    assert named.settings["perceptual_encoder_weights"] and named.settings["perceptual_weight"] == 2.0


def test_features_of_the_own_segmenter_are_a_choice_where_no_weights_are_named(config: Config, tmp_path: Path) -> None:
    def unit(*changes: str) -> Unit:
        return units_of(config(PERCEPTUAL, *changes))["images/oasis"]

    chosen, named = "images.perceptual_features=segmenter", f"images.vgg_weights={tmp_path / 'vgg.pth'}"
    (tmp_path / "vgg.pth").touch()
    assert unit(chosen).settings == {**unit().settings, "perceptual_features": "segmenter"}
    assert unit(chosen).inputs == unit().inputs and unit(chosen).inputs[1].startswith("segmenters/real/")
    assert unit(chosen, named).settings == unit(named).settings != unit().settings
    # What the doctor times is what will be trained against; nothing is looked for elsewhere.
    found = untrained_features(config(PERCEPTUAL, chosen), "oasis", ClassTable.unnamed(3))
    assert found is not None and found.description == CHOSEN_SEGMENTER
    assert [feature.shape[0] for feature in found(torch.zeros(2, 3, 32, 48))] == [2] * 5


def test_all_problems_are_told_at_once(config: Config) -> None:
    changes = [FOLDER, "data.root=/nowhere", "generate.pairs=1", GAUGAN, "images.vgg_weights=/nowhere.pth"]
    assert [text.partition(":")[0] for text in problems_before(config(*changes))] == [
        "data.root",
        "images.vgg_weights",
        "generate.pairs",
    ]


def test_what_can_be_made_is_let_pass(config: Config, tmp_path: Path) -> None:
    (tmp_path / "vgg.pth").touch()
    assert problems_before(config()) == ()
    assert problems_before(config("generate.pairs=2", "report.evaluated_pairs=2")) == ()
    assert problems_before(config(GAUGAN, f"images.vgg_weights={tmp_path / 'vgg.pth'}")) == ()
    # A system without a perceptual loss never reads them, and metrics without their weights are marked as absent.
    assert problems_before(config("images.vgg_weights=/nowhere.pth", "report.inception_weights=/nowhere.pth")) == ()
    # Batches may be larger than what they are drawn from.
    sizes = ["segmenters.batch_size=64", "images.batch_size=64", "generate.batch_size=64", "finetune.batch_size=64"]
    assert problems_before(config(*sizes, "generate.rows_per_shard=1000000")) == ()


def test_a_gpu_that_is_not_there_is_told_to_those_who_compute(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    wanted = config("compute.accelerator=cuda")
    (problem,) = problems_before(wanted)
    assert problem == "compute.accelerator: it is cuda, but torch sees no GPU; use cpu or auto"
    units = units_of(wanted)
    assert device_problems(wanted, [units["data"], units["palettes"]]) == []


def test_weights_that_cannot_be_had_are_told_before_anything_is_trained(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", fail)
    wanted = config("segmenters.encoder=resnet18", "segmenters.encoder_weights=imagenet")
    (problem,) = problems_before(wanted)
    assert "no route to host" in problem and "leave segmenters.encoder_weights empty" in problem
    assert problems_before(wanted, finished=["segmenters"]) == ()


COMPARED: list[tuple[list[str], str]] = [
    (["data.size=[16, 24]", *LEVELS], "data.size: the comparison's measures need at least 31 pixels each way"),
    (["data.val_scenes=3"], "data.val_scenes: the comparison needs at least 4, got 3"),
    (["images.augment=true", "compare.rows=[real-layouts-crn]"], "compare.rows: real-layouts-crn: images.augment"),
    (
        ["images.vgg_weights=/nowhere.pth", "compare.rows=[real-layouts-gaugan]"],
        "images.vgg_weights: there is no file /nowhere.pth",
    ),
]


@pytest.mark.parametrize(("changes", "problem"), COMPARED)
def test_what_stops_a_comparison_late_is_told_to_it_alone(changes: list[str], problem: str, config: Config) -> None:
    wanted = config("segmenters.arms=[real]", *changes)
    (found,) = problems_before(wanted, comparison=True)
    assert found.startswith(problem)
    assert problems_before(wanted) == ()


def data_of(train: Pairs, validation: Pairs) -> PreparedData:
    return PreparedData(train, validation, train.labels)


def pairs_of(count: int, table: ClassTable = STREETS) -> Pairs:
    shape = (count, 32, 48)
    ids = [str(index) for index in range(count)]
    return Pairs(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8), ids, table, "streets", "none")


AFTER: list[tuple[list[str], int, int, list[str]]] = [
    ([], 2, 4, []),
    ([], 1, 4, ["data.root: there is 1 training image with a label; at least 2 are required"]),
    (
        [],
        2,
        1,
        [
            "data.root: there is 1 validation image with a label; at least 2 are required",
            "data.root: the comparison needs at least 4 validation pairs, got 1",
        ],
    ),
    ([], 2, 3, ["data.root: the comparison needs at least 4 validation pairs, got 3"]),
    (["generate.ban=[moon]", "generate.minimum={sun: 0.1}"], 2, 4, ["generate.ban: ", "generate.minimum"]),
    (["generate.ban=[moon]"], 1, 4, ["data.root: there is 1 training", "generate.ban: "]),
]


@pytest.mark.parametrize(("changes", "train", "validation", "problems"), AFTER)
def test_what_only_the_data_set_can_tell_is_told_before_anything_is_trained(
    changes: list[str], train: int, validation: int, problems: list[str], config: Config
) -> None:
    wanted = config(*changes)
    units = (units_of(wanted) | comparison_units(wanted, Sources(), units_of(wanted))).values()
    found = data_problems(wanted, units, data_of(pairs_of(train), pairs_of(validation)))
    assert len(found) == len(problems)
    assert all(text.startswith(beginning) for text, beginning in zip(found, problems, strict=True))


def test_what_a_table_of_systems_needs_is_no_problem_of_a_run(config: Config) -> None:
    units = units_of(config())
    left = [units["shards/full"], units["segmenters/real/seed0"]]
    assert data_problems(config(), left, data_of(pairs_of(2), replace(pairs_of(3), name="few"))) == []


BY_NAME = """
from dataclasses import dataclass
from pathlib import Path
import torch
from torch import nn
from scenepalette.generators.images.base import ImageGenerator, ImageSettings, ImageSystem
from scenepalette.generators.layouts.networks.progressive import LayoutNetwork
from scenepalette.generators.layouts.registry import LayoutSystem
from scenepalette.segmenters.registry import Segmenter

KNOWN = ["sky", "road"]

def order(table):
    return [KNOWN.index(name) for name in table.names]

class Layouts(LayoutNetwork):
    noise_features = 1
    def __init__(self, table):
        super().__init__()
        order(table)

class Images(ImageGenerator):
    noise_schemes = ()
    def __init__(self, table):
        super().__init__()
        self.num_classes, self.order = len(table), order(table)
    def sample_noise(self, scheme, label, generators): return torch.zeros(len(label), 0)
    def forward(self, label_map, noise): return label_map[:, :3]

class Scores(nn.Module):
    def __init__(self, table):
        super().__init__()
        self.order, self.encoder = order(table), nn.Identity()
        self.encoder.forward = lambda image: [image[..., ::2, ::2]]
    def forward(self, image): return image[:, self.order]

@dataclass(frozen=True)
class Settings(ImageSettings):
    weights: Path | None = None

def images(name, build): return ImageSystem(name, "theirs", Settings, build, None)

LAYOUTS = LayoutSystem("named", "theirs", True, False, lambda table, *others: Layouts(table), None)
IMAGES = images("named", lambda table, *others: Images(table))
PLAIN = images("plain", lambda table, *others: nn.Conv2d(len(table), 3, 1))
SCORES = Segmenter("named", "theirs", lambda table, settings: Scores(table), takes_encoder=False)
"""


def test_networks_of_packages_are_tried_with_the_classes_of_the_data(config: Config, plugins: Plugins) -> None:
    """Weights from elsewhere have their own classes, which their network finds by name."""
    for registry, entries in (
        (LAYOUT_SYSTEMS, {"named": "{module}:LAYOUTS"}),
        (IMAGE_SYSTEMS, {"named": "{module}:IMAGES", "plain": "{module}:PLAIN"}),
        (SEGMENTERS, {"named": "{module}:SCORES"}),
    ):
        plugins.install(registry, entries, name=registry.noun.replace(" ", "-"), source=BY_NAME)
    wanted = config("layouts.full.system=named", "images.system=named", "segmenters.architecture=named")
    assert not problems_before(wanted)

    def problems_with(config: RunConfig, *names: str) -> list[str]:
        table = ClassTable("theirs", tuple(SemanticClass(name, (0, 0, i)) for i, name in enumerate(names)))
        units = (units_of(config) | comparison_units(config, Sources(), units_of(config))).values()
        return data_problems(config, units, data_of(pairs_of(2, table), pairs_of(4, table)))

    assert not problems_with(wanted, "road", "sky")
    problems = problems_with(wanted, "road", "car")
    for beginning, package in {
        "layouts.full: named: it cannot be built (ValueError(\"'car' is not": "correct it in layout-system 1.0",
        "images: named: it cannot be built (ValueError(\"'car' is not": "correct it in image-system 1.0",
        "data.size: 32x48; named cannot take it ('car' is not in list)": "",
    }.items():
        assert [text for text in problems if text.startswith(beginning) and text.endswith(package)], problems

    (problem,) = problems_before(config("images.system=named", "images.systems.named.weights=/nowhere.pt"))
    assert problem == "images.systems.named.weights: there is no file /nowhere.pt; correct the path"
    (problem,) = problems_with(config("images.system=plain"), "road", "sky")
    assert problem.startswith("images: plain: its generator is a Conv2d; derive it from scenepalette.generators.images")
    (problem,) = problems_with(config("images.system=named", "generate.noise_scheme=pixel"), "road", "sky")
    assert "but it takes no noise at all" in problem
