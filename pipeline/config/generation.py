"""The sections of the generators, and of the pairs that they make."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError

from scenepalette.common.errors import ConfigError
from scenepalette.generators.fine_tuning import FineTuneSettings
from scenepalette.generators.images.base import ImageSettings
from scenepalette.generators.images.external.command import CommandSettings
from scenepalette.generators.images.external.http import HttpSettings
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.generators.images.registry import IMAGE_SYSTEMS, find_image_system
from scenepalette.generators.layouts.hardening import Hardening
from scenepalette.generators.layouts.schedule import batch_sizes_of, lists_of
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.pairs.base import PairKind
from scenepalette.generators.pairs.insert import MOST_OBJECTS
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.generators.pairs.segment_bank import RARE_SHARE
from scenepalette.generators.palettes import PaletteControls
from scenepalette.pipeline.config.field_types import (
    MOST_CANDIDATES,
    DrawnKindName,
    FilePath,
    ImageSystemName,
    InSchema,
    KindName,
    LayoutSystemName,
    OneOf,
    PartialSystemName,
)
from scenepalette.pipeline.config.values import problems_of
from scenepalette.pipeline.sections import Section, Settings, keys_of, settings_from


# A section made from frozen settings is frozen as well, by pydantic's configuration, which pyright does not see.
class _LayoutSystem(Section):
    system: str = Field(description="Which one, by name; `scenepalette systems` lists them.")
    # A resolved configuration has the lists in its place.
    steps: int | None = Field(
        default=None,
        ge=1,
        exclude=True,
        description="Steps of the whole training, from which the lists per level follow that are not given.",
    )


STEP_LISTS = ("fade_steps", "stable_steps")


LEVEL_LISTS = (*STEP_LISTS, "batch_sizes")
"""Keys of a layout generator that have one entry per level."""


class LayoutConfig(  # pyright: ignore
    keys_of(LayoutSettings, without=("betas", "relative_sigma"), defaults=dict.fromkeys(LEVEL_LISTS, ())), _LayoutSystem
):
    """One layout generator and its training; lists have one entry per level of the growing network."""

    def with_lists(self, levels: int) -> Self:
        """Return the section with all lists and without the total; as it is where these cannot follow from it."""
        lists: dict[str, tuple[int, ...]] = {}
        if not self.batch_sizes:
            lists["batch_sizes"] = batch_sizes_of(levels)
        if not (self.fade_steps or self.stable_steps):
            batches = self.batch_sizes or batch_sizes_of(levels)
            if self.steps is None or self.steps < levels or len(batches) != levels or min(batches) < 1:
                return self
            lists = lists_of(self.steps, levels, batches)._asdict()
        return self.model_copy(update={**lists, "steps": None})

    def settings(self) -> LayoutSettings:
        """Return the numbers that the generator's training takes."""
        return settings_from(self, LayoutSettings)


class FullLayoutConfig(LayoutConfig):
    """The generator of whole layouts."""

    system: LayoutSystemName = Field(
        default="semantic-palette", description="Layout system that makes whole layouts, by name."
    )


class PartialLayoutConfig(LayoutConfig):
    """The generator that edits layouts in part."""

    system: PartialSystemName = Field(
        default="semantic-palette-partial", description="Layout system that edits layouts, by name."
    )


class LayoutsConfig(Section):
    """The two layout generators."""

    full: FullLayoutConfig
    partial: PartialLayoutConfig


class _ImageSystem(Section):
    system: ImageSystemName = Field(
        default="oasis", description="Which one, by name; `scenepalette systems` lists them."
    )


SHARED_IMAGE_KEYS = ("steps", "batch_size", "noise_scheme", "augment", "augment_policies", "warp", "checkpoint_every")


EXTERNAL_KEYS = {"command": "command", "http": "url"}
"""The key of the section that says where each image system that paints elsewhere does so."""


class ImagesConfig(  # pyright: ignore
    keys_of(ImageSettings, *SHARED_IMAGE_KEYS),
    keys_of(CommandSettings, "command"),
    keys_of(HttpSettings, "url"),
    _ImageSystem,
):
    """The layout-to-image generator and its training."""

    vgg_weights: FilePath | None = Field(
        default=None, description="Local VGG-19 weights for perceptual losses; else torchvision's folder or a download."
    )
    perceptual_features: Literal["vgg19", "segmenter"] = Field(
        default="vgg19",
        description="Whose features perceptual losses compare where no weights are named: VGG-19's, or those of the "
        "run's own segmenter of real pairs, which nothing has to be downloaded for.",
    )
    perceptual_encoder: str = Field(
        default="mobilenet_v2",
        description="Encoder of perceptual_encoder_weights, by its name in segmentation-models-pytorch.",
    )
    perceptual_encoder_weights: FilePath | None = Field(
        default=None,
        description="Local weights of an encoder whose features perceptual losses compare in place of VGG-19's.",
    )
    systems: Annotated[dict[str, dict[str, Any]], OneOf(IMAGE_SYSTEMS.names, keys=True)] = Field(
        default={}, description="Numbers of single systems by name, for example systems.oasis.width; else the papers'."
    )

    def settings(self, system: str | None = None) -> ImageSettings:
        """Return the numbers that a system's training takes, by default those of the chosen system.

        Raises:
            ConfigError: There is no such system, or its numbers cannot be used; all problems at once.
        """
        name = system or self.system
        chosen = find_image_system(name)
        keys = {*SHARED_IMAGE_KEYS, *([key] if (key := EXTERNAL_KEYS.get(name)) else [])} - {*chosen.own}
        return read_settings(chosen.settings, self.model_dump(include=keys) | self.systems.get(name, {}), name)


@cache
def _keys_of_settings(kind: type) -> Any:
    # Made once: plans read the settings of every system again and again.
    return keys_of(kind)


def read_settings(kind: type[Settings], values: Mapping[str, Any], name: str) -> Settings:
    """Check values against a class of settings and return its instance.

    Args:
        kind: A dataclass.
        values: Values by field; fields left out keep their defaults.
        name: What the settings belong to, for messages.

    Raises:
        ConfigError: Unknown fields and values of the wrong type or range, all at once.
    """
    keys = _keys_of_settings(kind)
    try:
        return settings_from(keys.model_validate(values), kind)
    except ValidationError as error:
        problems = problems_of(error, f"; keys are {', '.join(keys.model_fields)}")
        raise ConfigError(f"The numbers of {name} cannot be used.", problems) from error


class _Production(Section):
    pairs: int = Field(default=1000, ge=1, description="Pairs of each kind.")
    kinds: Annotated[tuple[KindName, ...], InSchema(minItems=1)] = Field(
        default=tuple(name for name, kind in PAIR_KINDS.items() if kind.by_default),
        description="Kinds of pairs to make, one or more.",
    )
    candidates: int = Field(
        default=1,
        ge=1,
        le=MOST_CANDIDATES,
        description="Pairs that are generated for each one that is wanted; of more than 1, teachers' scores choose.",
    )
    rows_per_shard: int = Field(default=1024, ge=1, description="Pairs per Parquet file.")
    batch_size: int = Field(default=16, ge=1, description="Pairs generated at once.")
    noise_scheme: NoiseScheme | None = Field(
        default=None, description="How the images' noise is drawn; none for the image system's usual way."
    )
    image_format: Literal["jpeg", "png"] = Field(
        default="jpeg",
        description="Format of the images in the shards; those that keep real pixels are always PNG, which changes "
        "none.",
    )
    jpeg_quality: int = Field(default=95, ge=1, le=95, description="Quality of JPEG images.")
    composite: Literal["none", "box"] = Field(
        default="none",
        description="Partial pairs: none to paint whole images, box to paint the edited box alone into the real image.",
    )
    feather: int | None = Field(
        default=None,
        ge=1,
        description="Pixels over which what is painted fades into a real image; none for a sixteenth of the shorter "
        "side.",
    )
    insert_classes: tuple[str, ...] = Field(
        default=(),
        description="Classes whose objects insert pairs add, and hardening by objects; if none is named, all with less "
        "than "
        f"{100 * RARE_SHARE:g} % of the training pixels.",
    )
    insert_objects: int = Field(
        default=3, ge=1, le=MOST_OBJECTS, description="Most objects that are added to one image."
    )

    hardening: Hardening = Field(
        default="exact",
        description="How class ids follow from generated soft layouts: by the largest share at each pixel; so that "
        "every class has exactly the share that was asked for; or by the largest share, with shapes of real objects "
        "for what full layouts lack of insert_classes.",
    )


class GenerateConfig(keys_of(PaletteControls), _Production):  # pyright: ignore
    """Mass production of pairs into shards."""

    def controls(self) -> PaletteControls:
        """Return the constraints on the palettes of full layouts."""
        return settings_from(self, PaletteControls)

    def keep_real_pixels(self, kind: PairKind) -> bool:
        """Tell whether pairs of a kind are real images of which parts are painted."""
        return kind.keeps_real_pixels(self.composite)

    def for_composites(self) -> dict[str, Any]:
        """Return the fields of a `PairMaker` that say how parts of real images are painted."""
        return self.model_dump(include={"composite", "feather", "insert_classes", "insert_objects"})

    @property
    def rows(self) -> int:
        """How many rows of each kind are generated."""
        return self.pairs * self.candidates

    @property
    def predicts(self) -> bool:
        """Whether a kind of pairs is made from images without labels, whose layouts are predicted."""
        return any(PAIR_KINDS[kind].predicts for kind in self.kinds)

    def unit_of_pairs(self, kind: str) -> str:
        """Return the unit whose rows arms and report take as the pairs of a kind: all that are made, or the chosen."""
        return f"selected/{kind}" if self.candidates > 1 else f"shards/{kind}"

    def of_kind(self, kind: PairKind) -> Self:
        """Return the settings by which pairs of a kind are made: real pixels are stored as they are."""
        return self.model_copy(update={"image_format": "png"}) if self.keep_real_pixels(kind) else self


class _FinetunedKinds(Section):
    kinds: tuple[DrawnKindName, ...] = Field(
        default=(), description="Kinds of pairs whose two generators are fine-tuned together before pairs are made."
    )


class FinetuneConfig(keys_of(FineTuneSettings), _FinetunedKinds):  # pyright: ignore
    """End-to-end fine-tuning of a layout and an image generator; by default none."""

    def settings(self) -> FineTuneSettings:
        """Return the numbers that the fine-tuning takes."""
        return settings_from(self, FineTuneSettings)
