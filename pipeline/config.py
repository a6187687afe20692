"""The configuration of a run: frozen sections, checked as a whole before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.files import write_atomically
from scenepalette.common.storage.untrusted import parse_yaml, short
from scenepalette.common.urls import is_url, url_problem, without_file_scheme
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.datasets import DATASETS
from scenepalette.data.decoding.label_reading import LARGEST_TOLERANCE, LabelEncoding, LabelSettings
from scenepalette.data.fitting.geometry import Fit
from scenepalette.data.sample import FolderOptions, Orientation
from scenepalette.data.streets.dataset import SMALLEST_SIDE as SMALLEST_STREETS_SIDE
from scenepalette.evaluation.pair_quality.trust import TrustSettings
from scenepalette.generators.fine_tuning import FineTuneSettings
from scenepalette.generators.images.base import ImageSettings
from scenepalette.generators.images.external.command import CommandSettings
from scenepalette.generators.images.external.http import HttpSettings
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.generators.images.registry import IMAGE_SYSTEMS, find_image_system
from scenepalette.generators.layouts.hardening import Hardening
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS, settings_problems
from scenepalette.generators.layouts.schedule import batch_sizes_of, lists_of
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.nn.grids import LARGEST_SIDE, SMALLEST_SIDE, base_grid, reached_size
from scenepalette.generators.pairs.base import PairKind
from scenepalette.generators.pairs.insert import MOST_OBJECTS
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.generators.pairs.segment_bank import RARE_SHARE
from scenepalette.generators.palettes import PaletteControls
from scenepalette.pipeline.arms import ARMS, CONTROLS, DEFAULT_ARMS, added_kind
from scenepalette.pipeline.comparisons import DEFAULT_ROWS, ROWS
from scenepalette.pipeline.sections import Section, Settings, keys_of, settings_from
from scenepalette.segmenters.command import TrainerSettings, trainer_problems
from scenepalette.segmenters.model import TIMM_PREFIX, known_encoders, weights_file
from scenepalette.segmenters.registry import SEGMENTERS, segmenter_problems
from scenepalette.segmenters.settings import SegmenterSettings
from scenepalette.training.device.speed import CompileMode
from scenepalette.training.tracking.base import TrackerName


def _not_empty(value: Any) -> Any:
    if value == "":
        raise ValueError("an empty path would mean the working directory; write . for that, or leave it out")
    return without_file_scheme(value) if isinstance(value, str) else value


def _no_url(value: Any) -> Any:
    if is_url(value):
        raise ValueError(
            "this has to lie on a disk of this machine; give a path (data.root, data.unlabelled and "
            "report.extra_test take URLs)"
        )
    return value


def _absolute(path: Path) -> Path:
    """Return a path that means the same file from every working directory; links in it stay."""
    try:
        return path.expanduser().absolute()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"it cannot be made absolute ({error}); give the whole path") from error


def _place(value: Any) -> Any:
    """Return a URL as a text, and a path as `FilePath` does."""
    if not isinstance(value, str | Path):
        raise ValueError("a path or a URL is required")
    if not is_url(value):
        return _absolute(Path(value))
    if problem := url_problem(str(value).strip()):
        raise ValueError(problem)
    return str(value).strip().rstrip("/")


FilePath = Annotated[
    Path,
    BeforeValidator(_no_url),
    BeforeValidator(_not_empty),
    AfterValidator(_absolute),
    WithJsonSchema({"type": "string", "format": "path", "minLength": 1}),
]
"""A file or folder: ~ is the user's home, and what is relative is so to the working directory. It need not exist."""
Location = Annotated[
    Path | str,
    BeforeValidator(_place),
    BeforeValidator(_not_empty),
    WithJsonSchema({"type": "string", "format": "path", "minLength": 1}),
]
"""A folder as `FilePath` names it, or the URL of one as a text: s3://BUCKET/FOLDER."""


def _one_name(value: str) -> str:
    if not value.strip() or "/" in value or "\\" in value or value in (".", ".."):
        raise ValueError("a name without slashes is required, as it is in one folder")
    return value


FolderName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_one_name)]
"""A folder's own name, not its path."""
NameEnd = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_one_name)]
"""What a file's name ends with before its ending."""


class InSchema:
    """Adds to the JSON schema of a value, so that a server refuses at submission what is checked here together."""

    def __init__(self, **added: Any) -> None:
        self.added = added

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the value's own schema with the keywords."""
        return handler(core) | self.added


class OneOf:
    """Lets a form offer names, and a server refuse others; here they are checked together, with words of their own.

    Names are looked up when a schema is made, since other packages may add some.
    """

    def __init__(self, names: Callable[[], Iterable[str]], keys: bool = False) -> None:
        """Take what returns the names, and whether they are the keys of a dictionary and not the value."""
        self.names, self.keys = names, keys

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema with the names."""
        names = {"enum": list(self.names())}
        return {**handler(core), "propertyNames": names} if self.keys else {"type": "string", **names}


def _layout_names(partial: bool) -> list[str]:
    return [name for name, system in LAYOUT_SYSTEMS.items() if system.partial == partial]


def _known_dataset(name: str) -> str:
    try:
        return DATASETS.get(name).name
    except ConfigError as error:
        raise ValueError(str(error).removesuffix(".")) from error


def _known(names: Sequence[str]) -> AfterValidator:
    """Refuse other names where they stand."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"input should be {', '.join(map(repr, names[:-1]))} or {names[-1]!r}")
        return name

    return AfterValidator(check)


ExtraTestName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
"""Names a folder and a column of a table."""
DatasetName = Annotated[str, AfterValidator(_known_dataset), OneOf(DATASETS.names)]
_DRAWN = [name for name, kind in PAIR_KINDS.items() if kind.layout_section]
_BUDGETED = [name for name, kind in PAIR_KINDS.items() if kind.takes_budget]
BudgetKindName = Annotated[str, _known(_BUDGETED), OneOf(lambda: _BUDGETED)]
KindName = Annotated[str, _known([*PAIR_KINDS]), OneOf(lambda: PAIR_KINDS)]
DrawnKindName = Annotated[str, _known(_DRAWN), OneOf(lambda: _DRAWN)]
LayoutSystemName = Annotated[str, OneOf(lambda: _layout_names(False))]
PartialSystemName = Annotated[str, OneOf(lambda: _layout_names(True))]
ImageSystemName = Annotated[str, OneOf(IMAGE_SYSTEMS.names)]
ArmName = Annotated[str, OneOf(ARMS.names)]
RowName = Annotated[str, OneOf(lambda: ROWS)]
ArchitectureName = Annotated[str, OneOf(SEGMENTERS.names)]
EncoderWeights = Annotated[
    str | None, AfterValidator(lambda name: str(_absolute(file)) if (file := weights_file(name)) else name)
]
# A pattern, as the models of timm are too many to list.
EncoderName = Annotated[
    str, WithJsonSchema({"type": "string", "pattern": rf"^({'|'.join(sorted(known_encoders))}|{TIMM_PREFIX}.+)$"})
]

# Bounds of what is counted, far above what anyone trains on: a slip of the hand must not exhaust memory.
LARGEST_SIZE = 8192
SMALLEST_SEGMENTED = 16
Side = Annotated[int, Field(ge=1, le=LARGEST_SIZE)]
# Checked by `reached_size`, which says what to do.
DataSide = Annotated[Side, InSchema(minimum=2 * SMALLEST_SIDE)]
Size = tuple[DataSide, DataSide]
SegmenterSide = Annotated[int, Field(ge=SMALLEST_SEGMENTED, le=LARGEST_SIZE)]
MOST_STRETCHED_PARTS = 1.05
"""Most by which crops and tiles of the aspect ratio of `data.size` are stretched to `segmenters.size`."""
LARGEST_SCENES = 1_000_000
LEAST_HELD_OUT, MOST_HELD_OUT = 0.01, 0.4
MOST_FOLDS = 20
LARGEST_DOSE = 100
MOST_CANDIDATES = 20
MOST_ROUNDS = 20
LARGEST_SHARDS = 99_999
"""Names of shards count with five digits."""


_LABEL_FIELDS = ("label_encoding", "label_offset", "ignore_ids", "colour_tolerance")


class DataConfig(Section):
    """Which labelled data set is learned from."""

    name: DatasetName = Field(default="streets", description="Data set; `scenepalette datasets` lists them.")
    root: Location | None = Field(
        default=None,
        description="Its folder in the published layout, or the URL of one (s3, gs, az, hf ...); not for streets.",
    )
    class_file: FilePath | None = Field(
        default=None, description="Class file of folder, class list of ade-indoor, if not in the data set's root."
    )
    label_folder: FolderName | None = Field(
        default=None, description="Data set folder: name of the folder of labels, where several could be meant."
    )
    label_suffix: NameEnd | None = Field(
        default=None,
        description="Data set folder: what a label's name has after that of its image, such as _mask; else found.",
    )
    orientation: Orientation = Field(
        default="by size",
        description="Data set folder: how images are read that their EXIF tag turns: as their label's size says (by "
        "size), as stored, or upright, as viewers show them.",
    )
    val_share: float = Field(
        default=0.2,
        ge=LEAST_HELD_OUT,
        le=MOST_HELD_OUT,
        description="Data set folder without splits: share of the images that validates.",
    )
    val_seed: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="Data set folder without splits: decides which recordings or images validate.",
    )
    label_encoding: LabelEncoding = Field(
        default="auto",
        description="What label images hold: ids (of a palette, the indices), colours (those of the classes), ids in "
        "the channel red, green or blue, or auto: what the files tell.",
    )
    label_offset: int | None = Field(
        default=None,
        ge=-IGNORE_ID,
        le=IGNORE_ID,
        description="What is added to each label value but 255 to get what the data set's published labels hold, or "
        "the class file says; below 0 is ignored. 0 takes labels as they are; empty asks where they look shifted.",
    )
    ignore_ids: tuple[Annotated[int, Field(ge=0, le=IGNORE_ID)], ...] = Field(
        default=(), description="Label values of pixels without a class, beside the data set's own and 255."
    )
    colour_tolerance: int = Field(
        default=0,
        ge=0,
        le=LARGEST_TOLERANCE,
        description="Largest difference of a channel from a class's colour, for labels that are smoothed or JPEG; "
        "pixels beyond are ignored. 0 for exact colours.",
    )
    unlabelled: Location | None = Field(
        default=None,
        description="Folder of images of any size and format, or the URL of one, for pairs of the kind pseudo.",
    )
    size: Size = Field(
        default=(64, 96),
        description="Height and width in pixels that everything works at. Generators take the nearest size that "
        f"doubling reaches: each side {SMALLEST_SIDE} to {LARGEST_SIDE} times the same power of two.",
    )
    fit: Fit = Field(
        default="stretch",
        description="How images of another aspect ratio get to data.size: stretch them, crop their middle, or tile: "
        "cut them into tiles that cover them.",
    )
    tile_height: int | None = Field(
        default=None,
        ge=2 * SMALLEST_SIDE,
        le=LARGEST_SIZE,
        description="With fit=tile: rows of an image that a tile has; none for the largest tile that fits.",
    )
    train_scenes: int = Field(
        default=400, ge=8, le=LARGEST_SCENES, description="Drawn data (streets): training scenes to draw."
    )
    val_scenes: int = Field(
        default=100, ge=2, le=LARGEST_SCENES, description="Drawn data (streets): validation scenes to draw."
    )
    test_scenes: int = Field(
        default=0,
        ge=0,
        le=LARGEST_SCENES,
        description="Drawn data (streets): test scenes to draw; 0 for no test split.",
    )
    holdout: float = Field(
        default=0.0,
        ge=0.0,
        le=MOST_HELD_OUT,
        description="Fraction of each training recording that becomes the test split where none is published; 0 for "
        "none.",
    )
    holdout_gap: int = Field(
        default=5,
        ge=0,
        le=LARGEST_SCENES,
        description="Frames of a recording left out before and behind its held-out part.",
    )
    train_part: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Fraction of the training pairs that everything is learned from, the beginning of every recording; "
        "1 for all.",
    )

    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] | None = Field(
        default=None,
        description="Seed of drawn scenes, and of images that are held out where there are no recordings; none for "
        "the run's. Runs with other generators on the same data need it.",
    )

    @property
    def root_path(self) -> Path | None:
        """The root on this machine; one at a URL has to be copied first (`pipeline.units.places`)."""
        assert not isinstance(self.root, str)
        return self.root

    def folder_options(self) -> FolderOptions:
        """Return what is said of a plain folder's layout."""
        return FolderOptions(self.label_folder, self.label_suffix, self.orientation, self.val_share, self.val_seed)

    def identity(self) -> dict[str, Any]:
        """Return what identifies the samples beside their content, as JSON values; nothing of splits not asked for."""
        # What label images mean is part of their content.
        settings = self.model_dump(mode="json", exclude={"root", "class_file", "unlabelled", "seed", *_LABEL_FIELDS})
        for name in ("label_folder", "label_suffix", "orientation", "val_share", "val_seed"):
            if settings[name] == type(self).model_fields[name].default:
                del settings[name]
        if self.fit == "stretch":
            del settings["fit"]
        if self.tile_height is None:
            del settings["tile_height"]
        if not self.holdout:
            del settings["holdout"], settings["holdout_gap"]
        if not self.test_scenes:
            del settings["test_scenes"]
        if self.train_part == 1:
            del settings["train_part"]
        return settings

    @property
    def generator_size(self) -> tuple[int, int]:
        """Height and width that generators work at: `size`, or a near size that a base grid reaches.

        Raises:
            ConfigError: There is none.
        """
        return reached_size(self.size)

    def label_settings(self) -> LabelSettings:
        """Return what the user says of the label images."""
        return LabelSettings(self.label_encoding, self.label_offset, self.ignore_ids, self.colour_tolerance)


class PalettesConfig(Section):
    """The palette sampler."""

    max_components: int = Field(
        default=30, ge=1, description="Largest number of mixture components that AIC chooses among."
    )


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


def read_settings(kind: type[Settings], values: Mapping[str, Any], name: str) -> Settings:
    """Check values against a class of settings and return its instance.

    Args:
        kind: A dataclass.
        values: Values by field; fields left out keep their defaults.
        name: What the settings belong to, for messages.

    Raises:
        ConfigError: Unknown fields and values of the wrong type or range, all at once.
    """
    keys: Any = keys_of(kind)
    try:
        return settings_from(keys.model_validate(values), kind)
    except ValidationError as error:
        problems = _problems_of(error, f"; keys are {', '.join(keys.model_fields)}")
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
        description="Classes whose objects insert pairs add; if none is named, all with less than "
        f"{100 * RARE_SHARE:g} % of the training pixels.",
    )
    insert_objects: int = Field(
        default=3, ge=1, le=MOST_OBJECTS, description="Most objects that are added to one image."
    )

    hardening: Hardening = Field(
        default="exact",
        description="How class ids follow from generated soft layouts: by the largest share at each pixel, or so that "
        "every class has exactly the share that was asked for.",
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
    parallel: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Segmenters trained at once on one device, each in a process of its own; results are the same.",
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


class SegmentersConfig(  # pyright: ignore
    keys_of(
        SegmenterSettings,
        "steps",
        "batch_size",
        "schedule",
        "synthetic_share",
        "synthetic_fade",
        "synthetic_weight",
        "statistics_images",
        "architecture",
        "encoder",
        "encoder_weights",
        "decoder_channels",
        "optimizer",
        "learning_rate",
        "warmup",
        "weight_decay",
        "augmentation",
        "class_weights",
        "mixing_probability",
        "rare_classes",
        "adversarial_weight",
        "entropy_weight",
        "adapted_domain",
        "checkpoint_every",
        kinds={"architecture": ArchitectureName, "encoder": EncoderName, "encoder_weights": EncoderWeights},
    ),
    keys_of(TrustSettings),
    _ComparedArms,
):
    """The segmenters that are compared; every arm takes the same number of images per step, all but some the steps."""


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


class ComputeConfig(Section):
    """Where and how numbers are computed; not part of what identifies a result."""

    accelerator: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Device.")
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        default="auto", description="auto: bf16-mixed where the device computes it in hardware, else 32-true."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads of torch; none for one on each processor that is free at the start.",
    )
    compile: CompileMode = Field(
        default="off",
        description="Whether image generators, their discriminators and segmenters are compiled: by torch.compile "
        "(default), or with CUDA graphs as well (graphs). Results are equal up to rounding.",
    )
    label_patches: bool = Field(
        default=False,
        description="Whether a GPU computes modulations once per distinct label patch, as a CPU does, in place of at "
        "every pixel.",
    )
    fill_memory: bool = Field(
        default=False,
        description="Whether a GPU makes as many pairs at once as its memory holds, in place of generate.batch_size.",
    )
    plain: bool = Field(
        default=False,
        description="Whether a GPU works as a CPU does: data sent at every step, losses looked at at every step, "
        "optimizers not fused, pairs encoded one by one.",
    )
    tensorboard: bool = Field(
        default=False,
        description="Whether trainings also write their numbers for TensorBoard, which must be installed.",
    )

    tracking: tuple[TrackerName, ...] = Field(
        default=(),
        description="Experiment trackers that are told parameters, curves, sample sheets and the report; their own "
        "environment variables name server and project.",
    )

    @property
    def writes_tensorboard(self) -> bool:
        """Whether trainings also write their numbers for TensorBoard."""
        return self.tensorboard or "tensorboard" in self.tracking

    @field_validator("tracking")
    @classmethod
    def _check_trackers(cls, names: tuple[TrackerName, ...]) -> tuple[TrackerName, ...]:
        missing = [name for name in dict.fromkeys(names) if find_spec(name) is None]
        if missing:
            nouns = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'}"
            raise ValueError(f"{nouns} not installed; pip install 'scenepalette[{','.join(missing)}]', or leave it out")
        return names

    @field_validator("tensorboard")
    @classmethod
    def _check_installed(cls, wanted: bool) -> bool:
        if wanted and find_spec("tensorboard") is None:
            raise ValueError("TensorBoard is not installed; pip install 'scenepalette[tensorboard]', or leave it out")
        return wanted


class RunConfig(Section):
    """Everything that a run is made from."""

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

    @model_validator(mode="after")
    def _follow_totals(self) -> Self:
        try:
            _, doublings = base_grid(self.generator_size)
        except ConfigError:  # which is reported with all that is wrong
            return self
        full, partial = (section.with_lists(doublings + 1) for section in (self.layouts.full, self.layouts.partial))
        return self.model_copy(update={"layouts": self.layouts.model_copy(update={"full": full, "partial": partial})})

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = [
            *self._data_problems(),
            *self._fit_problems(),
            *self._predicted_problems(),
            *self._layout_problems(),
            *self._image_problems(),
            *self._arm_problems(),
            *self._trainer_problems(),
            *self._tracking_problems(),
            *self._primary_problems(),
            *segmenter_problems(self.segmenters.architecture, self.segmenters.encoder, self.segmenters.encoder_weights),
            *self._composite_problems(),
            *self._teacher_problems(),
            *self._shard_problems(),
            *self._comparison_problems(),
            *self._curve_problems(),
            *self._loop_problems(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def data_seed(self) -> int:
        """Seed of drawn scenes, and of images that are held out where there are no recordings."""
        return self.seed if self.data.seed is None else self.data.seed

    @property
    def generator_size(self) -> tuple[int, int]:
        """Height and width that generators work at; raises as that of `data` does."""
        return self.data.generator_size

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

    def _fit_problems(self) -> list[str]:
        """Return what is wrong with how images get to the sizes that are worked at."""
        data, problems = self.data, list[str]()
        if data.fit != "stretch" and DATASETS.get(data.name).drawn:
            problems.append(f"data.fit: {data.name} are drawn at data.size, got {data.fit}; leave it out")
        if data.tile_height is not None and data.fit != "tile":
            problems.append(
                f"data.tile_height: got {data.tile_height} with data.fit={data.fit}, which cuts no tiles; leave it "
                "out, or set data.fit to tile"
            )
        (height, width), (rows, columns) = data.size, self.segmenter_size
        stretch = max(height * columns / (width * rows), width * rows / (height * columns))
        if data.fit != "stretch" and stretch > MOST_STRETCHED_PARTS:
            problems.append(
                f"segmenters.size: {rows}x{columns} stretches parts of the aspect ratio of data.size "
                f"{height}x{width} by {100 * (stretch - 1):.0f} %; with data.fit={data.fit} at most "
                f"{100 * (MOST_STRETCHED_PARTS - 1):.0f} % is possible. Choose the same aspect ratio for both"
            )
        if data.fit == "tile" and self.segmenters.evaluation == "resized":
            problems.append(
                "segmenters.evaluation: tiles are put together in the size of their image, got resized; use native, or "
                "leave it out"
            )
        return problems

    def _data_problems(self) -> list[str]:
        data, entry, problems = self.data, DATASETS.get(self.data.name), []
        given = [name for name in _LABEL_FIELDS if getattr(data, name) != type(data).model_fields[name].default]
        if given and not entry.takes_label_settings:
            named = " and ".join(f"data.{name}" for name in given)
            problems.append(f"{named}: {data.name} has no label images that this applies to; leave it out")
        if entry.drawn and data.root:
            problems.append(f"data.root: {data.name} are drawn and have no folder; leave it out")
        if data.name == "streets" and min(data.size) < SMALLEST_STREETS_SIDE:
            problems.append(
                f"data.size: streets need at least {SMALLEST_STREETS_SIDE} pixels each way, got "
                f"{data.size[0]}x{data.size[1]}"
            )
        if data.test_scenes and not entry.drawn:
            problems.append(f"data.test_scenes: {data.name} is read, not drawn; leave it out, or use data.holdout")
        if data.test_scenes == 1:
            problems.append("data.test_scenes: one image is no test split; give 2 or more, or 0 for none")
        if data.test_scenes and data.holdout:
            problems.append(
                f"data.holdout: {data.test_scenes} test scenes are drawn already (data.test_scenes), got "
                f"{data.holdout:g}; leave one of both out"
            )
        problems += [
            f"report.extra_test.{name}: this is the name of a split of the data set; choose another"
            for name in self.report.extra_test
            if name in ("train", "val", "validation", "test")
        ]
        if not entry.drawn and data.root is None:
            problems.append(f"data.root: {data.name} needs its folder; add --set data.root=FOLDER")
        if data.folder_options() != FolderOptions() and not entry.takes_options:
            problems.append(
                "data.label_folder, label_suffix, orientation, val_share and val_seed are for data.name=folder; the "
                f"layout of {data.name} is fixed, leave them out"
            )
        if data.class_file is not None and not entry.takes_class_file:
            problems.append(
                f"data.class_file: the classes of {data.name} are fixed; leave it out, or use data.name=folder"
            )
        return problems

    def _predicted_problems(self) -> list[str]:
        """Return what keeps pairs from being made whose labels are predicted."""
        problems = []
        name = self.images.system
        system = IMAGE_SYSTEMS.get(name) if name in IMAGE_SYSTEMS else None
        for kind in self.generate.kinds:
            if not PAIR_KINDS[kind].predicts:
                continue
            if self.data.unlabelled is None:
                problems.append(f"data.unlabelled: {kind} pairs need images; add --set data.unlabelled=FOLDER")
            if system is not None and system.predict_labels is None:
                fitting = [name for name, other in IMAGE_SYSTEMS.items() if other.predict_labels is not None]
                problems.append(
                    f"generate.kinds: {kind} pairs need a discriminator that labels pixels, which {system.name} has "
                    f"not; image systems that have one are {', '.join(fitting)}"
                )
        return problems

    def _layout_problems(self) -> list[str]:
        try:
            _, doublings = base_grid(self.generator_size)
        except ConfigError as error:
            return [f"data.size: {error}"]
        problems = []
        for name, layout in (("full", self.layouts.full), ("partial", self.layouts.partial)):
            problems += self._list_problems(name, layout, doublings + 1)
            for field in LEVEL_LISTS:
                values = getattr(layout, field)
                least = 2 if field == "batch_sizes" else 0
                if any(value < least for value in values):
                    problems.append(f"layouts.{name}.{field}: every entry must be at least {least}, got {values}")
            if layout.stable_steps and sum(layout.fade_steps) + sum(layout.stable_steps) < 1:
                problems.append(f"layouts.{name}.stable_steps: the training has no steps")
            fitting = _layout_names(name == "partial")
            if layout.system in fitting:
                problems += [f"layouts.{name}.{text}" for text in settings_problems(layout.system, layout.settings())]
            else:
                what = "edit layouts" if name == "partial" else "make whole layouts"
                problems.append(
                    f"layouts.{name}.system: got {layout.system!r}; systems that {what} are {', '.join(fitting)}"
                )
        return problems

    def _list_problems(self, name: str, layout: LayoutConfig, levels: int) -> list[str]:
        """Return what is wrong with the numbers of entries of a layout generator's lists, and with its total."""
        if not (layout.fade_steps or layout.stable_steps):
            if layout.steps is None:
                return [f"layouts.{name}.steps: it has no steps; give their number, and the lists per level follow"]
            if layout.steps < levels:
                return [
                    f"layouts.{name}.steps: got {layout.steps}, but data.size {self.data.size} has {levels} levels; "
                    "give one step a level or more"
                ]
        return [
            f"layouts.{name}.{field}: {len(values)} entries, but data.size {self.data.size} has {levels} levels; give "
            f"one entry a level, or layouts.{name}.steps in place of the lists"
            for field in LEVEL_LISTS
            # Of a total, what follows from other lists that are wrong is not there yet.
            if len(values := getattr(layout, field)) != levels and (values or layout.steps is None)
        ]

    def _image_problems(self) -> list[str]:
        names = list(self.images.systems)
        problems = [
            f"images.systems.{name}: there is no such image system; image systems are {', '.join(IMAGE_SYSTEMS)}"
            for name in names
            if name not in IMAGE_SYSTEMS
        ]
        if self.images.system not in IMAGE_SYSTEMS:
            problems.append(f"images.system: got {self.images.system!r}; image systems are {', '.join(IMAGE_SYSTEMS)}")
            return problems
        row_names = self.compare.rows
        for name, key in EXTERNAL_KEYS.items():
            if getattr(self.images, key) and name != self.images.system and f"real-layouts-{name}" not in row_names:
                problems.append(
                    f"images.{key}: nothing uses it, as images.system is {self.images.system}; add images.system={name}"
                )
        for name in {self.images.system: None} | dict.fromkeys(names):
            if name in IMAGE_SYSTEMS:
                try:
                    self.images.settings(name)
                except ConfigError as error:
                    problems += [f"images.systems.{name}.{text}" for text in error.problems]
        if problems:
            return problems
        system = IMAGE_SYSTEMS[self.images.system]
        if system.settings_problems is not None:
            problems += [f"images.{text}" for text in system.settings_problems(self.images.settings())]
        if (problem := system.augmentation_problem(self.images.settings())) is not None:
            problems.append(f"images.{problem}")
        try:
            size = self.generator_size
        except ConfigError:
            return problems  # the size is reported with the layouts
        try:
            with torch.device("meta"):
                generator = system.build_generator(ClassTable.unnamed(2), size, self.images.settings())
        except ConfigError as error:
            text = f"data.size: {error}"
            return problems if text in self._layout_problems() else [*problems, text]
        except (RuntimeError, OverflowError, MemoryError, TypeError) as error:
            # torch's ways of saying that no tensor has so many numbers.
            return [*problems, f"images: no network can be built of these numbers ({short(str(error))})"]
        schemes: dict[str, NoiseScheme | None] = {
            "images.noise_scheme": self.images.noise_scheme,
            "generate.noise_scheme": self.generate.noise_scheme,
        }
        for field, scheme in schemes.items():
            try:
                generator.choose_scheme(scheme)
            except ConfigError as error:
                problems.append(f"{field}: {error}")
        return problems

    def _composite_problems(self) -> list[str]:
        """Return what keeps parts of real images from being painted."""
        kept = [name for name in self.generate.kinds if self.generate.keep_real_pixels(PAIR_KINDS[name])]
        try:
            size = self.generator_size
        except ConfigError:  # which is reported with the layouts
            size = self.data.size
        problems, feather, side = [], self.generate.feather, min(size)
        if kept and feather is not None and 2 * feather >= side:
            problems.append(
                f"generate.feather: {feather} pixels on either side of a box leave nothing real of an image of "
                f"{size[0]} x {size[1]} pixels; use less than {side / 2:g}"
            )
        if "partial" in kept and self.layouts.partial.edits == "add":
            problems.append(
                "generate.composite: box needs an edited box, and layouts.partial.edits=add has none; use none, or "
                "layouts.partial.edits=replace"
            )
        if repeated := {name for name in self.generate.insert_classes if self.generate.insert_classes.count(name) > 1}:
            problems.append(f"generate.insert_classes: {', '.join(sorted(map(short, repeated)))} comes twice")
        return problems

    def _shard_problems(self) -> list[str]:
        shards = -(-self.generate.rows // self.generate.rows_per_shard)
        if shards <= LARGEST_SHARDS:
            return []
        return [
            f"generate.rows_per_shard: {short(repr(self.generate.rows))} pairs would make {short(repr(shards))} "
            f"shards of each kind, at most {LARGEST_SHARDS} are named; raise it"
        ]

    def _comparison_problems(self) -> list[str]:
        problems = [
            f"compare.rows: unknown row {name!r}; rows are {', '.join(ROWS)}"
            for name in self.compare.rows
            if name not in ROWS
        ]
        if len(set(self.compare.rows)) != len(self.compare.rows):
            problems.append("compare.rows: an entry comes twice")
        for kind in self.finetune.kinds:
            layouts = getattr(self.layouts, PAIR_KINDS[kind].layout_section or "full").system
            trained = [
                name
                for name in (layouts, self.images.system)
                if (name in LAYOUT_SYSTEMS and LAYOUT_SYSTEMS[name].losses is None)
                or (name in IMAGE_SYSTEMS and IMAGE_SYSTEMS[name].build_objective is None)
            ]
            problems += [
                f"finetune.kinds: {name} comes trained and has no losses; leave {kind!r} out" for name in trained
            ]
            if self.images.system in IMAGE_SYSTEMS and not IMAGE_SYSTEMS[self.images.system].end_to_end:
                problems.append(
                    f"finetune.kinds: {self.images.system} cannot be trained together with layouts; leave {kind!r} out"
                )
        problems += [
            f"finetune.kinds: {kind!r} is not among generate.kinds"
            for kind in self.finetune.kinds
            if kind not in self.generate.kinds
        ]
        return problems

    def _loop_problems(self) -> list[str]:
        kinds = self.loop.kinds
        problems = [
            f"loop.kinds: {kind!r} is not among generate.kinds; add it there, or leave it out here"
            for kind in kinds
            if kind not in self.generate.kinds
        ]
        if len(set(kinds)) != len(kinds):
            problems.append("loop.kinds: an entry comes twice")
        return problems

    def loop_kinds(self) -> tuple[str, ...]:
        """Return the kinds of pairs that a round of the loop adds; none if none that are made take a budget."""
        return self.loop.kinds or tuple(kind for kind in self.generate.kinds if PAIR_KINDS[kind].takes_budget)

    def _arm_problems(self) -> list[str]:
        arms, made = self.segmenters.arms, self.generate.kinds
        problems = [
            f"segmenters.arms: unknown arm {name!r}; arms are {', '.join(ARMS)}" for name in arms if name not in ARMS
        ]
        if not made:
            problems.append("generate.kinds: there is none; name at least one kind of pairs to make")
        if "real" not in arms:
            problems.append("segmenters.arms: the arm 'real' is missing; every other arm is set against it")
        problems += [
            f"generate.kinds: the arm {name!r} needs {ARMS[name].synthetic} pairs"
            for name in arms
            if name in ARMS and ARMS[name].synthetic not in (None, *made)
        ]
        problems += [
            f"{field}: an entry comes twice"
            for field, values in (
                ("segmenters.arms", arms),
                ("segmenters.seeds", self.segmenters.seeds),
                ("generate.kinds", made),
            )
            if len(set(values)) != len(values)
        ]
        return problems

    def _tracking_problems(self) -> list[str]:
        if not self.compute.tracking or self.segmenters.parallel == 1:
            return []
        return [
            f"segmenters.parallel: {self.segmenters.parallel}, but compute.tracking follows no segmenters that are "
            "trained in processes of their own; set it to 1, or leave compute.tracking out"
        ]

    def _trainer_problems(self) -> list[str]:
        """Return what keeps commands from training the arms; they decide themselves how a batch is made."""
        commands = self.segmenters.command.settings()
        problems = [f"segmenters.command.{text}" for text in trainer_problems(commands)]
        if not commands.train:
            return problems
        unable = [
            name
            for name in self.segmenters.arms
            if name in ARMS
            and (ARMS[name].adaptation != "none" or ARMS[name].mixing != "none" or ARMS[name].augmentation is not None)
        ]
        if unable:
            able = ", ".join(name for name in self.segmenters.arms if name not in unable)
            problems.append(
                f"segmenters.arms: {', '.join(unable)} mix, adapt or augment within a training, which a command is not "
                f"told to; leave them out: segmenters.arms=[{able}]"
            )
        if self.evaluates_natively:
            problems.append(
                "segmenters.evaluation: native, but what a command predicts is compared with labels in the size of the "
                "images that it is given; set segmenters.evaluation to resized"
            )
        if self.data.fit == "tile":
            problems.append(
                "data.fit: tile, but the tiles of an image that a command predicts are not put together; set it to "
                "stretch or crop"
            )
        return problems

    def _primary_problems(self) -> list[str]:
        arms = self.segmenters.arms
        problems = []
        for side, names in (("treatment", self.report.primary.treatment), ("control", self.report.primary.control)):
            field = f"report.primary.{side}"
            if len(set(names)) != len(names):
                problems.append(f"{field}: an entry comes twice")
            for name in names:
                if name not in arms:
                    problems.append(
                        f"{field}: {name!r} is not among segmenters.arms; add it there, or leave it out here"
                    )
                elif name in ARMS and (added_kind(name) is None) == (side == "treatment"):
                    problems.append(
                        f"{field}: {name!r} adds no generated pairs to real labels; name an arm that does"
                        if side == "treatment"
                        else f"{field}: {name!r} adds generated pairs; name an arm of real pairs alone"
                    )
                elif side == "control" and name in ARMS and ARMS[name].real != "labelled":
                    problems.append(f"{field}: {name!r} has no real labels; name an arm of real pairs alone")
        return problems

    def treatments(self) -> tuple[str, ...]:
        """Return the arms that the primary contrast's arm is chosen among; none if no arm adds generated pairs."""
        return self.report.primary.treatment or tuple(
            name for name in self.segmenters.arms if added_kind(name) is not None
        )

    def controls(self) -> tuple[str, ...]:
        """Return the arms that the primary contrast's control is chosen among."""
        arms = self.segmenters.arms
        return self.report.primary.control or tuple(name for name in CONTROLS if name in arms) or ("real",)

    def _curve_problems(self) -> list[str]:
        curve, arm = self.curve, self.curve.arm
        problems = [
            f"curve.{field}: an entry comes twice"
            for field in ("labels", "doses", "seeds")
            # As folders are named after them.
            if len({f"{value:g}" for value in getattr(curve, field)}) != len(getattr(curve, field))
        ]
        if arm is not None and arm not in self.segmenters.arms:
            problems.append(f"curve.arm: {arm!r} is not among segmenters.arms; add it there, or leave it out here")
        elif arm is not None and arm in ARMS and added_kind(arm) is None:
            problems.append(f"curve.arm: {arm!r} adds no generated pairs to real labels; name an arm that does")
        return problems

    def curve_arm(self) -> str | None:
        """Return the arm with generated pairs that the curve is of; None if no arm adds any to real labels."""
        return self.curve.arm or next(iter(self.treatments()), None)

    def _teacher_problems(self) -> list[str]:
        segmenters, own = self.segmenters, self.teachers.architecture
        problems = segmenter_problems(own, segmenters.encoder, segmenters.encoder_weights) if own else []
        shared = segmenter_problems(segmenters.architecture, segmenters.encoder, segmenters.encoder_weights)
        return [
            *(text.replace("segmenters.arch", "teachers.arch") for text in problems if text not in shared),
            *(
                f"teachers.kinds: {kind!r} is not among generate.kinds"
                for kind in self.teachers.kinds
                if kind not in self.generate.kinds
            ),
        ]


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """Check nested values as a whole.

    Raises:
        ConfigError: All problems, each with its field.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("The configuration cannot be run.", _problems_of(error)) from error


def _problems_of(error: ValidationError, remedy: str = "") -> list[str]:
    """Return a text for each problem; `remedy` follows what is said of unknown keys."""
    problems: list[str] = []
    for entry in error.errors():
        field = ".".join(short(str(part)) for part in entry["loc"])
        message = entry["msg"].removeprefix("Value error, ")
        if not field:
            problems += message.split("\n")
        elif entry["type"] == "extra_forbidden":
            problems.append(f"{field}: there is no such key{remedy}")
        else:
            problems.append(f"{field}: {message[:1].lower()}{message[1:]}, got {short(repr(entry['input']))}")
    return problems


def with_overrides(values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return nested values with `a.b=c` assignments applied; c is read as YAML.

    Raises:
        ConfigError: All assignments that are malformed or reach into something that is no section.
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    problems = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *sections, key = path.strip().split(".")
        if not equals or not key or not all(sections):
            problems.append(f"{short(repr(assignment))}: write it as section.key=value, for example generate.pairs=500")
            continue
        try:
            value = parse_yaml(text)
        except ValueError:
            problems.append(
                f"{short(path)}: {short(repr(text))} is not valid YAML; put text with special characters in quotes"
            )
            continue
        target: Any = result
        for section in sections:
            if not isinstance(target, dict) or not isinstance(target.setdefault(section, {}), dict):
                problems.append(f"{short(path)}: {short(section)} is no section")
                break
            target[section] = dict(target[section])
            target = target[section]
        else:
            target[key] = value
    if problems:
        raise ConfigError("Some --set assignments cannot be applied.", problems)
    return result


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values with a nested mapping of changes laid over them."""
    result = dict(values)
    for key, change in changes.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(change, Mapping)
        result[key] = merge(before, change) if both else change  # type: ignore[arg-type]
    return result


def config_text(config: RunConfig) -> str:
    """Return the resolved configuration as YAML; a file of it can be given in place of a recipe."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def write_config(path: Path, config: RunConfig) -> None:
    """Write the resolved configuration as YAML, atomically."""
    write_atomically(path, config_text(config))


def config_of_pairs(config: RunConfig) -> dict[str, Any]:
    """Return the settings that decide generated pairs, as JSON values, for those who get the pairs alone.

    Paths are left out: they belong to one machine.
    """
    usual = {name for name in ("fit", "tile_height") if name not in config.data.identity()}
    return config.model_dump(
        mode="json",
        include={"recipe", "seed", "data", "palettes", "layouts", "images", "finetune", "generate"},
        exclude={
            "data": {"root", "class_file", "unlabelled"} | usual,
            "images": {"vgg_weights", "perceptual_encoder_weights"},
        },
    )
