"""Mixing labelled images: classes of one image are pasted at the same place of another, pixels and labels together.

Both take the pasted pixels from another image of the batch, so that no further image is seen, and both leave an image
whole with a probability. Numbers come from the `torch.Generator` that is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.device.transfer import to_device


def copy_paste(
    image: Tensor, label: Tensor, classes: Sequence[int], probability: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Paste all pixels of some classes from another image of the batch (after Ghiasi et al., 2021).

    For semantic segmentation, segments are all pixels of a class. They stay at their place, where scenes of one camera
    have them, and edges are not blended, which Ghiasi et al. found to make no difference.

    Args:
        image: B3HW.
        label: BHW class ids.
        classes: Ids of the classes that are pasted.
        probability: Of pasting into an image, 0 to 1.
        generator: CPU generator.

    Returns:
        New tensors of the same shapes; a batch of one image is left as it is.
    """
    chosen = torch.zeros(len(image), IGNORE_ID + 1, dtype=torch.bool)
    chosen[:, list(classes)] = True
    return _paste(image, label, chosen, probability, generator)


def class_mix(image: Tensor, label: Tensor, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste half of the classes, rounded up, of another image of the batch (Olsson et al., 2021, section 3.1).

    They mix images without labels by predicted ones; here labels are known.

    Args:
        image: B3HW.
        label: BHW class ids; ignored pixels are of no class, and are never pasted.
        probability: Of pasting into an image, 0 to 1.
        generator: CPU generator.

    Returns:
        New tensors of the same shapes; a batch of one image is left as it is.
    """
    present = torch.zeros(len(label), IGNORE_ID + 1, dtype=torch.bool, device=label.device)
    present.scatter_(1, label.flatten(1), True)
    present[:, IGNORE_ID] = False
    # Classes in random order, those that an image has first; the first half of these is taken.
    draws = to_device(torch.rand(present.shape, generator=generator), label.device)
    order = draws.masked_fill(~present, 2.0).argsort(dim=1)
    half = (present.sum(dim=1, keepdim=True) + 1) // 2
    taken = torch.arange(present.shape[1], device=label.device) < half
    chosen = torch.zeros_like(present).scatter_(1, order, taken)
    return _paste(image, label, chosen, probability, generator)


def _paste(
    image: Tensor, label: Tensor, chosen: Tensor, probability: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Paste into each image what the next one has of its chosen classes.

    Args:
        image: B3HW.
        label: BHW.
        chosen: bool B x 256, on any device, for each image which of its classes may be pasted into another.
        probability: Of pasting into an image.
        generator: Decides which image is the next one, and which images are pasted into.
    """
    count = len(image)
    draws = torch.rand(count + 1, generator=generator)
    if count == 1:
        return image.clone(), label.clone()
    # Another image for each: the batch turned by at least one place.
    turn = 1 + int(draws[count] * (count - 1))
    source = (torch.arange(count) + turn) % count
    source = to_device(source, label.device)
    allowed = to_device(chosen, label.device)[source] & to_device(draws[:count] < probability, label.device)[:, None]
    source_label = label[source]
    pasted = allowed.gather(1, source_label.flatten(1)).view_as(label)
    return (torch.where(pasted[:, None], image[source], image), torch.where(pasted, source_label, label))
