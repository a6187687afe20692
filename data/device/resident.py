"""Pairs on the device that trains on them, as the bytes that they are on disk.

A GPU gathers a batch of resident pairs, and makes numbers of bytes, in microseconds, where the CPU reads, converts and
sends four times as many bytes. On a CPU nothing is gained, and pairs stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scenepalette.common.processors import map_in_order
from scenepalette.data.arrays import Pairs, PairSource, images_to_uint8, scaled
from scenepalette.data.device.transfer import to_device

SHARE = 0.25
"""Of a GPU's free memory, what all pairs of a training may take at most; networks need the rest."""
READ_AT_ONCE = 32


class ResidentPairs:
    """All pairs of a source on one device, 4 bytes a pixel; batches equal the source's.

    Attributes:
        table: Classes of the labels.
        size: Height and width in pixels.
    """

    def __init__(self, pairs: PairSource, device: torch.device) -> None:
        """Read all pairs once and put them on the device."""
        self._pairs = pairs
        self.table, self.size, self._device = pairs.table, pairs.size, device
        self._images = torch.empty(len(pairs), *self.size, 3, dtype=torch.uint8, device=device)
        self._labels = torch.empty(len(pairs), *self.size, dtype=torch.uint8, device=device)
        starts = range(0, len(pairs), READ_AT_ONCE)
        for first, (images, labels) in zip(starts, map_in_order(self._read, starts), strict=True):
            self._images[first : first + len(images)] = torch.from_numpy(images).to(device)
            self._labels[first : first + len(labels)] = labels.to(device)

    def _read(self, first: int) -> tuple[np.ndarray, Tensor]:
        images, labels = self._pairs.batch(range(first, min(first + READ_AT_ONCE, len(self))))
        return images_to_uint8(images), labels.to(torch.uint8)

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all pairs, in order."""
        return self._pairs.ids

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """Return images B3HW float32 in [-1, 1] and labels BHW int64, on the device."""
        chosen = to_device(torch.from_numpy(np.asarray(indices, dtype=np.int64)), self._device)
        return scaled(self._images[chosen]), self._labels[chosen].long()


class PlacedLabels:
    """Label maps without ignored pixels, whose batches are wanted on a device.

    Attributes:
        checked: Whether they were found to hold class ids alone; on a CPU each batch is looked at when it is used.
    """

    def __init__(self, labels: np.ndarray, num_classes: int, device: torch.device, resident: bool = False) -> None:
        """Take label maps uint8 [N, H, W]; `resident` ones are put on the device, if they fit."""
        self._labels, self._device = labels, device
        self._there = None
        if resident and fits(labels.size, device):
            self._there = torch.from_numpy(np.array(labels)).to(device)
        self.checked = resident and (len(labels) == 0 or max(int(label.max()) for label in labels) < num_classes)

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """Return label maps BHW int64 on the device."""
        chosen = np.asarray(indices, dtype=np.int64)
        if self._there is None:
            return to_device(torch.from_numpy(self._labels[chosen]), self._device).long()
        return self._there[to_device(torch.from_numpy(chosen), self._device)].long()


class TrainingSamples:
    """Images, label maps and filled label maps of a training, whose batches are wanted on a device.

    Attributes:
        checked: As of `PlacedLabels`, of the filled label maps.
    """

    def __init__(self, pairs: Pairs, filled_labels: np.ndarray, device: torch.device, resident: bool = False) -> None:
        """Take pairs and their label maps uint8 [N, H, W] with ignored pixels filled; `resident` as above."""
        self._device = device
        self._pairs: PairSource = place(pairs, device) if resident else pairs
        self._filled = PlacedLabels(filled_labels, pairs.table.num_classes, device, resident)
        self.checked = self._filled.checked

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Return images B3HW in [-1, 1], labels BHW and filled labels BHW, int64, on the device."""
        image, label = (to_device(value, self._device) for value in self._pairs.batch(indices))
        return image, label, self._filled.batch(indices)


def place(pairs: PairSource, device: torch.device) -> PairSource:
    """Return pairs on a device if they fit there, else as they are."""
    return ResidentPairs(pairs, device) if fits(resident_bytes(pairs), device) else pairs


def resident_bytes(pairs: PairSource) -> int:
    """Return the bytes that pairs take on a device."""
    return 4 * len(pairs) * pairs.size[0] * pairs.size[1]


def fits(count: int, device: torch.device) -> bool:
    """Tell whether so many bytes of samples fit on a device beside what trains on them."""
    return device.type != "cuda" or count <= SHARE * torch.cuda.mem_get_info(device)[0]
