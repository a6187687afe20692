"""Generators as they are trained against the same weights prepared for inference.

Usage: python -m benchmarks.inference [--systems oasis gaugan] [--sizes 128x256 256x512] [--classes 14] [--width 1.0]

Networks have the papers' widths and random weights; layouts are real ones of CamVid if its folder is given, otherwise
embedded scenes. Ways take turns and medians are printed: milliseconds an image, how much faster than the plain forward
pass (contiguous, fp32), and how much of this machine's measured rate of matrix products is used, by the arithmetic that
each way really does. bf16 runs only where the processor computes it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import interleaved_seconds, machine, markdown_table, product_rate
from scenepalette.common.randomness import torch_generator
from scenepalette.data.arrays import resize_sample
from scenepalette.data.classes import ClassTable
from scenepalette.data.datasets import open_dataset
from scenepalette.data.labels import fill_ignored, labels_to_palette, one_hot
from scenepalette.data.sample import Sample
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.kernels.passes import prepare_for_inference
from scenepalette.generators.layouts.crops import boxes_to_crop, crop_palette, sample_crop
from scenepalette.generators.layouts.networks.progressive import PartialLayoutGenerator, crop_layout, partial_budget
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.nn.grids import base_grid
from scenepalette.training.allocator import keep_freed_memory
from scenepalette.training.device.abilities import computes_bfloat16

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def layouts(camvid: Path | None, size: tuple[int, int], count: int, classes: int) -> Tensor:
    """Return real or drawn label maps BHW, with class ids spread over `classes` classes."""
    name = "streets" if camvid is None else "camvid"
    drawn = {"count": count, "size": size} if camvid is None else {}
    dataset = open_dataset(name, "train", camvid, seed=0, **drawn)
    chosen = np.linspace(0, len(dataset) - 1, count).round().astype(int)
    samples: list[Sample] = [resize_sample(dataset[int(index)], size) for index in chosen]
    ids = np.stack([fill_ignored(sample.label) for sample in samples]).astype(np.int64)
    assert ids.max() < classes, f"layouts have {ids.max() + 1} classes, --classes says {classes}"
    return torch.from_numpy(ids)


def image_case(name: str, label: Tensor, classes: int, width: float) -> tuple[nn.Module, list[Tensor]]:
    """Return an untrained image generator and its inputs for these layouts."""
    system = IMAGE_SYSTEMS[name]
    standard = system.settings()
    settings = replace(standard, width=max(1, round(standard.width * width)))
    network = system.build_generator(ClassTable.unnamed(classes), (label.shape[1], label.shape[2]), settings)
    noise = network.sample_noise(None, label, [torch_generator(0, sample) for sample in range(len(label))])
    return network, [one_hot(label, classes), noise]


def layout_case(name: str, label: Tensor, classes: int, width: float) -> tuple[nn.Module, list[Tensor]]:
    """Return an untrained layout generator and its inputs: palettes of these layouts, or these with a crop."""
    size = (label.shape[1], label.shape[2])
    levels = base_grid(size)[1] + 1
    settings = LayoutSettings(
        max_width=round(512 * width),
        base_width=round(8192 * width),
        fade_steps=(0,) * levels,
        stable_steps=(1,) * levels,
        batch_sizes=(1,) * levels,
    )
    network = LAYOUT_SYSTEMS[name].build_generator(ClassTable.unnamed(classes), size, settings)
    noise = torch.randn(len(label), settings.noise_features)
    if not isinstance(network, PartialLayoutGenerator):
        return network, [noise, labels_to_palette(label, classes)]
    random = np.random.default_rng(0)
    crop = boxes_to_crop([sample_crop(random, size, "band") for _ in label], size)
    budget = partial_budget(crop_palette(label, crop, classes), crop)
    return network, [noise, budget, crop_layout(one_hot(label, classes), crop)]


def prepared_call(
    name: str, label: Tensor, classes: int, width: float, dtype: torch.dtype | None
) -> Callable[[], Tensor]:
    """Return what runs a system once: plain without a type, else prepared for inference in that type."""
    torch.manual_seed(0)
    network, inputs = (image_case if name in IMAGE_SYSTEMS else layout_case)(name, label, classes, width)
    if dtype is None:
        network.eval()
    else:
        prepare_for_inference(network, dtype)

    def call() -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            result = network(*inputs)
        return result if isinstance(result, Tensor) else result.layout

    return call


def operations(call: Callable[[], Tensor]) -> float:
    """Return the floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def measure(
    name: str, label: Tensor, classes: int, width: float, repetitions: int, rates: dict[str, float]
) -> list[str]:
    """Return a row of the table."""
    types = {"plain": None, **{way: TYPES[way] for way in rates}}
    calls = {way: prepared_call(name, label, classes, width, dtype) for way, dtype in types.items()}
    difference = float((calls["plain"]() - calls["fp32"]()).abs().max())
    seconds = interleaved_seconds(calls, repetitions)
    count = len(label)
    row = [name, f"{label.shape[1]}x{label.shape[2]}", f"{1e3 * seconds['plain'] / count:.0f}"]
    for way, best in rates.items():
        share = operations(calls[way]) / seconds[way] / 1e9 / best
        faster = seconds["plain"] / seconds[way]
        row.append(f"{1e3 * seconds[way] / count:.0f} ({faster:.1f} x, {share:.0%})")
    row.append(f"{difference:.0e}")
    if "bf16" in calls:
        row.append(_rounding(calls["plain"](), calls["bf16"]().float()))
    return row


def _rounding(plain: Tensor, rounded: Tensor) -> str:
    """Say how the result in bfloat16 differs: in grey levels of images, or in classes of layouts."""
    if plain.shape[1] == 3:
        return f"{float((rounded - plain).abs().mean()) * 255 / 2:.2f} grey levels"
    return f"{float((rounded.argmax(1) != plain.argmax(1)).float().mean()):.2%} of pixels"


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*IMAGE_SYSTEMS, *LAYOUT_SYSTEMS]
    parser.add_argument(
        "--systems",
        nargs="+",
        default=["oasis", "gaugan", "semantic-palette", "semantic-palette-partial"],
        choices=known,
    )
    parser.add_argument("--sizes", nargs="+", type=lambda text: tuple(map(int, text.split("x"))), default=[(128, 256)])
    parser.add_argument("--classes", type=int, default=14, help="CamVid has 12, embedded scenes have 14")
    parser.add_argument("--batch", type=int, default=4, help="images per call")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--width", type=float, default=1.0, help="factor on the papers' widths")
    parser.add_argument("--camvid", type=Path, help="folder of CamVid; without it, embedded scenes")
    arguments = parser.parse_args()
    keep_freed_memory()
    device = torch.device("cpu")
    rates = {"fp32": product_rate(torch.float32, device)}
    if computes_bfloat16("cpu"):
        rates["bf16"] = product_rate(torch.bfloat16, device)
    print(machine())
    print(", ".join(f"{way}: {rate:.0f} GFLOP/s" for way, rate in rates.items()))
    print(f"{arguments.batch} images per call, {arguments.classes} classes, width x {arguments.width}\n")
    rows = []
    for size in arguments.sizes:
        label = layouts(arguments.camvid, size, arguments.batch, arguments.classes)
        for name in arguments.systems:
            rows.append(measure(name, label, arguments.classes, arguments.width, arguments.repetitions, rates))
    ways = [f"{way}, ms (faster, of this machine's rate)" for way in rates]
    differences = ["largest difference", *(["mean difference in bf16"] if "bf16" in rates else [])]
    print(markdown_table(["generator", "size", "plain fp32, ms per image", *ways, *differences], rows))


if __name__ == "__main__":
    main()
