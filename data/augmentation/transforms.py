"""Joint augmentation of images and label maps, a batch at a time.

All randomness comes from the `torch.Generator` that is passed in; the global one is neither read nor moved.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import torch
from torch import Tensor

from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.device.transfer import to_device

# Of the NTSC standard (1953): luma, and the two axes of chroma beside it.
LUMA = (0.299, 0.587, 0.114)
YIQ = (LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def flip_horizontally(image: Tensor, label: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirrors each sample left to right with probability one half, image and label together.

    Args:
        image: B3HW.
        label: BHW.
        generator: decides which samples are mirrored, one number each.

    Returns:
        New tensors of the same shapes.
    """
    _check_pair(image, label)
    flipped = torch.rand(len(image), generator=generator) < 0.5
    return (
        torch.where(to_device(flipped, image.device)[:, None, None, None], image.flip(-1), image),
        torch.where(to_device(flipped, label.device)[:, None, None], label.flip(-1), label),
    )


class StandardAugmentation:
    """Flip, random scale with crop to the input's size, and colour jitter, drawn for each sample.

    A sample scaled up is cropped at a random place. One scaled down is set at a random place into a frame of the
    input's size; the frame around it is mid-grey (0) in the image and ignored (255) in the label. Images are resized
    with antialiased bilinear interpolation, labels with the nearest neighbour of the same pixel centres.
    """

    def __init__(
        self,
        scale: tuple[float, float] = (0.6, 1.5),
        brightness: float = 0.25,
        contrast: float = 0.25,
        saturation: float = 0.25,
        hue: float = 0.03,
        flip: bool = True,
    ) -> None:
        """Sets the strength of each part.

        Args:
            scale: smallest and largest factor of both sides, drawn log-uniformly.
            brightness: largest relative change, 0 (none) up to less than 1.
            contrast: the same for contrast.
            saturation: the same for saturation.
            hue: largest change of hue as a share of the colour circle, 0 to 0.5.
            flip: whether half of the samples are mirrored.
        """
        self.scale = scale
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.flip = flip

    def __call__(self, image: Tensor, label: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Augments a batch.

        Args:
            image: B3HW float in [-1, 1].
            label: BHW int64.
            generator: CPU generator; the result is a function of its state and the inputs.

        Returns:
            Image and label of the same shapes, types and value ranges; label 255 outside the source image.
        """
        _check_pair(image, label)
        # A fixed count of numbers for each sample: what one part does cannot shift another part's draws.
        draws = torch.rand(len(image), 8, generator=generator)
        flipped = (draws[:, 0] < 0.5) & self.flip
        # In double precision, in which no size that anyone asks for is rounded to the wrong side.
        factor = self.scale[0] * (self.scale[1] / self.scale[0]) ** draws[:, 1].double()
        height, width = label.shape[1:]
        rows = _Axis(height, factor, draws[:, 2], device=label.device)
        columns = _Axis(width, factor, draws[:, 3], flipped, device=label.device)
        return self._resample(self._recolor(image, draws[:, 4:]), rows, columns), _pick(label, rows, columns)

    def _recolor(self, image: Tensor, draws: Tensor) -> Tensor:
        """Jitters the colours of images B3HW in [-1, 1]; `draws` are B4 numbers in [0, 1).

        Brightness multiplies colours in [0, 1], contrast moves them from or to the image's mean grey, saturation from
        or to each pixel's grey, and hue turns them about the axis of greys, which keeps a pixel's luma. All four are
        linear in the colour, and so one matrix and one summand for each image.
        """
        brightness, contrast, saturation, hue = (2 * to_device(draws, image.device).to(image) - 1).unbind(1)
        light = 1 + self.brightness * brightness
        contrast = 1 + self.contrast * contrast
        saturation = (1 + self.saturation * saturation)[:, None, None]
        luma = _constant("luma", image.dtype, image.device)
        grey = luma.expand(3, 3)  # a colour to its grey
        turn = _hue_rotation(2 * math.pi * self.hue * hue)
        identity = torch.eye(3, dtype=image.dtype, device=image.device)
        colors = turn @ (saturation * identity + (1 - saturation) * grey)
        # In [-1, 1], of which 2 x - 1 makes [0, 1], a factor f of brightness also adds f - 1.
        mean = light * (image.mean(dim=(2, 3)) @ luma + 1)
        shift = contrast * light + (1 - contrast) * mean - 1
        matrix = (contrast * light)[:, None, None] * colors
        flat = torch.baddbmm(shift[:, None, None], matrix, image.flatten(2))
        return flat.clamp_(-1, 1).view_as(image)

    def _resample(self, image: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
        """Scales, crops, frames and mirrors images B3HW: a matrix for the rows, one for the columns."""
        across = image @ columns.weights().to(image).mT[:, None]
        # The filter's weights sum to 1 only within rounding.
        return (rows.weights().to(image)[:, None] @ across).clamp_(-1, 1)


class _Axis:
    """Where the pixels along one side of each sample come from when it is scaled, then cropped or framed.

    Attributes:
        size: Pixels of the side, before and after.
        inside: bool B x size, which new pixels show the source.
        centres: float64 B x size, the place in the source under each new pixel's centre.
        nearest: int64 B x size, the source pixel there.
        reach: float64 B x 1, half the width of the filter in source pixels: wider where the side shrinks.
    """

    def __init__(
        self,
        size: int,
        factor: Tensor,
        draw: Tensor,
        flipped: Tensor | None = None,
        device: torch.device = torch.device("cpu"),  # noqa: B008 (a constant)
    ) -> None:
        """Places scaled sides at random.

        Args:
            size: Pixels of the side.
            factor: B scales.
            draw: B numbers in [0, 1): where the crop begins, or the source in its frame.
            flipped: B, which samples are mirrored; None for none.
            device: Where the places of pixels are needed; the numbers above are on the CPU.
        """
        self.size = size
        scaled = (size * factor).round().clamp(min=1).long()[:, None]
        # Where the scaled side begins: up to its spare room before the crop, or behind the beginning of the frame.
        room = size - scaled
        begin = (draw.double()[:, None] * (room.abs() + 1)).long() * room.sign()
        scaled, begin = to_device(scaled, device), to_device(begin, device)
        pixels = torch.arange(size, device=device) - begin
        self.inside = (pixels >= 0) & (pixels < scaled)
        self.reach = (size / scaled).clamp(min=1.0)
        self.centres = (pixels + 0.5) * (size / scaled) - 0.5
        # In integers, because a centre halfway between two pixels must go to the same one everywhere.
        self.nearest = ((2 * pixels + 1) * size // (2 * scaled)).clamp(0, size - 1)
        if flipped is not None:
            flipped = to_device(flipped, device)
            self.centres = torch.where(flipped[:, None], size - 1 - self.centres, self.centres)
            self.nearest = torch.where(flipped[:, None], size - 1 - self.nearest, self.nearest)

    def weights(self) -> Tensor:
        """Returns B x size x size, what each new pixel takes from each of the source: linear, antialiased, or 0."""
        pixels = torch.arange(self.size, device=self.centres.device)
        distance = (self.centres[:, :, None] - pixels).abs() / self.reach[:, :, None]
        weights = (1 - distance).clamp(min=0)
        # A pixel outside takes nothing, whose sum is not divided by.
        return weights / weights.sum(dim=2, keepdim=True).clamp(min=1e-9) * self.inside[:, :, None]


def _pick(label: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Scales, crops, frames and mirrors labels BHW."""
    samples = torch.arange(len(label), device=label.device)[:, None, None]
    picked = label[samples, rows.nearest[:, :, None], columns.nearest[:, None, :]]
    inside = rows.inside[:, :, None] & columns.inside[:, None, :]
    return picked.where(inside, IGNORE_ID)


def _hue_rotation(angle: Tensor) -> Tensor:
    """Returns B33, turns of colours about the axis of greys by B angles, along which a pixel's luma stays."""
    to_yiq, from_yiq = (_constant(name, angle.dtype, angle.device) for name in ("to YIQ", "from YIQ"))
    cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, zero, zero, zero, cosine, -sine, zero, sine, cosine], dim=1).view(-1, 3, 3)
    return from_yiq @ turn @ to_yiq


@functools.cache
def _constant(name: Literal["luma", "to YIQ", "from YIQ"], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns numbers that every batch needs, sent to a device once."""
    value = torch.tensor(LUMA if name == "luma" else YIQ, dtype=torch.float64).to(dtype)
    return (value.inverse() if name == "from YIQ" else value).to(device)


def _check_pair(image: Tensor, label: Tensor) -> None:
    if image.ndim != 4 or label.ndim != 3 or (len(image), *image.shape[2:]) != tuple(label.shape):
        raise ValueError(
            f"received an image of shape {tuple(image.shape)} and a label of shape {tuple(label.shape)}; "
            "required are B3HW and BHW with equal B, H and W"
        )
