from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scenepalette.generators.images.diffusion import pretrained
from scenepalette.generators.images.diffusion.pretrained import (
    folder_of,
    licence_in,
    named_files,
    place_problems,
    pretrained_of,
)
from scenepalette.generators.images.diffusion.settings import ControlnetSettings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIGS: dict[str, dict[str, Any]] = {
    "base/unet/config.json": {"in_channels": 4, "block_out_channels": [8, 16], "cross_attention_dim": 8},
    "base/vae/config.json": {"latent_channels": 4},
    "base/text_encoder/config.json": {"hidden_size": 8},
    "base/tokenizer/tokenizer.json": {},
    "base/scheduler/scheduler_config.json": {},
    "controlnet/config.json": {
        "_class_name": "ControlNetModel",
        "in_channels": 4,
        "block_out_channels": [8, 16],
        "cross_attention_dim": 8,
    },
}
WEIGHTS = (
    "base/unet/diffusion_pytorch_model.safetensors",
    "base/vae/diffusion_pytorch_model.safetensors",
    "base/text_encoder/model.safetensors",
    "controlnet/diffusion_pytorch_model.safetensors",
)
CARD = "---\nlicense: {}\n---\n# A model\n"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ControlnetSettings:
    """Folders as far as they are looked at before weights are loaded; the packages count as installed."""
    monkeypatch.setattr(pretrained, "packages_problem", lambda: None)
    for name, config in CONFIGS.items():
        write(tmp_path, name, json.dumps(config))
    for name in WEIGHTS:
        write(tmp_path, name, "weights")
    write(tmp_path, "base/README.md", CARD.format("creativeml-openrail-m"))
    write(tmp_path, "controlnet/README.md", CARD.format("openrail"))
    return ControlnetSettings(base=str(tmp_path / "base"), controlnet=str(tmp_path / "controlnet"))


def write(home: Path, name: str, text: str) -> None:
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).write_text(text, encoding="utf-8")


def test_whole_folders_are_taken_and_their_terms_read(settings: ControlnetSettings) -> None:
    assert place_problems(settings) == []
    assert pretrained_of(settings) == [
        ("base (base)", "creativeml-openrail-m"),
        ("controlnet (controlnet)", "openrail"),
    ]


def test_terms_that_are_said_count_in_place_of_those_of_the_folder(settings: ControlnetSettings) -> None:
    said = ControlnetSettings(base=settings.base, controlnet=settings.controlnet, base_licence="bought, see contract")
    assert pretrained_of(said)[0].licence == "bought, see contract"


def test_files_of_other_precisions_and_whole_checkpoints_are_not_among_those_that_count(
    settings: ControlnetSettings, tmp_path: Path
) -> None:
    before = named_files(settings)
    there = {name for name, path in before.items() if path.is_file()}
    assert there == {*CONFIGS, *WEIGHTS, "base/README.md", "controlnet/README.md"}
    for name in ("base/unet/diffusion_pytorch_model.fp16.safetensors", "base/v1-5.ckpt", "controlnet/model.bin"):
        write(tmp_path, name, "other")
    assert named_files(settings) == before


@pytest.mark.damaged
@pytest.mark.parametrize(
    ("removed", "words"),
    [
        ("base/unet/diffusion_pytorch_model.safetensors", "base lacks unet/diffusion_pytorch_model.safetensors"),
        ("base/vae/config.json", "base lacks vae/config.json"),
        ("base/tokenizer/tokenizer.json", "base lacks tokenizer/tokenizer.json, or vocab.json and merges.txt"),
        ("base/text_encoder/model.safetensors", "base lacks text_encoder/model.safetensors"),
        ("base/scheduler/scheduler_config.json", "base lacks scheduler/scheduler_config.json"),
        ("controlnet/config.json", "controlnet lacks config.json"),
        ("base/README.md", "systems.controlnet.base_licence: it is missing"),
        ("controlnet/README.md", "systems.controlnet.controlnet_licence: it is missing"),
    ],
)
def test_what_a_folder_lacks_is_named(settings: ControlnetSettings, tmp_path: Path, removed: str, words: str) -> None:
    (tmp_path / removed).unlink()
    (problem,) = place_problems(settings)
    assert words in problem


@pytest.mark.damaged
@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("base/unet", {"in_channels": 9}, "its UNet takes 9 channels, its autoencoder has 4"),
        ("base/text_encoder", {"hidden_size": 12}, "its text encoder gives 12 numbers a word, its UNet takes 8"),
        ("controlnet", {"conditioning_channels": 1}, "it takes images of 1 channels; 3 are required"),
        ("controlnet", {"cross_attention_dim": 10}, "its cross_attention_dim is 10, that of the base is 8"),
        ("controlnet", {"block_out_channels": [8]}, "its block_out_channels is [8], that of the base is [8, 16]"),
        ("controlnet", {"conditioning_embedding_out_channels": [4, 8]}, "it has layouts at 2 scales, the autoencoder"),
        ("controlnet", {"_class_name": "UNet2DModel"}, "holds UNet2DModel, ControlNetModel is required"),
    ],
)
def test_weights_that_do_not_fit_each_other_are_told_before_they_are_loaded(
    settings: ControlnetSettings, tmp_path: Path, name: str, changes: dict[str, Any], words: str
) -> None:
    write(tmp_path, f"{name}/config.json", json.dumps(CONFIGS[f"{name}/config.json"] | changes))
    assert any(words in problem for problem in place_problems(settings))


@pytest.mark.damaged
@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_configuration_that_is_none_is_told(settings: ControlnetSettings, tmp_path: Path, text: str) -> None:
    write(tmp_path, "base/unet/config.json", text)
    (problem,) = place_problems(settings)
    assert "unet/config.json" in problem


def test_a_folder_that_is_not_there_is_told(settings: ControlnetSettings, tmp_path: Path) -> None:
    absent = ControlnetSettings(base=str(tmp_path / "nowhere"), controlnet=settings.controlnet)
    (problem,) = place_problems(absent)
    assert problem.startswith("systems.controlnet.base: there is no folder") and "nowhere" in problem


def test_another_generation_of_stable_diffusion_is_refused(settings: ControlnetSettings, tmp_path: Path) -> None:
    (tmp_path / "base/text_encoder_2").mkdir()
    (problem,) = place_problems(settings)
    assert "is not Stable Diffusion 1 or 2" in problem


def test_without_the_packages_the_extra_is_named(settings: ControlnetSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    (problem,) = place_problems(settings)
    assert "pip install 'scenepalette[diffusers]'" in problem


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (CARD.format("mit"), "mit"),
        ("---\nlicense: other\nlicense_name: stabilityai-community\n---\n", "stabilityai-community"),
        ("---\nlicense: [mit, openrail]\n---\n", "mit; openrail"),
        ("# No head\nlicense: mit\n", None),
        ("---\ntags: [a]\n---\n", None),
        ("---\nlicense: {a: [\n---\n", None),
        ("---\nlicense: 5\n---\n", None),
    ],
)
def test_terms_are_read_from_the_head_of_a_model_card(tmp_path: Path, card: str, expected: str | None) -> None:
    (tmp_path / "README.md").write_text(card)
    assert licence_in(tmp_path) == expected


def test_weights_on_the_hub_are_named_by_their_commit_and_nothing_is_asked_before_they_are_needed() -> None:
    place = f"hf://org/name@{COMMIT}"
    settings = ControlnetSettings(base=place, controlnet=place, base_licence="mit", controlnet_licence="mit")
    assert named_files(settings) == {}
    assert pretrained_of(settings) == [
        ("org/name@0123456789ab (base)", "mit"),
        ("org/name@0123456789ab (controlnet)", "mit"),
    ]


def test_a_commit_that_was_downloaded_is_taken_from_the_cache_and_another_is_told(tmp_path: Path) -> None:
    snapshot = tmp_path / f"hub/models--org--name/snapshots/{COMMIT}"
    write(snapshot, "unet/config.json", "{}")
    code = f"""
from scenepalette.common.errors import ConfigError
from {folder_of.__module__} import folder_of
print(folder_of("hf://org/name@{COMMIT}", "base"))
try:
    folder_of("hf://org/name@{COMMIT[::-1]}", "base")
except ConfigError as error:
    print(error)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()[:2]
    assert Path(first) == snapshot
    assert "images.systems.controlnet.base: hf://org/name@" in second and "cannot be had from the hub" in second
