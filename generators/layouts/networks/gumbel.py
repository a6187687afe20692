"""One class a pixel from a soft layout, in a way that gradients pass: Gumbel-softmax and straight-through.

Shapes: B batch, K classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# No class of a smaller share is ever drawn: Gumbel noise in float32 makes up for a factor of e^22 at most.
SMALLEST_SHARE = 1e-30


def straight_through(soft: Tensor) -> Tensor:
    """Return the one-hot layout of the largest shares, with the gradient of the shares themselves.

    Bengio et al., 2013; Azadi et al., 2019, section 3.1.

    Args:
        soft: BKHW.
    """
    hard = torch.zeros_like(soft).scatter_(1, soft.argmax(dim=1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())  # the bracket is exactly 0


def sample_gumbel(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Draw standard Gumbel noise, each sample from its own source, so that it does not depend on its batch.

    Args:
        shape: Of one sample, KHW.
        generators: One CPU generator per sample.

    Returns:
        float32 BKHW on the CPU, finite.
    """
    uniform = torch.stack([torch.rand(*shape, generator=generator) for generator in generators])
    return -(-uniform.clamp_(min=torch.finfo(torch.float32).tiny).log()).log()


def gumbel_softmax(soft: Tensor, gumbel: Tensor, temperature: float = 1.0) -> Tensor:
    """Draw a class at each pixel (Azadi et al., 2019, Eq. 1): forward arg max_k S_k, backward as S.

    Args:
        soft: P, BKHW, summing to 1 over classes; a class of share 0 is never drawn.
        gumbel: G, BKHW, standard Gumbel noise.
        temperature: Tau; 1 in the paper.

    Returns:
        One-hot BKHW.
    """
    return straight_through(torch.softmax((soft.clamp(min=SMALLEST_SHARE).log() + gumbel) / temperature, dim=1))
