"""OASIS: layout to image with a segmentation discriminator (oasis.txt, section 3 and appendix C).

Shapes: B batch, K classes, Z noise channels, H x W pixels, w base width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from generators.blocks import SLOPE, SpadeResidualBlock


class OasisGenerator(nn.Module):
    """Generator of Table M: a label map and 3D noise, at the input and in every normalisation, to an image.

    With width 64 and 5 doublings its blocks have 1024, 1024, 512, 256, 128 and 64 channels. At 12 classes it has
    70.5 M parameters, at 151 classes 74 M (the paper: 72 M and 2 M for the noise).
    """

    def __init__(
        self,
        num_classes: int,
        base: tuple[int, int],
        doublings: int,
        width: int = 64,
        noise_channels: int = 64,
        hidden_channels: int = 128,
    ) -> None:
        """Create the network.

        Args:
            num_classes: K.
            base: Height and width of the base grid, pixels.
            doublings: How often the base grid is doubled; the network has one block more.
            width: Channels of the last block; the first have 16 times as many.
            noise_channels: Z.
            hidden_channels: Width inside each modulation.
        """
        super().__init__()
        self.num_classes, self.base, self.noise_channels = num_classes, base, noise_channels
        condition = num_classes + noise_channels
        outputs = [width * min(16, 2 ** (doublings - i)) for i in range(doublings + 1)]
        inputs = [16 * width if doublings >= 4 else outputs[0], *outputs[:-1]]
        self.from_condition = nn.Conv2d(condition, inputs[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            SpadeResidualBlock(a, b, condition, hidden_channels) for a, b in zip(inputs, outputs, strict=True)
        )
        self.to_image = nn.Conv2d(outputs[-1], 3, 3, padding=1)

    def forward(self, label_map: Tensor, noise: Tensor) -> Tensor:
        """Generate images.

        Args:
            label_map: BKHW one-hot (or soft).
            noise: BZHW.

        Returns:
            B3HW in [-1, 1].
        """
        condition = torch.cat([noise, label_map], dim=1)
        x = self.from_condition(F.interpolate(condition, size=self.base, mode="nearest"))
        for i, block in enumerate(self.blocks):
            if i:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x, F.interpolate(condition, size=x.shape[2:], mode="nearest"))
        return torch.tanh(self.to_image(F.leaky_relu(x, SLOPE)))


class _DiscriminatorBlock(nn.Module):
    """Residual block with spectral norm, going down (average pool) or up (nearest)."""

    def __init__(self, in_channels: int, out_channels: int, direction: str, first: bool = False) -> None:
        super().__init__()
        self.direction, self.first = direction, first
        self.conv_0 = spectral_norm(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.conv_1 = spectral_norm(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = spectral_norm(nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.direction == "up":
            # The 1x1 shortcut commutes with repeating pixels and costs a quarter before it.
            skip = F.interpolate(self.shortcut(x), scale_factor=2, mode="nearest")
            x = self.conv_0(F.interpolate(F.leaky_relu(x, SLOPE), scale_factor=2, mode="nearest"))
            return self.conv_1(F.leaky_relu(x, SLOPE)) + skip
        # The same holds for average pooling.
        skip = self.shortcut(F.avg_pool2d(x, 2))
        x = self.conv_0(x if self.first else F.leaky_relu(x, SLOPE))
        return F.avg_pool2d(self.conv_1(F.leaky_relu(x, SLOPE)), 2) + skip


class OasisDiscriminator(nn.Module):
    """U-Net discriminator of Table L: an image to logits of K real classes and one fake class at each pixel.

    With width 128 and 6 levels it has 22 M parameters. Sizes that cannot be halved 6 times get as many levels as
    they can.
    """

    def __init__(self, num_classes: int, size: tuple[int, int], width: int = 128) -> None:
        """Create the network.

        Args:
            num_classes: K.
            size: Height and width of the images, pixels.
            width: Channels of the first two levels; the deepest have 4 times as many.
        """
        super().__init__()
        levels = 0
        while levels < 6 and all(side % 2 ** (levels + 1) == 0 for side in size):
            levels += 1
        down = [width, width, 2 * width, 2 * width, 4 * width, 4 * width][:levels]
        up = [width // 2, width, width, 2 * width, 2 * width, 4 * width][:levels][::-1]
        self.down = nn.ModuleList(
            _DiscriminatorBlock(a, b, "down", first=i == 0)
            for i, (a, b) in enumerate(zip([3, *down[:-1]], down, strict=True))
        )
        skips = [0, *down[:-1][::-1]]
        self.up = nn.ModuleList(
            _DiscriminatorBlock(a + skip, b, "up") for a, skip, b in zip([down[-1], *up[:-1]], skips, up, strict=True)
        )
        self.to_logits = nn.Conv2d(up[-1], num_classes + 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits B(K+1)HW for an image B3HW; the last class is `fake`."""
        x, skips = image, []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(x)
            if skips:
                x = torch.cat([x, skips.pop()], dim=1)
        return self.to_logits(x)
