"""The whole run: which units there are, what each reads, and how one is made with all that it needs.

`run` makes everything; `make` one part of the run directory and whatever unfinished part it is made from. The command
line and the flows call these and nothing else.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from scenepalette.common.errors import ConfigError, ScenepaletteError, TrainingError
from scenepalette.common.files import writing_explained
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.data.datasets import DATASETS
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.pairs import FirstPairs, ShardPairs
from scenepalette.data.shards.writing import ShardInfo
from scenepalette.data.unlabelled import UnlabelledImages, read_unlabelled
from scenepalette.evaluation.registry import metrics_from_elsewhere
from scenepalette.generators.fine_tuning import TrainedPart, fine_tune
from scenepalette.generators.images.base import FeatureNetwork, ImageGenerator
from scenepalette.generators.images.loading import load_image_discriminator, load_image_generator
from scenepalette.generators.images.registry import find_image_system
from scenepalette.generators.images.training import train_image_generator
from scenepalette.generators.kernels.passes import prepare_for_inference
from scenepalette.generators.layouts.loading import load_layout_generator
from scenepalette.generators.layouts.training import train_layout_generator
from scenepalette.generators.pair_maker import Kind, Labeller, PairMaker
from scenepalette.pipeline.arms import ARMS
from scenepalette.pipeline.comparisons import ROWS
from scenepalette.pipeline.config import GenerateConfig, RunConfig, config_of_pairs, config_text
from scenepalette.pipeline.models import PairModels, image_model, pair_models, row_models, trained_mark
from scenepalette.pipeline.preflight import check_after_data, check_before
from scenepalette.pipeline.recipes import load_config
from scenepalette.pipeline.run_directory.artifacts import MANIFEST, check_contents, identity_in, read_record
from scenepalette.pipeline.run_directory.borrowing import STAGES, borrow, lender_of, lending_problems
from scenepalette.pipeline.run_directory.ownership import (
    CONFIG,
    check_holds_run,
    exclusive,
    keep_changed,
    read_mark,
    remember,
    write_document,
    write_shards_card,
)
from scenepalette.pipeline.run_directory.sources import Sources, data_paths, unlabelled_paths
from scenepalette.pipeline.segmenter_features import choose_features
from scenepalette.pipeline.stages import compare, data, generate, palettes, report, segment
from scenepalette.pipeline.stages.generate import ShardPlan
from scenepalette.pipeline.units import (
    BORROWED,
    State,
    Unit,
    begin,
    counted,
    fingerprint_of,
    finish,
    reasons_of,
    seconds_spent,
    show_seconds,
    state_of,
    timed,
    work_folder,
)
from scenepalette.segmenters.loading import load_segmenter
from scenepalette.segmenters.model import DEFAULT_ARCHITECTURE, weights_file
from scenepalette.training.checkpoint import weights_hash
from scenepalette.training.fabric import computes_bfloat16, inference_type, make_fabric
from scenepalette.training.ranks import ALONE, Ranks
from scenepalette.training.settings import settings_of_result

LAYOUT_VERSION = 3
IMAGES_VERSION = 3
FINETUNE_VERSION = 3
BORROWING_VERSION = 1

COMPARISON = "comparison"
# Units that read what lies outside the run directory: what is made from them is known once they are finished.
SOURCE_UNITS = ("data", "unlabelled")
# What processes that were started together share: the batches of trainings, and the shards of a kind.
SHARED = ("layouts", "images", "finetuned", "shards")
# The files of a unit's result, by the first part of its name; other files in its folder are none of the run's.
FILES: dict[str, tuple[str, ...]] = {
    "data": ("images-*.npy", "labels-*.npy", "filled-labels-train.npy", "train.json", "val.json"),
    "unlabelled": ("images.npy", "images.json"),
    "palettes": ("sampler.json", "aic.png"),
    "layouts": ("weights.safetensors", "metrics.jsonl"),
    "images": ("weights.safetensors", "critic.safetensors", "metrics.jsonl"),
    "finetuned": ("layouts.safetensors", "images.safetensors", "metrics.jsonl"),
    "segmenters": ("weights.safetensors", "metrics.jsonl", "validation-confusion.npy"),
}


def units_of(config: RunConfig, sources: Sources | None = None) -> dict[str, Unit]:
    """Return all units of a run by name, each after those that it reads.

    Args:
        config: The configuration.
        sources: Identities of what is read from outside; without them, what would be read for the first time.
    """
    sources = sources or Sources()
    dump = config.model_dump(mode="json")
    seed = {"seed": config.seed}
    units = [
        _data_unit(config, sources),
        *([_unlabelled_unit(config, sources)] if "pseudo" in config.generate.kinds else []),
        _unit("palettes", palettes.VERSION, {**dump["palettes"], **seed}, ("data",), resumable=False),
    ]
    models = {kind: pair_models(config, kind) for kind in config.generate.kinds}
    units += _model_units(config, models.values(), sources)
    making = {key: value for key, value in dump["generate"].items() if key not in ("kinds", "pairs")}
    for kind, made_by in models.items():
        editing = config.layouts.partial
        # What is added has no crop; the usual replacement was there first and is not named.
        added = {"edits": "add"} if editing.edits == "add" else {}
        crop_mode = {"crop_mode": editing.crop_mode, **added} if kind == "partial" else {}
        inputs = ("data", *(["unlabelled"] if kind == "pseudo" else []), "palettes", *made_by.inputs)
        settings = {**making, **crop_mode, **seed}
        units.append(_unit(f"shards/{kind}", generate.VERSION, settings, inputs, rows=config.generate.pairs))
    for arm in config.segmenters.arms:
        kind = ARMS[arm].synthetic
        inputs = ("data", *([f"shards/{kind}"] if kind else []))
        pairs = config.generate.pairs if kind else None
        units += [
            segmenter_unit(config, sources, f"segmenters/{arm}/seed{k}", arm, k, inputs, pairs)
            for k in config.segmenters.seeds
        ]
    inception = sources.file(config.report.inception_weights, "report", "inception_weights")
    shown = {**dump["report"], "inception_weights": inception, "pairs": config.generate.pairs, **seed}
    shown |= metrics_from_elsewhere()
    units.append(_unit("report", report.VERSION, shown, tuple(unit.name for unit in units), renewed=True))
    return _in_order(units)


def _unit(
    name: str,
    version: int,
    settings: Mapping[str, Any],
    inputs: tuple[str, ...] = (),
    *,
    rows: int | None = None,
    renewed: bool = False,
    resumable: bool = True,
) -> Unit:
    files = FILES.get(name.partition("/")[0], FILES["segmenters"])
    return Unit(name, version, settings, inputs, files, rows, renewed, resumable and not renewed)


def _data_unit(config: RunConfig, sources: Sources) -> Unit:
    # Not where the data set lies: its content identifies it. Of data that are drawn, such as streets, the settings do.
    settings = config.data.model_dump(mode="json", exclude={"root", "class_file", "unlabelled"})
    if DATASETS.get(config.data.name).drawn:
        return _unit("data", data.VERSION, {**settings, "seed": config.seed}, resumable=False)
    content = sources.data(config)
    return _unit("data", data.VERSION, {**settings, **({"content": content} if content else {})}, resumable=False)


def _unlabelled_unit(config: RunConfig, sources: Sources) -> Unit:
    content = sources.unlabelled(config)
    settings = {"size": config.data.size, **({"content": content} if content else {})}
    return _unit("unlabelled", data.UNLABELLED_VERSION, settings, resumable=False)


def comparison_units_of(config: RunConfig, sources: Sources | None = None) -> dict[str, Unit]:
    """Return the units of the comparison of systems, by name, each after those that it reads.

    Models that a run has as well are the same units, made once for both.

    Args:
        config: The configuration.
        sources: As for `units_of`.
    """
    sources = sources or Sources()
    dump = config.model_dump(mode="json")
    seed = {"seed": config.seed}
    rows = {name: row_models(config, name, ROWS[name]) for name in config.compare.rows}
    judge = judge_of(config)
    units = [
        *(unit for unit in units_of(config, sources).values() if unit.name in ("data", "palettes", judge)),
        *_model_units(config, rows.values(), sources),
    ]
    making = {key: value for key, value in dump["generate"].items() if key not in ("kinds", "pairs")}
    count = {"pairs": config.compare.pairs}
    for name, models in rows.items():
        pairs, segmenter, metrics = (f"{COMPARISON}/{name}/{part}" for part in ("pairs", "segmenter", "metrics"))
        measuring = {
            **{key: dump["compare"][key] for key in ("layouts", "draws")},
            "alexnet_weights": sources.file(config.compare.alexnet_weights, metrics, "alexnet_weights"),
            "inception_weights": sources.file(config.report.inception_weights, metrics, "inception_weights"),
        }
        inputs = ("data", "palettes", *models.inputs)
        units += [
            _unit(pairs, generate.VERSION, {**making, **seed}, inputs, rows=config.compare.pairs),
            segmenter_unit(
                config,
                sources,
                segmenter,
                "syn",
                config.segmenters.seeds[0],
                ("data", pairs),
                config.compare.pairs,
                True,
            ),
            _unit(
                metrics,
                compare.VERSION,
                {**measuring, **count, **seed, **metrics_from_elsewhere()},
                ("data", pairs, segmenter, judge, *models.inputs),
                renewed=True,
            ),
        ]
    inputs = (judge, *(f"{COMPARISON}/{name}/metrics" for name in rows))
    inception = sources.file(config.report.inception_weights, f"{COMPARISON}/report", "inception_weights")
    shown = {"rows": list(rows), **dump["report"], "inception_weights": inception, **count, **seed}
    units.append(_unit(f"{COMPARISON}/report", compare.VERSION, shown, inputs, renewed=True))
    return _in_order(units)


def segmenter_unit(
    config: RunConfig,
    sources: Sources,
    name: str,
    arm: str,
    seed: int,
    inputs: tuple[str, ...],
    pairs: int | None = None,
    comparison: bool = False,
) -> Unit:
    """Return the unit of one segmenter training; `pairs` is how many generated pairs it takes, if any."""
    settings = config.segmenters.model_dump(mode="json", exclude={"arms", "seeds", "checkpoint_every"})
    if comparison:
        settings["steps"] = config.compare.segmenter_steps
    if settings["architecture"] == DEFAULT_ARCHITECTURE:
        del settings["architecture"]  # the only one there was, and not named
    if file := weights_file(config.segmenters.encoder_weights):
        settings["encoder_weights"] = sources.file(file, name, "encoder_weights")
    count = {} if pairs is None else {"pairs": pairs}
    return _unit(name, segment.VERSION, {**settings, **count, "arm": arm, "seed": seed}, inputs)


def judge_of(config: RunConfig) -> str:
    """Return the unit of the segmenter trained on real pairs whose features and predictions judge generated ones."""
    return f"segmenters/real/seed{config.segmenters.seeds[0]}"


def _model_units(config: RunConfig, models: Iterable[PairModels], sources: Sources) -> list[Unit]:
    """Return the units of the models that pairs are made with, each once."""
    seed = {"seed": config.seed}
    units: dict[str, Unit] = {}
    for made_by in models:
        layout, image = made_by.layout, made_by.image
        if layout is not None:
            settings = {**settings_of_result(layout.settings), "system": layout.system, **seed}
            units[layout.unit] = _unit(layout.unit, LAYOUT_VERSION, settings, ("data", "palettes"))
        # A perceptual loss may fall back on the features of the segmenter that is trained on real pairs.
        perceptual = find_image_system(image.system).perceptual
        judge = (judge_of(config),) if perceptual else ()

        def features(unit: str, perceptual: bool = perceptual) -> dict[str, Any]:
            weights = config.images.vgg_weights
            named = perceptual and weights is not None
            return {"vgg_weights": sources.file(weights, unit, "vgg_weights")} if named else {}

        settings = {**settings_of_result(image.settings), **features(image.unit), **seed}
        units[image.unit] = _unit(image.unit, IMAGES_VERSION, settings, ("data", *judge))
        if made_by.finetuned is not None:
            assert layout is not None
            inputs = ("data", "palettes", layout.unit, image.unit, *judge)
            settings = {**settings_of_result(config.finetune.settings()), **features(made_by.finetuned), **seed}
            units[made_by.finetuned] = _unit(made_by.finetuned, FINETUNE_VERSION, settings, inputs)
    if config.models_from is not None:
        units = {name: _as_borrowed(unit, sources.borrowed(config.models_from, unit)) for name, unit in units.items()}
    return sorted(units.values(), key=lambda unit: STAGES.index(unit.name.partition("/")[0]))


def _as_borrowed(unit: Unit, weights: Mapping[str, str] | None) -> Unit:
    """Return a unit whose result is taken from another run: nothing but its weights identifies it."""
    if weights is None:
        return unit
    return replace(unit, version=BORROWING_VERSION, settings={BORROWED: dict(weights)}, inputs=("data",))


def _in_order(units: list[Unit]) -> dict[str, Unit]:
    """Return units by name, each moved behind those that it reads and otherwise as given."""
    by_name = {unit.name: unit for unit in units}
    ordered: dict[str, Unit] = {}

    def place(unit: Unit) -> None:
        if unit.name not in ordered:
            for name in unit.inputs:
                place(by_name[name])
            ordered[unit.name] = unit

    for unit in units:
        place(unit)
    return ordered


@dataclass
class Run:
    """A configuration, its run directory, and the work that turns the one into the other.

    Attributes:
        config: What to make.
        run_dir: Where.
        progress: Watches long work.
        command: The command that the report names for making it again.
        ranks: The processes that all have this run; they share trainings of generators, and shards, and the first of
            them does everything else.
        look: Whether what lies outside the run directory is compared with what was read of it; see `Sources`.
    """

    config: RunConfig
    run_dir: Path
    progress: Progress = NO_PROGRESS
    command: str = field(default_factory=lambda: shlex.join(["scenepalette", *sys.argv[1:]]))
    ranks: Ranks = ALONE
    look: bool = True
    _checked: set[str] = field(default_factory=set, repr=False)
    _units: tuple[Any, tuple[dict[str, Unit], dict[str, Unit]]] | None = field(default=None, repr=False)

    @classmethod
    def open(cls, run_dir: Path) -> Run:
        """Return a run that is there, to use what it has made; nothing outside its directory is needed for that.

        Raises:
            ScenepaletteError: The folder holds no run of this version.
        """
        check_holds_run(run_dir)
        return cls(load_config(str(run_dir / CONFIG)), run_dir, look=False)

    @property
    def units(self) -> dict[str, Unit]:
        """All units by name, those of the comparison behind those of the run."""
        return self.run_units | self.comparison_units

    @property
    def run_units(self) -> dict[str, Unit]:
        """The units of the run by name, without those of the comparison."""
        return self._known_units()[0]

    @property
    def comparison_units(self) -> dict[str, Unit]:
        """The units of the comparison of systems by name, with those that it shares with the run."""
        return self._known_units()[1]

    def _known_units(self) -> tuple[dict[str, Unit], dict[str, Unit]]:
        # Known anew when a unit that reads sources is finished, in this process or another.
        state = tuple(_stamp(self.run_dir / name / MANIFEST) for name in SOURCE_UNITS)
        if self._units is None or self._units[0] != state:
            units = units_of(self.config, self.sources), comparison_units_of(self.config, self.sources)
            self._units = (state, units)
        return self._units[1]

    @cached_property
    def sources(self) -> Sources:
        """Identities of what is read from outside the run directory."""
        return Sources(self.run_dir, self.look, self.progress)

    @cached_property
    def fabric(self) -> Fabric:
        """This process's device, and precision."""
        compute = self.config.compute
        if compute.threads is not None:
            torch.set_num_threads(compute.threads)
        accelerator = compute.accelerator
        if accelerator == "auto":
            accelerator = "cuda" if torch.cuda.is_available() else "cpu"
        precision = compute.precision
        if precision == "auto":
            precision = "bf16-mixed" if computes_bfloat16(accelerator) else "32-true"
        return make_fabric(accelerator, precision, self.ranks.local)

    def names_of(self, stage: str) -> list[str]:
        """Return the names of a stage's units, for example of "layouts", "shards" or "comparison".

        Raises:
            ConfigError: Fine-tuning is asked for and the configuration names nothing to fine-tune.
        """
        units = self.comparison_units if stage == COMPARISON else self.run_units
        names = [name for name in units if name == stage or name.startswith(f"{stage}/")]
        if stage == "finetuned" and not names:
            raise ConfigError(
                "No generators are to be fine-tuned. Name the kinds of pairs whose generators are: "
                "--set 'finetune.kinds=[full]', [partial] or both."
            )
        return names

    def state(self, name: str) -> State:
        """Return how far a unit is.

        Raises:
            ScenepaletteError: Its record is damaged, or its folder holds files of somebody else.
        """
        return state_of(self.run_dir, self.units[name], self.units)

    def is_finished(self, name: str) -> bool:
        """Tell whether a unit is finished; raises as `state` does."""
        return self.state(name).status == "finished"

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return the units to make among `names` and among all that they are made from, in order.

        What is made from a data set is compared with what is there once the unit "data" is finished.

        Raises:
            ScenepaletteError: Units have results of other settings or inputs, all told at once with what differs, or
                the configuration cannot be run.
        """
        lender = self.config.models_from
        if lender is not None and os.path.realpath(lender) == os.path.realpath(self.run_dir):
            raise ConfigError(f"models_from: {lender} is this run directory itself. Give another --out folder.")
        units, states = self.units, {}

        def visit(name: str) -> None:
            if name in states:
                return
            states[name] = self.state(name)
            # A finished unit fits through all that it was made from.
            if states[name].status != "finished":
                for other in units[name].inputs:
                    visit(other)

        for name in names:
            visit(name)
        unread = {name for name in SOURCE_UNITS if name in states and states[name].status == "missing"}
        others = [
            name
            for name in units
            if name in states and states[name].status == "other" and not unread & self._ancestors(name)
        ]
        if others:
            raise self.misfits(others)
        missing = [name for name in units if name in states and states[name].status != "finished"]
        self._check_before(missing, names)
        return missing

    def _ancestors(self, name: str) -> set[str]:
        """Return the units that a unit is made from, directly or not."""
        inputs = self.units[name].inputs
        return {*inputs}.union(*(self._ancestors(other) for other in inputs))

    def misfits(self, names: Sequence[str]) -> ScenepaletteError:
        """Say of all units that no longer fit, with those that were made from them, what differs and what it cost.

        Args:
            names: Units whose state is "other".
        """
        units, affected = self.units, dict.fromkeys(names)
        for name, unit in units.items():
            if not unit.renewed and any(other in affected for other in unit.inputs):
                affected[name] = None
        problems, causes, total = [], [], 0.0
        for name in (name for name in units if name in affected):
            state = self.state(name)
            if state.status != "other":
                continue
            reasons, seconds = reasons_of(state, units[name], units), seconds_spent(self.run_dir, units[name])
            total += seconds
            if not all(reason.removeprefix("made from ") in affected for reason in reasons):
                causes.append(name)
            begun = f"unfinished, {', '.join(state.partial[:2])} there, " if state.partial else ""
            problems.append(f"{name} ({begun}{show_seconds(seconds)}): {'; '.join(reasons)}")
        command = shlex.join(["scenepalette", "reset", str(self.run_dir), *(causes or list(names))])
        return ScenepaletteError(
            f"{counted(len(problems), 'unit')} in {self.run_dir}: made with other settings or inputs than this command "
            f"has. To make them again, {show_seconds(total)} of work in all, set them aside with `{command}` and rerun "
            "the same command. To keep them, give another --out folder, or the settings that they were made with.",
            problems,
        )

    def _check_before(self, missing: Sequence[str], wanted: Sequence[str]) -> None:
        """Check everything that can be known before anything is made; what was checked before is taken as it was."""
        problems = []
        if not self._checked.issuperset(missing):
            try:
                check_before(self.config, missing, wanted=wanted)
            except ConfigError as error:
                problems += error.problems or [error.summary]
            else:
                self._checked.update(missing)
        if missing and self.is_finished("data"):
            train, validation, _ = data.read_data(self.run_dir / "data")
            try:
                check_after_data(self.config, train, validation, missing)
            except ConfigError as error:
                problems += error.problems or [error.summary]
        lender = self.config.models_from
        if lender is not None:
            # What is fine-tuned may be fine-tuned here, from generators that were trained there.
            lent = [name for name in missing if name.partition("/")[0] in ("layouts", "images")]
            table = data.read_data(self.run_dir / "data")[0].table if self.is_finished("data") else None
            problems += lending_problems(lender, lent, table) if lent else []
        if problems:
            raise ConfigError("The configuration cannot be run; nothing was made.", problems)

    def each_missing(self, names: Sequence[str]) -> Iterator[str]:
        """Yield the units to make, in order, each to be finished before the next is asked for."""
        missing = self.missing(names)
        self.ranks.wait()  # all have planned before the first of them changes anything
        while missing:
            name, *missing = missing
            yield name
            if name in SOURCE_UNITS:
                missing = self.missing(names)
                self.ranks.wait()

    def make(self, names: Sequence[str], wait: float = 0.0, on_wait: Callable[[], object] | None = None) -> None:
        """Make units and whatever they are made from, as far as it is not finished.

        Args:
            names: The units.
            wait: Seconds to wait while another process works in the run directory.
            on_wait: Called once if there is something to wait for.

        Raises:
            ScenepaletteError: Anything that a user can mend; finished units stay.
        """
        ranks = self.ranks
        if not self.run_dir.exists():
            self.missing(names)  # what cannot be made leaves no folder behind
        with exclusive(self.run_dir, wait, on_wait) if ranks.first else nullcontext():
            ranks.wait()
            # Refused here if the folder holds another run, before its config is touched.
            missing = self.missing(names)
            ranks.check_batches(self._batch_sizes(missing))
            ranks.wait()
            if ranks.first:
                self.write_documents()
            for name in self.each_missing(names):
                self.make_one(name)
            ranks.wait()

    def _batch_sizes(self, names: Sequence[str]) -> dict[str, list[int]]:
        """Return the sizes of the batches that processes share, by the unit that they are of."""
        sizes: dict[str, list[int]] = {}
        for model in self._all_models():
            if model.layout is not None:
                sizes[model.layout.unit] = list(model.layout.settings.batch_sizes)
            sizes[model.image.unit] = [model.image.settings.batch_size]
            if model.finetuned is not None:
                sizes[model.finetuned] = [self.config.finetune.batch_size]
        return {f"{name} (batch sizes)": sizes[name] for name in names if name in sizes}

    def check_inputs(self, name: str) -> None:
        """Compare the files that a unit is made from with the manifests beside them; files are read once a process.

        Raises:
            ScenepaletteError: One of them is damaged.
        """
        for other in self.units[name].inputs:
            check_contents(self.run_dir / other)

    def write_documents(self) -> None:
        """Write the resolved configuration and the card above all shards; the caller holds the run directory."""
        write_document(self.run_dir, CONFIG, config_text(self._with_known_paths()))
        write_shards_card(self.run_dir)
        for name, paths in (("data", data_paths(self.config.data)), ("unlabelled", unlabelled_paths(self.config.data))):
            # Where it lies now, since its content was found to be what was read.
            if paths and all(map(os.path.exists, paths.values())) and name in self.units and self.is_finished(name):
                remember(self.run_dir, lambda mark, name=name, paths=paths: mark.sources.update({name: paths}))

    def _with_known_paths(self) -> RunConfig:
        """Return the configuration with the paths that data was read from in place of paths that are not there."""
        given = {**data_paths(self.config.data), **unlabelled_paths(self.config.data)}
        known = {key: path for paths in read_mark(self.run_dir).sources.values() for key, path in paths.items()}
        gone = {key: path for key, path in given.items() if not os.path.exists(path) and known.get(key, path) != path}
        for key, path in gone.items():
            print(f"data.{key}: there is no {path}; this run uses what it read from {known[key]}.", flush=True)
        update = {key: Path(known[key]) for key in gone}
        return self.config.model_copy(update={"data": self.config.data.model_copy(update=update)})

    def make_one(self, name: str) -> None:
        """Make one unit whose inputs are finished.

        Raises:
            ScenepaletteError: Anything that a user can mend, such as a full disk; what is finished stays.
        """
        with writing_explained(self.run_dir):
            try:
                self._make_one(name)
            except TrainingError as error:
                raise TrainingError(f"{self.run_dir / name}: {error.summary}", error.problems) from error

    def _make_one(self, name: str) -> None:
        kind, _, rest = name.partition("/")
        work: dict[str, Callable[[Path, str], None]] = {
            "data": self._make_data,
            "unlabelled": self._make_unlabelled,
            "palettes": self._make_palettes,
            "layouts": self._make_layouts,
            "images": self._make_images,
            "finetuned": self._make_finetuned,
            "shards": self._make_shards,
            "segmenters": self._make_segmenters,
            "report": self._make_report,
            COMPARISON: self._make_comparison,
        }
        ranks = self.ranks
        if ranks.first:  # which alone knows that the manifests before are written; the others wait for it
            self.check_inputs(name)
            self.begin(name)
        ranks.wait()
        unit = self.units[name]
        folder = work_folder(self.run_dir, unit)
        if BORROWED in unit.settings:
            if ranks.first:
                self._borrow(name)
        elif ranks.first or kind in SHARED or self.makes_pairs(name):
            with timed(self.run_dir, unit) if ranks.first else nullcontext():
                work[kind](folder, rest)
        ranks.wait()
        if ranks.first:
            self.finish(name)
        if kind in SOURCE_UNITS:
            ranks.wait()  # what is made from it is planned by all processes alike

    def begin(self, name: str) -> None:
        """Mark a unit as begun; the caller holds the run directory."""
        self.sources.forget(name)
        self._units = None
        begin(self.run_dir, self.units[name], self.units)
        if self.makes_pairs(name):
            folder = self.run_dir / name
            if (folder / MANIFEST).is_file():
                # Before hours of work, not after it.
                check_contents(folder)
                generate.check_strays(folder)
            generate.adopt_shards(folder, self.generation_of(name))

    def makes_pairs(self, name: str) -> bool:
        """Tell whether a unit's result is shards."""
        return name.startswith("shards/") or name.endswith("/pairs")

    def finish(self, name: str) -> None:
        """Write the manifest of a unit whose work is done."""
        if self.makes_pairs(name):
            self.finish_pairs(name)
            return
        extra = self._lender(name) if BORROWED in self.units[name].settings else trained_mark(self.units[name])
        if name in SOURCE_UNITS:
            self._finish_source(name)
        else:
            finish(self.run_dir, self.units[name], self.units, extra=extra)

    def _finish_source(self, name: str) -> None:
        """Finish a unit that read something from outside: its content is known now, and where it lay."""
        unit, folder = self.units[name], self.run_dir / name
        if name == "unlabelled":
            content, paths = data.content_of_unlabelled_array(folder), unlabelled_paths(self.config.data)
        else:
            content, paths = data.content_of_arrays(folder), data_paths(self.config.data)
        if paths:
            unit = replace(unit, settings={**unit.settings, "content": content})
            remember(self.run_dir, lambda mark: mark.sources.update({name: paths}))
        finish(self.run_dir, unit, {**self.units, name: unit})

    def _borrow(self, name: str) -> None:
        assert self.config.models_from is not None
        train, _, _ = data.read_data(self.run_dir / "data")
        weights = self.units[name].settings[BORROWED]
        borrow(self.config.models_from, name, self.run_dir / name, train.table.fingerprint, weights)

    def _lender(self, name: str) -> dict[str, Any]:
        """Return what the manifest of a borrowed unit says of where it was trained, and how."""
        assert self.config.models_from is not None
        record = read_record(self.config.models_from / name / MANIFEST)
        before = record.get("lender", {})
        identity = identity_in(record)
        return {
            "lender": {
                "run": str(self.config.models_from),
                "fingerprint": before.get("fingerprint", identity.get("fingerprint")),
                "settings": before.get("settings", identity.get("settings")),
            }
        }

    def models_of(self, name: str) -> PairModels:
        """Return what makes the pairs of a unit, "shards/KIND" or "comparison/ROW/pairs"."""
        stage, _, rest = name.partition("/")
        if stage == COMPARISON:
            row = rest.partition("/")[0]
            return row_models(self.config, row, ROWS[row])
        kind: Kind = rest  # type: ignore[assignment]
        return pair_models(self.config, kind)

    def pair_maker(self, name: str) -> PairMaker:
        """Return what makes the pairs of a unit from finished models.

        Raises:
            ScenepaletteError: Files that they are made from are damaged.
        """
        self.check_inputs(name)
        train, _, filled = data.read_data(self.run_dir / "data")
        models = self.models_of(name)
        layout_generator, layout_model = None, None
        weights = models.layout_weights(self.run_dir)
        if models.layout is not None and weights is not None:
            layout_generator = load_layout_generator(
                weights, models.layout.system, train.table, train.size, models.layout.settings
            )
            self.fabric.to_device(layout_generator)
            prepare_for_inference(layout_generator, inference_type(self.fabric))
            layout_model = weights_hash(weights)
        unlabelled, labeller = None, None
        if models.kind == "pseudo":
            unlabelled = self._unlabelled()
            labeller = self.labeller(models)
            layout_model = weights_hash(models.discriminator_weights(self.run_dir))
        generation = self.config.generate
        editing = self.config.layouts.partial
        return PairMaker(
            kind=models.kind,
            seed=self.config.seed,
            train=train,
            filled_labels=filled,
            sampler=palettes.load_sampler(self.run_dir / "palettes"),
            image_generator=self.image_generator(models),
            image_model=weights_hash(models.image_weights(self.run_dir)),
            layout_generator=layout_generator,
            layout_model=layout_model,
            fabric=self.fabric,
            # Rows of a comparison have other image systems, each with its usual noise.
            noise_scheme=None if name.startswith(COMPARISON) else generation.noise_scheme,
            projection=generation.projection,
            controls=generation.controls(),
            crop_mode=editing.crop_mode,
            edits=editing.edits,
            unlabelled=unlabelled,
            labeller=labeller,
            collection=fingerprint_of(self.units[name], self.units)[:8],
        )

    def labeller(self, models: PairModels) -> Labeller:
        """Return what predicts the label maps of images: the discriminator of an image system, as a segmenter.

        Raises:
            ConfigError: The image system's discriminator does not label pixels.
        """
        train, _, _ = data.read_data(self.run_dir / "data")
        image = models.image
        predict = find_image_system(image.system).predict_labels
        if predict is None:
            raise ConfigError(f"The discriminator of {image.system} does not label pixels. Choose another system.")
        weights = models.discriminator_weights(self.run_dir)
        discriminator = load_image_discriminator(weights, image.system, train.table, train.size, image.settings)
        return partial(predict, self.fabric.to_device(discriminator))

    def image_generator(self, models: PairModels | None = None) -> ImageGenerator:
        """Return a finished image generator on the fabric's device, by default the run's own."""
        train, _, _ = data.read_data(self.run_dir / "data")
        chosen = models or PairModels("semi", None, image_model(self.config))
        network = load_image_generator(
            chosen.image_weights(self.run_dir), chosen.image.system, train.table, train.size, chosen.image.settings
        )
        self.fabric.to_device(network)
        return prepare_for_inference(network, inference_type(self.fabric))

    def finish_pairs(self, name: str) -> None:
        """Write card and manifest of a unit of pairs whose shards are all written."""
        unit, folder, models = self.units[name], self.run_dir / name, self.models_of(name)
        layout = (
            models.discriminator_weights(self.run_dir)
            if models.kind == "pseudo"
            else models.layout_weights(self.run_dir)
        )
        weights = {"layout_model": layout, "image_model": models.image_weights(self.run_dir)}
        train, _, _ = data.read_data(self.run_dir / "data")
        generation = self.generation_of(name)
        records = {other: read_record(self.run_dir / other / MANIFEST) for other in unit.inputs}
        borrowed = {other: record["lender"]["fingerprint"] for other, record in records.items() if lender_of(record)}
        origin = {
            "config": config_of_pairs(self.config),
            "files": {
                f"{other}/{file}": entry["sha256"]
                for other, record in records.items()
                for file, entry in record.get("files", {}).items()
                if Path(file).suffix == ".npy" or file == palettes.SAMPLER
            },
            # Trained in another run: the fingerprints that these units have there.
            **({"borrowed": borrowed} if borrowed else {}),
            "environment": self.environment(),
            **({"earlier": earlier} if (earlier := _earlier_parts(folder)) else {}),
        }

        def remake(plan: ShardPlan) -> ShardInfo:
            return generate.make_shard(folder, plan, self.pair_maker(name), generation, NO_PROGRESS)

        def write(identity: dict[str, Any]) -> None:
            generate.finish_shards(
                folder,
                models.kind,
                generation,
                train=train,
                unlabelled=self._unlabelled() if models.kind == "pseudo" else None,
                models={role: weights_hash(path) for role, path in weights.items() if path is not None},
                remake=remake,
                identity={**identity, **origin},
            )

        if (folder / MANIFEST).is_file():
            documents = read_manifest(folder)["documents"]
            keep_changed(self.run_dir, {f"{name}/{file}": sha256 for file, sha256 in documents.items()})
        finish(self.run_dir, unit, self.units, write)
        write_shards_card(self.run_dir)

    def shard_plans(self, name: str) -> list[ShardPlan]:
        """Return the shards that a unit of pairs lacks, or has written since its manifest; `begin` comes first."""
        folder = self.run_dir / name
        return generate.plans_for(folder, self.generation_of(name))[len(generate.shards_of(folder)) :]

    def generation_of(self, name: str) -> GenerateConfig:
        """Return the settings by which the pairs of a unit are made."""
        generation = self.config.generate
        return (
            generation.model_copy(update={"pairs": self.config.compare.pairs})
            if name.startswith(COMPARISON)
            else generation
        )

    def _make_data(self, folder: Path, _: str) -> None:
        data.prepare_data(folder, self.config.data, self.config.seed, self.progress)

    def _make_unlabelled(self, folder: Path, _: str) -> None:
        data.prepare_unlabelled(folder, self.config.data, self.progress)

    def _make_palettes(self, folder: Path, rest: str) -> None:
        train, _, _ = data.read_data(self.run_dir / "data")
        palettes.fit_palettes(folder, self.config.palettes.max_components, train, self.config.seed)

    def _unlabelled(self) -> UnlabelledImages | None:
        return read_unlabelled(self.run_dir / "unlabelled") if "pseudo" in self.config.generate.kinds else None

    def _all_models(self) -> Iterator[PairModels]:
        yield from (pair_models(self.config, kind) for kind in self.config.generate.kinds)
        yield from (row_models(self.config, name, ROWS[name]) for name in self.config.compare.rows)

    def _make_layouts(self, folder: Path, name: str) -> None:
        train, _, filled = data.read_data(self.run_dir / "data")
        wanted = f"layouts/{name}"
        model = next(m.layout for m in self._all_models() if m.layout is not None and m.layout.unit == wanted)
        train_layout_generator(
            folder,
            model.system,
            model.settings,
            labels=filled,
            table=train.table,
            sampler=palettes.load_sampler(self.run_dir / "palettes"),
            seed=self.config.seed,
            fabric=self.fabric,
            progress=self.progress,
            tensorboard=self.config.compute.tensorboard,
            ranks=self.ranks,
        )

    def _make_images(self, folder: Path, name: str) -> None:
        train, _, filled = data.read_data(self.run_dir / "data")
        train_image_generator(
            folder,
            name,
            self.config.images.settings(name),
            pairs=train,
            filled_labels=filled,
            features=self._features(name),
            seed=self.config.seed,
            fabric=self.fabric,
            progress=self.progress,
            tensorboard=self.config.compute.tensorboard,
            ranks=self.ranks,
        )

    def _make_finetuned(self, folder: Path, name: str) -> None:
        train, _, filled = data.read_data(self.run_dir / "data")
        models = next(m for m in self._all_models() if m.finetuned == f"finetuned/{name}")
        layout, image = models.layout, models.image
        assert layout is not None
        fine_tune(
            folder,
            TrainedPart(layout.system, layout.settings, self.run_dir / layout.unit),
            TrainedPart(image.system, image.settings, self.run_dir / image.unit),
            self.config.finetune.settings(),
            pairs=train,
            filled_labels=filled,
            sampler=palettes.load_sampler(self.run_dir / "palettes"),
            features=self._features(image.system),
            seed=self.config.seed,
            fabric=self.fabric,
            progress=self.progress,
            tensorboard=self.config.compute.tensorboard,
            ranks=self.ranks,
        )

    def _judge(self) -> nn.Module:
        """Return the segmenter trained on the real pairs."""
        train, _, _ = data.read_data(self.run_dir / "data")
        settings = segment.arm_settings(self.config.segmenters, "real")
        return load_segmenter(self.run_dir / judge_of(self.config), settings, train.table)

    def _features(self, system: str) -> FeatureNetwork | None:
        """Return the network of a system's perceptual loss, or None if it has none."""
        chosen = find_image_system(system)
        if not chosen.perceptual:
            return None
        return choose_features(self.config.images.vgg_weights, self._judge(), chosen.perceptual_layers)

    def _make_shards(self, folder: Path, kind: str) -> None:
        self._make_pairs(folder, f"shards/{kind}")

    def _make_pairs(self, folder: Path, name: str) -> None:
        maker, generation = self.pair_maker(name), self.generation_of(name)
        plans = self.shard_plans(name)[self.ranks.part]
        self.progress.start(f"generate {name.removeprefix('shards/')}", sum(plan.rows for plan in plans))
        for plan in plans:
            generate.make_shard(folder, plan, maker, generation, self.progress)
        self.progress.finish()

    def _make_segmenters(self, folder: Path, name: str) -> None:
        arm, _, seed = name.partition("/seed")
        kind = ARMS[arm].synthetic
        shards = self.run_dir / "shards" / kind if kind else None
        self._train_arm(folder, arm, int(seed), shards, self.config.generate.pairs)

    def _train_arm(
        self, folder: Path, arm: str, seed: int, shards: Path | None, pairs: int, steps: int | None = None
    ) -> None:
        train, validation, _ = data.read_data(self.run_dir / "data")
        segmenters = self.config.segmenters
        segment.train_arm(
            folder,
            arm,
            segmenters.model_copy(update={"steps": steps}) if steps else segmenters,
            train=train,
            validation=validation,
            synthetic=FirstPairs(ShardPairs(shards), pairs) if shards else None,
            seed=seed,
            fabric=self.fabric,
            progress=self.progress,
            tensorboard=self.config.compute.tensorboard,
        )

    def _make_report(self, folder: Path, _: str) -> None:
        train, validation, filled = data.read_data(self.run_dir / "data")
        units = [unit for name, unit in self.run_units.items() if name != "report"]
        report.make_report(
            folder,
            self.config,
            run_dir=self.run_dir,
            train=train,
            validation=validation,
            filled_labels=filled,
            sampler=palettes.load_sampler(self.run_dir / "palettes"),
            unlabelled=self._unlabelled(),
            image_generator=self.image_generator(),
            durations={unit.name: seconds_spent(self.run_dir, unit) for unit in units},
            provenance=self.provenance(),
            fabric=self.fabric,
            progress=self.progress,
        )

    def _make_comparison(self, folder: Path, rest: str) -> None:
        row, _, part = rest.partition("/")
        if part == "pairs":
            self._make_pairs(folder, f"{COMPARISON}/{rest}")
        elif part == "segmenter":
            config = self.config
            pairs, steps = config.compare.pairs, config.compare.segmenter_steps
            self._train_arm(folder, "syn", config.segmenters.seeds[0], folder.parent / "pairs", pairs, steps)
        elif part == "metrics":
            self._measure_row(folder, row)
        else:
            self._write_comparison(folder)

    def _measure_row(self, folder: Path, row: str) -> None:
        train, validation, filled = data.read_data(self.run_dir / "data")
        models, home = row_models(self.config, row, ROWS[row]), self.run_dir / COMPARISON / row
        compare.measure_row(
            folder,
            models,
            self.config,
            run_dir=self.run_dir,
            pairs=FirstPairs(ShardPairs(home / "pairs"), self.config.compare.pairs),
            train=train,
            validation=validation,
            filled_labels=filled,
            image_generator=self.image_generator(models),
            judge=self._judge(),
            palettes=palettes.stored_palettes(home / "pairs", self.config.compare.pairs),
            confusion=segment.read_confusion(home / "segmenter"),
            fabric=self.fabric,
            progress=self.progress,
        )

    def _write_comparison(self, folder: Path) -> None:
        train, validation, _ = data.read_data(self.run_dir / "data")
        units = [unit for name, unit in self.comparison_units.items() if name != f"{COMPARISON}/report"]
        compare.write_comparison(
            folder,
            self.config,
            run_dir=self.run_dir,
            train=train,
            validation=validation,
            real_confusion=segment.read_confusion(self.run_dir / judge_of(self.config)),
            durations={unit.name: seconds_spent(self.run_dir, unit) for unit in units},
            provenance=self.provenance(),
        )

    def provenance(self) -> dict[str, Any]:
        """Return what a reader needs to judge and repeat the run."""
        return {
            "scenepalette": version("scenepalette"),
            "command": self.command,
            "recipe": self.config.recipe,
            "seed": self.config.seed,
            "config_hash": fingerprint_of(self.units["report"], self.units),
            **({"models_from": lenders} if (lenders := self._lenders()) else {}),
            **self.environment(),
        }

    def _lenders(self) -> dict[str, dict[str, Any]]:
        """Return where borrowed generators were trained, and the hashes of their weights, by unit."""
        return {
            name: {"run": lender["run"], "fingerprint": lender["fingerprint"], "weights": unit.settings[BORROWED]}
            for name, unit in self.units.items()
            if BORROWED in unit.settings
            and (path := self.run_dir / name / MANIFEST).is_file()
            and (lender := lender_of(read_record(path)))
        }

    def environment(self) -> dict[str, str]:
        """Return what rounding and the bytes of pictures depend on beside code and settings."""
        device = torch.cuda.get_device_name() if self.fabric.device.type == "cuda" else _processor()
        return {
            "hardware": f"{device}, {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads",
            "precision": str(self.fabric._precision.precision),
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{package: version(package) for package in ("numpy", "pillow", "pyarrow")},
        }


def _earlier_parts(folder: Path) -> list[dict[str, Any]]:
    """Return with what the rows of a set that is extended were made: their number, environment and code, in order."""
    if not (folder / MANIFEST).is_file():
        return []
    manifest = read_manifest(folder)
    extra = manifest["extra"]
    earlier = [*extra.get("earlier", [])]
    rows = manifest["rows"] - sum(part["rows"] for part in earlier)
    part = {"rows": rows, "environment": extra.get("environment"), "code": manifest["code"]}
    return [*earlier, part] if rows else earlier


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
