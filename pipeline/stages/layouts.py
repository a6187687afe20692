"""Stage layouts: train the generators of layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from scenepalette.data.classes import ClassTable
from scenepalette.generators.kernels.passes import prepare_for_inference
from scenepalette.generators.layouts.loading import WEIGHTS, load_layout_generator
from scenepalette.generators.layouts.networks.progressive import LayoutNetwork
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.layouts.training import train_layout_generator
from scenepalette.pipeline.checks.preflight import network_problem
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.stages.palettes import load_sampler
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace
from scenepalette.training.device.abilities import inference_type
from scenepalette.training.loop import METRICS_FILE
from scenepalette.training.settings import settings_of_result

VERSION = 3
FILES = (WEIGHTS, METRICS_FILE)
LayoutSection = Literal["full", "partial"]
SECTIONS: tuple[LayoutSection, ...] = ("full", "partial")


@dataclass(frozen=True)
class LayoutModel:
    """A layout generator of a run.

    Attributes:
        part: Name of its unit among those of the stage: that of its system, unless its settings are changed.
        system: Name of its system.
        settings: Numbers of its training.
    """

    part: str
    system: str
    settings: LayoutSettings

    @property
    def unit(self) -> str:
        """Its folder in the run directory."""
        return f"layouts/{self.part}"

    def load(self, run: Workspace, weights: Path | None = None) -> LayoutNetwork:
        """Return the finished generator on the run's device for inference, by default with its training's weights."""
        train, path = run.data.train, weights or run.run_dir / self.unit / WEIGHTS
        network = load_layout_generator(path, self.system, train.table, train.size, self.settings)
        run.fabric.to_device(network)
        return prepare_for_inference(network, inference_type(run.fabric), patches=run.config.compute.label_patches)

    def problem(self, size: tuple[int, int], table: ClassTable | None = None) -> str | None:
        """Return what keeps the model from being built at the size of the data.

        Args:
            size: Height and width.
            table: The classes of the data, with which systems of other packages are tried; see `network_problem`.
        """
        system = LAYOUT_SYSTEMS[self.system]

        def build(table: ClassTable) -> None:
            for network in (system.build_generator, system.build_discriminator):
                network(table, size, self.settings)

        return network_problem(LAYOUT_SYSTEMS, self.system, build, table)


def layout_model(config: RunConfig, section: LayoutSection) -> LayoutModel:
    """Return the layout generator of a section of the configuration."""
    layout = getattr(config.layouts, section)
    return LayoutModel(layout.system, layout.system, layout.settings())


@dataclass(frozen=True, kw_only=True)
class LayoutsUnit(Unit):
    """The training of a layout generator."""

    shared: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    model: LayoutModel

    @classmethod
    def of(cls, config: RunConfig, model: LayoutModel) -> LayoutsUnit:
        """Return the unit of a model."""
        settings = {**settings_of_result(model.settings), "system": model.system, "seed": config.seed}
        return cls("layouts", model.part, VERSION, settings, ("data", "palettes"), FILES, model=model)

    @property
    def comes_trained(self) -> bool:
        """Whether there is nothing to train."""
        return LAYOUT_SYSTEMS[self.model.system].losses is None

    @property
    def batch_sizes(self) -> list[int]:
        """Of each level."""
        return list(self.model.settings.batch_sizes)

    @classmethod
    def problems(cls, units: Sequence[LayoutsUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Return what keeps the run's own generators from being built; a comparison checks its rows."""
        return cls._problems(units, config)

    @classmethod
    def problems_of_data(cls, units: Sequence[LayoutsUnit], config: RunConfig, data: PreparedData) -> list[str]:
        """Return the same of systems of other packages."""
        return cls._problems(units, config, data.train.table)

    @classmethod
    def _problems(cls, units: Sequence[LayoutsUnit], config: RunConfig, table: ClassTable | None = None) -> list[str]:
        names = {unit.name for unit in units}
        models = {section: layout_model(config, section) for section in SECTIONS}
        return [
            f"layouts.{section}: {text}"
            for section, model in models.items()
            if model.unit in names and (text := model.problem(config.generator_size, table))
        ]

    def record(self) -> Mapping[str, Any]:
        """Return whether the system came trained."""
        return {"comes_trained": True} if self.comes_trained else {}

    def make(self, run: Workspace, folder: Path) -> None:
        """Train the generator."""
        data = run.data
        train_layout_generator(
            folder,
            self.model.system,
            self.model.settings,
            labels=data.filled_labels,
            table=data.train.table,
            sampler=load_sampler(run.run_dir / "palettes"),
            seed=run.config.seed,
            fabric=run.fabric,
            progress=run.progress,
            tensorboard=run.config.compute.writes_tensorboard,
            ranks=run.ranks,
        )
