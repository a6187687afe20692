from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from scenepalette.common.errors import CheckpointError, DamagedCheckpointError
from scenepalette.training.checkpoint import CheckpointFolder, load_weights, read_metadata, save_weights


def make_training(width: int = 3, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
    return network, torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.5, 0.9))


def take_steps(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        optimizer.zero_grad()
        network(torch.randn(8, 2)).square().mean().backward()
        optimizer.step()


def assert_equal_state(first: nn.Module, second: nn.Module) -> None:
    torch.testing.assert_close(dict(first.state_dict()), dict(second.state_dict()), rtol=0, atol=0)


def test_weights_and_metadata_come_back(tmp_path: Path) -> None:
    network, _ = make_training()
    path = tmp_path / "new" / "weights.safetensors"
    metadata = {"system": "oasis", "size": [12, 16], "nested": {"kl": 0.25}}
    save_weights(path, network, metadata)
    other, _ = make_training(seed=1)
    assert load_weights(path, other, {"system": "oasis", "size": [12, 16]}) == metadata
    assert_equal_state(network, other)
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(path.read_bytes())


def test_weights_in_another_memory_format_are_the_same_file(tmp_path: Path) -> None:
    conv = nn.Conv2d(3, 4, 3)
    save_weights(tmp_path / "a", conv)
    save_weights(tmp_path / "b", conv.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_weights_made_for_something_else_are_refused_untouched(tmp_path: Path) -> None:
    network, _ = make_training()
    path = tmp_path / "weights.safetensors"
    save_weights(path, network, {"class_table": "abc", "size": [1, 2]})
    other, _ = make_training(seed=1)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(CheckpointError) as raised:
        load_weights(path, other, {"class_table": "xyz", "size": [3, 4], "system": "oasis"})
    assert raised.value.problems == (
        "class_table: the file has 'abc', this run needs 'xyz'",
        "size: the file has [1, 2], this run needs [3, 4]",
        "system: the file has None, this run needs 'oasis'",
    )
    torch.testing.assert_close(dict(other.state_dict()), before, rtol=0, atol=0)


def test_weights_of_another_architecture_are_refused_with_the_layers(tmp_path: Path) -> None:
    save_weights(tmp_path / "weights.safetensors", make_training()[0])
    with pytest.raises(CheckpointError, match=r"(?s)does not fit the network.*0\.weight"):
        load_weights(tmp_path / "weights.safetensors", make_training(width=4)[0])


@pytest.mark.damaged
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content[:4],
        lambda content: b"",
        lambda content: b"\xff" * len(content),
        lambda content: pickle.dumps({"weight": 1}),
    ],
    ids=["last byte gone", "half", "head", "empty", "garbage", "pickle"],
)
def test_damaged_weights_are_refused_with_their_name(damage: object, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, make_training()[0])
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors cannot be read as safetensors"):
        load_weights(path, make_training()[0])


@pytest.mark.parametrize("region", ["head", "tensors"])
def test_every_flipped_bit_of_weights_is_noticed(region: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, make_training()[0], {"system": "oasis"})
    content = path.read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    loaded, _ = make_training()
    for position in range(head) if region == "head" else range(head, len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(DamagedCheckpointError):
            load_weights(path, loaded)


def test_weights_of_versions_without_a_checksum_are_still_read(tmp_path: Path) -> None:
    network, _ = make_training()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(to_safetensors(dict(network.state_dict()), {"scenepalette": '{"system": "oasis"}'}))
    other, _ = make_training(seed=1)
    assert load_weights(path, other, {"system": "oasis"}) == {"system": "oasis"}
    assert_equal_state(network, other)


def test_metadata_is_read_without_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, nn.Linear(2, 2), {"classes": 3})
    assert read_metadata(path) == {"classes": 3}
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DamagedCheckpointError, match=path.name):
        read_metadata(path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.safetensors cannot be read"):
        load_weights(tmp_path / "weights.safetensors", make_training()[0])


@pytest.mark.parametrize("kind", ["adam", "momentum"])
def test_training_goes_on_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    def begin(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        network, optimizer = make_training(seed=seed)
        if kind == "momentum":
            optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
        return network, optimizer

    whole, optimizer = begin(0)
    take_steps(whole, optimizer, range(3))
    optimizer.param_groups[0]["lr"] = 0.004
    folder = CheckpointFolder(tmp_path)
    path = folder.save(3, {"net": whole}, {"opt": optimizer}, {"best": 0.5, "names": ["a"]})
    assert path.name == "checkpoint-00000003.safetensors"
    take_steps(whole, optimizer, range(3, 6))

    parts, optimizer = begin(9)
    assert folder.load({"net": parts}, {"opt": optimizer}) == (3, {"best": 0.5, "names": ["a"]})
    assert optimizer.param_groups[0]["lr"] == 0.004
    take_steps(parts, optimizer, range(3, 6))
    assert_equal_state(whole, parts)


def test_several_modules_and_optimizers_are_kept_apart(tmp_path: Path) -> None:
    first, first_optimizer = make_training(seed=0)
    second, second_optimizer = make_training(width=5, seed=1)
    take_steps(first, first_optimizer, range(2))
    take_steps(second, second_optimizer, range(4))
    folder = CheckpointFolder(tmp_path)
    folder.save(4, {"a": first, "b": second}, {"a": first_optimizer, "b": second_optimizer})
    loaded = [make_training(seed=7), make_training(width=5, seed=8)]
    folder.load({"a": loaded[0][0], "b": loaded[1][0]}, {"a": loaded[0][1], "b": loaded[1][1]})
    assert_equal_state(loaded[0][0], first)
    assert_equal_state(loaded[1][0], second)
    steps = [int(next(iter(optimizer.state.values()))["step"]) for _, optimizer in loaded]
    assert steps == [2, 4]


def test_an_empty_folder_starts_from_nothing(tmp_path: Path) -> None:
    network, optimizer = make_training()
    (tmp_path / "checkpoint-3.safetensors.tmp").write_bytes(b"")
    assert CheckpointFolder(tmp_path).load({"net": network}, {"opt": optimizer}) == (0, {})
    assert CheckpointFolder(tmp_path / "missing").load({"net": network}, {"opt": optimizer}) == (0, {})


def test_the_newest_are_kept(tmp_path: Path) -> None:
    network, optimizer = make_training()
    folder = CheckpointFolder(tmp_path, keep=2)
    (tmp_path / "weights.safetensors").write_bytes(b"mine")
    for step in (5, 50, 500, 10_000):
        folder.save(step, {"net": network}, {"opt": optimizer})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint-00000500.safetensors", "checkpoint-00010000.safetensors", "weights.safetensors"]
    assert folder.load({"net": network}, {"opt": optimizer})[0] == 10_000
    folder.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


@pytest.mark.damaged
@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-8], lambda content: b"", lambda content: content[8:]],
    ids=["cut short", "empty", "no head"],
)
def test_a_damaged_checkpoint_is_skipped_and_the_one_before_used(
    damage: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, optimizer = make_training()
    folder = CheckpointFolder(tmp_path)
    take_steps(network, optimizer, range(1))
    folder.save(1, {"net": network}, {"opt": optimizer})
    before = {name: value.clone() for name, value in network.state_dict().items()}
    take_steps(network, optimizer, range(1, 2))
    newest = folder.save(2, {"net": network}, {"opt": optimizer})
    assert callable(damage)
    newest.write_bytes(damage(newest.read_bytes()))

    loaded, optimizer = make_training(seed=5)
    assert folder.load({"net": loaded}, {"opt": optimizer})[0] == 1
    torch.testing.assert_close(dict(loaded.state_dict()), before, rtol=0, atol=0)
    message = capsys.readouterr().err
    assert message.startswith("Skipped damaged checkpoints") and newest.name in message
    assert message.endswith("Resuming from checkpoint-00000001.safetensors, step 1.\n")


def test_a_flipped_bit_in_a_tensor_is_noticed_and_the_checkpoint_before_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, optimizer = make_training()
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        take_steps(network, optimizer, range(step - 1, step))
        newest = folder.save(step, {"net": network}, {"opt": optimizer})
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    assert folder.load({"net": network}, {"opt": optimizer})[0] == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert (
        message.startswith("Skipped damaged checkpoints") and newest.name in message and "checksum differs" in message
    )


def test_a_training_without_an_intact_checkpoint_says_that_it_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, optimizer = make_training()
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"net": network}, {"opt": optimizer}).write_bytes(b"\0" * 99)
    assert folder.load({"net": network}, {"opt": optimizer}) == (0, {})
    assert "No intact checkpoint is left" in capsys.readouterr().err


def without_checksum(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], object]) -> None:
    """Write a checkpoint again as earlier versions did, without a checksum, with a change that one would have told."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["scenepalette"])
        header = header.get("content", header)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    change(header, tensors)
    path.write_bytes(to_safetensors(tensors, {"scenepalette": json.dumps(header)}))


@pytest.mark.damaged
@pytest.mark.parametrize(
    "change",
    [
        lambda header, _: header.pop("groups"),
        lambda header, _: header.update(groups={"opt": 3}),
        lambda header, _: header["groups"]["opt"][0].update(params=[0]),
        lambda header, _: header.update(step="x"),
        lambda header, _: header.update(step=-5),
        lambda header, _: header.update(step=7),
        lambda header, _: header.pop("extra"),
        lambda _, tensors: tensors.update({"optimizer/opt/zz/exp_avg": torch.zeros(2)}),
        lambda _, tensors: tensors.update({"optimizer/opt/99/exp_avg": torch.zeros(2)}),
        lambda _, tensors: tensors.update({"optimizer/opt/0/exp_avg": torch.zeros(7, 7)}),
    ],
)
def test_a_header_that_contradicts_the_training_counts_as_damage(
    change: Callable[[dict[str, Any], dict[str, Tensor]], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, optimizer = make_training()
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        take_steps(network, optimizer, range(step - 1, step))
        newest = folder.save(step, {"net": network}, {"opt": optimizer})
    without_checksum(newest, lambda header, tensors: None)
    assert folder.load({"net": network}, {"opt": optimizer})[0] == 2
    without_checksum(newest, change)
    assert folder.load({"net": network}, {"opt": optimizer})[0] == 1
    assert newest.name in capsys.readouterr().err


@pytest.mark.damaged
def test_a_header_nested_beyond_reason_counts_as_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, optimizer = make_training()
    folder = CheckpointFolder(tmp_path)
    path = folder.save(1, {"net": network}, {"opt": optimizer})
    path.write_bytes(to_safetensors({"x": torch.zeros(1)}, {"scenepalette": "[" * 100_000}))
    assert folder.load({"net": network}, {"opt": optimizer}) == (0, {})
    assert path.name in capsys.readouterr().err


def test_the_best_is_kept_beside_the_newest(tmp_path: Path) -> None:
    network, optimizer = make_training()
    folder = CheckpointFolder(tmp_path, keep=2)
    scores = {1: None, 2: 0.5, 3: 0.1, 4: 0.3, 5: None, 6: 0.2}
    kept = []
    for step, score in scores.items():
        folder.save(step, {"net": network}, {"opt": optimizer}, score=score)
        kept.append([int(path.stem.rpartition("-")[2]) for path in sorted(tmp_path.iterdir())])
    assert kept == [[1], [1, 2], [2, 3], [3, 4], [3, 4, 5], [3, 5, 6]]
    assert (
        folder.load({"net": network}, {"opt": optimizer})[0] == 6
    )  # the best is kept, training resumes from the newest


def test_an_intact_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    network, optimizer = make_training()
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"net": network}, {"opt": optimizer})
    wider, its_optimizer = make_training(width=4)
    with pytest.raises(CheckpointError, match="does not fit the networks that are trained here"):
        folder.load({"net": wider}, {"opt": its_optimizer})
    with pytest.raises(CheckpointError, match=r"remove checkpoint-00000001.safetensors to resume"):
        folder.load({"other": network}, {"opt": optimizer})


def test_a_save_that_fails_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, optimizer = make_training()
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"net": network}, {"opt": optimizer})
    monkeypatch.setattr(
        "scenepalette.common.storage.files.os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(Exception, match="the disk is full"):
        folder.save(2, {"net": network}, {"opt": optimizer})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001.safetensors"]
    assert folder.load({"net": network}, {"opt": optimizer})[0] == 1


def test_the_state_of_an_optimizer_lies_in_memory_as_its_parameters_do(tmp_path: Path) -> None:
    def train(steps: int, folder: Path | None) -> dict[str, Tensor]:
        torch.manual_seed(0)
        network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)
        done = 0
        if folder is not None:
            done, _ = CheckpointFolder(folder).load({"network": network}, {"network": optimizer})
        for step in range(done, steps):
            optimizer.zero_grad()
            network(torch.linspace(-1, 1, 75).view(1, 3, 5, 5) * (step + 1)).square().mean().backward()
            optimizer.step()
        CheckpointFolder(tmp_path).save(steps, {"network": network}, {"network": optimizer}, {})
        assert optimizer.state[network.weight]["exp_avg"].stride() == network.weight.stride()
        return network.state_dict()

    uninterrupted = train(4, None)
    for path in tmp_path.glob("checkpoint-*"):
        path.unlink()
    train(2, None)
    for key, value in train(4, tmp_path).items():
        assert torch.equal(value, uninterrupted[key])
