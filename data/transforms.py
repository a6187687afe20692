"""Joint augmentation of images and label maps on torchvision's v2 operations.

All randomness comes from the `torch.Generator` that is passed in; the global one is neither read nor moved.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as vision

from scenepalette.data.classes import IGNORE_ID


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
        torch.where(flipped.to(image.device)[:, None, None, None], vision.horizontal_flip(image), image),
        torch.where(flipped.to(label.device)[:, None, None], vision.horizontal_flip(label), label),
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
        if self.flip:
            image, label = flip_horizontally(image, label, generator)
        # A fixed count of numbers for each sample: what one part does cannot shift another part's draws.
        draws = torch.rand(len(image), 7, generator=generator).tolist()
        images: list[Tensor] = []
        labels: list[Tensor] = []
        for sample, sample_label, draw in zip(image, label, draws, strict=True):
            moved, moved_label = self._rescale(self._recolor(sample, draw[3:]), sample_label, draw[:3])
            images.append(moved)
            labels.append(moved_label)
        return torch.stack(images), torch.stack(labels)

    def _recolor(self, image: Tensor, draws: list[float]) -> Tensor:
        """Jitters the colours of one image 3HW in [-1, 1]; `draws` are four numbers in [0, 1)."""
        brightness, contrast, saturation, hue = (2 * draw - 1 for draw in draws)
        # torchvision's colour operations are defined on [0, 1].
        unit = (image + 1) / 2
        if self.brightness:
            unit = vision.adjust_brightness(unit, 1 + self.brightness * brightness)
        if self.contrast:
            unit = vision.adjust_contrast(unit, 1 + self.contrast * contrast)
        if self.saturation:
            unit = vision.adjust_saturation(unit, 1 + self.saturation * saturation)
        if self.hue:
            unit = vision.adjust_hue(unit, self.hue * hue)
        return unit.clamp(0, 1) * 2 - 1

    def _rescale(self, image: Tensor, label: Tensor, draws: list[float]) -> tuple[Tensor, Tensor]:
        """Scales one image 3HW with its label HW, then crops or frames both to H x W; `draws` are three numbers."""
        height, width = label.shape
        factor = self.scale[0] * (self.scale[1] / self.scale[0]) ** draws[0]
        size = [max(1, round(height * factor)), max(1, round(width * factor))]
        image = vision.resize(image, size, v2.InterpolationMode.BILINEAR, antialias=True)
        # The filter's weights sum to 1 only within rounding.
        image = image.clamp(-1, 1)
        label = vision.resize(label[None], size, v2.InterpolationMode.NEAREST_EXACT)[0]
        # Each side has its own spare room, because rounding may leave one side larger and the other not.
        room = (height - size[0], width - size[1])
        top, left = (int(draw * (abs(spare) + 1)) for draw, spare in zip(draws[1:], room, strict=True))
        if room[0] < 0:
            image, label = image[:, top : top + height], label[top : top + height]
        if room[1] < 0:
            image, label = image[:, :, left : left + width], label[:, left : left + width]
        above, before = (top if room[0] > 0 else 0), (left if room[1] > 0 else 0)
        frame = [before, above, max(room[1], 0) - before, max(room[0], 0) - above]
        return vision.pad(image, frame, fill=0), vision.pad(label[None], frame, fill=IGNORE_ID)[0]


def _check_pair(image: Tensor, label: Tensor) -> None:
    if image.ndim != 4 or label.ndim != 3 or (len(image), *image.shape[2:]) != tuple(label.shape):
        raise ValueError(
            f"received an image of shape {tuple(image.shape)} and a label of shape {tuple(label.shape)}; "
            "required are B3HW and BHW with equal B, H and W"
        )
