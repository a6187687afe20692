"""All sections of a run, and what follows from several of them together."""

from __future__ import annotations

from pydantic import Field

from scenepalette.generators.nn.grids import reached_size
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.pipeline.arms import CONTROLS, added_kind
from scenepalette.pipeline.config.compute import ComputeConfig
from scenepalette.pipeline.config.data import DataConfig, PalettesConfig
from scenepalette.pipeline.config.field_types import FilePath
from scenepalette.pipeline.config.generation import FinetuneConfig, GenerateConfig, ImagesConfig, LayoutsConfig
from scenepalette.pipeline.config.reporting import CompareConfig, CurveConfig, LoopConfig, ReportConfig
from scenepalette.pipeline.config.segmenters import SegmentersConfig, TeachersConfig
from scenepalette.pipeline.sections import Section


class RunSections(Section):
    """The sections of a configuration; `RunConfig` checks them against each other."""

    recipe: str = Field(description="Name of the recipe that this configuration began as.")
    seed: int = Field(default=0, ge=0, lt=2**31, strict=True, description="All randomness follows from it.")
    models_from: FilePath | None = Field(
        default=None, description="Run directory whose trained generators serve in place of trainings."
    )
    data: DataConfig
    palettes: PalettesConfig = PalettesConfig()
    layouts: LayoutsConfig
    images: ImagesConfig
    finetune: FinetuneConfig = FinetuneConfig()
    generate: GenerateConfig = GenerateConfig()
    segmenters: SegmentersConfig = SegmentersConfig()
    teachers: TeachersConfig = TeachersConfig()
    report: ReportConfig = ReportConfig()
    compare: CompareConfig = CompareConfig()
    curve: CurveConfig = CurveConfig()
    loop: LoopConfig = LoopConfig()
    compute: ComputeConfig = ComputeConfig()

    @property
    def data_seed(self) -> int:
        """Seed of drawn scenes, and of images that are held out where there are no recordings."""
        return self.seed if self.data.seed is None else self.data.seed

    @property
    def generator_size(self) -> tuple[int, int]:
        """Height and width that generators work at: `data.size`, or a near size that a base grid reaches.

        Raises:
            ConfigError: There is none.
        """
        return reached_size(self.data.size)

    @property
    def segmenter_size(self) -> tuple[int, int]:
        """Height and width that segmenters work at."""
        return self.segmenters.size or self.data.size

    @property
    def evaluates_natively(self) -> bool:
        """Whether segmenters are evaluated by labels in the size of their files."""
        if self.segmenters.evaluation is not None:
            return self.segmenters.evaluation == "native"
        own = self.segmenters.size is not None or self.segmenter_size != self.generator_size
        return own or self.data.fit != "stretch"

    @property
    def data_of_segmenters(self) -> tuple[str, ...]:
        """Units of the real pairs that segmenters learn from and are evaluated on; the last has them at their size."""
        own = self.segmenter_size != self.generator_size or self.evaluates_natively
        return ("data", "segmenter-data") if own else ("data",)

    def loop_kinds(self) -> tuple[str, ...]:
        """Return the kinds of pairs that a round of the loop adds; none if none that are made take a budget."""
        return self.loop.kinds or tuple(kind for kind in self.generate.kinds if PAIR_KINDS[kind].takes_budget)

    def treatments(self) -> tuple[str, ...]:
        """Return the arms that the primary contrast's arm is chosen among; none if no arm adds generated pairs."""
        return self.report.primary.treatment or tuple(
            name for name in self.segmenters.arms if added_kind(name) is not None
        )

    def controls(self) -> tuple[str, ...]:
        """Return the arms that the primary contrast's control is chosen among."""
        arms = self.segmenters.arms
        return self.report.primary.control or tuple(name for name in CONTROLS if name in arms) or ("real",)

    def curve_arm(self) -> str | None:
        """Return the arm with generated pairs that the curve is of; None if no arm adds any to real labels."""
        return self.curve.arm or next(iter(self.treatments()), None)
