"""Mass production of layout-image pairs: full, partial, semi and pseudo rows, each a function of (seed, index)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from scenepalette.common.randomness import epoch_batch, numpy_generator, torch_generator
from scenepalette.data.arrays import Pairs, images_to_uint8
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.labels import labels_to_palette, one_hot, soft_to_label
from scenepalette.data.shards.schema import Row, palette_of_label, row_id
from scenepalette.data.unlabelled import UnlabelledImages
from scenepalette.generators.images.base import ImageGenerator
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.generators.layouts.crops import CropMode, EditBox, boxes_to_crop, crop_palette, sample_crop
from scenepalette.generators.layouts.networks import (
    FullLayoutGenerator,
    PartialLayoutGenerator,
    addition_budget,
    crop_layout,
    partial_budget,
)
from scenepalette.generators.layouts.settings import Edits
from scenepalette.generators.palettes import PaletteControls, PaletteSampler, Projection

Kind = Literal["full", "partial", "semi", "pseudo"]
Labeller = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PairMaker:
    """Makes the rows of one kind.

    Attributes:
        kind: "full", "partial", "semi" or "pseudo".
        seed: The run's seed.
        train: Real training pairs; their class table is that of the rows.
        filled_labels: uint8 [N, H, W], their labels with ignored pixels filled.
        sampler: Where the palettes of full layouts, and of layouts that are added to, come from.
        image_generator: Layout to image, in eval mode on the fabric's device.
        image_model: Its content hash.
        layout_generator: The generator of full or partial layouts; None for semi and pseudo.
        layout_model: Its content hash, for pseudo that of the network that labels; None for semi.
        fabric: Device and precision.
        noise_scheme: How the images' noise is drawn; None for the image system's usual way.
        projection: How palettes are put on the simplex.
        controls: Wishes about the sampled palettes.
        crop_mode: Where partial edits happen, if they replace.
        edits: What the partial generator was trained to do: "replace" a crop, or "add" towards a sampled palette.
        unlabelled: Images whose layouts are predicted; for pseudo only.
        labeller: Predicts class ids BHW of images B3HW in [-1, 1] on the fabric's device; for pseudo only.
        collection: Eight hex digits that ids of rows hold, so that rows of other sets have other ids.
    """

    kind: Kind
    seed: int
    train: Pairs
    filled_labels: np.ndarray
    sampler: PaletteSampler
    image_generator: ImageGenerator
    image_model: str
    layout_generator: FullLayoutGenerator | PartialLayoutGenerator | None
    layout_model: str | None
    fabric: Fabric
    noise_scheme: NoiseScheme | None = None
    projection: Projection = "clip"
    controls: PaletteControls = field(default_factory=PaletteControls)
    crop_mode: CropMode = "band"
    edits: Edits = "replace"
    unlabelled: UnlabelledImages | None = None
    labeller: Labeller | None = None
    collection: str = "00000000"

    def rows(self, first: int, count: int, batch_size: int) -> Iterator[Row]:
        """Yield rows `first` to `first + count - 1`.

        Args:
            first: Index of the first row.
            count: Number of rows.
            batch_size: Rows generated at once.
        """
        for start in range(first, first + count, batch_size):
            indices = list(range(start, min(start + batch_size, first + count)))
            with torch.inference_mode(), self.fabric.autocast():
                rows = self._batch(indices)
            yield from rows  # outside: whoever takes them must not find gradients switched off

    def _batch(self, indices: list[int]) -> list[Row]:
        randoms = [numpy_generator(self.seed, "generate", self.kind, index) for index in indices]
        boxes: Sequence[EditBox | None] = [None] * len(indices)
        sources: Sequence[str | None] = [None] * len(indices)
        if self.kind == "full":
            layout, targets = self._full_layouts(indices, randoms)
            labels = layout
        elif self.kind == "pseudo":
            labels, sources = self._predicted_layouts(indices)
            layout, count = labels, self.train.table.num_classes
            targets = np.stack([palette_of_label(label, count) for label in labels.numpy().astype(np.uint8)])
        else:
            chosen = self._sources(indices, len(self.train))
            sources = [self.train.ids[position] for position in chosen]
            labels = torch.from_numpy(self.train.labels[chosen].astype(np.int64))
            layout = torch.from_numpy(self.filled_labels[chosen].astype(np.int64))
            count = self.train.table.num_classes
            targets = np.stack([palette_of_label(label, count) for label in self.train.labels[chosen]])
            if self.kind == "partial":
                if self.edits == "add":
                    edited, targets = self._added_layouts(layout, indices, randoms)
                else:
                    boxes = edit_boxes = [sample_crop(random, self.train.size, self.crop_mode) for random in randoms]
                    edited = self._edited_layouts(layout, edit_boxes, indices, randoms)
                # Where the edit changed nothing, pixels that the annotators left out are as unknown as before.
                labels = torch.where((labels == IGNORE_ID) & (edited == layout), IGNORE_ID, edited)
                layout = edited
        images = images_to_uint8(self._images(layout, indices))
        labels_uint8 = labels.numpy().astype(np.uint8)
        return [
            Row(
                id=row_id(self.kind, self.collection, index),
                image=images[i],
                label=labels_uint8[i],
                kind=self.kind,
                palette_target=targets[i],
                palette_achieved=palette_of_label(labels_uint8[i], self.train.table.num_classes),
                source_id=sources[i],
                edit_box=boxes[i],
                seed=self.seed,
                index=index,
                layout_model=self.layout_model,
                image_model=self.image_model,
            )
            for i, index in enumerate(indices)
        ]

    def _sources(self, indices: list[int], count: int) -> list[int]:
        """Return which of `count` samples each row is made from: all equally often, each pass in another order.

        Neighbouring files are often frames of one video; few rows shall not come from the first of them alone.
        """
        return [int(epoch_batch(count, 1, index, self.seed, f"generate-{self.kind}")[0]) for index in indices]

    def _full_layouts(self, indices: list[int], randoms: list[np.random.Generator]) -> tuple[Tensor, np.ndarray]:
        assert isinstance(self.layout_generator, FullLayoutGenerator)
        palettes = self._palettes(randoms)
        target = torch.from_numpy(palettes).float().to(self.fabric.device)
        return self._generated(indices, randoms, target), palettes

    def _predicted_layouts(self, indices: list[int]) -> tuple[Tensor, list[str]]:
        """Return the predicted layouts of unlabelled images and the images' ids (Schönfeld et al., 2021, App. B.4)."""
        assert self.unlabelled is not None and self.labeller is not None
        chosen = self._sources(indices, len(self.unlabelled))
        layout = self.labeller(self.unlabelled.batch(chosen).to(self.fabric.device)).cpu()
        return layout, [self.unlabelled.ids[position] for position in chosen]

    def _edited_layouts(
        self, layout: Tensor, boxes: list[EditBox], indices: list[int], randoms: list[np.random.Generator]
    ) -> Tensor:
        assert isinstance(self.layout_generator, PartialLayoutGenerator)
        device, count = self.fabric.device, self.train.table.num_classes
        crop = boxes_to_crop(boxes, self.train.size)
        budget = partial_budget(crop_palette(layout, crop, count), crop).to(device)
        cropped = crop_layout(one_hot(layout.to(device), count), crop.to(device))
        return self._generated(indices, randoms, budget, cropped)

    def _added_layouts(
        self, layout: Tensor, indices: list[int], randoms: list[np.random.Generator]
    ) -> tuple[Tensor, np.ndarray]:
        assert isinstance(self.layout_generator, PartialLayoutGenerator)
        device, count = self.fabric.device, self.train.table.num_classes
        palettes = self._palettes(randoms)
        budget = addition_budget(torch.from_numpy(palettes).float(), labels_to_palette(layout, count))
        return self._generated(indices, randoms, budget.to(device), one_hot(layout.to(device), count)), palettes

    def _palettes(self, randoms: list[np.random.Generator]) -> np.ndarray:
        return np.concatenate([self.sampler.sample(r, 1, self.projection, self.controls) for r in randoms])

    def _generated(self, indices: list[int], randoms: list[np.random.Generator], *condition: Tensor) -> Tensor:
        """Return label maps from the layout generator, each from its own sources of noise and drawn classes."""
        assert self.layout_generator is not None
        noise = self._vectors(randoms, self.layout_generator.noise_features)
        generators = [torch_generator(self.seed, "generate", self.kind, "classes", index) for index in indices]
        return soft_to_label(self.layout_generator(noise, *condition, generators=generators).layout).cpu()

    def _vectors(self, randoms: list[np.random.Generator], features: int) -> Tensor:
        vectors = np.stack([random.standard_normal(features, np.float32) for random in randoms])
        return torch.from_numpy(vectors).to(self.fabric.device)

    def _images(self, layout: Tensor, indices: list[int]) -> Tensor:
        layout = layout.to(self.fabric.device)
        generators = [torch_generator(self.seed, "generate", self.kind, "noise", index) for index in indices]
        noise = self.image_generator.sample_noise(self.noise_scheme, layout, generators)
        condition = one_hot(layout, self.train.table.num_classes)
        return self.image_generator(condition, noise).float().cpu()
