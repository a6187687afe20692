"""Weights and checkpoints as safetensors: nothing is ever unpickled, half-written files are recognised."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.optim import Optimizer

from data.errors import CheckpointError
from data.files import sha256_of_file, write_atomically

_NAME = re.compile(r"checkpoint-(\d{8})\.safetensors")


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def save_weights(path: Path, module: nn.Module, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a module's state atomically as safetensors.

    Args:
        path: File to write.
        module: Any module; its state dict is stored under its own names.
        metadata: JSON values kept in the file's header, for example the class table.
    """
    header = {"scenepalette": json.dumps(dict(metadata or {}), sort_keys=True)}
    write_atomically(path, to_safetensors({k: _plain(v) for k, v in module.state_dict().items()}, header))


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return tensors, json.loads(header.get("scenepalette", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors ({error}). It is missing, cut short or damaged; remove it and "
            "give the same command again to make it anew."
        ) from error


def load_weights(path: Path, module: nn.Module, expected: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Load weights written by `save_weights` into a module.

    Args:
        path: File to read.
        module: Module of the same architecture, changed in place.
        expected: Metadata that must be in the file with these values, for example the class table's fingerprint.

    Returns:
        The file's metadata.

    Raises:
        CheckpointError: The file is damaged, is of another class table, or does not fit the module.
    """
    tensors, metadata = _open(path)
    differing = [
        f"{key}: the file has {metadata.get(key)!r}, this run needs {value!r}"
        for key, value in (expected or {}).items()
        if metadata.get(key) != value
    ]
    if differing:
        raise CheckpointError(
            f"{path} was made for another set-up. Use weights trained on the same class table and settings, or train "
            "anew in another --out folder.",
            differing,
        )
    _load_state(path, module, tensors)
    return metadata


def _load_state(path: Path, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit the network that it is loaded into; it was trained with other settings or classes.",
            str(error).splitlines()[1:],
        ) from error


def weights_hash(path: Path) -> str:
    """Return the content hash under which shards name a model: SHA-256 of its weights file."""
    return sha256_of_file(path)


class CheckpointFolder:
    """The last checkpoints of one training in a folder, each with all that is needed to go on from it.

    A checkpoint holds the state of modules and optimizers and a JSON `extra`; the number in its name is the count of
    finished steps. The newest intact one is loaded; a damaged one is skipped with a line that says so.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        """Use `folder` for checkpoints and keep the newest `keep` of them."""
        self.folder = folder
        self.keep = keep

    def _paths(self) -> list[Path]:
        """Checkpoints, newest first."""
        return sorted((p for p in self.folder.glob("checkpoint-*") if _NAME.fullmatch(p.name)), reverse=True)

    def save(
        self,
        step: int,
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        extra: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write a checkpoint atomically and drop the oldest beyond `keep`.

        Args:
            step: Number of finished steps.
            modules: Modules by name.
            optimizers: Optimizers by name.
            extra: Further JSON values.
        """
        tensors: dict[str, Tensor] = {}
        for name, module in modules.items():
            tensors |= {f"module/{name}/{key}": _plain(value) for key, value in module.state_dict().items()}
        groups: dict[str, Any] = {}
        for name, optimizer in optimizers.items():
            state = optimizer.state_dict()
            groups[name] = state["param_groups"]
            for index, entries in state["state"].items():
                for key, value in entries.items():
                    if value is not None:
                        tensors[f"optimizer/{name}/{index}/{key}"] = _plain(torch.as_tensor(value))
        header = {"groups": groups, "extra": dict(extra or {}), "step": step}
        path = self.folder / f"checkpoint-{step:08d}.safetensors"
        write_atomically(path, to_safetensors(tensors, {"scenepalette": json.dumps(header)}))
        for old in self._paths()[self.keep :]:
            with contextlib.suppress(OSError):
                old.unlink()
        return path

    def load(self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> tuple[int, dict[str, Any]]:
        """Load the newest intact checkpoint, or nothing.

        Returns:
            The number of finished steps (0 if there is no checkpoint) and the stored extra values.

        Raises:
            CheckpointError: An intact checkpoint does not fit the given modules.
        """
        for path in self._paths():
            try:
                tensors, header = _open(path)
            except CheckpointError as error:
                print(f"Skipping a damaged checkpoint and using the one before: {error}", file=sys.stderr, flush=True)
                continue
            for name, module in modules.items():
                prefix = f"module/{name}/"
                _load_state(path, module, _below(tensors, prefix))
            for name, optimizer in optimizers.items():
                state: dict[int, dict[str, Tensor]] = {}
                for key, value in _below(tensors, f"optimizer/{name}/").items():
                    index, entry = key.split("/")
                    state.setdefault(int(index), {})[entry] = value
                optimizer.load_state_dict({"state": state, "param_groups": header["groups"][name]})
            return int(header["step"]), header["extra"]
        return 0, {}

    def clear(self) -> None:
        """Remove all checkpoints, after the final weights are on disk."""
        for path in self._paths():
            path.unlink(missing_ok=True)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
