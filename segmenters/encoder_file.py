"""Weights of an encoder from a local file, whatever names the trainer of these weights gave them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.downloads import why_unreadable
from scenepalette.common.storage.untrusted import short

# What files nest their weights in, and what they put before the names of an encoder's weights.
NESTS = ("state_dict", "state_dict_ema", "model", "model_state_dict")
PREFIXES = ("", "encoder.", "model.", "module.", "backbone.", "encoder.model.")


def load_encoder(encoder: nn.Module, name: str, path: Path, setting: str = "segmenters.encoder") -> None:
    """Load a file into an encoder; a classifier or decoder in it is left out.

    Args:
        encoder: The encoder of a segmenter.
        name: Its name, for messages.
        path: A state dict as .safetensors, or as torch wrote it, which is read with weights_only=True.
        setting: The setting that names the encoder, for messages; the one that names the file ends in _weights.

    Raises:
        ConfigError: The file cannot be read, or weights of the encoder are missing, of another shape, not finite, or
            rounded to integers; all at once.
    """
    found = _read(path, f"{setting}_weights")
    wanted = {key: value for key, value in encoder.state_dict().items() if not key.endswith("num_batches_tracked")}
    # timm joins names of layers by _ where it gives features, and by . elsewhere.
    keys = {_plain(key.removeprefix("model.")): key for key in wanted}

    def fitting(prefix: str) -> dict[str, Tensor]:
        shortened = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
        return {keys[_plain(key)]: value for key, value in shortened.items() if _plain(key) in keys}

    state = max(map(fitting, PREFIXES), key=len)
    missing = [key for key in wanted if key not in state]
    differing = [
        f"{key}: {text}" for key, value in wanted.items() if key in state and (text := _unlike(state[key], value))
    ]
    problems = [*([f"the file has no {_some(missing)}"] if missing else []), *_first(differing)]
    if problems:
        raise ConfigError(
            f"{setting}_weights: {path} holds {len(found)} tensors ({_some(list(found))}) and does not fit "
            f"the encoder {name}, which has {len(wanted)}. Name a file of this encoder, or set {setting} to "
            "the one that the file is of.",
            problems,
        )
    encoder.load_state_dict(state | {key: value for key, value in encoder.state_dict().items() if key not in state})


def _read(path: Path, setting: str) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(f"{setting}: there is no file {path}. Correct the path.") from error
    except Exception as error:  # torch, pickle and safetensors each raise their own kinds
        raise ConfigError(
            f"{setting}: {path} cannot be read as weights alone ({why_unreadable(path, error)}). Copy it again from "
            "its source, or save the encoder's state dict as .safetensors, or by torch.save(model.state_dict(), ...)."
        ) from error
    for nest in NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    tensors = (
        {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise ConfigError(f"{setting}: {path} holds no named tensors. Name a file with a state dict.")
    return tensors


def _unlike(found: Tensor, wanted: Tensor) -> str:
    """Return what makes a tensor of the file unfit for that of the encoder, or nothing."""
    if found.shape != wanted.shape:
        return f"{tuple(found.shape)} in the file, {tuple(wanted.shape)} in the encoder"
    if found.is_floating_point() != wanted.is_floating_point():
        return f"{found.dtype} in the file, {wanted.dtype} in the encoder"
    return "" if bool(found.isfinite().all()) else "values in the file are not finite"


def _plain(key: str) -> str:
    return key.replace(".", "_")


def _first(texts: list[str], count: int = 5) -> list[str]:
    return texts[:count] + ([f"and {len(texts) - count} more"] if len(texts) > count else [])


def _some(names: list[str]) -> str:
    return ", ".join(_first([short(name) for name in names], 3))
