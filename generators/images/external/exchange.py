"""What painters elsewhere are given and give back: label maps with seeds, and images of the same names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from scenepalette.common.errors import DataError
from scenepalette.data.arrays import images_from_uint8
from scenepalette.data.classes import ClassTable
from scenepalette.data.decoding.image_opening import open_image_content, shown_format
from scenepalette.data.exports.exchange import check_size, read_given
from scenepalette.generators.images.base import ImageGenerator
from scenepalette.generators.images.noise import NoiseScheme

_FORMATS = ("PNG", "JPEG", "MPO")
_MODES = ("RGB", "RGBA", "L", "LA", "P")
_SEEDS = 2**32
"""Seeds are below it: what NumPy's older generators take at most."""


class PaintedElsewhere(ImageGenerator):
    """A generator without weights, whose images are made outside this process; its noise is a seed for each image."""

    noise_schemes: tuple[NoiseScheme, ...] = ("image",)

    def __init__(self, table: ClassTable, size: tuple[int, int]) -> None:
        """Paint layouts of the classes of a table at a height and width."""
        super().__init__()
        self.table, self.size, self.num_classes = table, size, len(table)

    def sample_noise(self, scheme: NoiseScheme | None, label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw a seed for each layout, int64 [B], 0 to 2^32 - 1."""
        self.choose_scheme(scheme)
        seeds = [torch.randint(_SEEDS, (), generator=generator) for generator in generators]
        return torch.stack(seeds).to(label.device)

    def forward(self, label_map: Tensor, noise: Tensor) -> Tensor:
        """Have the layouts painted."""
        labels = label_map.argmax(dim=1).byte().cpu().numpy()
        return images_from_uint8(self.paint(labels, noise.tolist())).to(label_map.device)

    @abstractmethod
    def paint(self, labels: np.ndarray, seeds: list[int]) -> np.ndarray:
        """Return images of label maps.

        Args:
            labels: uint8 [B, H, W], class ids.
            seeds: B seeds.

        Returns:
            uint8 [B, H, W, 3].

        Raises:
            ScenepaletteError: They cannot be had, or are not as they have to be.
        """


def decoded_images(contents: Mapping[str, bytes], names: Sequence[str], size: tuple[int, int], who: str) -> np.ndarray:
    """Decode the images of a batch.

    Args:
        contents: Bytes of each file by its name.
        names: Names that were asked for, without extension, in the order of the result.
        size: Height and width that every image must have.
        who: What made them, for messages.

    Returns:
        uint8 [B, H, W, 3].

    Raises:
        DataError: Images are missing, there for nothing, no images, or of another size; all problems at once.
    """

    def read(content: bytes) -> np.ndarray:
        with open_image_content(content) as image:
            if image.format not in _FORMATS or image.mode not in _MODES:
                found = f"{shown_format(image.format)} of mode {image.mode}"
                raise DataError(f"it is {found}; give PNG or JPEG with 8 bits per channel")
            check_size(image, size, "label")
            image.info.pop("transparency", None)
            return np.asarray(image.convert("RGB"))

    refusal = (
        f"The images of {who} cannot be used; an image of the same name and size is required for each label, and "
        "nothing else. Correct it, and rerun the same command; what is finished stays."
    )
    return read_given(contents, names, read, refusal)
