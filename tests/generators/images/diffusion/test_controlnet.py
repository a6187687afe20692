"""Sampling and fine-tuning with weights of random numbers; real schedulers, real files."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from scenepalette.common.errors import CheckpointError, ConfigError
from scenepalette.common.progress import NO_PROGRESS
from scenepalette.common.randomness import torch_generator
from scenepalette.data.arrays import Pairs, images_to_uint8
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import fill_ignored, one_hot
from scenepalette.generators.images.base import ImageBatch
from scenepalette.generators.images.diffusion.controlnet import CONTROLNET, ControlnetObjective
from scenepalette.generators.images.diffusion.generator import ControlnetGenerator
from scenepalette.generators.images.diffusion.settings import ControlnetSettings
from scenepalette.generators.images.loading import load_image_generator
from scenepalette.generators.images.training import train_image_generator
from scenepalette.training.checkpoint import read_metadata
from tiny_diffusion import Weights, write_base, write_controlnet

SIZE = (12, 16)
TERMS = {"base (base)": "creativeml-openrail-m", "controlnet (controlnet)": "openrail"}
Train = Callable[..., Path]


@pytest.fixture
def settings(weights: Weights) -> ControlnetSettings:
    return ControlnetSettings(
        base=str(weights.base),
        controlnet=str(weights.controlnet),
        colours="classes",
        size=(16, 24),
        inference_steps=2,
        batch_size=2,
        checkpoint_every=2,
        generator_learning_rate=1e-3,
    )


@pytest.fixture
def train(tmp_path: Path, make_pairs: Callable[..., Pairs], fabric: Fabric) -> Train:
    def run(name: str, settings: ControlnetSettings, progress: Any = NO_PROGRESS) -> Path:
        pairs = make_pairs()
        filled = np.stack([fill_ignored(label) for label in pairs.labels])
        options: dict[str, Any] = {"pairs": pairs, "filled_labels": filled, "seed": 3, "fabric": fabric}
        train_image_generator(tmp_path / name, "controlnet", settings, progress=progress, **options)
        return tmp_path / name

    return run


def build(settings: ControlnetSettings, table: ClassTable, size: tuple[int, int] = SIZE) -> ControlnetGenerator:
    return ControlnetGenerator(table, size, settings).eval()


def make_label(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 3, (count, *SIZE), generator=torch.Generator().manual_seed(0))


def draw(generator: ControlnetGenerator, label: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return generator.sample_noise(None, label, [torch_generator(seed, row) for row in range(len(label))])


@torch.inference_mode()
def paint(generator: ControlnetGenerator, label: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    return generator(one_hot(label, 3), noise)


def test_an_image_is_a_function_of_layout_and_noise_whatever_its_batch(
    settings: ControlnetSettings, table: ClassTable
) -> None:
    generator, label = build(settings, table), make_label()
    noise = draw(generator, label)
    images = paint(generator, label, noise)
    assert images.shape == (3, 3, *SIZE) and images.dtype == torch.float32 and images.abs().max() <= 1
    assert images.std() > 0.01
    assert torch.equal(paint(generator, label[1:2], noise[1:2]), images[1:2])
    assert not torch.equal(paint(generator, label, draw(generator, label, seed=1)), images)
    assert not torch.equal(paint(generator, label.flip(2), noise), images)


@pytest.mark.parametrize(
    "changes",
    [
        {"scheduler": "ddim"},
        {"scheduler": "dpm++"},
        {"scheduler": "euler"},
        {"scheduler": "pndm"},
        {"inference_steps": 3},
        {"guidance": 1.0},
        {"conditioning_scale": 0.0},
        {"prompt": "night"},
        {"negative_prompt": "night"},
        {"size": (16, 32)},
        {"dtype": "bfloat16"},
    ],
    ids=str,
)
def test_every_setting_of_sampling_counts(
    settings: ControlnetSettings, table: ClassTable, changes: dict[str, Any]
) -> None:
    label = make_label(1)
    # Of two steps, the last are of first order with unipc and dpm++ alike.
    settings = replace(settings, inference_steps=5)
    usual, changed = build(settings, table), build(replace(settings, **changes), table)
    noise = draw(changed, label)
    images = paint(changed, label, noise)
    assert images.shape == (1, 3, *SIZE) and images.isfinite().all()
    before = paint(usual, label, draw(usual, label))
    assert (images - before).abs().max() > 1e-5
    again = paint(changed, label, noise)
    assert torch.equal(again, images)


def test_threads_share_a_generator(
    settings: ControlnetSettings, table: ClassTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As threads that make shards do. How the tokenizer pads and cuts is a state of its own, set by each call.
    generator, label = build(settings, table), make_label(1)
    noise, kind = draw(generator, label), type(generator.parts.tokenizer)
    wanted, divide, busy, most = paint(generator, label, noise), kind.__call__, list[int](), list[int]()

    def watched(*arguments: Any, **named: Any) -> Any:
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.01)
        try:
            return divide(*arguments, **named)
        finally:
            busy.pop()

    monkeypatch.setattr(kind, "__call__", watched)
    with ThreadPoolExecutor(4) as threads:
        images = list(threads.map(lambda _: paint(generator, label, noise), range(8)))
    assert max(most) == 1
    assert all(torch.equal(image, wanted) for image in images)


def test_noise_belongs_to_the_whole_image(settings: ControlnetSettings, table: ClassTable) -> None:
    # Latents have half the side of the images here, so that theirs is that of the layout.
    generator = build(replace(settings, size=(24, 32)), table)
    label = make_label(1)
    noise = draw(generator, label)
    assert noise.shape[2:] == SIZE
    with pytest.raises(ConfigError, match="noise belongs to the whole image"):
        generator.replace_noise(noise, noise, torch.ones(1, *SIZE, dtype=torch.bool), label)
    with pytest.raises(ConfigError, match="noise scheme 'pixel'"):
        generator.sample_noise("pixel", label, [torch_generator(0)])


def test_prompts_name_the_classes_of_the_layout(settings: ControlnetSettings, table: ClassTable) -> None:
    generator = build(replace(settings, prompt="{classes}."), table)
    label = torch.zeros(SIZE, dtype=torch.long)
    label[:3] = 1
    assert generator._prompt(label) == f"{table.names[0]} 75 %, {table.names[1]} 25 %."


def test_as_it_comes_nothing_is_copied_and_the_file_names_what_it_needs(
    settings: ControlnetSettings, train: Train, table: ClassTable, weights: Weights
) -> None:
    folder = train("run", settings)
    assert load_file(folder / "weights.safetensors") == {}
    metadata = read_metadata(folder / "weights.safetensors")
    assert metadata["pretrained"] == TERMS
    assert {"base/unet/config.json", "controlnet/diffusion_pytorch_model.safetensors"} <= set(metadata["files"])
    assert (folder / "samples/final.png").is_file() and not (folder / "controlnet").exists()
    loaded = load_image_generator(folder / "weights.safetensors", "controlnet", table, SIZE, settings)
    label, built = make_label(), build(settings, table)
    noise = draw(built, label)
    assert torch.equal(paint(loaded, label, noise), paint(built, label, noise))  # type: ignore[arg-type]


def test_other_weights_in_the_same_folder_are_refused(
    settings: ControlnetSettings, train: Train, table: ClassTable, tmp_path: Path, weights: Weights
) -> None:
    own = replace(settings, controlnet=str(write_controlnet(tmp_path / "own")))
    folder = train("run", own)
    write_controlnet(tmp_path / "own", licence="mit")
    with pytest.raises(CheckpointError, match="made for another set-up"):
        load_image_generator(folder / "weights.safetensors", "controlnet", table, SIZE, own)


def test_fine_tuning_changes_the_controlnet_alone_and_resumes_bit_for_bit(
    settings: ControlnetSettings, train: Train, stop_at: Any, table: ClassTable, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = replace(settings, steps=5)
    whole = train("whole", tuned)
    assert "fine-tunes a ControlNet on a CPU" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        train("parts", tuned, progress=stop_at(3))
    torch.manual_seed(99)
    going_on = stop_at()
    parts = train("parts", tuned, progress=going_on)
    assert (going_on.first, going_on.done) == (2, 5)
    for name in ("weights.safetensors", "samples/final.png", "controlnet/diffusion_pytorch_model.safetensors"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()

    written = load_file(whole / "weights.safetensors")
    began = load_file(Path(settings.controlnet) / "diffusion_pytorch_model.safetensors")
    assert {name.removeprefix("controlnet.") for name in written} == set(began)
    assert all(not torch.equal(value, began[name.removeprefix("controlnet.")]) for name, value in written.items())
    loaded = load_image_generator(whole / "weights.safetensors", "controlnet", table, SIZE, tuned)
    untuned, label = build(settings, table), make_label()
    noise = draw(untuned, label)
    assert not torch.equal(paint(loaded, label, noise), paint(untuned, label, noise))  # type: ignore[arg-type]


def test_a_fine_tuned_controlnet_is_read_by_diffusers_and_says_its_terms(
    settings: ControlnetSettings, train: Train
) -> None:
    from diffusers import ControlNetModel

    folder = train("run", replace(settings, steps=2))
    read = ControlNetModel.from_pretrained(folder / "controlnet", use_safetensors=True, low_cpu_mem_usage=False)
    ours = load_file(folder / "weights.safetensors")
    assert all(torch.equal(value, ours[f"controlnet.{name}"]) for name, value in read.state_dict().items())
    card = (folder / "controlnet/README.md").read_text()
    assert all(f"- {name}: {licence}" in card for name, licence in TERMS.items())
    assert settings.controlnet not in (folder / "controlnet/config.json").read_text()
    # It can be the beginning of another.
    again = train("again", replace(settings, controlnet=str(folder / "controlnet"), controlnet_licence="own"))
    assert read_metadata(again / "weights.safetensors")["pretrained"]["controlnet (controlnet)"] == "own"


def test_without_a_controlnet_a_copy_of_the_encoder_is_trained(
    settings: ControlnetSettings, train: Train, table: ClassTable
) -> None:
    scratch = replace(settings, controlnet="", steps=2)
    folder = train("run", scratch)
    assert read_metadata(folder / "weights.safetensors")["pretrained"] == {"base (base)": "creativeml-openrail-m"}
    began = load_file(Path(settings.base) / "unet/diffusion_pytorch_model.safetensors")[
        "time_embedding.linear_1.weight"
    ]
    ended = load_file(folder / "weights.safetensors")["controlnet.time_embedding.linear_1.weight"]
    assert not torch.equal(began, ended) and (began - ended).abs().max() < 0.01
    load_image_generator(folder / "weights.safetensors", "controlnet", table, SIZE, scratch)


def test_the_loss_is_the_error_of_the_noise_and_reaches_every_parameter(
    settings: ControlnetSettings, table: ClassTable, make_batch: Callable[..., ImageBatch]
) -> None:
    generator = ControlnetGenerator(table, SIZE, replace(settings, steps=1))
    batch, calls = make_batch(generator), []

    def forward(*arguments: Any, **named: Any) -> Any:
        calls.append(named)
        return generator(*arguments, **named)

    torch.manual_seed(0)
    _, loss = ControlnetObjective(0.5).generator_loss(forward, None, batch)
    (named,) = calls
    predicted, target = generator(batch.label_map, batch.noise, **named)
    assert torch.equal(target, batch.noise)
    torch.testing.assert_close(loss.total, (predicted - target).square().mean())
    loss.total.backward()
    unreached = [name for name, one in generator.named_parameters() if one.grad is None or not one.grad.any()]
    assert unreached == []
    assert all(parameter.grad is None for parameter in generator.parts.unet.parameters())
    # What is dropped changes what is predicted, and so does the time.
    for name, value in (("prompted", ~named["prompted"]), ("time", 1 - named["time"])):
        other, _ = generator(batch.label_map, batch.noise, **{**named, name: value})
        assert not torch.equal(other, predicted)


@pytest.mark.parametrize(("dropout", "expected"), [(0.0, 4000), (0.5, 2000), (1.0, 0)])
def test_prompts_are_dropped_as_often_as_is_asked(dropout: float, expected: int) -> None:
    seen = []

    def forward(*arguments: Any, **named: Any) -> Any:
        seen.append(named)
        return torch.zeros(1), torch.ones(1)

    batch = ImageBatch(np.zeros(4000), *(torch.zeros(0) for _ in range(5)), None)  # type: ignore[arg-type]
    torch.manual_seed(0)
    _, loss = ControlnetObjective(dropout).generator_loss(forward, None, batch)
    assert loss.total == 1 and abs(int(seen[0]["prompted"].sum()) - expected) <= 150
    assert seen[0]["time"].min() >= 0 and seen[0]["time"].max() < 1


def test_bases_that_predict_velocity_are_trained_for_it(
    settings: ControlnetSettings, table: ClassTable, tmp_path: Path, make_batch: Callable[..., ImageBatch]
) -> None:
    base = write_base(tmp_path / "base")
    path = base / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "v_prediction"}))
    generator = ControlnetGenerator(table, SIZE, replace(settings, base=str(base), steps=1))
    batch = make_batch(generator)
    count = len(batch.image)
    late = {"image": batch.image, "prompted": torch.ones(count, dtype=torch.bool)}
    _, target = generator(batch.label_map, batch.noise, time=torch.zeros(count), **late)
    # Velocity is the noise where there is next to none in the mixture (Salimans and Ho, 2022), the image at the end.
    assert (target - batch.noise).abs().mean() < 0.2
    _, target = generator(batch.label_map, batch.noise, time=torch.full((count,), 0.999), **late)
    assert (target - batch.noise).abs().mean() > 0.5


def test_copies_share_what_is_not_trained(settings: ControlnetSettings, table: ClassTable) -> None:
    generator = ControlnetGenerator(table, SIZE, replace(settings, steps=1))
    other = copy.deepcopy(generator)
    assert other.parts is generator.parts and other.controlnet is not generator.controlnet
    assert not any(parameter.requires_grad for network in other.parts.networks() for parameter in network.parameters())
    generator.double()
    assert generator.parts.unet.dtype == torch.float64


def test_on_the_meta_device_sizes_are_known_and_no_weights_are_read(
    settings: ControlnetSettings, table: ClassTable
) -> None:
    path = Path(settings.controlnet) / "diffusion_pytorch_model.safetensors"
    count = sum(value.numel() for value in load_file(path).values())
    with torch.device("meta"):
        sizes = [
            sum(one.numel() for one in ControlnetGenerator(table, SIZE, chosen).parameters())
            for chosen in (settings, replace(settings, steps=1), ControlnetSettings(), ControlnetSettings(steps=1))
        ]
    assert sizes == [0, count, 0, 0]


@pytest.mark.damaged
def test_weights_that_are_cut_off_are_told(settings: ControlnetSettings, table: ClassTable, tmp_path: Path) -> None:
    folder = write_controlnet(tmp_path / "controlnet")
    path = folder / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"weights of images\.systems\.controlnet cannot be loaded"):
        build(replace(settings, controlnet=str(folder)), table)


@pytest.mark.damaged
def test_weights_of_another_base_are_told(settings: ControlnetSettings, table: ClassTable, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", in_channels=9)
    with pytest.raises(ConfigError) as caught:
        build(replace(settings, base=str(base)), table)
    assert any("its UNet takes 9 channels" in problem for problem in caught.value.problems)


def test_the_entry_says_what_the_configuration_needs() -> None:
    assert CONTROLNET.own == ("steps", "batch_size") and not CONTROLNET.end_to_end
    assert CONTROLNET.comes_trained(ControlnetSettings()) and not CONTROLNET.comes_trained(ControlnetSettings(steps=1))


def test_images_are_those_of_the_pipeline_of_diffusers(
    settings: ControlnetSettings, table: ClassTable, weights: Weights
) -> None:
    """An independent calculation: the pipeline as its documentation loads it, at the size of the data."""
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, UniPCMultistepScheduler

    chosen = replace(settings, size=(16, 24), prompt="a {names}")
    generator = build(chosen, table, size=(16, 24))
    label = torch.zeros(1, 16, 24, dtype=torch.long)
    label[:, :4] = 2
    noise = draw(generator, label)
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        weights.base,
        controlnet=ControlNetModel.from_pretrained(weights.controlnet, low_cpu_mem_usage=False),
        safety_checker=None,
        requires_safety_checker=False,
        low_cpu_mem_usage=False,
    )
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    image = torch.from_numpy(table.colorize(label.numpy())).movedim(3, 1) / 255
    expected = pipeline(
        f"a {table.names[0]}, {table.names[2]}",
        image=image,
        latents=noise,
        negative_prompt=chosen.negative_prompt,
        num_inference_steps=2,
        output_type="np",
    ).images
    found = images_to_uint8(paint(generator, label, noise))
    np.testing.assert_allclose(found, np.round(255 * expected), atol=1)
