"""What layout generators are given in training: noise, target palettes, layouts to edit, sources of drawn classes.

Shapes: B batch, K classes, Z noise, H x W pixels.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.common.randomness import epoch_batch, numpy_generator, torch_generator
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import labels_to_palette, one_hot, soft_to_label
from scenepalette.generators.layouts.crops import boxes_to_crop, crop_palette, sample_crop
from scenepalette.generators.layouts.networks.progressive import (
    LayoutBatch,
    addition_budget,
    crop_layout,
    partial_budget,
)
from scenepalette.generators.layouts.networks.saa import class_weights
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.layouts.warping import warp_labels
from scenepalette.generators.palettes import PaletteSampler, palette_divergence

SHEET_COUNT = 16


@dataclass(frozen=True)
class LayoutInputs:
    """One batch for a layout generator.

    Attributes:
        noise: BZ, standard normal.
        target: BK, the palette that the whole layout is to have, rows summing to 1.
        condition: What the generator takes after the noise: the palette, or budget and layout to edit.
        generators: One CPU generator per sample for drawn classes; None where the system draws none.
        layout: One-hot BKHW at full size, the layouts that are edited; None for full generators.
        class_weights: [K], with the background [K + 1], how much each class counts in L_COND; None for all alike.
    """

    noise: Tensor
    target: Tensor
    condition: tuple[Tensor, ...]
    generators: list[torch.Generator] | None
    layout: Tensor | None = None
    class_weights: Tensor | None = None

    def run(self, network: nn.Module, level: int, fade: float) -> LayoutBatch:
        """Generate from this batch."""
        return network(self.noise, *self.condition, level, fade, self.generators)

    def part(self, part: slice) -> LayoutInputs:
        """Return some of the samples."""
        return LayoutInputs(
            self.noise[part],
            self.target[part],
            tuple(value[part] for value in self.condition),
            None if self.generators is None else self.generators[part],
            None if self.layout is None else self.layout[part],
            self.class_weights,
        )


class InputSource(Protocol):
    """Where a training's inputs come from."""

    def draw(self, step: int, stream: str, count: int) -> LayoutInputs:
        """Return a batch as a function of (seed, stream, step); generator and discriminator have streams apart."""
        ...

    def sheet(self, network: nn.Module, level: int) -> tuple[list[np.ndarray], float | None]:
        """Return images of fixed samples at a level, and the mean KL of hard layouts if there are target palettes."""
        ...

    def watched(self, count: int) -> tuple[LayoutInputs, LayoutInputs, Tensor | None]:
        """Return fixed inputs by whose samples a collapse is recognised.

        Args:
            count: Samples of each.

        Returns:
            Different samples; the first of them again and again with different noise; and the pixels HW (bool) that
            the latter change, None for all.
        """
        ...


def palettes_of(labels: np.ndarray, num_classes: int) -> Tensor:
    """Return the palette of every layout of a data set, float32 [N, K].

    Args:
        labels: uint8 [N, H, W] class ids; ignored pixels are left out.
        num_classes: K.
    """
    parts = (torch.from_numpy(labels[i : i + 256].astype(np.int64)) for i in range(0, len(labels), 256))
    return torch.cat([labels_to_palette(part, num_classes) for part in parts])


@dataclass(eq=False)
class _Draws:
    """What both sources share.

    Attributes:
        settings: Numbers of network and training.
        table: Class table of the layouts.
        seed: The run's seed.
        device: Where batches are put.
        draws_classes: Whether the generator draws classes.
        sampler: Where sampled palettes come from.
        palettes: [N, K], the real layouts' own.
    """

    settings: LayoutSettings
    table: ClassTable
    seed: int
    device: torch.device
    _: KW_ONLY
    draws_classes: bool
    sampler: PaletteSampler
    palettes: Tensor

    @property
    def class_weights(self) -> Tensor | None:
        """How much each class counts in L_COND, [K]; None for all alike."""
        balance = self.settings.balance
        return class_weights(self.palettes.mean(dim=0), balance).to(self.device) if balance else None

    def _noise(self, random: np.random.Generator, count: int) -> Tensor:
        noise = random.standard_normal((count, self.settings.noise_features), np.float32)
        return torch.from_numpy(noise).to(self.device)

    def _generators(self, step: int, stream: str, count: int) -> list[torch.Generator] | None:
        if not self.draws_classes:
            return None
        return [torch_generator(self.seed, stream, step, "classes", sample) for sample in range(count)]


@dataclass(eq=False, kw_only=True)
class FullInputs(_Draws):
    """Inputs of generators of whole layouts: palettes, sampled or of real layouts, and noise from a Gaussian.

    Attributes:
        conditional: Whether there is a palette to ask for; else every target is uniform.
    """

    conditional: bool

    def draw(self, step: int, stream: str, count: int) -> LayoutInputs:
        """Return a batch as a function of (seed, stream, step)."""
        random = numpy_generator(self.seed, stream, step)
        if not self.conditional:
            palette = torch.full((count, self.table.num_classes), 1 / self.table.num_classes)
        elif self.settings.palettes == "sampled":
            palette = torch.from_numpy(self.sampler.sample(random, count)).float()
        else:
            palette = self.palettes[epoch_batch(len(self.palettes), count, step, self.seed, stream)]
        palette = palette.to(self.device)
        noise = self._noise(random, count)
        generators = self._generators(step, stream, count)
        return LayoutInputs(noise, palette, (palette,), generators, class_weights=self.class_weights)

    @torch.no_grad()
    def sheet(self, network: nn.Module, level: int) -> tuple[list[np.ndarray], float | None]:
        """Return images of fixed samples at a level, and the mean KL of hard layouts if there are target palettes."""
        inputs = self.draw(0, "sheet", SHEET_COUNT)
        labels = soft_to_label(inputs.run(network, level, 1.0).layout)
        images = [self.table.colorize(label) for label in labels.cpu().numpy()]
        return images, _mean_divergence(inputs.target, labels) if self.conditional else None

    def watched(self, count: int) -> tuple[LayoutInputs, LayoutInputs, Tensor | None]:
        """Return samples of different palettes, and of one palette with different noise; they make every pixel."""
        samples = self.draw(0, "watch", count)
        return samples, _repeat_first(samples), None


@dataclass(eq=False, kw_only=True)
class PartialInputs(_Draws):
    """Inputs of the partial generator: real layouts, what to make of them, and noise from a Gaussian.

    Attributes:
        labels: uint8 [N, H, W], the real layouts, without ignored pixels.
    """

    labels: np.ndarray

    @property
    def class_weights(self) -> Tensor | None:
        """The same with the background, [K + 1]: what stays as it is counts as in the paper."""
        weights = super().class_weights
        return None if weights is None else F.pad(weights, (0, 1), value=1.0)

    def draw(self, step: int, stream: str, count: int) -> LayoutInputs:
        """Return a batch as a function of (seed, stream, step)."""
        random = numpy_generator(self.seed, stream, step)
        indices = epoch_batch(len(self.labels), count, step, self.seed, stream)
        label = torch.from_numpy(self.labels[indices].astype(np.int64)).to(self.device)
        current = self.palettes[indices]
        if self.settings.warp:
            label = warp_labels(label, self.settings.warp, torch_generator(self.seed, stream, step, "warp"))
            current = labels_to_palette(label, self.table.num_classes).cpu()
        layout = one_hot(label, self.table.num_classes)
        if self.settings.edits == "add":
            # The layout is not cropped, and gets what the target has more of (section 5.4).
            target = self._targets(random, step, stream, count)
            budget, source = addition_budget(target, current), layout
        else:
            # The crop is filled by its own palette (section 5.2), so that the whole layout is to keep its shares.
            size = (label.shape[1], label.shape[2])
            crop = boxes_to_crop([sample_crop(random, size, self.settings.crop_mode) for _ in indices], size)
            crop = crop.to(self.device)
            target, source = current, crop_layout(layout, crop)
            budget = partial_budget(crop_palette(label, crop, self.table.num_classes), crop)
        noise, target, budget = self._noise(random, count), target.to(self.device), budget.to(self.device)
        generators = self._generators(step, stream, count)
        return LayoutInputs(noise, target, (budget, source), generators, layout, self.class_weights)

    def _targets(self, random: np.random.Generator, step: int, stream: str, count: int) -> Tensor:
        if self.settings.palettes == "sampled":
            return torch.from_numpy(self.sampler.sample(random, count)).float()
        return self.palettes[epoch_batch(len(self.palettes), count, step, self.seed, f"{stream} targets")]

    @torch.no_grad()
    def sheet(self, network: nn.Module, level: int) -> tuple[list[np.ndarray], float | None]:
        """Return images of fixed layouts above their edits at a level, and the mean KL of the edited ones."""
        inputs = self.draw(0, "sheet", SHEET_COUNT)
        assert inputs.layout is not None
        edited = soft_to_label(inputs.run(network, level, 1.0).layout)
        source = soft_to_label(F.interpolate(inputs.layout, size=edited.shape[1:], mode="nearest-exact"))
        half = SHEET_COUNT // 2
        images = [self.table.colorize(x) for x in torch.cat([source[:half], edited[:half]]).cpu().numpy()]
        return images, _mean_divergence(inputs.target, edited)

    def watched(self, count: int) -> tuple[LayoutInputs, LayoutInputs, Tensor | None]:
        """Return edits of different layouts, and one edit with different noise and the pixels of its crop."""
        samples = self.draw(0, "watch", count)
        _, source = samples.condition
        # A layout is one-hot except in its crop.
        return samples, _repeat_first(samples), source[0].amax(dim=0) < 1 if self.settings.edits == "replace" else None


def _repeat_first(inputs: LayoutInputs) -> LayoutInputs:
    """Return inputs in which all samples are the first, with their own noise."""

    def repeat(value: Tensor) -> Tensor:
        return value[:1].expand_as(value).contiguous()

    return replace(
        inputs,
        target=repeat(inputs.target),
        condition=tuple(repeat(value) for value in inputs.condition),
        layout=None if inputs.layout is None else repeat(inputs.layout),
    )


def _mean_divergence(target: Tensor, labels: Tensor) -> float:
    achieved = labels_to_palette(labels, target.shape[1]).cpu().numpy()
    return float(palette_divergence(target.cpu().numpy(), achieved).mean())
