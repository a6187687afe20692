"""Where the weights of `controlnet` come from: folders or the hub, what is in them, and their terms."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.storage.files import read_json
from scenepalette.common.storage.untrusted import parse_yaml, short
from scenepalette.generators.images.base import Pretrained
from scenepalette.generators.images.diffusion.settings import PREFIX, ControlnetSettings, hub_name, places

MISSING = (
    "diffusers and transformers are not installed; install the extra: pip install 'scenepalette[diffusers]', or choose "
    "another image system"
)
CARD = "README.md"
_NETWORK = ("config.json", "diffusion_pytorch_model.safetensors")
_FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "base": {
        "unet": _NETWORK,
        "vae": _NETWORK,
        "text_encoder": ("config.json", "model.safetensors"),
        "tokenizer": ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"),
        "scheduler": ("scheduler_config.json",),
    },
    "controlnet": {"": _NETWORK},
}
"""The files that are read, by role and folder; other precisions beside them are not."""
LAYOUT_CHANNELS = (16, 32, 96, 256)
"""Channels of the layers by which a ControlNet brings layouts to the size of latents, as published."""


def packages_problem() -> str | None:
    """Return what is missing of the extra `diffusers`; None if it is installed."""
    return None if find_spec("diffusers") and find_spec("transformers") else MISSING


def folder_at(place: str) -> Path:
    """Return the folder that a text names; ~ is the user's home."""
    return Path(os.path.expanduser(place))


def named_files(settings: ControlnetSettings) -> dict[str, Path]:
    """Return the files in folders that may be read, README.md for the terms among them, by their names there.

    Whether they are there is not looked at. What is on the hub is identified by its commit.
    """
    return {
        f"{role}/{name}": folder_at(place) / name
        for role, place, _ in places(settings)
        if hub_name(place) is None
        for name in (*_names_of(role), CARD)
    }


def _names_of(role: str) -> list[str]:
    return [f"{part}/{name}".lstrip("/") for part, names in _FILES[role].items() for name in names]


def place_problems(settings: ControlnetSettings) -> list[str]:
    """Return what the settings, which have no problems as texts, lack on this machine; the hub is not asked."""
    problems = []
    if (missing := packages_problem()) is not None:
        problems.append(f"system: {missing}")
    folders = {role: folder_at(place) for role, place, _ in places(settings) if hub_name(place) is None}
    problems += folder_problems(folders.get("base"), folders.get("controlnet"))
    problems += [
        f"{PREFIX}.{role}_licence: it is missing, and {short(place)} has no {CARD} with a line license: in its head; "
        "give the terms under which you have the weights, for example creativeml-openrail-m"
        for role, place, licence in places(settings)
        if role in folders and folders[role].is_dir() and not licence and licence_in(folders[role]) is None
    ]
    return problems


def folder_problems(base: Path | None, controlnet: Path | None) -> list[str]:
    """Return what is wrong with folders of weights; None for what is not looked at.

    Only files' names and the configurations are read, no weights.
    """
    problems = []
    if base is not None:
        problems += _lacking(base, "base")
        if (base / "text_encoder_2").is_dir() or (base / "transformer").is_dir():
            problems.append(f"{PREFIX}.base: {short(str(base))} is not Stable Diffusion 1 or 2, which are required")
    if controlnet is not None:
        problems += _lacking(controlnet, "controlnet")
    if problems:
        return problems
    try:
        if base is not None:
            problems += _base_problems(base)
        if controlnet is not None:
            problems += _controlnet_problems(controlnet, base)
    except ScenepaletteError as error:
        problems.append(f"{PREFIX}.base: {error}")
    return problems


def _lacking(home: Path, role: str) -> list[str]:
    """Return the files that a folder lacks, in one text."""
    if not home.is_dir():
        return [f"{PREFIX}.{role}: there is no folder {short(str(home))}"]
    lacking = [name for name in _names_of(role) if not name.startswith("tokenizer/") and not (home / name).is_file()]
    words = home / "tokenizer"
    divided = (words / "vocab.json").is_file() and (words / "merges.txt").is_file()
    if role == "base" and not divided and not (words / "tokenizer.json").is_file():
        lacking.append("tokenizer/tokenizer.json, or vocab.json and merges.txt")
    if not lacking:
        return []
    return [
        f"{PREFIX}.{role}: {short(str(home))} lacks {', '.join(lacking)}; the form of diffusers is required, with "
        "weights as safetensors (nothing is unpickled)"
    ]


def _config(path: Path) -> dict[str, Any]:
    """Return a configuration; raises a DataError if it is no JSON object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ScenepaletteError(f"{path} holds no object; copy the folder again.")
    return content


def _base_problems(base: Path) -> list[str]:
    unet, vae = _config(base / "unet/config.json"), _config(base / "vae/config.json")
    problems, latents = [], vae.get("latent_channels")
    if unet.get("in_channels") != latents:
        problems.append(
            f"{PREFIX}.base: its UNet takes {unet.get('in_channels')} channels, its autoencoder has {latents}; equal "
            "numbers are required (not a base for inpainting or depth)"
        )
    words = _config(base / "text_encoder/config.json")
    width = words.get("hidden_size", words.get("text_config", {}).get("hidden_size"))
    if width != unet.get("cross_attention_dim"):
        problems.append(
            f"{PREFIX}.base: its text encoder gives {width} numbers a word, its UNet takes "
            f"{unet.get('cross_attention_dim')}; copy both from one release"
        )
    return problems


def _controlnet_problems(folder: Path, base: Path | None) -> list[str]:
    control, problems = _config(folder / "config.json"), []
    if control.get("_class_name") != "ControlNetModel":
        problems.append(
            f"{PREFIX}.controlnet: {short(str(folder))} holds {short(str(control.get('_class_name')))}, "
            "ControlNetModel is required"
        )
    if (channels := control.get("conditioning_channels", 3)) != 3:
        problems.append(
            f"{PREFIX}.controlnet: it takes images of {channels} channels; 3 are required, those of a coloured layout"
        )
    if base is not None:
        unet = _config(base / "unet/config.json")
        problems += [
            f"{PREFIX}.controlnet: its {key} is {control.get(key)}, that of the base is {unet.get(key)}; take a "
            "ControlNet that was trained for this base"
            for key in ("in_channels", "block_out_channels", "cross_attention_dim")
            if control.get(key) != unet.get(key)
        ]
        vae = _config(base / "vae/config.json")
        scales = len(control.get("conditioning_embedding_out_channels", LAYOUT_CHANNELS))
        of_base = len(vae.get("block_out_channels", LAYOUT_CHANNELS))
        if scales != of_base:
            problems.append(
                f"{PREFIX}.controlnet: it has layouts at {scales} scales, the autoencoder of the base images at "
                f"{of_base}; take a ControlNet that was trained for this base"
            )
    return problems


def licence_in(folder: Path) -> str | None:
    """Return what the model card of a folder says of its terms; None if it says nothing.

    It is `license` in the YAML before README.md's text; with "other", `license_name`.
    """
    try:
        text = (folder / CARD).read_text(encoding="utf-8", errors="replace")
        head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
        said = parse_yaml(head[1]) if head else None
    except (OSError, ValueError, ScenepaletteError):
        return None
    if not isinstance(said, dict):
        return None
    terms = said.get("license")
    if terms == "other" and isinstance(said.get("license_name"), str):
        terms = said["license_name"]
    if isinstance(terms, list):
        terms = "; ".join(map(str, terms))
    return " ".join(terms.split())[:200] if isinstance(terms, str) and terms.strip() else None


def pretrained_of(settings: ControlnetSettings) -> list[Pretrained]:
    """Return names and terms of the weights that images owe to."""
    found = []
    for role, place, licence in places(settings):
        hub, folder = hub_name(place), folder_at(place)
        name = f"{hub[0]}@{hub[1][:12]}" if hub else folder.resolve().name
        found.append(Pretrained(f"{name} ({role})", licence or (None if hub else licence_in(folder)) or "not stated"))
    return found


def folder_of(place: str, role: str) -> Path:
    """Return the folder of weights; what is on the hub is downloaded, unless it is there.

    Raises:
        ConfigError: It cannot be had.
    """
    hub = hub_name(place)
    if hub is None:
        return folder_at(place)
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(hub[0], revision=hub[1], allow_patterns=_names_of(role))
    except Exception as error:  # of the network, the hub and its disk: each has its own kind
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"images.{PREFIX}.{role}: {place} cannot be had from the hub ({short(reason, 300)}). Check name, commit "
            "and network, log in with `hf auth login` if it is gated, or give a folder."
        ) from error
    return Path(path)
