"""Any bytes in place of weights or a checkpoint are taken as they were written, or refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as to_safetensors
from torch import nn

from fuzzing import FUZZ, JSON_VALUES, Changes, changes, damaged
from scenepalette.common.errors import CheckpointError
from scenepalette.training.checkpoint import CheckpointFolder, load_weights, read_metadata, save_weights


def make_training() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return network, optimizer


@FUZZ
@given(made=changes(2**14), kept=st.none() | st.integers(0, 2000))
def test_any_damage_to_weights(tmp_path: Path, made: Changes, kept: int | None) -> None:
    network, _ = make_training()
    path = tmp_path / "weights.safetensors"
    save_weights(path, network, {"classes": 3})
    before = path.read_bytes()
    path.write_bytes(damaged(before, made, kept))
    loaded = nn.Linear(2, 2)
    try:
        metadata = load_weights(path, loaded, {"classes": 3})
    except CheckpointError as error:
        str(error).encode(errors="replace")
    else:
        # Bytes that nothing is read from may differ, such as the spaces that pad a header.
        assert metadata == {"classes": 3}
        torch.testing.assert_close(dict(loaded.state_dict()), dict(network.state_dict()), rtol=0, atol=0)


@FUZZ
@given(made=changes(2**14), kept=st.none() | st.integers(0, 4000))
def test_any_damage_to_the_newest_checkpoint(tmp_path: Path, made: Changes, kept: int | None) -> None:
    network, optimizer = make_training()
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        newest = folder.save(step, {"net": network}, {"opt": optimizer})
    newest.write_bytes(damaged(newest.read_bytes(), made, kept))
    assert folder.load({"net": network}, {"opt": optimizer})[0] in (1, 2)


@FUZZ
@given(
    header=JSON_VALUES | st.dictionaries(st.sampled_from(["content", "sha256", "groups", "extra", "step"]), JSON_VALUES)
)
def test_any_header_of_a_checkpoint(tmp_path: Path, header: Any) -> None:
    """Without a checksum, as earlier versions wrote them: nothing but the training itself can contradict it."""
    network, optimizer = make_training()
    tensors = {f"module/net/{name}": value for name, value in network.state_dict().items()}
    path = tmp_path / "checkpoint-00000001.safetensors"
    path.write_bytes(to_safetensors(tensors, {"scenepalette": json.dumps(header)}))
    assert CheckpointFolder(tmp_path).load({"net": network}, {"opt": optimizer}) == (0, {})
    try:
        read_metadata(path)
    except CheckpointError as error:
        str(error).encode(errors="replace")


@pytest.mark.damaged
@FUZZ
@given(content=st.binary(max_size=300))
def test_any_bytes_as_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_weights(path, nn.Linear(2, 2))
