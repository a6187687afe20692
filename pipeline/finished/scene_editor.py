"""Edits of scenes with the finished models of a run, written as strips or animations.

Each method of Editor that returns scenes is one command of `scenepalette edit` and one choice of the flow `edit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
from pydantic import ConfigDict, Field, ValidationError, validate_call

from scenepalette.common.errors import ConfigError
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import labels_to_palette, one_hot
from scenepalette.generators.editing import (
    Painter,
    Scene,
    autoencoding,
    noise_interpolation,
    palette_interpolation,
    partial_edit,
    resampling,
)
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.images.systems.sean import SeanGenerator
from scenepalette.generators.layouts.crops import EditBox
from scenepalette.generators.layouts.loading import WEIGHTS, load_layout_generator
from scenepalette.generators.layouts.networks.progressive import LayoutNetwork
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.pipeline.finished.scene_strip import captioned, numbered, percentages, write_scenes
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.manifests import check_contents
from scenepalette.pipeline.run_directory.ownership import CONFIG, check_outside
from scenepalette.pipeline.stages.images import image_model
from scenepalette.pipeline.stages.layouts import LayoutModel, layout_model
from scenepalette.pipeline.units.records import reasons_of
from scenepalette.training.image_grid import check_extension

Edit = Literal["palettes", "noise", "resample", "partial", "autoencode"]
Frames = Annotated[int, Field(ge=2, le=200)]
Variants = Annotated[int, Field(ge=1, le=100)]
Seed = Annotated[int, Field(ge=0)]


class Editor:
    """The models of a run directory, ready to edit scenes."""

    def __init__(self, run_dir: Path) -> None:
        """Open a run directory.

        Raises:
            ScenepaletteError: It holds no run.
        """
        self.run = Run.open(run_dir)
        self._require("data")
        data = self.run.data
        self.train, self.validation, self.filled_labels = data.train, data.validation, data.filled_labels
        self.table: ClassTable = self.train.table

    def palettes(self, first: str = "0", second: str = "1", frames: Frames = 8, seed: Seed = 0) -> list[Scene]:
        """Draw the scenes between the palettes of two training samples.

        Raises:
            ConfigError: The layout system takes no palette, a model is not trained, or there is no such sample.
        """
        model = layout_model(self.run.config, "full")
        if not LAYOUT_SYSTEMS[model.system].conditional:
            fitting = [name for name, system in LAYOUT_SYSTEMS.items() if system.conditional and not system.partial]
            raise ConfigError(
                f"Palettes cannot be asked of {model.system}, which takes none. Systems that do are "
                f"{', '.join(fitting)}."
            )
        generator = self._layout_generator(model)
        ends = torch.from_numpy(np.stack([self.label(first), self.label(second)]).astype(np.int64))
        palettes = labels_to_palette(ends, self.table.num_classes).double().numpy()
        hardening = self.run.config.generate.hardening
        scenes = palette_interpolation(generator, self.painter(), palettes[0], palettes[1], frames, seed, hardening)
        return captioned(scenes, percentages(frames))

    def noise(
        self,
        sample: str = "0",
        frames: Frames = 8,
        seed: Seed = 0,
        class_name: str | None = None,
        box: EditBox | None = None,
    ) -> list[Scene]:
        """Draw the layout of a training sample under noise between two draws, everywhere or in a part.

        Raises:
            ConfigError: The image system has no such noise, or there is no such sample, class or part.
        """
        label = self.label(sample)
        region = region_of(label, class_name, box, self.table)
        scenes = noise_interpolation(self.painter(), label, frames, seed, region)
        return captioned(scenes, percentages(frames))

    def resample(
        self,
        sample: str = "0",
        draws: Frames = 6,
        seed: Seed = 0,
        class_name: str | None = None,
        box: EditBox | None = None,
    ) -> list[Scene]:
        """Draw the layout of a training sample several times, with new noise everywhere or in a part.

        Raises:
            ConfigError: The image system has no such noise, or there is no such sample, class or part.
        """
        label = self.label(sample)
        region = region_of(label, class_name, box, self.table)
        return captioned(resampling(self.painter(), label, draws, seed, region), numbered("draw", draws))

    def partial(
        self,
        sample: str = "0",
        changes: Mapping[str, float] | None = None,
        variants: Variants = 4,
        seed: Seed = 0,
        box: EditBox | None = None,
    ) -> list[Scene]:
        """Generate a part of a training sample again with changed shares of classes, after the real pair.

        With the image system `sean`, the images keep the appearance of the real one.

        Raises:
            ConfigError: The factors cannot be met, the part has no pixel of a class whose share is to be multiplied, or
                there is no such sample, class or part.
        """
        model = layout_model(self.run.config, "partial")
        if model.settings.edits != "replace":
            raise ConfigError(
                "This run's partial generator adds to whole layouts (layouts.partial.edits is 'add'); a part can be "
                "generated again by one that replaces. Train with --set layouts.partial.edits=replace."
            )
        label = self.label(sample)
        height, width = label.shape
        box = box or (0, width // 4, height, width // 2)
        check_box(box, label.shape)
        factors = factors_by_id(changes or {}, self.table)
        check_present(factors, label, box, self.table)
        generator, painter = self._layout_generator(model), self.painter()
        noise = self._style(painter, sample)
        hardening = self.run.config.generate.hardening
        scenes = partial_edit(generator, painter, label, box, factors, variants, seed, noise, hardening)
        real = Scene(label, np.asarray(self.train.images[sample_index(sample, self.train.ids)]))
        return captioned([real, *scenes], ["real", "real layout", *numbered("edit", variants)])

    def autoencode(self, sample: str = "0", draws: Frames = 4, seed: Seed = 0) -> list[Scene]:
        """Predict the layout of a validation image and generate its image again, after the real pair.

        Raises:
            ConfigError: The image system's discriminator does not label pixels, or there is no such sample.
        """
        model = image_model(self.run.config)
        predict = IMAGE_SYSTEMS[model.system].predict_labels
        if predict is None:
            fitting = [name for name, system in IMAGE_SYSTEMS.items() if system.predict_labels is not None]
            raise ConfigError(
                f"The discriminator of {model.system} does not label pixels. Image systems whose does: "
                f"{', '.join(fitting)}."
            )
        painter = self.painter()
        discriminator = model.load_discriminator(self.run)
        index = sample_index(sample, self.validation.ids)
        image, _ = self.validation.batch([index])
        scenes = autoencoding(painter, discriminator, predict, image, draws, seed)
        real = Scene(np.asarray(self.validation.labels[index]), np.asarray(self.validation.images[index]))
        return captioned([real, *scenes], ["real", *numbered("draw", draws)])

    def painter(self) -> Painter:
        """Return the run's image generator, ready to paint layouts."""
        model = image_model(self.run.config)
        self._require(model.unit)
        return Painter(model.load(self.run), self.table.num_classes, self.run.fabric)

    def label(self, sample: str) -> np.ndarray:
        """Return the layout of a training sample without ignored pixels, uint8 [H, W]."""
        return np.asarray(self.filled_labels[sample_index(sample, self.train.ids)])

    def _layout_generator(self, model: LayoutModel) -> LayoutNetwork:
        """Return a layout generator as it was trained: its layouts do not depend on what makes it faster."""
        self._require(model.unit)
        weights = self.run.run_dir / model.unit / WEIGHTS
        network = load_layout_generator(weights, model.system, self.table, self.train.size, model.settings)
        return network.to(self.run.fabric.device)

    def _style(self, painter: Painter, sample: str) -> torch.Tensor | None:
        """Return the style codes of a training image, for an image system that has codes; else None."""
        generator = painter.generator
        if not isinstance(generator, SeanGenerator):
            return None
        index, device = sample_index(sample, self.train.ids), self.run.fabric.device
        layout = torch.from_numpy(self.label(sample).astype(np.int64))[None].to(device)
        image = self.train.batch([index])[0].to(device)
        label_map = one_hot(layout, self.table.num_classes)
        with torch.inference_mode():
            drawn = painter.noise(layout, self.run.config.seed, "edit", "style")
            return generator.noise_of_image(drawn, image, label_map)

    def _require(self, unit: str) -> None:
        folder, units = self.run.run_dir / unit, self.run.units
        state = self.run.state(unit) if unit in units else None
        if state is not None and state.status == "other":
            reasons = reasons_of(state, units[unit], units)
            raise ConfigError(f"{folder} was made with other settings than {CONFIG} says. Restore {CONFIG}.", reasons)
        if state is None or state.status != "finished":
            raise ConfigError(
                f"{folder} is not finished. Run `scenepalette run` with this --out folder first, or the verb that "
                "makes it."
            )
        check_contents(folder)


def write_edit(what: Edit, run_dir: Path, picture: Path, options: Mapping[str, Any]) -> None:
    """Make an edit by name and write its scenes.

    Args:
        what: Name of the method of Editor that makes it.
        run_dir: Folder of a run.
        picture: .png for a strip, .gif or .webp for an animation.
        options: The method's arguments by name; those left out keep their defaults.

    Raises:
        ConfigError: There is no such edit or option, a value cannot be used, or what the edit itself says.
    """
    if what not in get_args(Edit):
        raise ConfigError(f"There is no edit {what!r}; edits are {', '.join(get_args(Edit))}.")
    check_extension(picture)
    check_outside(picture)
    editor = Editor(run_dir)
    try:
        scenes = validate_call(config=ConfigDict(coerce_numbers_to_str=True))(getattr(editor, what))(**options)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}, got {entry['input']!r}" for entry in error.errors()
        ]
        raise ConfigError(f"The edit {what} cannot be made with these options.", problems) from error
    write_scenes(picture, scenes, editor.table)


def class_ids(names: Sequence[str], table: ClassTable) -> list[int]:
    """Return the ids of classes by name.

    Raises:
        ConfigError: All unknown names at once.
    """
    unknown = [name for name in names if name not in table.names]
    if unknown:
        raise ConfigError(f"There is no class {', '.join(map(repr, unknown))}. Classes are {', '.join(table.names)}.")
    return [table.names.index(name) for name in names]


def factors_by_id(changes: Mapping[str, float], table: ClassTable) -> dict[int, float]:
    """Return factors on shares by class id.

    Raises:
        ConfigError: An unknown class, or a factor that is not a number from 0.
    """
    wrong = [name for name, factor in changes.items() if not 0 <= factor < float("inf")]
    if wrong:
        raise ConfigError(
            f"The factor of {', '.join(wrong)} is no number from 0; 0 removes a class, 2 doubles its share."
        )
    return dict(zip(class_ids(list(changes), table), changes.values(), strict=True))


def check_present(factors: Mapping[int, float], label: np.ndarray, box: EditBox, table: ClassTable) -> None:
    """Check that a part of a layout has the classes whose shares in it are to be multiplied.

    Raises:
        ConfigError: It lacks some: a multiple of nothing would silently be nothing.
    """
    top, left, height, width = box
    present = np.unique(label[top : top + height, left : left + width])
    absent = [table.names[class_id] for class_id, factor in factors.items() if factor > 0 and class_id not in present]
    if absent:
        raise ConfigError(
            f"The part to be generated again has no {' and no '.join(absent)} whose share could be multiplied; its "
            f"classes are {', '.join(table.names[i] for i in present)}. Choose another --box or --sample."
        )


def sample_index(sample: str, ids: Sequence[str]) -> int:
    """Return the position of a sample given by its id or its number from 0.

    Raises:
        ConfigError: There is no such sample.
    """
    if sample in ids:
        return list(ids).index(sample)
    if sample.isdecimal() and int(sample) < len(ids):
        return int(sample)
    raise ConfigError(
        f"There is no sample {sample!r}. Give a number from 0 to {len(ids) - 1}, or an id such as {ids[0]!r}."
    )


def region_of(label: np.ndarray, class_name: str | None, box: EditBox | None, table: ClassTable) -> np.ndarray | None:
    """Return the pixels of a class or a box as bool [H, W], or None where neither is given.

    Raises:
        ConfigError: Both are given, or there is no such pixel.
    """
    if class_name is not None and box is not None:
        raise ConfigError("A class and a box were given; give one of them.")
    if class_name is not None:
        region = label == class_ids([class_name], table)[0]
        if not region.any():
            present = ", ".join(table.names[i] for i in np.unique(label))
            raise ConfigError(f"The sample has no {class_name}; its classes are {present}.")
        return region
    if box is not None:
        check_box(box, label.shape)
        region = np.zeros(label.shape, dtype=bool)
        top, left, height, width = box
        region[top : top + height, left : left + width] = True
        return region
    return None


def check_box(box: EditBox, shape: tuple[int, ...]) -> None:
    """Check that a box lies inside the image.

    Raises:
        ConfigError: It does not.
    """
    top, left, height, width = box
    if min(top, left) < 0 or min(height, width) < 1 or top + height > shape[0] or left + width > shape[1]:
        raise ConfigError(
            f"The box {top},{left},{height},{width} (top, left, height, width) does not lie inside the image, which "
            f"is {shape[0]} high and {shape[1]} wide."
        )
