"""Edits of scenes as sequences of layout-image pairs: palettes and noise between two ends, parts made again.

Every function is a pure function of networks, inputs and a seed. Shapes: H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from scenepalette.common.errors import ConfigError
from scenepalette.common.randomness import numpy_generator, torch_generator
from scenepalette.data.arrays import images_to_uint8
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.labels import labels_to_palette, one_hot
from scenepalette.generators.images.base import ImageGenerator
from scenepalette.generators.layouts.crops import EditBox, boxes_to_crop, crop_palette
from scenepalette.generators.layouts.hardening import Hardening, harden
from scenepalette.generators.layouts.networks.progressive import LayoutNetwork, crop_layout, partial_budget
from scenepalette.generators.palettes import interpolate_palettes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

ROUNDING = 1e-6  # how far the sum of shares in single precision may lie from 1


class Scene(NamedTuple):
    """One frame of an edit.

    Attributes:
        label: uint8 [H, W] class ids.
        image: uint8 [H, W, 3].
        palette_target: float64 [K], the shares that were asked for, or None where nothing was asked.
        caption: What a strip says above it.
    """

    label: np.ndarray
    image: np.ndarray
    palette_target: np.ndarray | None = None
    caption: str = ""


@dataclass(frozen=True)
class Painter:
    """An image generator with what it needs to paint layouts.

    Attributes:
        generator: Layout to image, in eval mode on the fabric's device.
        num_classes: K.
        fabric: Device and precision.
    """

    generator: ImageGenerator
    num_classes: int
    fabric: Fabric

    def noise(self, label: Tensor, *keys: int | str) -> Tensor:
        """Return noise of one layout [1, H, W] as a function of the keys."""
        return self.generator.sample_noise(None, label.to(self.fabric.device), [torch_generator(*keys)])

    @torch.inference_mode()
    def paint(self, label: Tensor, noise: Tensor) -> np.ndarray:
        """Return the images uint8 [B, H, W, 3] of layouts BHW under their noise."""
        label_map = one_hot(label.to(self.fabric.device), self.num_classes)
        with self.fabric.autocast():
            images = self.generator(label_map, noise.to(self.fabric.device))
        return images_to_uint8(images.float().cpu())


@torch.inference_mode()
def palette_interpolation(
    layout_generator: LayoutNetwork,
    painter: Painter,
    first: np.ndarray,
    second: np.ndarray,
    frames: int,
    seed: int,
    hardening: Hardening = "argmax",
) -> list[Scene]:
    """Draw the scenes between two palettes with everything else kept (Le Moing et al., 2021, Figure 5a).

    Args:
        layout_generator: A generator that follows palettes, in eval mode on the fabric's device.
        painter: Paints the layouts.
        first: Palette [K] of the first frame, summing to 1.
        second: Palette [K] of the last frame.
        frames: Number of frames, at least 2.
        seed: Chooses the noise of layout and image.
        hardening: How class ids follow from soft layouts.
    """
    palettes = interpolate_palettes(first, second, frames)
    device = painter.fabric.device
    vector = torch.randn(1, layout_generator.noise_features, generator=torch_generator(seed, "edit", "layout"))
    with painter.fabric.autocast():
        soft = layout_generator(vector.expand(frames, -1).to(device), torch.from_numpy(palettes).float().to(device))
    label = harden(soft, hardening, torch.from_numpy(palettes)).cpu()
    noise = torch.cat([painter.noise(label[i : i + 1], seed, "edit", "image") for i in range(frames)])
    return _scenes(label, painter.paint(label, noise), palettes)


def noise_interpolation(
    painter: Painter, label: np.ndarray, frames: int, seed: int, region: np.ndarray | None = None
) -> list[Scene]:
    """Draw one layout under noise between two draws, everywhere or in a region (Schönfeld et al., 2021, B.2, B.3).

    Args:
        painter: Paints the layout.
        label: uint8 [H, W] class ids without ignored pixels.
        frames: Number of frames, at least 2.
        seed: Chooses both draws.
        region: bool [H, W] where the noise changes, or None for the whole image.

    Raises:
        ConfigError: The image generator takes no noise, or none that differs between regions.
    """
    layout, (start, end) = _draws(painter, label, region, [(seed, "edit", "start"), (seed, "edit", "end")])
    return _repainted(painter, layout, [torch.lerp(start, end, i / (frames - 1)) for i in range(frames)])


def resampling(
    painter: Painter, label: np.ndarray, draws: int, seed: int, region: np.ndarray | None = None
) -> list[Scene]:
    """Draw one layout several times with new noise, everywhere or in a region alone (Schönfeld et al., 2021, App. B.2).

    Args:
        painter: Paints the layout.
        label: uint8 [H, W] class ids without ignored pixels.
        draws: Number of images.
        seed: Chooses the draws.
        region: bool [H, W] that is drawn again, for example one class, or None for the whole image.

    Raises:
        ConfigError: The image generator takes no noise, or none that differs between regions.
    """
    keys = [(seed, "edit", "draw", draw) for draw in range(draws)]
    return _repainted(painter, *_draws(painter, label, region, keys))


@torch.inference_mode()
def autoencoding(
    painter: Painter,
    discriminator: nn.Module,
    predict_labels: Callable[[nn.Module, Tensor], Tensor],
    image: Tensor,
    draws: int,
    seed: int,
) -> list[Scene]:
    """Predict the layout of an image and paint it again: OASIS as a scene autoencoder (Schönfeld et al., 2021, B.4).

    Args:
        painter: Paints the layout.
        discriminator: A discriminator that labels pixels, in eval mode on the fabric's device.
        predict_labels: Maps it and images to class ids, as the image system says.
        image: [1, 3, H, W] in [-1, 1].
        draws: Number of new images.
        seed: Chooses their noise.
    """
    with painter.fabric.autocast():
        layout = predict_labels(discriminator, image.to(painter.fabric.device)).cpu()
    return resampling(painter, layout[0].numpy().astype(np.uint8), draws, seed)


def changed_palette(palette: np.ndarray, factors: Mapping[int, float]) -> np.ndarray:
    """Multiply shares of single classes and let the others fill what is left, in their old proportions.

    Args:
        palette: [K], summing to 1.
        factors: Factor of each class to change, by class id; "twice as many pedestrians" is 2.

    Returns:
        float64 [K], summing to 1.

    Raises:
        ConfigError: The changed classes alone would need more than everything, or nothing is left to fill the rest.
    """
    changed = np.asarray(palette, dtype=np.float64).copy()
    for class_id, factor in factors.items():
        changed[class_id] *= factor
    fixed = np.zeros(len(changed), dtype=bool)
    fixed[list(factors)] = True
    wanted, others = changed[fixed].sum(), changed[~fixed].sum()
    if not wanted <= 1 + ROUNDING or (others == 0 and wanted < 1 - ROUNDING):
        raise ConfigError(
            f"The changed classes would take {100 * wanted:.1f} % of the edited part and the others have "
            f"{100 * others:.1f} % to share the rest. Use smaller factors, or change fewer classes."
        )
    if others > 0:
        changed[~fixed] *= max(0.0, 1 - wanted) / others
    return changed / changed.sum()


@torch.inference_mode()
def partial_edit(
    layout_generator: LayoutNetwork,
    painter: Painter,
    label: np.ndarray,
    box: EditBox,
    factors: Mapping[int, float],
    variants: int,
    seed: int,
    noise: Tensor | None = None,
    hardening: Hardening = "argmax",
) -> list[Scene]:
    """Make a part of a real layout again, with a changed palette (Le Moing et al., 2021, section 4.2 and Figure 1).

    Args:
        layout_generator: A generator that edits layouts, in eval mode on the fabric's device.
        painter: Paints the layouts.
        label: uint8 [H, W] class ids without ignored pixels.
        box: Top, left, height and width of the part, in pixels.
        factors: Factor of each class to change inside the part, by class id.
        variants: Number of different edits.
        seed: Chooses the edits and, unless `noise` is given, the image's noise.
        noise: The noise of the image, for example style codes of the real image, or None to draw it.
        hardening: How class ids follow from soft layouts; "exact" keeps to the palette inside the box and
            changes nothing outside.

    Returns:
        The layout as it was, then the variants; `palette_target` is that of the whole frame.

    Raises:
        ConfigError: The factors cannot be met.
    """
    device, count = painter.fabric.device, painter.num_classes
    layout = torch.from_numpy(label.astype(np.int64))[None]
    crop = boxes_to_crop([box], (label.shape[0], label.shape[1]))
    wanted = changed_palette(crop_palette(layout, crop, count)[0].double().numpy(), factors)
    repeated = layout.expand(variants, -1, -1)
    crops = crop.expand(variants, -1, -1)
    budget = partial_budget(torch.from_numpy(wanted).float()[None].expand(variants, -1), crops)
    cropped = crop_layout(one_hot(repeated, count), crops)
    randoms = [numpy_generator(seed, "edit", "partial", variant) for variant in range(variants)]
    vectors = np.stack([random.standard_normal(layout_generator.noise_features, np.float32) for random in randoms])
    with painter.fabric.autocast():
        soft = layout_generator(torch.from_numpy(vectors).to(device), budget.to(device), cropped.to(device))
    shares = torch.from_numpy(wanted)[None].expand(variants, -1)
    edited = torch.cat([layout, harden(soft, hardening, shares, repeated.masked_fill(crops, IGNORE_ID)).cpu()])
    drawn = painter.noise(layout, seed, "edit", "image") if noise is None else noise
    images = painter.paint(edited, drawn.expand(len(edited), *drawn.shape[1:]))
    rest = one_hot(layout, count)[0].double() * ~crop[0]
    target = rest.mean(dim=(1, 2)).numpy() + wanted * float(crop.float().mean())
    return _scenes(edited, images, np.stack([_shares(layout, count), *[target] * variants]))


def _shares(layout: Tensor, num_classes: int) -> np.ndarray:
    return labels_to_palette(layout, num_classes)[0].double().numpy()


def _draws(
    painter: Painter, label: np.ndarray, region: np.ndarray | None, keys: Sequence[tuple[int | str, ...]]
) -> tuple[Tensor, list[Tensor]]:
    """Return a layout [1, H, W] and its noise by each of the keys, which is that by the first outside of a region."""
    if not painter.generator.noise_schemes:
        raise ConfigError(
            f"Different noise was asked of a {type(painter.generator).__name__}, which takes none: a layout always "
            "gives the same image. Train an image system that has noise (`scenepalette systems` says which)."
        )
    layout = torch.from_numpy(label.astype(np.int64))[None]
    first, *others = (painter.noise(layout, *key) for key in keys)
    if region is not None:
        inside = torch.from_numpy(region)[None].to(first.device)
        others = [painter.generator.replace_noise(first, other, inside, layout) for other in others]
    return layout, [first, *others]


def _repainted(painter: Painter, layout: Tensor, noises: Sequence[Tensor]) -> list[Scene]:
    repeated = layout.expand(len(noises), -1, -1)
    return _scenes(repeated, painter.paint(repeated, torch.cat([*noises])))


def _scenes(label: Tensor, images: np.ndarray, targets: Sequence[np.ndarray] | np.ndarray | None = None) -> list[Scene]:
    labels = label.numpy().astype(np.uint8)
    return [
        Scene(labels[i], images[i], None if targets is None else np.asarray(targets[i])) for i in range(len(labels))
    ]
