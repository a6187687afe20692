"""The whole run: which units there are, what each reads, and how one is made with all that it needs.

`run` makes everything; `make` one part of the run directory and whatever unfinished part it is made from. The command
line and the flows call these and nothing else.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from data.classes import ClassTable
from data.errors import ConfigError, ScenepaletteError
from data.shards.pairs import ShardPairs
from generators.image_contract import FeatureNetwork, ImageGenerator
from generators.image_systems import find_image_system
from generators.image_training import WEIGHTS, load_image_generator, train_image_generator
from generators.layout_training import LayoutKind, load_layout_generator, train_layout_generator
from generators.palettes import control_problems
from generators.perceptual import VGG_LAYERS
from generators.production import Kind, PairMaker
from pipeline.arms import ARMS
from pipeline.config import LayoutConfig, RunConfig, write_config
from pipeline.perceptual import choose_features
from pipeline.stages import data, generate, palettes, report, segment
from pipeline.units import Unit, begin, exclusive, fingerprint_of, finish, is_finished, seconds_spent, timed
from segmenters.train import load_segmenter
from training.checkpoint import weights_hash
from training.fabric import make_fabric
from training.loop import NO_PROGRESS, Progress

LAYOUTS: dict[LayoutKind, str] = {"semantic-palette": "full", "semantic-palette-partial": "partial"}
LAYOUT_OF_KIND: dict[Kind, LayoutKind | None] = {
    "full": "semantic-palette",
    "partial": "semantic-palette-partial",
    "semi": None,
}
LAYOUT_VERSION = 1
IMAGES_VERSION = 1

STAGES = ("data", "palettes", "layouts", "images", "shards", "segmenters", "report")


def units_of(config: RunConfig) -> dict[str, Unit]:
    """Return all units of a run by name, each after those that it reads."""
    dump = config.model_dump(mode="json")
    seed = {"seed": config.seed}
    units = [
        Unit("data", data.VERSION, {**dump["data"], **(seed if config.data.name == "streets" else {})}),
        Unit("palettes", palettes.VERSION, {**dump["palettes"], **seed}, ("data",)),
    ]
    used = [LAYOUT_OF_KIND[kind] for kind in config.generate.kinds]
    units += [
        Unit(f"layouts/{name}", LAYOUT_VERSION, {**dump["layouts"][section], **seed}, ("data", "palettes"))
        for name, section in LAYOUTS.items()
        if name in used
    ]
    image_system = find_image_system(config.images.system)
    images = f"images/{image_system.name}"
    # A perceptual loss may fall back on the features of the segmenter that is trained on real pairs.
    judge = f"segmenters/real/seed{config.segmenters.seeds[0]}"
    inputs = ("data", judge) if image_system.perceptual else ("data",)
    units.append(Unit(images, IMAGES_VERSION, {**asdict(config.images.settings()), **seed}, inputs))
    making = {key: value for key, value in dump["generate"].items() if key != "kinds"}
    for kind in config.generate.kinds:
        layout = LAYOUT_OF_KIND[kind]
        inputs = ("data", "palettes", *([f"layouts/{layout}"] if layout else []), images)
        crop_mode = {"crop_mode": config.layouts.partial.crop_mode} if kind == "partial" else {}
        units.append(Unit(f"shards/{kind}", generate.VERSION, {**making, **crop_mode, **seed}, inputs))
    training = {key: value for key, value in dump["segmenters"].items() if key not in ("arms", "seeds")}
    for arm in config.segmenters.arms:
        inputs = ("data", *([f"shards/{ARMS[arm].synthetic}"] if ARMS[arm].synthetic else []))
        units += [
            Unit(f"segmenters/{arm}/seed{k}", segment.VERSION, {**training, "arm": arm, "seed": k}, inputs)
            for k in config.segmenters.seeds
        ]
    units.append(Unit("report", report.VERSION, {**dump["report"], **seed}, tuple(unit.name for unit in units)))
    return _in_order(units)


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
    """

    config: RunConfig
    run_dir: Path
    progress: Progress = NO_PROGRESS
    command: str = field(default_factory=lambda: shlex.join(["scenepalette", *sys.argv[1:]]))

    @cached_property
    def units(self) -> dict[str, Unit]:
        """All units by name."""
        return units_of(self.config)

    @cached_property
    def fabric(self) -> Fabric:
        """Device and precision."""
        compute = self.config.compute
        if compute.threads is not None:
            torch.set_num_threads(compute.threads)
        accelerator = compute.accelerator
        if accelerator == "auto":
            accelerator = "cuda" if torch.cuda.is_available() else "cpu"
        precision = compute.precision
        if precision == "auto":
            precision = "bf16-mixed" if _computes_bfloat16(accelerator) else "32-true"
        return make_fabric(accelerator, 1, precision)

    def names_of(self, stage: str) -> list[str]:
        """Return the names of a stage's units, for example of "layouts" or "shards"."""
        return [name for name in self.units if name == stage or name.startswith(f"{stage}/")]

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

    def make(self, names: list[str]) -> None:
        """Make units and whatever they are made from, as far as it is not finished.

        Raises:
            ScenepaletteError: Anything that a user can mend; finished units stay.
        """
        with exclusive(self.run_dir):
            # Refused here if the folder holds another run, before its config is touched.
            missing = self.missing(names)
            self.write_config()
            for name in missing:
                self.make_one(name)

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

    def write_config(self) -> None:
        """Write the resolved configuration into the run directory."""
        write_config(self.run_dir / "config.yaml", self.config)

    def make_one(self, name: str) -> None:
        """Make one unit whose inputs are finished."""
        kind, _, rest = name.partition("/")
        work: dict[str, Callable[[Path, str], None]] = {
            "data": self._make_data,
            "palettes": self._make_palettes,
            "layouts": self._make_layouts,
            "images": self._make_images,
            "shards": self._make_shards,
            "segmenters": self._make_segmenters,
            "report": self._make_report,
        }
        unit = self.units[name]
        begin(self.run_dir, unit, self.units)
        with timed(self.run_dir, unit):
            work[kind](self.run_dir / name, rest)
        if kind == "shards":
            self.finish_shards(rest)
        else:
            finish(self.run_dir, unit, self.units)
        if kind == "data":
            self.check_classes()

    def pair_maker(self, kind: Kind) -> PairMaker:
        """Return what makes the pairs of one kind from finished models."""
        train, _, filled = data.read_data(self.run_dir / "data")
        layout = LAYOUT_OF_KIND[kind]
        layout_generator, layout_model = None, None
        if layout is not None:
            folder = self.run_dir / "layouts" / layout
            layout_generator = load_layout_generator(
                folder, layout, train.table, train.size, self._layout_config(layout).settings()
            )
            layout_generator = layout_generator.to(self.fabric.device)
            layout_model = weights_hash(folder / "weights.safetensors")
        generation = self.config.generate
        return PairMaker(
            kind=kind,
            seed=self.config.seed,
            train=train,
            filled_labels=filled,
            sampler=palettes.load_sampler(self.run_dir / "palettes"),
            image_generator=self.image_generator(),
            image_model=weights_hash(self._image_weights),
            layout_generator=layout_generator,
            layout_model=layout_model,
            fabric=self.fabric,
            noise_scheme=generation.noise_scheme,
            projection=generation.projection,
            controls=generation.controls(),
            crop_mode=self.config.layouts.partial.crop_mode,
        )

    @property
    def _image_weights(self) -> Path:
        return self.run_dir / "images" / self.config.images.system / WEIGHTS

    def image_generator(self) -> ImageGenerator:
        """Return the finished image generator on the fabric's device."""
        train, _, _ = data.read_data(self.run_dir / "data")
        images = self.config.images
        network = load_image_generator(self._image_weights, images.system, train.table, train.size, images.settings())
        self.fabric.to_device(network)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def finish_shards(self, kind: str) -> None:
        """Write card and manifest of a kind whose shards are all written."""
        unit = self.units[f"shards/{kind}"]
        maker = self.pair_maker(kind)  # type: ignore[arg-type]
        folder = self.run_dir / unit.name
        finish(
            self.run_dir,
            unit,
            self.units,
            lambda content: generate.finish_shards(folder, maker, self.config.generate, content),
        )

    def _layout_config(self, name: LayoutKind) -> LayoutConfig:
        return getattr(self.config.layouts, LAYOUTS[name])

    def _make_data(self, folder: Path, _: str) -> None:
        data.prepare_data(folder, self.config.data, self.config.seed, self.progress)

    def _make_palettes(self, folder: Path, rest: str) -> None:
        train, _, _ = data.read_data(self.run_dir / "data")
        palettes.fit_palettes(folder, self.config.palettes.max_components, train, self.config.seed)

    def _make_layouts(self, folder: Path, name: str) -> None:
        train, _, filled = data.read_data(self.run_dir / "data")
        system: LayoutKind = name  # type: ignore[assignment]
        train_layout_generator(
            folder,
            system,
            self._layout_config(system).settings(),
            labels=filled,
            table=train.table,
            sampler=palettes.load_sampler(self.run_dir / "palettes"),
            seed=self.config.seed,
            fabric=self.fabric,
            progress=self.progress,
        )

    def _make_images(self, folder: Path, name: str) -> None:
        train, _, filled = data.read_data(self.run_dir / "data")
        train_image_generator(
            folder,
            name,
            self.config.images.settings(),
            pairs=train,
            filled_labels=filled,
            features=self._features(name, train.table),
            seed=self.config.seed,
            fabric=self.fabric,
            progress=self.progress,
        )

    def _features(self, system: str, table: ClassTable) -> FeatureNetwork | None:
        """Return the network of a system's perceptual loss, or None if it has none."""
        image_system = find_image_system(system)
        if not image_system.perceptual:
            return None
        segmenters = self.config.segmenters
        folder = self.run_dir / f"segmenters/real/seed{segmenters.seeds[0]}"
        segmenter = load_segmenter(folder, segment.arm_settings(segmenters, "real"), table)
        layers = image_system.perceptual_layers or VGG_LAYERS
        return choose_features(self.config.images.vgg_weights, segmenter, layers)

    def _make_shards(self, folder: Path, kind: str) -> None:
        maker = self.pair_maker(kind)  # type: ignore[arg-type]
        self.progress.start(f"generate {kind}", self.config.generate.pairs)
        for plan in generate.plan_shards(self.config.generate):
            generate.make_shard(folder, plan, maker, self.config.generate, self.progress)
        self.progress.finish()

    def _make_segmenters(self, folder: Path, name: str) -> None:
        arm, _, seed = name.partition("/seed")
        train, validation, _ = data.read_data(self.run_dir / "data")
        kind = ARMS[arm].synthetic
        segment.train_arm(
            folder,
            arm,
            self.config.segmenters,
            train=train,
            validation=validation,
            synthetic=ShardPairs(self.run_dir / "shards" / kind) if kind else None,
            seed=int(seed),
            fabric=self.fabric,
            progress=self.progress,
        )

    def _make_report(self, folder: Path, _: str) -> None:
        train, validation, filled = data.read_data(self.run_dir / "data")
        report.make_report(
            folder,
            self.config,
            run_dir=self.run_dir,
            train=train,
            validation=validation,
            filled_labels=filled,
            sampler=palettes.load_sampler(self.run_dir / "palettes"),
            image_generator=self.image_generator(),
            durations={name: seconds_spent(self.run_dir, name) for name in self.units if name != "report"},
            provenance=self.provenance(),
            fabric=self.fabric,
            progress=self.progress,
        )

    def provenance(self) -> dict[str, Any]:
        """Return what a reader needs to judge and repeat the run."""
        device = torch.cuda.get_device_name() if self.fabric.device.type == "cuda" else _processor()
        return {
            "scenepalette": version("scenepalette"),
            "command": self.command,
            "recipe": self.config.recipe,
            "seed": self.config.seed,
            "config_hash": fingerprint_of(self.units["report"], self.units),
            "hardware": f"{device}, {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads",
            "precision": str(self.fabric._precision.precision),
            "python": platform.python_version(),
            "torch": torch.__version__,
        }


def run_stage(stage: str, config: RunConfig, run_dir: Path, progress: Progress = NO_PROGRESS) -> Path:
    """Make one stage of a run and whatever it needs that is not finished.

    Args:
        stage: One of STAGES.
        config: The configuration.
        run_dir: The run directory.
        progress: Watches long work.

    Returns:
        The stage's folder.

    Raises:
        ScenepaletteError: Anything that a user can mend; finished work stays.
    """
    if stage not in STAGES:
        raise ScenepaletteError(f"There is no stage {stage!r}; stages are {', '.join(STAGES)}.")
    run = Run(config, run_dir, progress)
    run.make(run.names_of(stage))
    return run_dir / stage


def _computes_bfloat16(accelerator: str) -> bool:
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        capable = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in capable or "amx_bf16" in capable


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
