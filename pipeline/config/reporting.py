"""The sections of the report, of the comparison of systems, of the curve and of the loop."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from scenepalette.pipeline.arms import CONTROLS
from scenepalette.pipeline.comparisons import DEFAULT_ROWS
from scenepalette.pipeline.config.field_types import (
    LARGEST_DOSE,
    MOST_ROUNDS,
    ArmName,
    BudgetKindName,
    ExtraTestName,
    FilePath,
    Location,
    RowName,
)
from scenepalette.pipeline.sections import Section


class PrimaryConfig(Section):
    """The contrast that decides, named before anything is trained; every other contrast is corrected for their number.

    Of several arms the one with the best mean mIoU on validation images is taken, on either side.
    """

    treatment: tuple[ArmName, ...] = Field(
        default=(), description="Arms that add generated pairs to real labels; none for all that are trained."
    )
    control: tuple[ArmName, ...] = Field(
        default=(),
        description=f"Arms without generated pairs; none for those of {' and '.join(CONTROLS)} that are trained, or "
        "else real.",
    )


class ReportConfig(Section):
    """The comparison."""

    primary: PrimaryConfig = PrimaryConfig()
    smallest_gain: float = Field(
        default=0.01, ge=0, lt=1, description="Gain in mIoU, as a fraction, from which generated pairs are worth it."
    )
    hourly_price: float | None = Field(
        default=None, ge=0, description="Price of an hour of this machine, in your currency; none to name no price."
    )
    rare_classes: tuple[str, ...] = Field(
        default=(),
        description="Classes whose mIoU is reported beside that of all; none for those with less than half of the "
        "median class's pixels.",
    )
    bootstrap_samples: int = Field(default=2000, ge=100, description="Resamples behind every interval.")
    evaluated_pairs: int = Field(default=500, ge=2, description="Generated pairs that GAN-test and distances look at.")
    inception_weights: FilePath | None = Field(
        default=None, description="Local Inception weights for FID; else downloaded."
    )
    extra_test: dict[ExtraTestName, Location] = Field(
        default={},
        description="Further test sets by name, each a folder, or the URL of one, in the data set's layout or that of "
        "folder; their split val is read and every arm is evaluated on it.",
    )
    runs: tuple[FilePath, ...] = Field(
        default=(),
        description="Directories of finished runs that differ in seed alone: their arms are pooled with this run's, so "
        "that intervals hold how generators of other seeds would have come out.",
    )

    def identity(self) -> dict[str, Any]:
        """Return what identifies a page, as JSON values; other test sets and runs are identified by their content."""
        return self.model_dump(mode="json", exclude={"extra_test", "runs"})


class CompareConfig(Section):
    """The comparison of systems; its rows are trained with the steps of layouts.full, images and finetune."""

    rows: tuple[RowName, ...] = Field(default=DEFAULT_ROWS, min_length=1, description="Rows of the table, by name.")
    pairs: int = Field(default=400, ge=8, description="Pairs that each row makes.")
    segmenter_steps: int = Field(default=400, ge=1, description="Optimizer steps of each row's segmenter (GAN-train).")
    layouts: int = Field(default=10, ge=1, description="Real layouts that the diversity of images is measured on.")
    draws: int = Field(default=20, ge=2, description="Images per layout for it.")
    alexnet_weights: FilePath | None = Field(
        default=None, description="Local AlexNet weights for LPIPS; else downloaded."
    )


class CurveConfig(Section):
    """What generated pairs are worth in labelled images, and how many of them are enough."""

    arm: ArmName | None = Field(
        default=None,
        description="Arm that adds generated pairs to real labels; none for the first of report.primary.treatment, or "
        "of segmenters.arms.",
    )
    labels: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.25, 0.5, 1.0),
        description="Fractions of the real pairs that are trained on, with and without generated ones; 1 is always "
        "among them.",
    )
    doses: tuple[Annotated[float, Field(gt=0, le=LARGEST_DOSE)], ...] = Field(
        default=(0.5, 1.0, 2.0, 4.0),
        description="Generated pairs that all real ones are trained with, as multiples of generate.pairs; 1 is always "
        "among them.",
    )
    seeds: tuple[int, ...] = Field(
        default=(), description="Each point is trained once per seed; none for those of segmenters.seeds."
    )


class LoopConfig(Section):
    """The loop: rounds of pairs that are asked for the classes which the current segmenter lacks."""

    rounds: int = Field(
        default=3, ge=1, le=MOST_ROUNDS, description="Most rounds; it stops earlier once one gains little."
    )
    pairs: int = Field(default=200, ge=2, description="Pairs of each kind that a round adds.")
    kinds: tuple[BudgetKindName, ...] = Field(
        default=(), description="Kinds of pairs that a round adds; none for those of generate.kinds that take a budget."
    )
    share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Part of a round's pairs that are asked for lacking classes; the others may hold anything.",
    )
