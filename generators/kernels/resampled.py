"""3x3 convolutions next to a doubling or an average of 2x2 pixels, with 16 multiplications in place of 36.

Both are one convolution by 4x4 kernels with stride 2: an average of four neighbouring results is what the average of
the kernel, moved by a pixel each way, gives, and four repeated pixels meet sums of its weights. The results are equal
up to rounding, and the features of the larger size need not be written down.

Shapes: B batch, C features in, O features out, H x W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Row i says which of three neighbouring weights are added up to the i-th of the four that they become behind a
# doubling. Its device is named: networks are also built, and modules then imported, where the default one is meta.
_ROW_SUMS = torch.tensor([[0.0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], device="cpu")


def convolve_and_pool(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve BCHW by OC33 with zeros outside and average 2x2 pixels: BO(H/2)(W/2)."""
    return F.conv2d(x, F.avg_pool2d(weight, 2, stride=1, padding=1), bias, stride=2, padding=1)


def upsample_and_convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Repeat the pixels of BCHW 2x2 times and convolve by OC33 with zeros outside: BO(2H)(2W)."""
    out_channels, in_channels = weight.shape[:2]
    sums = torch.kron(_ROW_SUMS, _ROW_SUMS).to(weight.dtype)
    # A product of the weights as they lie in memory takes a fifteenth of the time of pooling them; its sums are those
    # of the weights themselves, not of rounded ones.
    with torch.autocast("cpu", enabled=False):
        summed = torch.matmul(sums, weight.permute(0, 2, 3, 1).reshape(out_channels, 9, in_channels))
    kernels = summed.view(out_channels, 4, 4, in_channels).permute(3, 0, 1, 2)
    return F.conv_transpose2d(x, kernels, bias, stride=2, padding=1)
