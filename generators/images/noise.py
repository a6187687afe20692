"""3D noise of OASIS: one vector for the image, a region or a pixel (Schönfeld et al., 2021, App. A.7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from scenepalette.data.device.transfer import to_device

NoiseScheme = Literal["image", "region", "pixel", "mix"]


def sample_noise(scheme: NoiseScheme, label: Tensor, channels: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw 3D noise for each label map.

    Args:
        scheme: "image": one vector for all pixels; "region": one vector per class; "pixel": one vector per pixel;
            "mix": image or region by a fair coin per sample (Table I).
        label: BHW class ids; only "region" and "mix" look at them.
        channels: Z, 64 in the paper.
        generators: One CPU generator per sample, so that a sample's noise does not depend on its batch.

    Returns:
        float32 BZHW on the label's device; an expanded view for "image".
    """
    assert len(generators) == len(label)
    height, width = label.shape[1:]
    if scheme == "image":
        vectors = torch.stack([torch.randn(channels, generator=generator) for generator in generators])
        return to_device(vectors, label.device)[:, :, None, None].expand(-1, -1, height, width)
    samples = []
    for ids, generator in zip(label, generators, strict=True):
        kind = scheme
        if scheme == "mix":
            kind = "image" if torch.rand((), generator=generator) < 0.5 else "region"
        if kind == "pixel":
            samples.append(to_device(torch.randn(channels, height, width, generator=generator), label.device))
        elif kind == "image":
            vector = to_device(torch.randn(channels, generator=generator), label.device)
            samples.append(vector[:, None, None].expand(channels, height, width))
        else:
            # A table for all 256 ids, so that a class's vector does not depend on which others occur.
            table = to_device(torch.randn(256, channels, generator=generator), label.device)
            samples.append(table[ids].permute(2, 0, 1))
    return torch.stack(samples)
