"""Finished runs with generators of other seeds, pooled with a run in its report (`report.runs`).

A run trains its generators once. How much another training of them would change what its arms reach is seen only in
other runs: those that differ in `seed` alone, and have the same data. Segmenters of equal seed start from the same
weights and see the same real batches in all of them, so that generator seeds and segmenter seeds are crossed; an arm
without generated pairs is the same training in all of them, and is taken from the run that reports.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.storage.files import sha256_of_json
from scenepalette.common.wording import first_and_more
from scenepalette.pipeline.arms import ARMS
from scenepalette.pipeline.run_directory.manifests import MANIFEST, check_contents, identity_in, read_record
from scenepalette.pipeline.run_directory.ownership import CONFIG, check_holds_run
from scenepalette.pipeline.stages.segment import read_confusion, segmenter_name
from scenepalette.pipeline.units.borrowing import lender_of
from scenepalette.pipeline.units.records import BORROWED, as_json, differences, stored_fingerprint
from scenepalette.pipeline.units.sources import ABSENT
from scenepalette.pipeline.units.workspace import Unit, Workspace, ancestors
from scenepalette.segmenters.loading import WEIGHTS_FILE

GENERATORS = ("layouts", "images", "finetuned")
# Stages that take the run's seed, in which pooled runs differ.
SEEDED = ("palettes", *GENERATORS, "shards")


@dataclass(frozen=True)
class PooledRun:
    """A run whose arms are in a report.

    Attributes:
        run_dir: Its directory.
        generator_seed: Seed of its generators.
        arms: Arms that it trains.
        seeds: Seeds of its segmenters.
    """

    run_dir: Path
    generator_seed: int
    arms: tuple[str, ...]
    seeds: tuple[int, ...]


def identity_of(run_dir: Path) -> str:
    """Return the hash of all segmenters of a run, or `ABSENT` where it cannot be read, which the check says."""
    try:
        arms, seeds = _arms_and_seeds(run_dir)
        manifests = {name: run_dir / name / MANIFEST for arm in arms for name in _names([arm], seeds)}
        return sha256_of_json(
            {
                name: stored_fingerprint(read_record(path)) if path.is_file() else None
                for name, path in manifests.items()
            }
        )
    except ScenepaletteError:
        return ABSENT


def pooling_problems(run: Workspace) -> list[str]:
    """Say what keeps the runs of `report.runs` from being pooled with a run, one text each with its remedy."""
    if not run.config.report.runs:
        return []
    problems, pooled = [], [(run.run_dir, _generator_seeds(run))]
    for path in run.config.report.runs:
        try:
            texts = _problems_of(run, path)
            if not texts:
                pooled.append((path, _generator_seeds(run, path)))
        except ScenepaletteError as error:
            texts = [error.summary, *error.problems]
        problems += [f"report.runs: {path}: {text}" for text in texts]
    free = 1 + max((seed for _, seeds in pooled for seed in seeds.values()), default=run.config.seed)
    for (_, seeds), (path, others) in combinations(pooled, 2):
        same = [name for name in others if seeds.get(name) == others[name]]
        if same:
            problems.append(
                f"report.runs: {path}: {same[0]} was trained with seed {others[same[0]]} there, as in another of these "
                f"runs; name runs of other seeds (--set seed={free} with another --out folder)"
            )
    return problems


def pooled_runs(run: Workspace) -> list[PooledRun]:
    """Return a run and those that its report pools with it, which `pooling_problems` has found nothing against."""
    settings, found = run.config.segmenters, []
    for path in (run.run_dir, *run.config.report.runs):
        own = path == run.run_dir
        arms, seeds = (settings.arms, settings.seeds) if own else _arms_and_seeds(path)
        found.append(PooledRun(path, _generator_seed(run, path), arms, seeds))
    return found


def shared_seeds(runs: Sequence[PooledRun]) -> list[int]:
    """Return the segmenter seeds that all runs have, in the order of the first."""
    return [seed for seed in runs[0].seeds if all(seed in other.seeds for other in runs)]


def runs_of_arm(runs: Sequence[PooledRun], arm: str) -> list[PooledRun]:
    """Return the runs that an arm's segmenters are taken from: one where generated pairs play no part in it."""
    return [each for each in runs if arm in each.arms] if ARMS[arm].synthetic is not None else [runs[0]]


def pooling_notes(runs: Sequence[PooledRun]) -> list[str]:
    """Say what of pooled runs is left out of a report, and what of them differs that should not; one sentence each."""
    first, others, seeds = runs[0], runs[1:], shared_seeds(runs)
    notes = []
    if others and len(seeds) < max(len(each.seeds) for each in runs):
        listed = "; ".join(f"{each.run_dir}: {_listed(each.seeds)}" for each in runs)
        notes.append(
            f"Only segmenters of seeds {_listed(seeds)}, which all pooled runs have, are in this report ({listed})."
        )
    for other in others:
        lacking = [arm for arm in first.arms if ARMS[arm].synthetic is not None and arm not in other.arms]
        further = [arm for arm in other.arms if arm not in first.arms]
        if lacking:
            notes.append(
                f"{other.run_dir} does not train {_listed(lacking)}: what is said of "
                f"{'it' if len(lacking) == 1 else 'them'} holds without generator seed {other.generator_seed}."
            )
        if further:
            notes.append(f"{other.run_dir} also trains {_listed(further)}, which this run does not: left out.")
        # What no generator has a part in is the same training in both.
        common = [arm for arm in first.arms if ARMS[arm].synthetic is None and arm in other.arms]
        differing = [
            name
            for name in _names(common, seeds)
            if not np.array_equal(read_confusion(first.run_dir / name), read_confusion(other.run_dir / name))
        ]
        if differing:
            notes.append(
                f"{other.run_dir} has other results for {differing[0]}, which no generator has a part in: its hardware "
                "or its libraries round otherwise. Those of this run are taken."
            )
    return notes


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _names(arms: Sequence[str], seeds: Sequence[int]) -> list[str]:
    return [segmenter_name(arm, seed) for arm in arms for seed in seeds]


def _arms_and_seeds(run_dir: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return which arms a run trains, and with which seeds.

    Raises:
        ScenepaletteError: The folder is no run directory of this version, or its configuration cannot be read.
    """
    check_holds_run(run_dir)
    try:
        segmenters = yaml.safe_load((run_dir / CONFIG).read_text(encoding="utf-8"))["segmenters"]
        return tuple(map(str, segmenters["arms"])), tuple(map(int, segmenters["seeds"]))
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ScenepaletteError(f"{run_dir / CONFIG} cannot be read ({error}). Restore it.") from error


def _problems_of(run: Workspace, path: Path) -> list[str]:
    """Say what keeps one run from being pooled: it differs in more than `seed`, or is not finished."""
    if not path.is_dir():
        return ["there is no such folder; give the --out folder of a finished run, or leave it out"]
    arms, seeds = _arms_and_seeds(path)
    own = run.config.segmenters
    common = [arm for arm in own.arms if arm in arms]
    if all(ARMS[arm].synthetic is None for arm in common):
        return [
            f"it trains none of this run's arms with generated pairs; it trains {_listed(arms)}, this run "
            f"{_listed(own.arms)}; add one of them there"
        ]
    trained = [seed for seed in own.seeds if seed in seeds]
    if not trained:
        wanted = f"segmenters.seeds=[{','.join(map(str, dict.fromkeys([*seeds, *own.seeds])))}]"
        return [
            f"its segmenters have the seeds {_listed(seeds)}, those of this run {_listed(own.seeds)}, none is in both; "
            f"train further ones there: scenepalette train-segmenter {shlex.quote(str(path / CONFIG))} "
            f"--set {shlex.quote(wanted)} --out {shlex.quote(str(path))}"
        ]
    names = _names(common, trained)
    made_from = ancestors(run.units, names)
    compared = [name for name in run.units if name in made_from]
    unfinished = [name for name in compared if not (path / name / MANIFEST).is_file()]
    if unfinished:
        return [f"{first_and_more(unfinished)}: not finished there; rerun the command that makes it, then this one"]
    reasons: dict[str, list[str]] = {}
    for name in compared:
        for text in _reasons(run, path, run.units[name]):
            reasons.setdefault(text, []).append(name)
    if reasons:
        return [
            f"{first_and_more(units)}: {text}; runs that are pooled differ in seed alone"
            for text, units in reasons.items()
        ]
    # Images of further test sets are predicted by the segmenters; all else is in their confusion matrices and logs.
    unread = () if run.config.report.extra_test else (WEIGHTS_FILE,)
    for name in names:
        check_contents(path / name, unread)
    return []


def _reasons(run: Workspace, path: Path, unit: Unit) -> list[str]:
    """Say in what a finished unit of another run differs from that of this run, but for the seed of generators."""
    record = read_record(path / unit.name / MANIFEST)
    identity, own = identity_in(record), _own_settings(run, unit)
    there = dict(_settings_in(record))
    if unit.stage in SEEDED:
        own.pop("seed", None)
        there.pop("seed", None)
    other_files = "content" in own and own["content"] != there.get("content")
    for settings in (own, there):
        settings.pop("content", None)  # of data that this run has not read yet, it is not known
    reasons = differences(there, own, "here")
    if other_files:
        reasons.append("it was made from other files")
    if unit.name == "data" and own.get("seed") != there.get("seed"):
        reasons = [f"{text} (give both runs the same data.seed)" for text in reasons]
    if BORROWED in unit.settings or lender_of(record) is not None:
        return reasons
    if identity.get("version") != unit.version:
        reasons.append(f"made by version {identity.get('version')} of this stage there, by {unit.version} here")
    inputs: Mapping[str, str] = identity.get("inputs", {})
    if inputs.keys() != set(unit.inputs):
        reasons.append(f"made from {_listed(sorted(inputs))} there, from {_listed(sorted(unit.inputs))} here")
    for name, fingerprint in inputs.items():
        manifest = path / name / MANIFEST
        if manifest.is_file() and stored_fingerprint(read_record(manifest)) != fingerprint:
            reasons.append(f"{name} was made again since; rerun the command that makes it")
    return reasons


def _settings_in(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings that a unit was made with; of one that was borrowed, those that it was trained with."""
    lender = lender_of(record)
    return (identity_in(record) if lender is None else lender).get("settings") or {}


def _own_settings(run: Workspace, unit: Unit) -> dict[str, Any]:
    """Return the same of a unit of this run, finished or not, as a manifest would have them."""
    manifest = run.run_dir / unit.name / MANIFEST
    if BORROWED not in unit.settings:
        settings: Mapping[str, Any] = unit.settings
    elif manifest.is_file():
        settings = _settings_in(read_record(manifest))
    else:
        settings = unit.record()["lender"]["settings"]
    return as_json(settings)


def _generator_seeds(run: Workspace, path: Path | None = None) -> dict[str, int]:
    """Return the seed of each generator that this run's pairs come from, by unit; as another run has it, if named."""
    found = {}
    for name, unit in run.planned.run.items():
        if unit.stage in GENERATORS:
            there = None if path in (None, run.run_dir) else path / name / MANIFEST
            if there is None:
                found[name] = _own_settings(run, unit).get("seed")
            elif there.is_file():
                found[name] = _settings_in(read_record(there)).get("seed")
    return {name: seed for name, seed in found.items() if seed is not None}


def _generator_seed(run: Workspace, path: Path) -> int:
    """Return the seed of a run's image generator, which all its pairs need."""
    units = run.planned.run
    seeds = [seed for name, seed in _generator_seeds(run, path).items() if units[name].stage == "images"]
    return next(iter(seeds), run.config.seed)
