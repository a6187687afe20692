"""The sections of the data set and of its palettes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.datasets import DATASETS
from scenepalette.data.decoding.label_reading import LARGEST_TOLERANCE, LabelEncoding, LabelSettings
from scenepalette.data.fitting.geometry import Fit
from scenepalette.data.sample import FolderOptions, Orientation
from scenepalette.generators.nn.grids import LARGEST_SIDE, SMALLEST_SIDE
from scenepalette.pipeline.config.field_types import (
    LARGEST_SCENES,
    LARGEST_SIZE,
    LEAST_HELD_OUT,
    MOST_HELD_OUT,
    DatasetName,
    FilePath,
    FolderName,
    Location,
    NameEnd,
    Size,
)
from scenepalette.pipeline.sections import Section

LABEL_FIELDS = ("label_encoding", "label_offset", "ignore_ids", "colour_tolerance")


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

    @property
    def recordings(self) -> bool:
        """Whether images may be frames of recordings, as their ids tell; else they are independent of each other."""
        return DATASETS.get(self.name).recordings

    def folder_options(self) -> FolderOptions:
        """Return what is said of a plain folder's layout."""
        return FolderOptions(self.label_folder, self.label_suffix, self.orientation, self.val_share, self.val_seed)

    def identity(self) -> dict[str, Any]:
        """Return what identifies the samples beside their content, as JSON values; nothing of splits not asked for."""
        # What label images mean is part of their content.
        settings = self.model_dump(mode="json", exclude={"root", "class_file", "unlabelled", "seed", *LABEL_FIELDS})
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

    def label_settings(self) -> LabelSettings:
        """Return what the user says of the label images."""
        return LabelSettings(self.label_encoding, self.label_offset, self.ignore_ids, self.colour_tolerance)


class PalettesConfig(Section):
    """The palette sampler."""

    max_components: int = Field(
        default=30, ge=1, description="Largest number of mixture components that AIC chooses among."
    )
