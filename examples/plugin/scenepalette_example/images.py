"""An image system that comes trained: it paints each class in its mean real color, with noise per pixel."""

from collections.abc import Sequence

import torch
from torch import Tensor

from scenepalette.data.classes import ClassTable
from scenepalette.generators.images.base import BatchSource, ImageGenerator, ImageSettings, ImageSystem
from scenepalette.generators.images.noise import NoiseScheme, sample_noise


class MeanColors(ImageGenerator):
    """Colors [K, 3] in [-1, 1]: those of the class table, until the generator has seen real images."""

    noise_schemes: tuple[NoiseScheme, ...] = ("pixel", "image")

    def __init__(self, table: ClassTable, size: tuple[int, int], settings: ImageSettings) -> None:
        super().__init__()
        self.num_classes = len(table)
        self.register_buffer("colors", torch.tensor([entry.color for entry in table.classes]) / 127.5 - 1)

    def sample_noise(self, scheme: NoiseScheme | None, label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        return 0.1 * sample_noise(self.choose_scheme(scheme) or "pixel", label, 3, generators)

    def forward(self, label_map: Tensor, noise: Tensor) -> Tensor:
        return (torch.einsum("bkhw,kc->bchw", label_map, self.colors) + noise).clamp(-1, 1)

    def finish(self, source: BatchSource) -> None:
        images, labels = source.pairs.batch(range(len(source.pairs)))
        for k in labels.unique().tolist():
            if k < self.num_classes:  # not the pixels without a class
                self.colors[k] = images.movedim(1, 3)[labels == k].mean(dim=0)


MEAN_COLORS = ImageSystem(
    "mean-colors", "the mean color of each class", ImageSettings, MeanColors, build_objective=None
)
