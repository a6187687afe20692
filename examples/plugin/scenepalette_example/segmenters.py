"""A segmenter with an encoder of its own."""

import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.data.classes import ClassTable
from scenepalette.segmenters.registry import Segmenter
from scenepalette.segmenters.settings import SegmenterSettings


class Encoder(nn.Module):
    """Images B3HW to feature maps, from fine to coarse: what distances between images compare."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.quarter = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> list[Tensor]:
        half = F.relu(self.halve(image))
        return [half, F.relu(self.quarter(half))]


class TwoScales(nn.Module):
    """Convolutions at 1/2 and 1/4; scores from the coarser map, enlarged."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.encoder = Encoder(width)
        self.classifier = nn.Conv2d(2 * width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        scores = self.classifier(self.encoder(image)[-1])
        return F.interpolate(scores, image.shape[2:], mode="bilinear")


def build(table: ClassTable, settings: SegmenterSettings) -> TwoScales:
    """Return the network for the classes of a data set."""
    return TwoScales(len(table), width=settings.decoder_channels)


TWO_SCALES = Segmenter("two-scales", "two convolutions, for tests", build, takes_encoder=False)
