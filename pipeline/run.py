"""The whole run: which units there are, what each reads, and how one is made with all that it needs.

`run` makes everything; `make` one part of the run directory and whatever unfinished part it is made from. The command
line and the flows call these and nothing else.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from data.errors import ConfigError, TrainingError
from data.files import writing_explained
from data.shards.pairs import ShardPairs
from data.unlabelled import UnlabelledImages, read_unlabelled
from generators.end_to_end import TrainedPart, fine_tune
from generators.image_contract import FeatureNetwork, ImageGenerator
from generators.image_systems import find_image_system
from generators.image_training import load_image_critic, load_image_generator, train_image_generator
from generators.layout_training import load_layout_generator, train_layout_generator
from generators.palettes import control_problems
from generators.production import Kind, Labeller, PairMaker
from pipeline.arms import ARMS
from pipeline.config import GenerateConfig, RunConfig, config_of_pairs, write_config
from pipeline.contents import MANIFEST, check_contents, read_record
from pipeline.models import PairModels, image_model, pair_models, row_models, row_problems
from pipeline.perceptual import choose_features
from pipeline.rows import ROWS
from pipeline.stages import compare, data, generate, palettes, report, segment
from pipeline.units import Unit, begin, exclusive, fingerprint_of, finish, is_finished, seconds_spent, timed
from segmenters.train import load_segmenter
from training.checkpoint import weights_hash
from training.fabric import computes_bfloat16, inference_type, make_fabric
from training.loop import NO_PROGRESS, Progress, settings_of_result
from training.ranks import ALONE, Ranks

LAYOUT_VERSION = 3
IMAGES_VERSION = 3
FINETUNE_VERSION = 3

COMPARISON = "comparison"
# What processes that were started together share: the batches of trainings, and the shards of a kind.
SHARED = ("layouts", "images", "finetuned", "shards")


def units_of(config: RunConfig) -> dict[str, Unit]:
    """Return all units of a run by name, each after those that it reads."""
    dump = config.model_dump(mode="json")
    seed = {"seed": config.seed}
    labelled = {key: value for key, value in dump["data"].items() if key != "unlabelled"}
    units = [
        Unit("data", data.VERSION, {**labelled, **(seed if config.data.name == "streets" else {})}),
        *([_unlabelled_unit(config)] if "pseudo" in config.generate.kinds else []),
        Unit("palettes", palettes.VERSION, {**dump["palettes"], **seed}, ("data",)),
    ]
    models = {kind: pair_models(config, kind) for kind in config.generate.kinds}
    units += _model_units(config, models.values())
    making = {key: value for key, value in dump["generate"].items() if key != "kinds"}
    for kind, made_by in models.items():
        editing = config.layouts.partial
        # What is added has no crop; the usual replacement was there first and is not named.
        added = {"edits": "add"} if editing.edits == "add" else {}
        crop_mode = {"crop_mode": editing.crop_mode, **added} if kind == "partial" else {}
        inputs = ("data", *(["unlabelled"] if kind == "pseudo" else []), "palettes", *made_by.inputs)
        units.append(Unit(f"shards/{kind}", generate.VERSION, {**making, **crop_mode, **seed}, inputs))
    for arm in config.segmenters.arms:
        inputs = ("data", *([f"shards/{ARMS[arm].synthetic}"] if ARMS[arm].synthetic else []))
        units += [segmenter_unit(config, f"segmenters/{arm}/seed{k}", arm, k, inputs) for k in config.segmenters.seeds]
    units.append(Unit("report", report.VERSION, {**dump["report"], **seed}, tuple(unit.name for unit in units)))
    return _in_order(units)


def _unlabelled_unit(config: RunConfig) -> Unit:
    settings = {"folder": str(config.data.unlabelled), "size": config.data.size}
    return Unit("unlabelled", data.UNLABELLED_VERSION, settings)


def comparison_units_of(config: RunConfig) -> dict[str, Unit]:
    """Return the units of the comparison of systems, by name, each after those that it reads.

    Models that a run has as well are the same units, made once for both.
    """
    dump = config.model_dump(mode="json")
    seed = {"seed": config.seed}
    rows = {name: row_models(config, name, ROWS[name]) for name in config.compare.rows}
    judge = judge_of(config)
    units = [
        *(unit for unit in units_of(config).values() if unit.name in ("data", "palettes", judge)),
        *_model_units(config, rows.values()),
    ]
    making = {**dump["generate"], "pairs": config.compare.pairs}
    del making["kinds"]
    measuring = {key: dump["compare"][key] for key in ("layouts", "draws", "alexnet_weights")}
    for name, models in rows.items():
        pairs, segmenter = f"{COMPARISON}/{name}/pairs", f"{COMPARISON}/{name}/segmenter"
        units += [
            Unit(pairs, generate.VERSION, {**making, **seed}, ("data", "palettes", *models.inputs)),
            segmenter_unit(config, segmenter, "syn", config.segmenters.seeds[0], ("data", pairs), comparison=True),
            Unit(
                f"{COMPARISON}/{name}/metrics",
                compare.VERSION,
                {**measuring, "inception_weights": dump["report"]["inception_weights"], **seed},
                ("data", pairs, segmenter, judge, *models.inputs),
            ),
        ]
    metrics = tuple(f"{COMPARISON}/{name}/metrics" for name in rows)
    units.append(
        Unit(f"{COMPARISON}/report", compare.VERSION, {"rows": list(rows), **dump["report"], **seed}, (judge, *metrics))
    )
    return _in_order(units)


def segmenter_unit(
    config: RunConfig, name: str, arm: str, seed: int, inputs: tuple[str, ...], comparison: bool = False
) -> Unit:
    """Return the unit of one segmenter training."""
    settings = config.segmenters.model_dump(mode="json", exclude={"arms", "seeds", "checkpoint_every"})
    if comparison:
        settings["steps"] = config.compare.segmenter_steps
    return Unit(name, segment.VERSION, {**settings, "arm": arm, "seed": seed}, inputs)


def judge_of(config: RunConfig) -> str:
    """Return the unit of the segmenter trained on real pairs whose features and predictions judge generated ones."""
    return f"segmenters/real/seed{config.segmenters.seeds[0]}"


def _model_units(config: RunConfig, models: Iterable[PairModels]) -> list[Unit]:
    """Return the units of the models that pairs are made with, each once."""
    seed = {"seed": config.seed}
    units: dict[str, Unit] = {}
    for made_by in models:
        layout, image = made_by.layout, made_by.image
        if layout is not None:
            settings = {**settings_of_result(layout.settings), "system": layout.system, **seed}
            units[layout.unit] = Unit(layout.unit, LAYOUT_VERSION, settings, ("data", "palettes"))
        # A perceptual loss may fall back on the features of the segmenter that is trained on real pairs.
        perceptual = find_image_system(image.system).perceptual
        judge = (judge_of(config),) if perceptual else ()
        weights = config.images.vgg_weights
        features = {"vgg_weights": str(weights)} if perceptual and weights is not None else {}
        settings = {**settings_of_result(image.settings), **features, **seed}
        units[image.unit] = Unit(image.unit, IMAGES_VERSION, settings, ("data", *judge))
        if made_by.finetuned is not None:
            assert layout is not None
            inputs = ("data", "palettes", layout.unit, image.unit, *judge)
            settings = {**settings_of_result(config.finetune.settings()), **features, **seed}
            units[made_by.finetuned] = Unit(made_by.finetuned, FINETUNE_VERSION, settings, inputs)
    stages = ("layouts", "images", "finetuned")
    return sorted(units.values(), key=lambda unit: stages.index(unit.name.partition("/")[0]))


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
    """

    config: RunConfig
    run_dir: Path
    progress: Progress = NO_PROGRESS
    command: str = field(default_factory=lambda: shlex.join(["scenepalette", *sys.argv[1:]]))
    ranks: Ranks = ALONE

    @cached_property
    def units(self) -> dict[str, Unit]:
        """All units by name, those of the comparison behind those of the run."""
        return units_of(self.config) | comparison_units_of(self.config)

    @cached_property
    def run_units(self) -> dict[str, Unit]:
        """The units of the run by name, without those of the comparison."""
        return units_of(self.config)

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
            ConfigError: Fine-tuning is asked for and the configuration names nothing to fine-tune, or rows of the
                comparison cannot be made with these numbers; all problems at once.
        """
        if stage == COMPARISON and (problems := row_problems(self.config)):
            raise ConfigError("The systems cannot be compared; nothing was trained.", problems)
        units = comparison_units_of(self.config) if stage == COMPARISON else units_of(self.config)
        names = [name for name in units if name == stage or name.startswith(f"{stage}/")]
        if stage == "finetuned" and not names:
            raise ConfigError(
                "No generators are to be fine-tuned. Name the kinds of pairs whose generators are: "
                "--set 'finetune.kinds=[full]', [partial] or both."
            )
        return names

    def is_finished(self, name: str) -> bool:
        """Tell whether a unit is finished; raises if its folder holds something else."""
        return is_finished(self.run_dir, self.units[name], self.units)

    def missing(self, names: list[str]) -> list[str]:
        """Return the unfinished units among `names` and among all that they are made from, in order.

        Raises:
            ScenepaletteError: A folder holds something else, or the configuration names classes that there are not.
        """
        if self.is_finished("data"):
            self.check_classes()
        needed: set[str] = set()

        def visit(name: str) -> None:
            if name not in needed and not self.is_finished(name):
                needed.add(name)
                for other in self.units[name].inputs:
                    visit(other)

        for name in names:
            visit(name)
        return [name for name in self.units if name in needed]

    def make(self, names: list[str], wait: float = 0.0, on_wait: Callable[[], object] | None = None) -> None:
        """Make units and whatever they are made from, as far as it is not finished.

        Args:
            names: The units.
            wait: Seconds to wait for another process that holds the run directory.
            on_wait: Called once if there is something to wait for.

        Raises:
            ScenepaletteError: Anything that a user can mend; finished units stay.
        """
        ranks = self.ranks
        with exclusive(self.run_dir, wait, on_wait) if ranks.first else nullcontext():
            ranks.wait()
            # Refused here if the folder holds another run, before its config is touched.
            missing = self.missing(names)
            ranks.check_batches(self._batch_sizes(missing))
            ranks.wait()
            if ranks.first:
                self.write_config()
            for name in missing:
                self.make_one(name)
            ranks.wait()

    def _batch_sizes(self, names: list[str]) -> dict[str, list[int]]:
        """Return the sizes of the batches that processes share, by the unit that they are of."""
        sizes: dict[str, list[int]] = {}
        for model in self._all_models():
            if model.layout is not None:
                sizes[model.layout.unit] = list(model.layout.settings.batch_sizes)
            sizes[model.image.unit] = [model.image.settings.batch_size]
            if model.finetuned is not None:
                sizes[model.finetuned] = [self.config.finetune.batch_size]
        return {f"{name} (batch sizes)": sizes[name] for name in names if name in sizes}

    def check_classes(self) -> None:
        """Check wishes about classes against the prepared data set, before anything is trained.

        Raises:
            ConfigError: All problems at once.
        """
        train, _, _ = data.read_data(self.run_dir / "data")
        problems = control_problems(self.config.generate.controls(), train.table.names)
        if problems:
            raise ConfigError(
                f"The palettes asked for cannot be made for {train.name}.", [f"generate.{text}" for text in problems]
            )

    def check_inputs(self, name: str) -> None:
        """Compare the files that a unit is made from with the manifests beside them; files are read once a process.

        Raises:
            ScenepaletteError: One of them is damaged.
        """
        for other in self.units[name].inputs:
            check_contents(self.run_dir / other)

    def write_config(self) -> None:
        """Write the resolved configuration into the run directory."""
        write_config(self.run_dir / "config.yaml", self.config)

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
        unit, ranks = self.units[name], self.ranks
        makes_pairs = kind == "shards" or rest.endswith("/pairs")
        if ranks.first:  # which alone knows that the manifests before are written; the others wait for it
            self.check_inputs(name)
            begin(self.run_dir, unit, self.units)
        ranks.wait()
        if ranks.first or kind in SHARED or makes_pairs:
            with timed(self.run_dir, unit) if ranks.first else nullcontext():
                work[kind](self.run_dir / name, rest)
        ranks.wait()
        if ranks.first:
            if makes_pairs:
                self.finish_pairs(name)
            else:
                finish(self.run_dir, unit, self.units)
            if kind == "data":
                self.check_classes()

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
            layout_generator = layout_generator.to(self.fabric.device).prepare_for_inference(
                inference_type(self.fabric)
            )
            layout_model = weights_hash(weights)
        unlabelled, labeller = None, None
        if models.kind == "pseudo":
            unlabelled = self._unlabelled()
            labeller = self.labeller(models)
            layout_model = weights_hash(models.critic_weights(self.run_dir))
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
        weights = models.critic_weights(self.run_dir)
        critic = load_image_critic(weights, image.system, train.table, train.size, image.settings)
        return partial(predict, self.fabric.to_device(critic))

    def image_generator(self, models: PairModels | None = None) -> ImageGenerator:
        """Return a finished image generator on the fabric's device, by default the run's own."""
        train, _, _ = data.read_data(self.run_dir / "data")
        chosen = models or PairModels("semi", None, image_model(self.config))
        network = load_image_generator(
            chosen.image_weights(self.run_dir), chosen.image.system, train.table, train.size, chosen.image.settings
        )
        return self.fabric.to_device(network).prepare_for_inference(inference_type(self.fabric))  # type: ignore[return-value]

    def finish_pairs(self, name: str) -> None:
        """Write card and manifest of a unit of pairs whose shards are all written."""
        unit = self.units[name]
        maker, folder = self.pair_maker(name), self.run_dir / name
        origin = {
            "config": config_of_pairs(self.config),
            "files": {
                f"{other}/{file}": entry["sha256"]
                for other in unit.inputs
                for file, entry in read_record(self.run_dir / other / MANIFEST).get("files", {}).items()
                if Path(file).suffix == ".npy" or file == palettes.SAMPLER
            },
            "environment": self.environment(),
        }
        finish(
            self.run_dir,
            unit,
            self.units,
            lambda identity: generate.finish_shards(folder, maker, self.generation_of(name), {**identity, **origin}),
        )

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
        plans = generate.plan_shards(generation)[self.ranks.part]
        self.progress.start(f"generate {name.removeprefix('shards/')}", sum(plan.rows for plan in plans))
        for plan in plans:
            generate.make_shard(folder, plan, maker, generation, self.progress)
        self.progress.finish()

    def _make_segmenters(self, folder: Path, name: str) -> None:
        arm, _, seed = name.partition("/seed")
        kind = ARMS[arm].synthetic
        self._train_arm(folder, arm, int(seed), self.run_dir / "shards" / kind if kind else None)

    def _train_arm(self, folder: Path, arm: str, seed: int, shards: Path | None, steps: int | None = None) -> None:
        train, validation, _ = data.read_data(self.run_dir / "data")
        segmenters = self.config.segmenters
        segment.train_arm(
            folder,
            arm,
            segmenters.model_copy(update={"steps": steps}) if steps else segmenters,
            train=train,
            validation=validation,
            synthetic=ShardPairs(shards) if shards else None,
            seed=seed,
            fabric=self.fabric,
            progress=self.progress,
            tensorboard=self.config.compute.tensorboard,
        )

    def _make_report(self, folder: Path, _: str) -> None:
        train, validation, filled = data.read_data(self.run_dir / "data")
        names = [name for name in units_of(self.config) if name != "report"]
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
            durations={name: seconds_spent(self.run_dir, name) for name in names},
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
            steps = config.compare.segmenter_steps
            self._train_arm(folder, "syn", config.segmenters.seeds[0], folder.parent / "pairs", steps)
        elif part == "metrics":
            self._measure_row(folder, row)
        else:
            self._write_comparison(folder)

    def _measure_row(self, folder: Path, row: str) -> None:
        train, validation, filled = data.read_data(self.run_dir / "data")
        models = row_models(self.config, row, ROWS[row])
        compare.measure_row(
            folder,
            models,
            self.config,
            run_dir=self.run_dir,
            pairs=ShardPairs(folder.parent / "pairs"),
            train=train,
            validation=validation,
            filled_labels=filled,
            image_generator=self.image_generator(models),
            judge=self._judge(),
            confusion=segment.read_confusion(folder.parent / "segmenter"),
            fabric=self.fabric,
            progress=self.progress,
        )

    def _write_comparison(self, folder: Path) -> None:
        train, validation, _ = data.read_data(self.run_dir / "data")
        names = [name for name in comparison_units_of(self.config) if name != f"{COMPARISON}/report"]
        compare.write_comparison(
            folder,
            self.config,
            run_dir=self.run_dir,
            train=train,
            validation=validation,
            real_confusion=segment.read_confusion(self.run_dir / judge_of(self.config)),
            durations={name: seconds_spent(self.run_dir, name) for name in names},
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
            **self.environment(),
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


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
