"""The fixed VGG-19 whose features perceptual losses compare, and the comparison itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.common.storage.downloads import load_published
from scenepalette.generators.images.base import FeatureNetwork

# conv1_2, conv2_2, conv3_2, conv4_2 and conv5_2 with their ReLUs (Chen and Koltun, 2017, Eq. 1): positions in
# torchvision's `features`.
VGG_LAYERS = (3, 8, 13, 22, 31)
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class Vgg19Features(FeatureNetwork):
    """ImageNet's VGG-19 up to its fifth block (Simonyan and Zisserman, 2015), as torchvision publishes it."""

    description = "VGG-19 trained on ImageNet"
    mean: Tensor
    deviation: Tensor

    def __init__(self, layers: Sequence[int] = VGG_LAYERS) -> None:
        """Create the network with random weights.

        Args:
            layers: Ascending positions, in torchvision's `features`, of the layers whose outputs are returned.
        """
        from torchvision.models import vgg19

        super().__init__()
        self.layers = tuple(layers)
        self.features = cast(nn.Sequential, vgg19(weights=None).features)[: layers[-1] + 1]
        # Activations are needed again in the backward pass of the layer before.
        for module in self.features:
            if isinstance(module, nn.ReLU):
                module.inplace = False
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map B3HW in [-1, 1] to one feature map per layer."""
        x = ((image + 1) / 2 - self.mean) / self.deviation
        maps = []
        for position, module in enumerate(self.features):
            x = module(x)
            if position in self.layers:
                maps.append(x)
        return maps


def load_vgg19(path: Path | None = None, layers: Sequence[int] = VGG_LAYERS) -> Vgg19Features:
    """Load VGG-19 from a file, torch.hub's folder or the network.

    Args:
        path: torchvision's weights file, or None to find or download it.
        layers: See `Vgg19Features`.

    Raises:
        AbsentError: The weights cannot be downloaded or loaded.
    """
    from torchvision.models import VGG19_Weights

    def build(file: Path) -> Vgg19Features:
        network = Vgg19Features(layers)
        state = torch.load(file, map_location="cpu", weights_only=True)
        network.load_state_dict({key: state[key] for key in network.state_dict()})
        return network.eval().requires_grad_(False)

    return load_published("VGG-19", VGG19_Weights.IMAGENET1K_V1.url, build, path)


def feature_distances(generated: list[Tensor], real: list[Tensor], weight: Tensor | None = None) -> list[Tensor]:
    """Return the mean absolute difference of features, per layer and sample.

    Args:
        generated: Feature maps BCHW.
        real: Feature maps of the same shapes; no gradient reaches them.
        weight: Weight of each pixel, B1HW at any size, averaged down to each layer's; None for 1.

    Returns:
        One [B] per layer.
    """
    distances = []
    for a, b in zip(generated, real, strict=True):
        difference = (a - b.detach()).abs().mean(dim=1, keepdim=True)
        if weight is not None:
            difference = difference * F.adaptive_avg_pool2d(weight, (difference.shape[2], difference.shape[3]))
        distances.append(difference.mean(dim=(1, 2, 3)))
    return distances
