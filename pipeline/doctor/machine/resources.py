"""What a run needs of disk and memory, computed from its configuration, and what this machine has."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import torch

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.processors import ThreadChoice
from scenepalette.common.storage.downloads import local_weights
from scenepalette.data.classes import ClassTable
from scenepalette.evaluation.images.diversity import alexnet_url
from scenepalette.evaluation.images.features import inception_url
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.nn.blocks import count_parameters
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.device.beside import trainings_at_once
from scenepalette.pipeline.device.memory import available_memory
from scenepalette.pipeline.doctor.findings import Check, Status
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.ownership import check_ownership
from scenepalette.pipeline.sections import settings_from
from scenepalette.pipeline.stages.generate import pair_models
from scenepalette.pipeline.stages.images import ImageModel
from scenepalette.pipeline.stages.inputs.segmenter_data import NAME as SEGMENTER_DATA
from scenepalette.pipeline.stages.layouts import LayoutModel
from scenepalette.pipeline.units.records import misfits
from scenepalette.segmenters.loading import build_segmenter
from scenepalette.segmenters.settings import SegmenterSettings

FLOAT = 4
CHECKPOINTS = 4
"""Checkpoints of a training that are on disk at once: the last two, the best, and one that is being written."""
JPEG_BYTES, PNG_BYTES, LABEL_BYTES = 1.1, 2.1, 0.1
"""Bytes per pixel of a pair in shards, from street scenes: images as JPEG of quality 95 and as PNG, and labels."""
ROW_BYTES = 2000
SHARD_BYTES = 4000
"""Bytes of a shard's schema and footer, and its lines in the manifest and the data set card."""
REPORT_BYTES = 50 * 2**20
SPARE = 1.2
"""Disk and memory that should be there for each byte needed; below it is a warning."""
LIBRARIES = 700 * 2**20
"""Memory of the process before any network, for an estimate without a measurement."""


@dataclass(frozen=True)
class Need:
    """Bytes that one part of a run takes on disk, and how much memory its networks and optimizers take.

    Attributes:
        name: The part, as its folder in the run directory is called.
        disk: Bytes.
        memory: Bytes of weights, gradients, averages and optimizer states; activations are not counted.
    """

    name: str
    disk: int
    memory: int = 0


def needs_of(
    config: RunConfig,
    table: ClassTable,
    train: int,
    validation: int,
    unlabelled: int = 0,
    evaluated_images: int | None = None,
) -> list[Need]:
    """Return what each part of a run needs.

    Args:
        config: The configuration.
        table: Its classes.
        train: Number of training samples; tiles, where images are cut into them.
        validation: Number of validation and test samples.
        unlabelled: Number of unlabelled images.
        evaluated_images: Number of validation and test images, where samples are tiles of them.

    Raises:
        ConfigError: A network cannot be built, such as a segmenter whose encoder is not known.
    """
    size = config.generator_size
    pixels = size[0] * size[1]
    # An image, its label, and the label again with ignored pixels filled, which training has.
    needs = [Need("data", pixels * (4 * (train + validation) + train))]
    if config.generate.predicts:
        needs.append(Need("unlabelled", 3 * pixels * unlabelled))
    segmented = config.segmenter_size
    if segmented != size:
        needs.append(Need(SEGMENTER_DATA, 4 * segmented[0] * segmented[1] * (train + validation)))
    models = {kind: pair_models(config, kind) for kind in config.generate.kinds}
    trained: dict[str, Need] = {}
    for made_by in models.values():
        for model in (made_by.layout, made_by.image):
            if model is not None and model.unit not in trained:
                trained[model.unit] = _training_need(model.unit, *_parameters(model, table, size))
        if made_by.finetuned is not None and made_by.layout is not None:
            both = [_parameters(part, table, size) for part in (made_by.layout, made_by.image)]
            # Both generators with all of their discriminators, and a further one of the image system's kind.
            generators, discriminators = (sum(part[i] for part in both) for i in (0, 1))
            trained[made_by.finetuned] = _training_need(made_by.finetuned, generators, discriminators + both[1][1])
    needs += trained.values()
    shards = math.ceil(config.generate.rows / config.generate.rows_per_shard)
    for kind, made_by in models.items():
        image = PNG_BYTES if config.generate.of_kind(made_by.kind).image_format == "png" else JPEG_BYTES
        pair = round(pixels * (image + LABEL_BYTES)) + ROW_BYTES
        needs.append(Need(f"shards/{kind}", config.generate.rows * pair + shards * SHARD_BYTES))
        if config.generate.candidates > 1:
            needs.append(Need(config.generate.unit_of_pairs(kind), config.generate.pairs * pair + SHARD_BYTES))
    with torch.device("meta"):
        network = build_segmenter(settings_from(config.segmenters, SegmenterSettings), table)
    segmenter = count_parameters(network)
    trainings = len(config.segmenters.arms) * len(config.segmenters.seeds)
    confusion = 8 * (validation if evaluated_images is None else evaluated_images) * len(table) ** 2
    # Checkpoints are removed once the weights are written: only trainings that run have them.
    at_once = min(config.segmenters.parallel or trainings_at_once(config), trainings)
    disk = trainings * (segmenter * FLOAT + confusion) + at_once * CHECKPOINTS * 2 * segmenter * FLOAT
    needs.append(Need("segmenters", disk, at_once * 3 * segmenter * FLOAT))
    needs.append(Need("report", REPORT_BYTES))
    return needs


def _training_need(name: str, generator: int, discriminator: int) -> Need:
    # In a checkpoint: both networks, the average, and Adam's two moments of both. In memory: gradients as well.
    checkpoint = FLOAT * (4 * generator + 3 * discriminator)
    weights = FLOAT * (generator + discriminator)
    return Need(name, CHECKPOINTS * checkpoint + weights, checkpoint + weights)


def _parameters(model: LayoutModel | ImageModel, table: ClassTable, size: tuple[int, int]) -> tuple[int, int]:
    """Return the parameters of a generator and of what it is trained against."""
    with torch.device("meta"):
        if isinstance(model, LayoutModel):
            system = LAYOUT_SYSTEMS[model.system]
            generator = system.build_generator(table, size, model.settings)
            discriminator = system.build_discriminator(table, size, model.settings) if system.losses else None
        else:
            image_system = IMAGE_SYSTEMS[model.system]
            generator, build = image_system.build_generator(table, size, model.settings), image_system.build_objective
            discriminator = build(table, size, model.settings, None).discriminator if build else None
    return count_parameters(generator), count_parameters(discriminator)


def check_disk(needs: Sequence[Need], run_dir: Path) -> Check:
    """Compare what the run needs on disk with what is free where the run directory is.

    What its parts have already taken counts as needed no more. Less than is needed is a problem, less than 1.2 times
    as much a warning.
    """
    there = {need.name: min(need.disk, _bytes_below(run_dir / need.name)) for need in needs}
    needed = sum(need.disk - there[need.name] for need in needs)
    folder = next(path for path in (run_dir.absolute(), *run_dir.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    details = tuple(
        f"{need.name}: {show_bytes(need.disk)}"
        + (f", {show_bytes(there[need.name])} of it there" * (there[need.name] > 0))
        for need in sorted(needs, key=lambda need: -need.disk)
    )
    text = f"About {show_bytes(needed)} are needed, {show_bytes(free)} are free where {run_dir} is."
    remedy = "Free some space, or give another --out." * (free < needed * SPARE)
    return Check("disk", _enough(needed, free), text, remedy, details)


def check_memory(needs: Sequence[Need], measured: int | None, device: torch.device, *, expected: bool = False) -> Check:
    """Compare the memory that the largest training needs with what is available.

    Args:
        needs: Parts of the run.
        measured: Bytes of memory that a process took while it trained some steps of everything at full batch size, or
            None if that was not measured: then weights, gradients and optimizer states are counted alone.
        device: Where trainings run; on a GPU it is the GPU's memory that was measured.
        expected: Whether a measurement was tried; then it is a warning that there is none.
    """
    largest = max(needs, key=lambda need: need.memory)
    if device.type == "cuda":
        available = torch.cuda.mem_get_info(device)[0]
        where = "the GPU"
    else:
        available = available_memory()
        where = "this machine"
    if measured is not None:
        needed, how = measured, "measured while everything was trained for some steps"
    else:
        needed = largest.memory + (LIBRARIES if device.type == "cpu" else 0)
        how = f"for the weights and optimizers of {largest.name}; what each batch takes comes on top"
    text = f"{show_bytes(needed)} are needed ({how}), {show_bytes(available)} are available on {where}."
    remedy = "Choose smaller batch sizes or networks, or close other programs." * (available < needed * SPARE)
    status = _enough(needed, available)
    if measured is None and expected:
        text = f"Not measured. At least {text}"
        status = "warning" if status == "ok" else status
    return Check("memory", status, text, remedy)


def check_threads(choice: ThreadChoice) -> Check:
    """Say how many threads a run would compute with, and why; a warning if the machine is busy or they are too many."""
    # The warning begins with the name of a setting, or with a word.
    remedy = choice.warning if choice.chosen_by else choice.warning[:1].upper() + choice.warning[1:]
    return Check("threads", "warning" if remedy else "ok", f"{choice}.", remedy)


def _enough(needed: float, available: float) -> Status:
    return "problem" if needed > available else "warning" if needed * SPARE > available else "ok"


def check_options(config: RunConfig) -> list[Check]:
    """Say which optional things are absent, each in one line; nothing is downloaded for it."""
    run = Run(config, Path("."))
    try:
        gpu = run.fabric.device.type == "cuda"
    except ConfigError as error:
        return [Check("device", "problem", str(error), "Set compute.accelerator to auto or cpu.")]
    precision = str(run.fabric._precision.precision)
    rounds = precision == "bf16-mixed"
    device = f"Runs on {torch.cuda.get_device_name()}." if gpu else "No GPU: runs on the CPU."
    steps = "bf16 is used." if rounds else f"bf16 is not used here: steps are computed in {precision}."
    checks = [Check("device", "ok" if gpu else "note", device), Check("precision", "ok" if rounds else "note", steps)]
    system = IMAGE_SYSTEMS[config.images.system]
    if system.cpu_warning and not gpu and not system.comes_trained(config.images.settings()):
        checks.append(Check("training on a CPU", "warning", f"{system.cpu_warning}."))
    from torchvision.models import VGG19_Weights

    weights = (
        ("Inception weights", inception_url(), "report.inception_weights", "FID"),
        ("VGG-19 weights", VGG19_Weights.IMAGENET1K_V1.url, "images.vgg_weights", "perceptual losses"),
        ("AlexNet weights", alexnet_url(), "compare.alexnet_weights", "LPIPS in `compare`"),
    )
    for name, url, key, purpose in weights:
        path: Path | None = attrgetter(key)(config)
        if key == "images.vgg_weights" and path is None and config.images.perceptual_features != "vgg19":
            continue  # nothing looks for them
        file = path or local_weights(url)
        if file.is_file():
            checks.append(Check(name, "ok", f"{name} for {purpose} are there."))
        elif path is not None:
            checks.append(Check(name, "warning", f"{name} for {purpose}: there is no file {path}.", f"Correct {key}."))
        else:
            text = f"{name} for {purpose} are not on this machine; a run tries to download them and continues without."
            checks.append(Check(name, "note", text))
    return checks


def check_run_dir(config: RunConfig, run_dir: Path) -> Check:
    """Tell what a run directory holds: nothing, parts of this very run, or those of another, which is a problem."""
    if not run_dir.exists():
        return Check("run directory", "ok", f"{run_dir} is new.")
    if not run_dir.is_dir() or not os.access(run_dir, os.W_OK):
        what = "cannot be written" if run_dir.is_dir() else "is no folder"
        return Check("run directory", "problem", f"{run_dir} {what}.", "Give another --out folder.")
    try:
        check_ownership(run_dir)
        run = Run(config, run_dir)
        states = {name: run.state(name).status for name in run.planned.run}
    except ScenepaletteError as error:
        return Check("run directory", "problem", error.summary, "Give another --out folder.", error.problems)
    others = [name for name, status in states.items() if status == "other"]
    if others:
        error = misfits(run_dir, others, run.planned.run)
        return Check("run directory", "problem", error.summary, "", error.problems)
    finished = [name for name, status in states.items() if status == "finished"]
    if not finished:
        return Check("run directory", "ok", f"{run_dir} holds nothing that is finished.")
    count, left = len(run.planned.run), len(run.planned.run) - len(finished)
    text = f"{run_dir} holds all {count} parts of this run; there is nothing left to make."
    if left:
        will = "the other one is made" if left == 1 else f"the other {left} are made"
        text = f"{run_dir} holds {len(finished)} of {count} parts of this run; {will} next."
    return Check("run directory", "note", text, "", tuple(finished))


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def show_bytes(count: float) -> str:
    """Return a number of bytes with a unit that fits it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
