"""The sections of the segmenters that are compared, and of those that judge pairs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scenepalette.evaluation.pair_quality.trust import TrustSettings
from scenepalette.pipeline.arms import DEFAULT_ARMS
from scenepalette.pipeline.config.field_types import (
    MOST_FOLDS,
    ArchitectureName,
    ArmName,
    EncoderName,
    EncoderWeights,
    InSchema,
    KindName,
    SegmenterSide,
)
from scenepalette.pipeline.sections import Section, keys_of, settings_from
from scenepalette.segmenters.command import TrainerSettings
from scenepalette.segmenters.settings import SegmenterSettings


class TrainerConfig(keys_of(TrainerSettings), Section):  # pyright: ignore
    """Commands that train the segmenters of all arms, and have them predict, in place of this package's networks."""

    def settings(self) -> TrainerSettings:
        """Return the commands as their training takes them."""
        return settings_from(self, TrainerSettings)


class _ComparedArms(Section):
    command: TrainerConfig = TrainerConfig()
    arms: Annotated[tuple[ArmName, ...], InSchema(minItems=1)] = Field(
        default=DEFAULT_ARMS, description="Arms to train, by name; 'real' is always needed."
    )
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1, description="Each arm is trained once per seed.")
    validation_images: int = Field(
        default=200,
        ge=0,
        description="Validation images, spread over the split, that mIoU is logged of at 60, 80 and 100 % of the "
        "steps; 0 for none. They choose nothing.",
    )
    parallel: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Segmenters trained at once on one device, each in a process of its own; none for as many as "
        "compute.parallel says.",
    )
    size: tuple[SegmenterSide, SegmenterSide] | None = Field(
        default=None,
        description="Height and width in pixels that segmenters work at, any; none for data.size. Generated pairs are "
        "resampled to it.",
    )
    evaluation: Literal["native", "resized"] | None = Field(
        default=None,
        description="Labels that segmenters are evaluated by: native, in the size of their files, or resized to the "
        "size that segmenters work at. None for native with a size of their own, one that no generator works at, or "
        "another data.fit than stretch; else resized.",
    )


_DECIDED_BY_ARMS = ("mixing", "adaptation")
_AS_PUBLISHED = (
    "atrous_rates",
    "output_stride",
    "momentum",
    "poly_power",
    "discriminator_width",
    "discriminator_learning_rate",
    "discriminator_betas",
    "log_every",
)
"""Kept as they were published: no keys of the configuration."""


class SegmentersConfig(  # pyright: ignore
    keys_of(
        SegmenterSettings,
        without=(*_DECIDED_BY_ARMS, *_AS_PUBLISHED),
        kinds={"architecture": ArchitectureName, "encoder": EncoderName, "encoder_weights": EncoderWeights},
    ),
    keys_of(TrustSettings),
    _ComparedArms,
):
    """The segmenters that are compared; every arm takes the same number of images per step, all but some the steps."""


class TeachersConfig(Section):
    """Segmenters trained on all folds of the real pairs but one, which judge what they did not see."""

    folds: int = Field(
        default=2, ge=2, le=MOST_FOLDS, description="Folds of the training recordings, and teachers, one for each."
    )
    steps: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Optimizer steps of a teacher; none for those of the segmenters."
    )
    architecture: ArchitectureName | None = Field(
        default=None, description="Network of the teachers by name; none for that of the segmenters."
    )
    kinds: tuple[KindName, ...] = Field(
        default=(), description="Kinds of pairs whose rows are scored even if no arm asks for it."
    )
