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
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from scenepalette.common.errors import CheckpointError, ConfigError, ScenepaletteError, TrainingError
from scenepalette.common.progress import NO_PROGRESS
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import fill_ignored, one_hot
from scenepalette.generators.images import training as image_training
from scenepalette.generators.images.loading import load_image_generator
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.generators.images.systems import oasis
from scenepalette.generators.images.systems.oasis import OasisGenerator, OasisSettings, build_oasis_generator
from scenepalette.generators.images.training import train_image_generator
from scenepalette.generators.nn.blocks import count_parameters
from scenepalette.training.device.speed import Speed
from scenepalette.training.fabric import make_fabric
from scenepalette.training.loop import read_metrics
from scenepalette.training.monitor import COLLAPSES

SMALL = OasisSettings(
    width=4,
    noise_channels=5,
    hidden_channels=6,
    discriminator_width=4,
    steps=10,
    batch_size=3,
    generator_learning_rate=2e-3,
    discriminator_learning_rate=4e-3,
    checkpoint_every=3,
)

Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path, make_pairs: Callable[..., Pairs], fabric: Fabric, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train on pairs of 12x16 pixels in a folder of the given name."""
    monkeypatch.setattr(image_training, "STATISTICS_BATCHES", 4)

    def run(
        name: str, settings: OasisSettings = SMALL, seed: int = 3, progress: Any = NO_PROGRESS, **changes: Any
    ) -> Path:
        pairs = changes.pop("pairs", None) or make_pairs()
        options = {"pairs": pairs, "filled_labels": np.stack([fill_ignored(label) for label in pairs.labels])}
        options |= {"fabric": fabric} | changes
        train_image_generator(tmp_path / name, "oasis", settings, seed=seed, progress=progress, **options)
        return tmp_path / name

    return run


def load_oasis(folder: Path, table: ClassTable, size: tuple[int, int], settings: OasisSettings) -> OasisGenerator:
    network = load_image_generator(folder / "weights.safetensors", "oasis", table, size, settings)
    assert isinstance(network, OasisGenerator)
    return network


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


VARIANTS: dict[str, dict[str, Any]] = {"paper": {}, "augmented": {"augment": True, "noise_scheme": "mix"}}
VARIANTS["small data"] = {"augment": True, "augment_policies": ("colour",), "warp": 0.1, "lecam_weight": 0.1}


@pytest.mark.parametrize("variant", VARIANTS)
def test_golden_losses(variant: str, train: Train, stop_at: Any, compare_with_golden: Callable[..., None]) -> None:
    watcher = stop_at()
    train("run", replace(SMALL, **VARIANTS[variant]), progress=watcher)
    assert len(watcher.values) == 10
    compare_with_golden(f"oasis-{variant}", watcher.values)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("stop", "resumed"), [(4, 3), (9, 6)])
def test_an_interrupted_training_ends_with_the_same_bits(
    variant: str, stop: int, resumed: int, train: Train, stop_at: Any
) -> None:
    settings = replace(SMALL, **VARIANTS[variant])
    whole = train("whole", settings)
    with pytest.raises(KeyboardInterrupt):
        train("parts", settings, progress=stop_at(stop))
    torch.manual_seed(99)
    going_on = stop_at()
    parts = train("parts", settings, progress=going_on)
    assert (going_on.first, going_on.done) == (resumed, 10)
    assert weights(whole) == weights(parts)
    assert (whole / "samples/final.png").read_bytes() == (parts / "samples/final.png").read_bytes()


def test_repeated_steps_are_logged_once(train: Train, stop_at: Any) -> None:
    settings = replace(SMALL, steps=42, checkpoint_every=15)
    whole = train("whole", settings)
    with pytest.raises(KeyboardInterrupt):
        train("parts", settings, progress=stop_at(21))  # after the line of step 20, before the checkpoint of step 30
    assert [line["step"] for line in read_metrics(whole.parent / "parts/metrics.jsonl")] == [20]
    parts = train("parts", settings)
    assert (whole / "metrics.jsonl").read_text() == (parts / "metrics.jsonl").read_text()
    lines = read_metrics(whole / "metrics.jsonl")
    assert [line["step"] for line in lines] == [20, 40]
    assert set(lines[0]) == {"step", "generator", "real", "fake", "label_mix"}


def test_a_finished_training_writes_the_same_weights_again(train: Train, stop_at: Any) -> None:
    folder = train("run")
    before = weights(folder)
    (folder / "weights.safetensors").unlink()
    again = stop_at()
    train("run", progress=again)
    assert again.values == []
    assert weights(folder) == before


def test_the_result_is_a_function_of_the_seed(train: Train) -> None:
    first = weights(train("first"))
    torch.manual_seed(99)
    assert weights(train("second")) == first
    assert weights(train("third", seed=4)) != first


def test_a_damaged_checkpoint_is_skipped_and_the_one_before_used(
    train: Train, stop_at: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("parts", progress=stop_at(8))
    newest = whole.parent / "parts/checkpoint-00000006.safetensors"
    newest.write_bytes(b"\0" * 64)
    going_on = stop_at()
    parts = train("parts", progress=going_on)
    assert going_on.first == 3
    assert weights(parts) == weights(whole)
    assert "Skipped damaged checkpoints" in capsys.readouterr().err


def test_ignored_pixels_are_seen_by_the_generator_but_not_by_the_losses(
    train: Train, make_pairs: Callable[..., Pairs], stop_at: Any
) -> None:
    pairs = make_pairs()
    filled = np.stack([fill_ignored(label) for label in pairs.labels])
    other = filled.copy()
    other[pairs.labels == 255] = 0
    first, second = stop_at(), stop_at()
    one = replace(SMALL, steps=1)
    train("first", one, progress=first, filled_labels=filled)
    train("second", one, progress=second, filled_labels=other)
    assert (filled != other).any()
    assert first.values[0]["generator"] != second.values[0]["generator"]


@pytest.mark.parametrize("scheme", ["image", "region", "pixel", "mix"])
def test_every_noise_scheme_trains_and_changes_the_result(scheme: NoiseScheme, train: Train) -> None:
    two = replace(SMALL, steps=2)
    folder = train("run", replace(two, noise_scheme=scheme))
    if scheme != "image":
        assert weights(folder) != weights(train("image", two))


def test_weights_are_loaded_as_the_average_in_eval_mode(train: Train, table: ClassTable) -> None:
    folder = train("run")
    network = load_oasis(folder, table, (12, 16), SMALL)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with safe_open(folder / "checkpoint-00000010.safetensors", "pt") as file:
        for name, parameter in network.named_parameters():
            assert torch.equal(parameter, file.get_tensor(f"module/average/{name}")), name
        assert not torch.equal(network.to_image.weight, file.get_tensor("module/generator/to_image.weight"))
        # Batch statistics belong to the average, so they are not the trained network's.
        running = "blocks.0.norm_0.norm.running_mean"
        assert not torch.equal(network.state_dict()[running], file.get_tensor(f"module/generator/{running}"))
    with safe_open(folder / "weights.safetensors", "pt") as file:
        assert json.loads(file.metadata()["scenepalette"])["content"]["settings"]["width"] == 4


def test_a_loaded_generator_makes_different_images_from_different_noise(train: Train, table: ClassTable) -> None:
    network = load_oasis(train("run"), table, (12, 16), SMALL)
    label_map = one_hot(torch.zeros(1, 12, 16, dtype=torch.int64), 3)
    torch.manual_seed(0)
    first, second = (network(label_map, torch.randn(1, 5, 1, 1).expand(-1, -1, 12, 16)) for _ in range(2))
    assert (first - second).abs().mean() > 1e-3


def test_weights_of_another_class_table_or_size_are_refused(
    train: Train, table: ClassTable, other_table: ClassTable
) -> None:
    folder = train("run")
    with pytest.raises(CheckpointError, match="class_table"):
        load_oasis(folder, other_table, (12, 16), SMALL)
    with pytest.raises(CheckpointError, match=r"size: the file has \[12, 16\]"):
        load_oasis(folder, table, (24, 32), SMALL)
    with pytest.raises(CheckpointError, match="does not fit the network"):
        load_oasis(folder, table, (12, 16), replace(SMALL, width=8))
    (folder / "weights.safetensors").write_bytes(weights(folder)[:1000])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_oasis(folder, table, (12, 16), SMALL)


def test_a_loss_that_is_not_finite_stops_the_training_before_a_step(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[int] = []

    def broken(logits: torch.Tensor, *others: Any) -> torch.Tensor:
        calls.append(1)
        return logits.mean() * (float("inf") if len(calls) == 5 else 1.0)

    monkeypatch.setattr(oasis, "fake_loss", broken)
    with pytest.raises(TrainingError, match=r"loss discriminator became (inf|-inf) at step 4"):
        train("run")
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-00000003.safetensors"]


def test_a_gradient_that_is_not_finite_stops_the_training_before_a_step(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original, calls = oasis.fake_loss, []

    def broken(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        loss = original(*arguments)
        return loss + (0 * loss).sqrt() if len(calls) == 5 else loss  # the root of 0 has no slope

    monkeypatch.setattr(oasis, "fake_loss", broken)
    with pytest.raises(TrainingError, match=r"gradient of the discriminator is not finite at step 4 \(first in "):
        train("run")
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-00000003.safetensors"]


def test_sheets_over_time_leave_the_training_as_it_is(
    train: Train, stop_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without, losses = train("without", progress=(plain := stop_at())), plain.values
    monkeypatch.setattr(image_training, "watch_interval", lambda steps: 4)
    whole = train("whole", progress=(watched := stop_at()))
    assert watched.values == losses
    assert weights(whole) == weights(without)
    for step in (3, 6, 9, 10):
        name = f"checkpoint-{step:08d}.safetensors"
        assert not (without / name).exists() or (without / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(p.name for p in (whole / "samples").iterdir()) == ["final.png", "step-000004.png", "step-000008.png"]
    sheets = [np.asarray(Image.open(whole / f"samples/step-{step:06d}.png")) for step in (4, 8)]
    assert not np.array_equal(*sheets)
    # Layouts and real images are the same ones throughout, and those of the last sheet.
    final = np.asarray(Image.open(whole / "samples/final.png"))
    assert all(np.array_equal(sheet[:, :194], final[:, :194]) for sheet in sheets)
    with pytest.raises(KeyboardInterrupt):
        train("parts", progress=stop_at(7))
    parts = train("parts")
    lines = read_metrics(parts / "metrics.jsonl")
    assert lines == read_metrics(whole / "metrics.jsonl")
    assert [line["step"] for line in lines] == [4, 8]
    assert all(line["image_diversity"] > 0 and line["image_noise_difference"] > 0 for line in lines)


def test_a_collapsed_generator_is_warned_of_and_trained_on(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def constant(network: OasisGenerator, label_map: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        grey = network.to_image.bias.tanh() if network.to_image.bias is not None else torch.zeros(3)
        return grey[:, None, None].expand(len(noise), 3, *noise.shape[2:]).contiguous()

    monkeypatch.setattr(image_training, "watch_interval", lambda steps: 2)
    monkeypatch.setattr(OasisGenerator, "forward", constant)
    lines = read_metrics(train("run") / "metrics.jsonl")
    texts = [COLLAPSES[name][1] for name in ("image_diversity", "image_noise_difference")]
    assert [line.get("warnings", []) for line in lines] == [[], [], texts, texts, texts]
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == [f"Warning: run, step 6: {text}" for text in texts]


def test_the_sheet_shows_layout_real_image_and_three_draws(train: Train, make_pairs: Callable[..., Pairs]) -> None:
    pairs = make_pairs()
    sheet = np.asarray(Image.open(train("run", pairs=pairs) / "samples/final.png"))
    assert sheet.shape == (4 * 74 - 2, 5 * 98 - 2, 3)  # 12x16 enlarged six times, with gaps of 2
    tiles = [[sheet[r * 74 : r * 74 + 72 : 6, c * 98 : c * 98 + 96 : 6] for c in range(5)] for r in range(4)]
    shown = []
    for row in tiles:
        index = next(i for i in range(len(pairs)) if np.array_equal(pairs.images[i], row[1]))
        filled = fill_ignored(pairs.labels[index])
        np.testing.assert_array_equal(row[0], pairs.table.colorize(filled))
        assert not np.array_equal(row[2], row[3]) and not np.array_equal(row[3], row[4])
        shown.append(index)
    assert len(set(shown)) == 4


def test_training_finds_the_colours_of_the_classes(train: Train, make_pairs: Callable[..., Pairs]) -> None:
    settings = replace(
        SMALL,
        width=8,
        hidden_channels=16,
        discriminator_width=16,
        steps=120,
        batch_size=6,
        generator_learning_rate=2e-3,
        discriminator_learning_rate=4e-3,
        average_decay=0.9,
        checkpoint_every=1000,
    )
    pairs = make_pairs()
    network = load_oasis(train("run", settings), pairs.table, pairs.size, settings)
    labels = torch.from_numpy(np.stack([fill_ignored(label) for label in pairs.labels]).astype(np.int64))
    with torch.no_grad():
        image = network(one_hot(labels, 3), torch.randn(len(labels), 5, 1, 1).expand(-1, -1, 12, 16))
    real = torch.from_numpy(pairs.table.colors[labels.numpy()]).permute(0, 3, 1, 2) / 127.5 - 1
    grey = real.mean(dim=(0, 2, 3), keepdim=True)
    assert (image - real).square().mean() < 0.5 * (grey - real).square().mean()


def test_the_papers_network_is_the_default() -> None:
    with torch.device("meta"):
        network = build_oasis_generator(ClassTable.unnamed(12), (128, 256), OasisSettings())
    assert (network.base, len(network.blocks)) == ((4, 8), 6)
    assert count_parameters(network) == pytest.approx(70.47e6, rel=1e-3)
    with torch.device("meta"):
        assert build_oasis_generator(ClassTable.unnamed(12), (256, 512), OasisSettings()).base == (
            8,
            16,
        )  # five doublings, Table M


def test_sizes_without_a_base_grid_are_refused() -> None:
    with pytest.raises(ConfigError, match="127x256"):
        build_oasis_generator(ClassTable.unnamed(3), (127, 256), SMALL)


def test_mixed_precision_stays_near_the_losses_of_single_precision(train: Train, stop_at: Any) -> None:
    single, mixed = stop_at(), stop_at()
    train("single", progress=single)
    train("mixed", progress=mixed, fabric=make_fabric(precision="bf16-mixed"))
    for first, second in zip(single.values[:3], mixed.values[:3], strict=True):
        assert second == pytest.approx(first, rel=0.1)
    assert single.values != mixed.values


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_only_a_gpu_does_ends_with_the_same_bits(variant: str, train: Train) -> None:
    settings = replace(SMALL, steps=22, **VARIANTS[variant])
    plain = train("plain", settings)
    fast = train("fast", settings, fabric=make_fabric(speed=Speed(deferred=True, resident=True, tuned=True)))
    assert weights(plain) == weights(fast)
    assert (plain / "metrics.jsonl").read_text() == (fast / "metrics.jsonl").read_text()


def test_a_cpu_compiles_no_image_system(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    compiling = train("compiling", fabric=make_fabric(speed=Speed(compile="default")))
    assert weights(compiling) == weights(train("plain"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gpu_begins_as_the_cpu_does(variant: str, train: Train) -> None:
    settings = replace(SMALL, steps=20, generator_learning_rate=1e-5, discriminator_learning_rate=1e-5)
    settings = replace(settings, **VARIANTS[variant])
    lines = [
        read_metrics(train(name, settings, fabric=fabric) / "metrics.jsonl")[0]
        for name, fabric in (("cpu", make_fabric()), ("gpu", make_fabric("cuda")))
    ]
    assert lines[1]["real"] == pytest.approx(lines[0]["real"], rel=1e-2)
    assert lines[1]["generator"] == pytest.approx(lines[0]["generator"], rel=1e-2)


def test_images_of_another_size_than_their_layouts_are_named(make_pairs: Callable[..., Pairs]) -> None:
    class Halves(OasisGenerator):
        def forward(self, label_map: Tensor, noise: Tensor) -> Tensor:
            return super().forward(label_map, noise)[..., ::2, ::2]

    pairs = make_pairs()
    network = build_oasis_generator(pairs.table, pairs.size, SMALL)
    network.__class__ = Halves
    filled = np.stack([fill_ignored(label) for label in pairs.labels])
    source = image_training.TrainingBatches(pairs, filled, network, SMALL, 0, torch.device("cpu"))
    with pytest.raises(
        ScenepaletteError, match=r"Halves makes images of shape \(3, 3, 6, 8\); required are \(3, 3, 12"
    ):
        image_training.sample_sheet(network, source, "sheet")
