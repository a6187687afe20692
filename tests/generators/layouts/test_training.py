from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors import safe_open

from scenepalette.common.errors import CheckpointError, ConfigError, TrainingError
from scenepalette.common.progress import NO_PROGRESS
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import labels_to_palette
from scenepalette.generators.layouts import registry as layout_systems
from scenepalette.generators.layouts import training as layout_training
from scenepalette.generators.layouts.inputs import FullInputs
from scenepalette.generators.layouts.loading import load_layout_generator
from scenepalette.generators.layouts.networks.progressive import (
    LayoutDiscriminator,
    LayoutGenerator,
    PartialLayoutGenerator,
)
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.layouts.training import Moment, moment_of, train_layout_generator
from scenepalette.generators.nn.blocks import count_parameters
from scenepalette.generators.palettes import fit_palette_sampler
from scenepalette.training.device.speed import Speed
from scenepalette.training.fabric import make_fabric
from scenepalette.training.loop import read_metrics

KINDS = ("semantic-palette", "semantic-palette-partial")
SMALL = LayoutSettings(
    noise_features=6,
    max_width=8,
    base_width=32,
    hidden_channels=6,
    fade_steps=(0, 2, 2),
    stable_steps=(2, 2, 2),
    batch_sizes=(6, 5, 4),
    checkpoint_every=3,
)

Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path, table: ClassTable, make_labels: Callable[..., np.ndarray], fabric: Fabric) -> Train:
    """Train on bands of 12x16 pixels in a folder of the given name."""

    def run(
        name: str,
        kind: str = "semantic-palette",
        settings: LayoutSettings = SMALL,
        seed: int = 3,
        progress: Any = NO_PROGRESS,
        **changes: Any,
    ) -> Path:
        labels = make_labels()
        palettes = labels_to_palette(torch.from_numpy(labels.astype(np.int64)), 3).numpy()
        options = {"labels": labels, "table": table, "fabric": fabric} | changes
        options["sampler"] = fit_palette_sampler(palettes, table.names, max_components=2)
        train_layout_generator(tmp_path / name, kind, settings, seed=seed, progress=progress, **options)
        return tmp_path / name

    return run


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def test_moments_by_hand() -> None:
    settings = replace(SMALL, fade_steps=(0, 2, 4), stable_steps=(1, 2, 1))
    moments = [moment_of(settings, step) for step in range(10)]
    assert moments == [
        Moment(0, 1.0, 6, True),
        Moment(1, 0.5, 5, False),
        Moment(1, 1.0, 5, False),
        Moment(1, 1.0, 5, False),
        Moment(1, 1.0, 5, True),
        Moment(2, 0.25, 4, False),
        Moment(2, 0.5, 4, False),
        Moment(2, 0.75, 4, False),
        Moment(2, 1.0, 4, False),
        Moment(2, 1.0, 4, True),
    ]
    with pytest.raises(IndexError, match="beyond the schedule of 10 steps"):
        moment_of(settings, 10)


def test_the_papers_network_is_the_default() -> None:
    with torch.device("meta"):
        network = LAYOUT_SYSTEMS["semantic-palette"].build_generator(
            ClassTable.unnamed(12), (128, 256), LayoutSettings()
        )
    assert isinstance(network, LayoutGenerator)
    assert count_parameters(network) == pytest.approx(27.61e6, rel=5e-4)
    with torch.device("meta"):
        partial = LAYOUT_SYSTEMS["semantic-palette-partial"].build_generator(
            ClassTable.unnamed(12), (128, 256), LayoutSettings()
        )
    assert isinstance(partial, PartialLayoutGenerator)
    assert (partial.base, partial.doublings, len(partial.to_mask)) == ((4, 8), 5, 6)


def test_golden_losses(
    layout_case: tuple[str, str, dict[str, Any]], train: Train, stop_at: Any, compare_with_golden: Callable[..., None]
) -> None:
    name, kind, changes = layout_case
    watcher = stop_at()
    folder = train("run", kind, replace(SMALL, **changes), progress=watcher)
    assert len(watcher.values) == watcher.total == 10
    ends = read_metrics(folder / "metrics.jsonl")
    assert [line["step"] for line in ends] == [2, 6, 10]
    assert [line["level"] for line in ends] == [0, 1, 2]
    if LAYOUT_SYSTEMS[kind].conditional:
        # Untrained networks do not meet their palettes.
        assert all(line["palette_kl"] > 0.01 for line in ends)
    else:
        assert not any("palette_kl" in line for line in ends)  # there is no palette to keep to
    # What is logged at the end of a level is what the progress was told.
    assert [line["critic"] for line in ends] == [watcher.values[step - 1]["critic"] for step in (2, 6, 10)]
    extras = {f"{name}-{line['step']}": line[name] for line in ends for name in ("penalty", "adversarial")}
    compare_with_golden(name, [values | extras for values in watcher.values])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("stop", "resumed"), [(4, 3), (6, 3), (8, 6), (10, 9)])
def test_an_interrupted_training_ends_with_the_same_bits(
    kind: str, stop: int, resumed: int, train: Train, stop_at: Any
) -> None:
    whole = train("whole", kind)
    with pytest.raises(KeyboardInterrupt):
        train("parts", kind, progress=stop_at(stop))
    torch.manual_seed(99)
    going_on = stop_at()
    parts = train("parts", kind, progress=going_on)
    assert (going_on.first, going_on.done) == (resumed, 10)
    assert weights(whole) == weights(parts)
    assert (whole / "metrics.jsonl").read_text() == (parts / "metrics.jsonl").read_text()
    for sheet in ("step-000002", "step-000006", "step-000010", "final"):
        assert (whole / f"samples/{sheet}.png").read_bytes() == (parts / f"samples/{sheet}.png").read_bytes()


def test_an_interrupted_training_of_any_system_ends_with_the_same_bits(
    layout_case: tuple[str, str, dict[str, Any]], train: Train, stop_at: Any
) -> None:
    _, kind, changes = layout_case
    settings = replace(SMALL, **changes)
    whole = train("whole", kind, settings)
    with pytest.raises(KeyboardInterrupt):
        train("parts", kind, settings, progress=stop_at(8))  # while the last level fades in
    torch.manual_seed(99)
    parts = train("parts", kind, settings)
    assert weights(whole) == weights(parts)
    assert (whole / "metrics.jsonl").read_text() == (parts / "metrics.jsonl").read_text()
    assert (whole / "samples/final.png").read_bytes() == (parts / "samples/final.png").read_bytes()
    # Another seed, another result.
    assert weights(train("other", kind, settings, seed=4)) != weights(whole)


def test_a_training_interrupted_before_its_first_checkpoint_begins_anew(train: Train, stop_at: Any) -> None:
    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("parts", progress=stop_at(2))
    assert weights(train("parts")) == weights(whole)


def test_a_finished_training_writes_the_same_weights_again(train: Train, stop_at: Any) -> None:
    folder = train("run", "semantic-palette-partial")
    before = weights(folder)
    (folder / "weights.safetensors").unlink()
    again = stop_at()
    train("run", "semantic-palette-partial", progress=again)
    assert again.values == []
    assert weights(folder) == before


def test_a_damaged_checkpoint_is_skipped_and_the_one_before_used(
    train: Train, stop_at: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("parts", progress=stop_at(8))
    newest = whole.parent / "parts/checkpoint-00000006.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    going_on = stop_at()
    parts = train("parts", progress=going_on)
    assert going_on.first == 3
    assert weights(parts) == weights(whole)
    assert "checkpoint-00000006.safetensors (" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_a_function_of_the_seed(kind: str, train: Train) -> None:
    first = weights(train("first", kind))
    torch.manual_seed(99)
    np.random.default_rng(99)
    assert weights(train("second", kind)) == first
    assert weights(train("third", kind, seed=4)) != first


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_loaded_as_the_average_in_eval_mode(kind: str, train: Train, table: ClassTable) -> None:
    folder = train("run", kind)
    network = load_layout_generator(folder / "weights.safetensors", kind, table, (12, 16), SMALL)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with safe_open(folder / "checkpoint-00000010.safetensors", "pt") as file:
        stored = {name: file.get_tensor(f"module/average/{name}") for name, _ in network.named_parameters()}
        trained = {name: file.get_tensor(f"module/generator/{name}") for name, _ in network.named_parameters()}
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, stored[name]), name
    assert any(not torch.equal(stored[name], trained[name]) for name in stored)
    with safe_open(folder / "weights.safetensors", "pt") as file:
        metadata = json.loads(file.metadata()["scenepalette"])["content"]
    assert metadata["system"] == kind
    assert metadata["settings"]["noise_features"] == 6


def test_weights_of_another_class_table_kind_or_size_are_refused(
    train: Train, table: ClassTable, other_table: ClassTable
) -> None:
    folder = train("run")
    with pytest.raises(CheckpointError, match="class_table"):
        load_layout_generator(folder / "weights.safetensors", "semantic-palette", other_table, (12, 16), SMALL)
    with pytest.raises(CheckpointError, match=r"size: the file has \[12, 16\], this run needs \[24, 32\]"):
        load_layout_generator(folder / "weights.safetensors", "semantic-palette", table, (24, 32), SMALL)
    with pytest.raises(CheckpointError, match="system: the file has 'semantic-palette'"):
        load_layout_generator(folder / "weights.safetensors", "semantic-palette-partial", table, (12, 16), SMALL)
    with pytest.raises(CheckpointError, match="does not fit the network"):
        load_layout_generator(
            folder / "weights.safetensors",
            "semantic-palette",
            table,
            (12, 16),
            replace(SMALL, max_width=16, base_width=64),
        )


def test_a_checkpoint_of_other_settings_is_refused(train: Train) -> None:
    train("run")
    with pytest.raises(CheckpointError, match="does not fit the network"):
        train("run", settings=replace(SMALL, max_width=16, base_width=64))


def test_a_loss_that_is_not_finite_stops_the_training_before_a_step(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real_loss = layout_systems.conditional_loss
    calls: list[int] = []

    def broken(scales: Any, weights: Any) -> torch.Tensor:
        calls.append(1)
        return real_loss(scales, weights) * (float("nan") if len(calls) == 5 else 1.0)

    monkeypatch.setattr(layout_systems, "conditional_loss", broken)
    with pytest.raises(TrainingError, match="loss generator became nan at step 4"):
        train("run")
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-00000003.safetensors"]


def test_a_gradient_that_is_not_finite_stops_the_training_before_a_step(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real_loss, calls = layout_systems.conditional_loss, []

    def broken(scales: Any, weights: Any) -> torch.Tensor:
        calls.append(1)
        loss = real_loss(scales, weights)
        return loss + (0 * loss).sqrt() if len(calls) == 5 else loss  # the root of 0 has no slope

    monkeypatch.setattr(layout_systems, "conditional_loss", broken)
    with pytest.raises(TrainingError, match=r"gradient of the generator is not finite at step 4 \(first in "):
        train("run")
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-00000003.safetensors"]


def test_the_checkpoint_nearest_to_its_palettes_is_kept_beside_the_last_two(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Steps 8 to 12 are of the full-grown network; before step 12 is scored, the end of its level draws a sheet.
    scores = iter([0.4, 0.1, 0.4, 0.3, 1.0, 0.2])

    def sheet(inputs: FullInputs, network: torch.nn.Module, level: int) -> tuple[list[np.ndarray], float | None]:
        return [np.zeros((3, 4, 3), np.uint8)], next(scores, 1.0) if level == 2 else 0.0

    monkeypatch.setattr(FullInputs, "sheet", sheet)
    settings = replace(SMALL, stable_steps=(2, 2, 4), checkpoint_every=1)
    folder = train("run", settings=settings)
    kept = sorted(int(p.stem.rpartition("-")[2]) for p in folder.glob("checkpoint-*"))
    assert kept == [9, 11, 12]


def test_measuring_diversity_leaves_the_training_as_it_is(
    train: Train, stop_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = train("without", progress=(plain := stop_at()))
    monkeypatch.setattr(layout_training, "watch_interval", lambda steps: 1)
    whole = train("whole", progress=(watched := stop_at()))
    assert watched.values == plain.values
    assert weights(whole) == weights(without)
    lines = read_metrics(whole / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert all({"layout_diversity", "layout_noise_diversity"} <= line.keys() for line in lines)
    assert (whole / "checkpoint-00000010.safetensors").read_bytes() == (
        without / "checkpoint-00000010.safetensors"
    ).read_bytes()


def test_the_discriminator_takes_no_gradients_from_the_generators_step(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    discriminators: list[LayoutDiscriminator] = []
    seen: list[tuple[bool, bool]] = []
    original = layout_training.generator_loss

    class Watched(LayoutDiscriminator):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            discriminators.append(self)

    def watch(scores: torch.Tensor) -> torch.Tensor:
        seen.append((scores.requires_grad, any(p.requires_grad for p in discriminators[0].parameters())))
        return original(scores)

    monkeypatch.setattr(layout_systems, "LayoutDiscriminator", Watched)
    monkeypatch.setattr(layout_training, "generator_loss", watch)
    train("run")
    assert seen == [(True, False)] * 10
    assert all(p.requires_grad for p in discriminators[0].parameters())


def test_settings_of_another_system_are_refused_before_anything_is_written(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edits: 'add' means nothing to sb-gan"):
        train("run", "sb-gan", replace(SMALL, edits="add"))
    with pytest.raises(ConfigError, match="There is no layout system 'stylegan'"):
        train("run", "stylegan")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "loss", "remaining", "divergence"),
    [("semantic-palette", "conditional", 0.7, 0.08), ("baseline-1", "matching", 0.5, 0.3)],
)
def test_training_brings_layouts_closer_to_their_palettes(
    kind: str, loss: str, remaining: float, divergence: float, train: Train, stop_at: Any
) -> None:
    settings = replace(
        SMALL,
        max_width=16,
        base_width=64,
        fade_steps=(0, 10, 10),
        stable_steps=(30, 30, 60),
        batch_sizes=(16, 16, 16),
        learning_rate=3e-3,
        checkpoint_every=1000,
        average_decay=0.9,
    )
    watcher = stop_at()
    folder = train("run", kind, settings, progress=watcher)
    first, last = (np.mean([values[loss] for values in part]) for part in (watcher.values[:10], watcher.values[-10:]))
    assert last < remaining * first
    assert read_metrics(folder / "metrics.jsonl")[-1]["palette_kl"] < divergence


@pytest.mark.parametrize("kind", LAYOUT_SYSTEMS)
def test_mixed_precision_stays_near_the_losses_of_single_precision(kind: str, train: Train, stop_at: Any) -> None:
    single, mixed = stop_at(), stop_at()
    train("single", kind, progress=single)
    train("mixed", kind, progress=mixed, fabric=make_fabric(precision="bf16-mixed"))
    for first, second in zip(single.values[:4], mixed.values[:4], strict=True):
        # The discriminator's value is a small difference of scores, and may rest on classes drawn otherwise.
        assert {name: second[name] for name in second if name != "critic"} == pytest.approx(
            {name: first[name] for name in first if name != "critic"}, rel=0.1
        )
        assert second["critic"] == pytest.approx(first["critic"], abs=0.2)
    assert single.values != mixed.values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warp", [0.0, 0.2])
def test_what_only_a_gpu_does_ends_with_the_same_bits(kind: str, warp: float, train: Train) -> None:
    settings = replace(SMALL, warp=warp)
    plain = train("plain", kind, settings)
    fast = train("fast", kind, settings, fabric=make_fabric(speed=Speed(deferred=True, resident=True, tuned=True)))
    for file in ("weights.safetensors", "metrics.jsonl"):
        assert (plain / file).read_bytes() == (fast / file).read_bytes()
