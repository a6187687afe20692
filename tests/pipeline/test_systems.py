from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from plugins import Plugins
from scenepalette.common.errors import ConfigError
from scenepalette.common.registry import Registry
from scenepalette.evaluation.registry import METRICS
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.pipeline.arms import ARMS, DEFAULT_ARMS
from scenepalette.pipeline.comparisons import DEFAULT_ROWS, ROWS
from scenepalette.pipeline.config import RunConfig, make_config, with_overrides
from scenepalette.pipeline.doctor.examine import examine
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.request import Request
from scenepalette.pipeline.run import units_of
from scenepalette.pipeline.systems import plugin_entries, plugin_problems, register, systems
from scenepalette.pipeline.units.records import fingerprint_of
from scenepalette.pipeline.units.sources import Sources
from scenepalette.segmenters.model import build_network
from scenepalette.training.arms import Arm

SOURCE = """
from dataclasses import replace
from scenepalette.generators.images.base import ImageSystem
from scenepalette.generators.images.systems.oasis import OASIS
from scenepalette.evaluation.registry import METRICS
from scenepalette.generators.layouts.registry import BUILT_IN
from scenepalette.training.arms import Arm
TRAINED = replace(OASIS, name="trained", build_objective=None, predict_labels=None)
NO_OPPONENT = replace(TRAINED, name="no-opponent", predict_labels=OASIS.predict_labels)
ELSEWHERE = replace(OASIS, name="oasis-elsewhere")
UNSET = replace(OASIS, name="unset", settings=dict)
SLASH = replace(OASIS, name="a b")
LAYOUTS = replace(BUILT_IN["sb-gan"], name="layouts")
EMPTY = replace(LAYOUTS, name="empty", generator=None)
GAP = METRICS["fsd"]
def fail(*arguments):
    raise ZeroDivisionError("one\\ntwo")
FAILING = replace(LAYOUTS, name="failing", generator=fail)
GREEDY = replace(LAYOUTS, name="greedy", options=frozenset({"learning_rate"}))
PLAIN = Arm("generated pairs, standard augmentation", real="none", synthetic="full", augmentation="standard")
NOTHING = Arm("nothing", real="none")
WHOLE = Arm("no kind of pairs", synthetic="whole")
ALONE = Arm("adapted to nothing", adaptation="advent")
"""


@pytest.mark.parametrize(
    ("registry", "name", "attribute", "reason"),
    [
        (IMAGE_SYSTEMS, "no-opponent", "NO_OPPONENT", "there is no discriminator for predict_labels"),
        (IMAGE_SYSTEMS, "renamed", "ELSEWHERE", "it calls itself 'oasis-elsewhere'; both names must be equal"),
        (IMAGE_SYSTEMS, "unset", "UNSET", "its settings are no dataclass derived from ImageSettings"),
        (IMAGE_SYSTEMS, "arm", "PLAIN", "it is of type Arm; a scenepalette.generators.images"),
        (IMAGE_SYSTEMS, "a b", "SLASH", "its name must be letters and digits"),
        (LAYOUT_SYSTEMS, "empty", "EMPTY", "its generator cannot be called"),
        (METRICS, "my/gap", "GAP", "its name, a key of reports, must be lower-case"),
        (LAYOUT_SYSTEMS, "greedy", "GREEDY", "its options learning_rate are not among "),
        (LAYOUT_SYSTEMS, "trained", "TRAINED", "it is of type ImageSystem; a scenepalette.generators."),
        (ARMS, "nothing", "NOTHING", "it has no labelled pairs to learn from"),
        (ARMS, "whole", "WHOLE", "Arm.synthetic is 'whole'; use one of None, 'full'"),
        (ARMS, "alone", "ALONE", "its adaptation 'advent' needs real and synthetic pairs"),
    ],
)
def test_what_a_package_lacks_is_one_line(
    plugins: Plugins, registry: Registry, name: str, attribute: str, reason: str
) -> None:
    plugins.install(registry, {name: f"{{module}}:{attribute}"}, source=SOURCE)
    (line,) = plugin_problems()
    assert line.startswith("stranger 1.0: ") and reason in line and "\n" not in line
    assert name not in registry and plugin_entries() == []
    (check,) = [check for check in examine(Request("demo", ("generate.pairs=0",))).checks if check.name == "plug-ins"]
    assert check.status == "warning" and check.details == (line,)


def test_a_system_that_cannot_be_built_is_one_line(plugins: Plugins, capsys: pytest.CaptureFixture[str]) -> None:
    before = systems(2, (32, 32))
    plugins.install(LAYOUT_SYSTEMS, {"failing": "{module}:FAILING"}, source=SOURCE)
    assert systems(2, (32, 32)) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stranger 1.0: its layout system failing cannot be built: ZeroDivisionError")


def test_names_of_packages_can_be_chosen_and_change_no_recipe(plugins: Plugins) -> None:
    before = RunConfig.model_json_schema(), make_config(RECIPES["demo"]())
    plugins.install(IMAGE_SYSTEMS, {"trained": "{module}:TRAINED"}, name="one", source=SOURCE)
    plugins.install(LAYOUT_SYSTEMS, {"layouts": "{module}:LAYOUTS"}, name="two", source=SOURCE)
    plugins.install(ARMS, {"plain": "{module}:PLAIN"}, name="three", source=SOURCE)
    assert plugin_problems() == []
    assert plugin_entries() == [
        "layout system layouts (two 1.0)",
        "image system trained (one 1.0)",
        "arm plain (three 1.0)",
    ]
    assert make_config(RECIPES["demo"]()) == before[1]
    assert "plain" not in DEFAULT_ARMS and not {"layouts", "real-layouts-trained"} & set(DEFAULT_ROWS)
    assert ROWS["layouts"].layouts == "layouts" and ROWS["real-layouts-trained"].images == "trained"
    chosen = ["images.system=trained", "layouts.full.system=layouts", "segmenters.arms=[real, plain]"]
    config = make_config(with_overrides(RECIPES["demo"](), chosen))
    assert {"images/trained", "layouts/layouts", "segmenters/plain/seed0"} <= units_of(config).keys()
    schema = RunConfig.model_json_schema()
    assert schema != before[0]
    assert "trained" in schema["$defs"]["ImagesConfig"]["properties"]["system"]["enum"]
    assert "plain" in schema["$defs"]["SegmentersConfig"]["properties"]["arms"]["items"]["enum"]
    with pytest.raises(ConfigError) as caught:
        make_config(with_overrides(RECIPES["demo"](), [*chosen, "finetune.kinds=[full]"]))
    assert caught.value.problems == ("finetune.kinds: trained comes trained and has no losses; leave 'full' out",)


def test_an_entry_registered_by_code_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LAYOUT_SYSTEMS, "_added", {})
    monkeypatch.setattr(ARMS, "_added", {})
    register("mine", replace(LAYOUT_SYSTEMS["baseline-1"], name="mine"))
    register("plain", Arm("generated pairs alone, plain", real="none", synthetic="full", augmentation="standard"))
    config = make_config(
        with_overrides(RECIPES["demo"](), ["layouts.full.system=mine", "segmenters.arms=[real, plain]"])
    )
    assert {"layouts/mine", "segmenters/plain/seed0"} <= units_of(config).keys()
    assert plugin_entries() == ["layout system mine (this process)", "arm plain (this process)"]
    (mine,) = (system for system in systems(3, (32, 32)) if system.source == "this process")
    assert (mine.name, mine.kind) == ("mine", "layout")
    with pytest.raises(ConfigError, match="'nine', received int; pass one of LayoutSystem, ImageSystem, Segmenter, "):
        register("nine", 9)  # pyright: ignore[reportArgumentType]


def test_encoder_weights_are_known_by_their_content_and_an_architecture_by_its_name(tmp_path: Path) -> None:
    def fingerprint(*changes: str) -> str:
        units = units_of(make_config(with_overrides(RECIPES["demo"](), changes)), Sources())
        return fingerprint_of(units["segmenters/real/seed0"], units)

    path = tmp_path / "a.safetensors"
    save_file(build_network("unet", 2, "resnet18").encoder.state_dict(), path)  # type: ignore[union-attr, arg-type]
    copied = tmp_path / "elsewhere.safetensors"
    copied.write_bytes(path.read_bytes())
    named = ["segmenters.encoder=resnet18", f"segmenters.encoder_weights={path}"]
    first = fingerprint(*named)
    assert first == fingerprint(named[0], f"segmenters.encoder_weights={copied}") != fingerprint(named[0])
    copied.write_bytes(b"another")
    assert first != fingerprint(named[0], f"segmenters.encoder_weights={copied}")
    assert fingerprint() == fingerprint("segmenters.architecture=fpn") != fingerprint("segmenters.architecture=unet")
