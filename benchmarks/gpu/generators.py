"""Generators with the papers' networks and random weights: plain against prepared for inference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gpu.record import Cases, Row
from benchmarks.gpu.scenes import Options, Size, read_scenes, text_of, time_calls
from benchmarks.inference import image_case, layout_case
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.kernels.passes import prepare_for_inference
from scenepalette.training.device.compiling import compiled
from scenepalette.training.device.speed import CompileMode

SYSTEMS = ("oasis", "semantic-palette")
PLAIN = "plain, fp32"
WAYS = (PLAIN, "plain, autocast bf16", "prepared, fp32", "prepared, bf16")
GPU_WAYS = ("prepared with label patches, bf16", "compiled, bf16", "compiled with graphs, bf16")
"""What a GPU offers beside; the last, as they take long to begin."""


def cases(options: Options) -> Cases:
    """Return every system at every size in every way."""
    ways = (*WAYS, *(GPU_WAYS if options.device.type == "cuda" else ()))
    if not options.precision.startswith("bf16"):  # which a device without it computes at a crawl
        ways = tuple(way for way in ways if not way.endswith("bf16"))
    return {
        f"{name} {text_of(size)} {way}": partial(_measure, options, name, size, way)
        for way in ways
        for size in options.sizes
        for name in SYSTEMS
    }


def _measure(options: Options, name: str, size: Size, way: str, seconds: float) -> Row:
    label = torch.from_numpy(read_scenes(options, size).filled[: options.batch]).long()
    call = _call(options, name, label, way)
    timing = time_calls(call, options.device, 0.6 * seconds)
    row = {
        "system": name,
        "size": text_of(size),
        "way": way,
        "ms per image": 1e3 * timing.seconds / len(label),
        "images per second": len(label) / timing.seconds,
        "first call, s": timing.first,
        "MiB": round(timing.mebibytes),
    }
    if way == PLAIN:
        return row
    plain = _call(options, name, label, PLAIN)()
    return {**row, "mean difference from plain": float((call().float() - plain.float()).abs().mean())}


def _call(options: Options, name: str, label: Tensor, way: str) -> Callable[[], Tensor]:
    """Return what runs a system once; its weights are the same for all ways."""
    torch.manual_seed(0)
    build = image_case if name in IMAGE_SYSTEMS else layout_case
    classes = int(label.max()) + 1
    network, inputs = build(name, label, classes, options.width)
    network.to(options.device)
    inputs = [value.to(options.device) for value in inputs]
    rounded = way.endswith("bf16")
    ready = _prepared(network, way, rounded, options.device)

    def call() -> Tensor:
        with torch.inference_mode(), torch.autocast(options.device.type, torch.bfloat16, enabled=rounded):
            result = ready(*inputs)
        return result if isinstance(result, Tensor) else result.layout

    return call


def _prepared(network: nn.Module, way: str, rounded: bool, device: torch.device) -> nn.Module:
    """Return the network as a way has it."""
    network.eval()
    compiles: CompileMode = "graphs" if "graphs" in way else "default" if way.startswith("compiled") else "off"
    if not way.startswith("plain"):
        dtype = torch.bfloat16 if rounded else torch.float32
        prepare_for_inference(network, dtype, patches="patches" in way, faster=compiles == "off")
    return compiled(network, compiles, device)
