"""Weights and checkpoints as safetensors: nothing is ever unpickled, half-written and altered files are recognised.

A file's header holds a checksum over its tensors and over what else the header says, so that a flipped bit is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
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

from scenepalette.common.errors import CheckpointError, DamagedCheckpointError
from scenepalette.common.storage.files import write_atomically
from scenepalette.data.classes import ClassTable

_NAME = re.compile(r"checkpoint-(\d{8})\.safetensors")
_HEADER = "scenepalette"
# What reading any bytes as safetensors, and any JSON as its header, may raise.
UNREADABLE = (SafetensorError, OSError, ValueError, LookupError, TypeError, RecursionError)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def save_weights(path: Path, module: nn.Module, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a module's state atomically as safetensors.

    Args:
        path: File to write.
        module: Any module; its state dict is stored under its own names.
        metadata: JSON values kept in the file's header, for example the class table.
    """
    _write(path, {name: _plain(value) for name, value in module.state_dict().items()}, dict(metadata or {}))


def _write(path: Path, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    header = {"content": content, "sha256": _checksum(tensors, content)}
    # One entry alone: safetensors writes several in random order, and equal weights are to be equal files.
    write_atomically(path, to_safetensors(dict(tensors), {_HEADER: json.dumps(header, sort_keys=True)}))


def _checksum(tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> str:
    """Return the hex SHA-256 over names, types, shapes and bytes of all tensors, and over the header's content."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_header(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {})[_HEADER])
    if not isinstance(header, dict):
        raise ValueError("its header holds no object")
    return header


def _content_of(header: dict[str, Any]) -> dict[str, Any]:
    """Return what a header says beside its checksum; files of earlier versions have none, and say nothing else."""
    if not header.keys() & {"content", "sha256"}:
        return header
    content = header.get("content")
    if not isinstance(content, dict):
        raise ValueError("its header lacks its content")
    return content


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and the header's content of a file, after comparing them with its checksum.

    Files written before there were checksums are taken as they are.
    """
    try:
        header = _read_header(path)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        content = _content_of(header)
        if content is not header and header.get("sha256") != _checksum(tensors, content):
            raise ValueError("its content is not what was written: the checksum differs")
        return tensors, content
    except UNREADABLE as error:
        raise DamagedCheckpointError(
            f"{path} cannot be read as safetensors ({error}). It is missing, cut short or damaged; remove it, and the "
            "manifest.json beside it if there is one, and rerun the same command to make it again."
        ) from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of weights without reading the weights.

    Raises:
        DamagedCheckpointError: The file is missing, cut short or has no such header.
    """
    try:
        return _content_of(_read_header(path))
    except UNREADABLE as error:
        raise DamagedCheckpointError(f"{path} cannot be read as safetensors ({error!r}). Train it again.") from error


def load_weights(path: Path, module: nn.Module, expected: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Load weights written by `save_weights` into a module.

    Args:
        path: File to read.
        module: Module of the same architecture, changed in place.
        expected: Metadata that must be in the file with these values, for example the class table's fingerprint.

    Returns:
        The file's metadata.

    Raises:
        DamagedCheckpointError: The file is missing, cut short or not what was written.
        CheckpointError: It is of another class table, or does not fit the module.
    """
    tensors, metadata = _open(path)
    differing = differing_values(metadata, expected or {})
    if differing:
        raise CheckpointError(
            f"{path} was made for another set-up. Use weights trained on the same class table and settings, or train "
            "again in another --out folder.",
            differing,
        )
    _load_state(path, module, tensors)
    return metadata


def system_identity(name: str, table: ClassTable, size: tuple[int, int]) -> dict[str, Any]:
    """Return the metadata by which weights of a layout or image system, trained at H x W, are recognised."""
    return {"system": name, "class_table": table.fingerprint, "size": list(size)}


def differing_values(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return the entries of a file's metadata that are not as expected, one text each."""
    return [
        f"{key}: the file has {found.get(key)!r}, this run needs {value!r}"
        for key, value in expected.items()
        if found.get(key) != value
    ]


def _load_state(path: Path, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit the network that it is loaded into; it was trained with other settings or classes.",
            str(error).splitlines()[1:],
        ) from error


class CheckpointFolder:
    """The last checkpoints of one training in a folder, each with all that is needed to resume from it, and the best.

    A checkpoint holds the state of modules and optimizers and a JSON `extra`; the number in its name is the count of
    finished steps. The newest intact one is loaded; a damaged one is skipped, with a line that says so and which one is
    used.

    What is best is said by a score that comes with a checkpoint. Layout generators that keep to a palette have one:
    how far the layouts of fixed palettes are from them. Losses of a GAN measure the balance of two networks and not
    quality, and segmenters see no validation image in training, so that those trainings give none; of theirs the
    newest are kept.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
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
        *,
        score: float | None = None,
    ) -> Path:
        """Write a checkpoint atomically and drop those that are neither among the newest `keep` nor the best.

        Args:
            step: Number of finished steps.
            modules: Modules by name.
            optimizers: Optimizers by name.
            extra: Further JSON values.
            score: A measure of quality, lower is better and comparable with the other checkpoints'; None where there
                is none.
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
        content = {"groups": groups, "extra": dict(extra or {}), "step": step, "score": score}
        path = self.folder / f"checkpoint-{step:08d}.safetensors"
        _write(path, tensors, content)
        paths = self._paths()
        kept = {*paths[: self.keep], min(paths, key=_score_of)}
        for old in paths:
            if old not in kept:
                with contextlib.suppress(OSError):
                    old.unlink()
        return path

    def load(self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> tuple[int, dict[str, Any]]:
        """Load the newest intact checkpoint, or nothing.

        Returns:
            The number of finished steps (0 if there is no intact checkpoint) and the stored extra values.

        Raises:
            CheckpointError: An intact checkpoint does not fit the given modules.
        """
        damaged = []
        for path in self._paths():
            try:
                tensors, header = _open(path)
                # Whatever belongs to other networks is refused, never taken for damaged: it may be somebody's work.
                self._require_fit(path, modules, tensors)
                states = {name: _optimizer_state(name, one, tensors, header) for name, one in optimizers.items()}
                step = _step_of(path, header)
            except DamagedCheckpointError as error:
                reason = error.__cause__ if str(path) in error.summary else error.summary
                damaged.append(f"{path.name} ({reason})")
                continue
            for name, module in modules.items():
                _load_state(path, module, _below(tensors, f"module/{name}/"))
            for name, optimizer in optimizers.items():
                optimizer.load_state_dict(states[name])
            if damaged:
                print(f"Skipped damaged checkpoints in {self.folder}: {'; '.join(damaged)}.", end=" ", file=sys.stderr)
                print(f"Resuming from {path.name}, step {step}.", file=sys.stderr, flush=True)
            return step, header["extra"]
        if damaged:
            print(f"Skipped damaged checkpoints in {self.folder}: {'; '.join(damaged)}.", end=" ", file=sys.stderr)
            print("No intact checkpoint is left: starting from step 0.", file=sys.stderr, flush=True)
        return 0, {}

    def _require_fit(self, path: Path, modules: Mapping[str, nn.Module], tensors: dict[str, Tensor]) -> None:
        """Refuse a whole checkpoint that is not of these networks."""
        found = {key: list(value.shape) for key, value in _below(tensors, "module/").items()}
        needed = {
            f"{name}/{key}": list(value.shape)
            for name, module in modules.items()
            for key, value in module.state_dict().items()
        }
        if found != needed:
            raise CheckpointError(
                f"{path} does not fit the networks that are trained here; it is of other settings, classes or systems. "
                f"Give another --out folder, or remove {path.name} to resume from an earlier checkpoint.",
                [
                    f"{key}: {found.get(key, 'not there')} in the file, {needed.get(key, 'not there')} here"
                    for key in sorted({*found, *needed})
                    if found.get(key) != needed.get(key)
                ],
            )

    def clear(self) -> None:
        """Remove all checkpoints, after the final weights are on disk."""
        for path in self._paths():
            path.unlink(missing_ok=True)


def _step_of(path: Path, header: Mapping[str, Any]) -> int:
    """Return the finished steps of a checkpoint, by its name and its header alike."""
    named = _NAME.fullmatch(path.name)
    step = header.get("step")
    if named is None or not isinstance(step, int) or step != int(named[1]) or not isinstance(header.get("extra"), dict):
        raise DamagedCheckpointError(f"its header states step {step!r}, not that of its name, or lacks values")
    return step


def _optimizer_state(
    name: str, optimizer: Optimizer, tensors: dict[str, Tensor], header: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the state of an optimizer in a checkpoint, checked against the optimizer that takes it up."""
    try:
        groups = header["groups"][name]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if [len(group["params"]) for group in groups] != [len(group["params"]) for group in optimizer.param_groups]:
            raise ValueError("other groups of parameters")
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, f"optimizer/{name}/").items():
            index, entry = key.split("/")
            parameter = parameters[int(index)]
            if value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{entry} of parameter {index} has shape {list(value.shape)}")
            if value.ndim:
                # Fused optimizers go through parameter and state alike, in the order in which they lie in memory.
                value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
            state.setdefault(int(index), {})[entry] = value
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedCheckpointError(f"its state of the optimizer {name} cannot be used: {error!r}") from error
    return {"state": state, "param_groups": groups}


def _score_of(path: Path) -> float:
    """Return a checkpoint's score; infinity if it has none."""
    try:
        score = _read_header(path)["content"]["score"]
        return math.inf if score is None else float(score)
    except UNREADABLE:
        return math.inf


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
