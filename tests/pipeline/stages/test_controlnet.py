"""Runs whose images Stable Diffusion with a ControlNet makes, of weights of random numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.generators.images.diffusion import pretrained
from scenepalette.pipeline.config import make_config
from scenepalette.pipeline.doctor.machine.resources import check_options
from scenepalette.pipeline.finished.pushing import parts_of, push
from scenepalette.pipeline.run import Run, units_of
from scenepalette.pipeline.units.records import fingerprint_of
from tiny_diffusion import Weights, write_controlnet, write_weights

MINE = {"base": "base", "controlnet": "controlnet", "colours": "classes"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def values(tiny_values: dict[str, Any], weights: Weights) -> dict[str, Any]:
    chosen = {
        "base": str(weights.base),
        "controlnet": str(weights.controlnet),
        "colours": "classes",
        "size": [32, 48],
        "inference_steps": 2,
    }
    return with_settings(tiny_values, chosen)


def with_settings(tiny_values: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    generate = {**tiny_values["generate"], "kinds": ["semi"], "pairs": 6, "batch_size": 4}
    segmenters = {**tiny_values["segmenters"], "arms": ["real", "semi"]}
    images = {"system": "controlnet", "steps": 7, "checkpoint_every": 1, "systems": {"controlnet": chosen}}
    return {**tiny_values, "generate": generate, "segmenters": segmenters, "images": images}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    def make(values: dict[str, Any], name: str = "run", stage: str = "shards") -> Path:
        run = Run(make_config(values), tmp_path / name)
        run.make(run.names_of(stage))
        return tmp_path / name

    return make


def shards_of(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run_dir / "shards/semi").glob("*.parquet")}


def images_of(run_dir: Path) -> list[bytes]:
    paths = sorted((run_dir / "shards/semi").glob("*.parquet"))
    return [image["bytes"] for path in paths for image in pq.read_table(path, columns=["image"])["image"].to_pylist()]


def test_pairs_are_the_same_whatever_the_batch_and_the_terms_go_with_them(
    values: dict[str, Any], made: Callable[..., Path], tmp_path: Path
) -> None:
    run_dir = made(values)
    values["generate"]["batch_size"] = 1
    # Not of the files: ids of rows tell sets of other settings from each other.
    assert images_of(made(values, "again")) == images_of(run_dir)
    assert len(ShardPairs(run_dir / "shards/semi")) == 6
    assert json.loads((run_dir / "images/controlnet/manifest.json").read_text())["comes_trained"] is True

    manifest = read_manifest(run_dir / "shards/semi")
    assert manifest["source"]["pretrained"] == {
        "base (base)": "creativeml-openrail-m",
        "controlnet (controlnet)": "openrail",
    }
    card = (run_dir / "shards/semi/README.md").read_text()
    assert "**base (base)** under creativeml-openrail-m, **controlnet (controlnet)** under openrail" in card
    assert "license: other" in card and "restrict what the model" in card and "No safety checker" in card
    croissant = json.loads((run_dir / "shards/semi/croissant.json").read_text())
    assert croissant["license"] == "Apache-2.0; creativeml-openrail-m; openrail"

    with pytest.raises(ConfigError, match="--i-may") as caught:
        push(run_dir, (tmp_path / "pushed").as_uri())
    (problem,) = caught.value.problems
    assert "'Apache-2.0; creativeml-openrail-m; openrail': they restrict what may be done with it" in problem
    assert not (tmp_path / "pushed").exists()
    assert push(run_dir, (tmp_path / "pushed").as_uri(), allowed=True)
    # The weights, which are a file without numbers here, are under the same terms.
    models = {part.place: part.licence for part in parts_of(run_dir, ["weights"])}
    assert models["weights/images/controlnet"] == "Apache-2.0; creativeml-openrail-m; openrail"
    # And so are they in a run that takes them from this one.
    borrowed = made({**values, "models_from": str(run_dir)}, "borrower", "images") / "images/controlnet/manifest.json"
    record = json.loads(borrowed.read_text())
    assert record["lender"]["run"] == str(run_dir) and record["pretrained"] == manifest["source"]["pretrained"]


def test_an_interrupted_generation_resumes_with_the_same_bytes(
    values: dict[str, Any], made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shards_of(made(values, "whole"))
    from scenepalette.generators.images.diffusion.generator import ControlnetGenerator

    usual, drawn = ControlnetGenerator._draw, []

    def fail_late(self: Any, *arguments: Any) -> Any:
        drawn.append(self)
        if len(drawn) == 12 + 5:  # the sample sheet has 12, the first of the shards 4 images
            raise ScenepaletteError("It is too much.")
        return usual(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(ScenepaletteError, match="too much"):
        patch.setattr(ControlnetGenerator, "_draw", fail_late)
        made(values)
    monkeypatch.setattr(ControlnetGenerator, "_draw", lambda self, *given: drawn.append(self) or usual(self, *given))
    assert shards_of(made(values)) == whole
    assert len(drawn) == 12 + 5 + 2  # what was written is not drawn again


def test_a_fine_tuned_controlnet_is_a_model_of_its_own(values: dict[str, Any], made: Callable[..., Path]) -> None:
    values["images"]["systems"]["controlnet"] |= {"steps": 2, "batch_size": 2, "prompt_dropout": 0.3}
    folder = made(values, stage="images") / "images/controlnet"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "comes_trained" not in manifest and manifest["pretrained"]["base (base)"] == "creativeml-openrail-m"
    assert {"weights.safetensors", "controlnet/config.json"} <= set(manifest["files"])


def test_weights_and_settings_identify_the_model_and_the_steps_of_other_systems_do_not(
    values: dict[str, Any], tmp_path: Path
) -> None:
    own = write_controlnet(tmp_path / "own")
    values["images"]["systems"]["controlnet"]["controlnet"] = str(own)

    def fingerprint() -> str:
        units = units_of(make_config(values))
        return fingerprint_of(units["shards/semi"], units)

    first = fingerprint()
    values["images"]["steps"] = 99
    assert fingerprint() == first
    write_controlnet(own, conditioning_channels=3, global_pool_conditions=True)
    second = fingerprint()
    values["images"]["systems"]["controlnet"]["prompt"] = "night, {names}"
    assert len({first, second, fingerprint()}) == 3


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({}, "images.systems.controlnet.base: it is missing"),
        ({**MINE, "steps": -1}, "images.systems.controlnet.steps: "),
        ({**MINE, "scheduler": "dpm"}, "images.systems.controlnet.scheduler"),
        ({**MINE, "size": [30, 32]}, "images.systems.controlnet.size: got 30 x 32; multiples of 8 are required"),
    ],
)
def test_a_configuration_that_cannot_paint_is_refused(
    tiny_values: dict[str, Any], chosen: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(with_settings(tiny_values, chosen))
    assert any(words in problem for problem in caught.value.problems)


def test_it_cannot_be_trained_together_with_layouts(tiny_values: dict[str, Any]) -> None:
    values = with_settings(tiny_values, MINE)
    values["generate"]["kinds"], values["finetune"] = ["full"], {"kinds": ["full"]}
    values["segmenters"]["arms"] = ["real", "syn"]
    with pytest.raises(ConfigError) as caught:
        make_config(values)
    assert any("controlnet cannot be trained together with layouts" in problem for problem in caught.value.problems)


def test_what_this_machine_lacks_is_told_before_anything_is_made(
    tiny_values: dict[str, Any], made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(ScenepaletteError) as caught:
        made(with_settings(tiny_values, {**MINE, "base": str(tmp_path / "nowhere")}))
    told = " ".join(caught.value.problems)
    assert "images.system: diffusers and transformers are not installed" in told
    assert "pip install 'scenepalette[diffusers]'" in told and "base: there is no folder" in told
    assert not (tmp_path / "run/data").exists()


def test_classes_that_the_controlnet_would_not_know_are_told_before_it_is_loaded(
    values: dict[str, Any], made: Callable[..., Path], tmp_path: Path
) -> None:
    values["images"]["systems"]["controlnet"]["colours"] = "ade20k"
    with pytest.raises(ScenepaletteError) as caught:
        made(values)
    (problem,) = caught.value.problems
    assert "images.systems.controlnet.ade20k_names: ADE20K has no class 'lane marking'" in problem
    assert not (tmp_path / "run/images").exists()


def test_the_doctor_warns_of_a_fine_tuning_without_a_gpu(tiny_values: dict[str, Any]) -> None:
    for steps in (0, 5):
        config = make_config(with_settings(tiny_values, {**MINE, "steps": steps}))
        found = {check.name: check for check in check_options(config)}
        assert ("training on a CPU" in found) == (steps > 0)
    assert found["training on a CPU"].status == "warning" and "minutes a step" in found["training on a CPU"].summary
