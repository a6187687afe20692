"""How long a run will take, extrapolated from some real steps that a process of its own measured."""

from __future__ import annotations

import heapq
import itertools
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.processors import choose_threads
from scenepalette.common.storage.untrusted import short
from scenepalette.common.wording import counted
from scenepalette.data.arrays import read_arrays, write_arrays, write_label_array
from scenepalette.data.labels import fill_ignored
from scenepalette.data.sample import SegmentationDataset
from scenepalette.data.sequences import evenly_spread
from scenepalette.data.splits.holdout import PartOfDataset
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.pipeline.arms import ARMS
from scenepalette.pipeline.config import RunConfig, write_config
from scenepalette.pipeline.device.beside import trainings_at_once
from scenepalette.pipeline.device.memory import KILLED, ending_of
from scenepalette.pipeline.doctor.findings import Check
from scenepalette.pipeline.doctor.machine.measure import READY, START, Step, timed_steps
from scenepalette.pipeline.stages.inputs.data import FILLED
from scenepalette.pipeline.stages.inputs.segmenter_data import NAME as SEGMENTER_DATA
from scenepalette.pipeline.stages.pair_quality.teachers import STAGE as TEACHERS
from scenepalette.pipeline.stages.pair_quality.teachers import needs_teachers, teacher_settings
from scenepalette.pipeline.units.records import show_seconds
from scenepalette.training.device.abilities import chosen_accelerator

MEASURED_SECONDS = 60.0
"""Longest that steps are measured."""
START_SECONDS = 300.0
"""Longest that the measuring process may take to import torch and read its data."""
EXIT_SECONDS = 10.0
"""Longest that a process which has closed its output is waited for, to learn how it ended."""
MEASURED_SAMPLES = 32
SEGMENTERS = "segmenters"
ADVENT = 1.3
"""A step of AdvEnt against one without, from the arms of the recipe camvid-cpu."""


@dataclass
class Measured:
    """What was measured.

    Attributes:
        seconds: By name of what was measured: a step, or for "generate/KIND" a pair.
        peak_bytes: Most memory that the measuring process took, or None if nothing was measured.
        errors: Why something could not be run, by its name; "start" is what comes before the first step.
        missing: Names of what there was no time for.
        failure: Why nothing was measured, or None.
        out_of_memory: Whether memory was lacking for one of the errors.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    errors: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    failure: str | None = None
    out_of_memory: bool = False


class SpreadSamples(PartOfDataset):
    """Some samples of a data set, evenly spread, for scratch arrays that are never recognised again."""

    def __init__(self, whole: SegmentationDataset, count: int) -> None:
        super().__init__(whole, whole.split, evenly_spread(len(whole), count))

    @property
    def content(self) -> str:
        """The quick hash in place of that of all files."""
        return self.fingerprint


def measure(
    config: RunConfig,
    train: SegmentationDataset,
    folder: Path,
    *,
    seconds: float = MEASURED_SECONDS,
    start_seconds: float = START_SECONDS,
    report: Callable[[str], None] = lambda name: None,
) -> Measured:
    """Time real steps of all trainings of a run on the user's data, for at most a minute.

    Args:
        config: The run's configuration.
        train: The opened training split; 32 of its samples are used.
        folder: A temporary folder, which is filled.
        seconds: Longest that steps are measured; the process is ended then, even within a step.
        start_seconds: Longest that the process may take before its first step.
        report: Called with the name of what has just been measured, or failed.

    Returns:
        What was measured until then.
    """
    try:
        write_arrays(SpreadSamples(train, MEASURED_SAMPLES), config.generator_size, folder / "data")
        if config.segmenter_size != config.generator_size:
            write_arrays(SpreadSamples(train, MEASURED_SAMPLES), config.segmenter_size, folder / SEGMENTER_DATA)
        labels = read_arrays(folder / "data", "train").labels
        filled = (fill_ignored(np.asarray(label)) for label in labels)
        write_label_array(folder / "data" / FILLED, filled, labels.shape)  # type: ignore[arg-type]
        write_config(folder / "config.yaml", _as_trained(config))
    except ScenepaletteError as error:
        return Measured(failure=str(error))
    errors = (folder / "errors.txt").open("w+b")
    process = subprocess.Popen(
        [sys.executable, "-m", "scenepalette.pipeline.doctor.machine.measure", str(folder)],
        stdout=subprocess.PIPE,
        stderr=errors,
    )
    assert process.stdout is not None
    lines: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put(b"")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    result, names, status = Measured(), [], None
    end = time.monotonic() + start_seconds
    try:
        while line := lines.get(timeout=max(0.0, end - time.monotonic())):
            entry = json.loads(line)
            if entry["name"] == READY:
                names = entry["names"]
                end = time.monotonic() + seconds
                continue
            if "error" in entry:
                result.errors[entry["name"]] = entry["error"]
                result.out_of_memory |= entry.get("out_of_memory", False)
            else:
                result.seconds[entry["name"]] = entry["seconds"]
                result.peak_bytes = entry["peak_bytes"]
            report(entry["name"])
        status = process.wait(EXIT_SECONDS)
    except (queue.Empty, subprocess.TimeoutExpired):
        pass  # its time is over
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
        errors.close()
    if status and START not in result.errors:
        # It ended by itself, and so would the run: in what was being measured, or before.
        under_way = (name for name in names if name not in result.seconds and name not in result.errors)
        reason = said[-1] if said and status > 0 else ending_of(status)
        result.errors[next(under_way, START)] = short(reason, 400)
        result.out_of_memory |= status == KILLED
    result.missing = tuple(name for name in names if name not in result.seconds and name not in result.errors)
    if not result.seconds and not result.errors:
        result.failure = f"Nothing could be measured: no step was finished in {seconds:.0f} s."
    return result


def _as_trained(config: RunConfig) -> RunConfig:
    """Return the configuration with the threads that each of the trainings has if several are done at once."""
    threads = config.compute.threads or choose_threads().threads
    if (count := trainings_at_once(config, threads)) == 1:
        return config
    compute = config.compute.model_copy(update={"threads": max(1, threads // count)})
    return config.model_copy(update={"compute": compute})


@dataclass(frozen=True)
class Estimate:
    """The time that a part of a run is expected to take.

    Attributes:
        name: The part.
        seconds: How long.
        basis: What was counted.
        trainings: Seconds of each training, which may be done beside others, in order.
        waiting: Likewise of those that wait for generated pairs, and so for the others.
    """

    name: str
    seconds: float
    basis: str
    trainings: tuple[float, ...] = ()
    waiting: tuple[float, ...] = ()


def estimates_of(config: RunConfig, measured: Measured, read_seconds: float, samples: int) -> list[Estimate]:
    """Extrapolate measured steps by the configuration's step counts.

    A level of a layout generator that was not measured is taken to cost what the nearest measured one does, by its
    pixels and batch. Batches of all arms and teachers are equal; AdvEnt costs 1.3 times, and some arms take more steps.
    Parts without a measurement are left out.

    Args:
        config: The configuration.
        measured: What was measured.
        read_seconds: Seconds to read all splits once; what the doctor has checked is not checked again.
        samples: Number of samples of all.
    """
    known = measured.seconds
    estimates = [Estimate("data", read_seconds, counted(samples, "sample"))]
    kinds = {name: PAIR_KINDS[name] for name in config.generate.kinds}
    for section in dict.fromkeys(kind.layout_section for kind in PAIR_KINDS.values() if kind.name in kinds):
        if section is not None and (seconds := _layout_levels(config, known, section)):
            layout = getattr(config.layouts, section)
            steps = [fade + stable for fade, stable in zip(layout.fade_steps, layout.stable_steps, strict=True)]
            total = sum(count * second for count, second in zip(steps, seconds, strict=True))
            levels = f"{counted(sum(steps), 'step')} over {counted(len(steps), 'level')}"
            basis = f"{levels}, {_ms(seconds[0])} to {_ms(seconds[-1])} each"
            estimates.append(Estimate(f"layouts/{layout.system}", total, basis, (total,)))
    if "images" in known:
        steps, second = config.images.settings().steps, known["images"]
        basis = f"{counted(steps, 'step')}, {_ms(second)} each"
        estimates.append(Estimate(f"images/{config.images.system}", steps * second, basis, (steps * second,)))
        for kind in config.finetune.kinds:
            section = PAIR_KINDS[kind].layout_section
            if section is not None and (layout := _layout_levels(config, known, section)):
                each = second + layout[-1]
                count = config.finetune.steps
                estimates.append(
                    Estimate(f"finetuned/{kind}", count * each, f"{counted(count, 'step')}, about {_ms(each)} each")
                )
    for name, kind in kinds.items():
        if (each := known.get(Step("generate", kind.costs_like or name).name)) is not None:
            pairs = config.generate.rows
            estimates.append(Estimate(f"shards/{name}", pairs * each, f"{counted(pairs, 'pair')}, {_ms(each)} each"))
    if "segmenter" in known:
        second, steps = known["segmenter"], config.segmenters.steps
        if needs_teachers(config):
            folds, steps_of_teacher = config.teachers.folds, teacher_settings(config).steps
            basis = f"{counted(folds, 'training')} of {counted(steps_of_teacher, 'step')}, {_ms(second)} each"
            each = steps_of_teacher * second
            estimates.append(Estimate(TEACHERS, folds * each, basis, folds * (each,)))
        trainings, waiting = list[float](), list[float]()
        for name in config.segmenters.arms:
            waits = ARMS[name].synthetic is not None or ARMS[name].teacher_labels
            (waiting if waits else trainings).extend([arm_weight(name) * steps * second] * len(config.segmenters.seeds))
        basis = f"{counted(len(trainings) + len(waiting), 'training')} of {counted(steps, 'step')}, {_ms(second)} each"
        total = sum(trainings) + sum(waiting)
        estimates.append(Estimate(SEGMENTERS, total, basis, tuple(trainings), tuple(waiting)))
    return estimates


def loop_estimate(config: RunConfig, measured: Measured) -> Estimate | None:
    """Return what `scenepalette loop` takes at most beside data, generators and the arm `real`; None if unknown.

    That is all rounds and their control; each has a training for each seed.
    """
    known, kinds = measured.seconds, config.loop_kinds()
    each = [known.get(Step("generate", PAIR_KINDS[kind].costs_like or kind).name) for kind in kinds]
    if not kinds or None in each or "segmenter" not in known:
        return None
    steps, rounds, seeds = config.segmenters.steps, config.loop.rounds, len(config.segmenters.seeds)
    pairs = 2 * rounds * config.loop.pairs  # the control has as many as all rounds
    trainings = Estimate(SEGMENTERS, 0.0, "", seeds * (steps * known["segmenter"],))
    seconds = pairs * sum(filter(None, each)) + (rounds + 1) * total_of([trainings], *at_once(config))
    basis = f"up to {counted(rounds, 'round')} and the control: {counted(pairs * len(kinds), 'pair')}, "
    return Estimate("loop", seconds, f"{basis}{counted((rounds + 1) * seeds, 'training')} of {counted(steps, 'step')}")


def at_once(config: RunConfig) -> tuple[int, int | None]:
    """Return how many trainings are done at once, and of segmenters if these have a number of their own."""
    own = config.segmenters.parallel
    if own is not None and chosen_accelerator(config.compute.accelerator) == "cpu":  # more share the same threads
        own = min(own, config.compute.threads or choose_threads().threads)
    return trainings_at_once(config), own


def total_of(estimates: Sequence[Estimate], count: int, segmenters: int | None = None) -> float:
    """Return the seconds of all parts.

    Args:
        estimates: The parts.
        count: Trainings that are done beside each other, in order.
        segmenters: Likewise of segmenters, which then are done beside no other training; None if they may be.
    """
    total = sum(part.seconds for part in estimates if not part.trainings and not part.waiting)
    apart = [part for part in estimates if segmenters is not None and part.name == SEGMENTERS]
    for parts, most in (([part for part in estimates if part not in apart], count), (apart, segmenters or count)):
        for trainings in ([part.trainings for part in parts], [part.waiting for part in parts]):
            ends = [0.0] * most
            for seconds in itertools.chain(*trainings):
                heapq.heapreplace(ends, ends[0] + seconds)
            total += max(ends)
    return total


def arm_weight(name: str) -> float:
    """Return what the training of an arm costs against one on real pairs alone."""
    arm = ARMS[name]
    return arm.steps_factor * (ADVENT if arm.adaptation == "advent" else 1.0)


def _layout_levels(config: RunConfig, known: dict[str, float], section: str) -> list[float]:
    """Return the seconds of a step at each level, or nothing if no level was measured."""
    batches = getattr(config.layouts, section).batch_sizes
    names = {level: Step("layouts", section, level).name for level in range(len(batches))}
    levels = {level: known[name] for level, name in names.items() if name in known}
    if not levels:
        return []
    seconds = []
    for level in range(len(batches)):
        nearest = min(levels, key=lambda other: abs(other - level))
        factor = 4.0 ** (level - nearest) * batches[level] / batches[nearest]
        seconds.append(levels[level] if level in levels else levels[nearest] * factor)
    return seconds


def check_time(config: RunConfig, measured: Measured, read_seconds: float, samples: int) -> list[Check]:
    """Say how long the run will take, and what could not be run at all."""
    checks = []
    if measured.errors:
        summary = f"{counted(len(measured.errors), 'part')} of the run failed in the first steps."
        remedy = "Correct what is named; the run would stop there."
        if measured.out_of_memory:
            remedy += " Smaller batch sizes or networks take less memory."
        details = tuple(f"{name}: {text}" for name, text in measured.errors.items())
        checks.append(Check("trial steps", "problem", summary, remedy, details))
    if measured.failure is not None:
        remedy = "Try a few steps by hand: the recipe may be too large for here."
        return [*checks, Check("time", "warning", measured.failure, remedy)]
    if not measured.seconds:
        return checks
    estimates = estimates_of(config, measured, read_seconds, samples)
    count, segmenters = at_once(config)
    total = total_of(estimates, count, segmenters)
    details = [f"{estimate.name}: {show_seconds(estimate.seconds)} ({estimate.basis})" for estimate in estimates]
    if (loop := loop_estimate(config, measured)) is not None:
        details.append(f"scenepalette loop, not in the sum: {show_seconds(loop.seconds)} ({loop.basis})")
    levels = {step.name for step in timed_steps(config) if step.work == "layouts"}
    coarse = [name for name in measured.missing if name in levels]
    absent = [name for name in measured.missing if name not in levels]
    if coarse:
        details.append(f"not measured but scaled from other levels, if there are any: {', '.join(coarse)}")
    if absent:
        details.append(f"not measured, and left out of the sum: {', '.join(absent)}")
    if measured.errors:
        details.append(f"failed, and left out of the sum: {', '.join(measured.errors)}")
    text = f"Making everything takes about {show_seconds(total)} on this machine"
    text += f", with {count} trainings at once" if count > 1 else ""
    text += f", segmenters {segmenters} at once" if segmenters is not None else ""
    text += ", and what could not be measured" if absent else ""
    text += ", and what failed" if measured.errors else ""
    text += ": an estimate from a few steps each, as busy as the machine is now. Evaluation and the report come on top."
    remedy = "Choose fewer steps, smaller networks, or another machine, if that is too long." * bool(absent)
    return [*checks, Check("time", "warning" if absent else "note", text, remedy, tuple(details))]


def _ms(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
