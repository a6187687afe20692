"""Decoded, resized data as .npy files that are memory-mapped, so that training reads pixels and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from PIL import Image

from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.processors import map_in_order
from scenepalette.common.storage.files import open_atomically, read_json, write_json
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.sample import Sample, SegmentationDataset
from scenepalette.data.sequences import sources_of

INDEX_SCHEMA = 1


class OwnLabels(Protocol):
    """Labels in the size of their files, see `scenepalette.data.fitting.native`.

    Attributes:
        image_ids: Ids of the N images that the rows of pairs are, or are tiles of.
        images: int64 [rows], the image of each row, 0 .. N-1.
    """

    image_ids: list[str]
    images: np.ndarray

    def __getitem__(self, row: int, /) -> np.ndarray:
        """Return the label of a row, uint8 [H, W]."""
        ...


class PairSource(Protocol):
    """Pairs of any origin: arrays, shards, or some of them."""

    @property
    def table(self) -> ClassTable:
        """Classes of the labels."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """Ids of the pairs, in order."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images B3HW float32 in [-1, 1] and labels BHW int64."""
        ...


@dataclass(frozen=True)
class Pairs:
    """Images and label maps of one size, in memory or memory-mapped.

    Attributes:
        images: uint8 [N, H, W, 3].
        labels: uint8 [N, H, W], ids 0..K-1 or IGNORE_ID.
        ids: N sample ids.
        table: The classes.
        name: Name of the data set.
        licence: Terms of its publication.
        label_origins: How the labels came about, by part of the data set, where parts differ.
        native: The labels in their own size, by which pairs of an evaluated split are measured; None for `labels`.

    Raises:
        DataError: The shapes or types do not fit together.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: list[str]
    table: ClassTable
    name: str
    licence: str
    label_origins: Mapping[str, str] = field(default_factory=dict)
    native: OwnLabels | None = None

    def __post_init__(self) -> None:
        count = len(self.ids)
        labels_fit = self.labels.ndim == 3 and self.labels.shape[0] == count
        images_fit = self.images.ndim == 4 and self.images.shape == (*self.labels.shape, 3)
        if not (labels_fit and images_fit and self.images.dtype == self.labels.dtype == np.uint8):
            raise DataError(
                f"The pairs of '{self.name}' do not fit together: images {self.images.dtype} {self.images.shape}, "
                f"labels {self.labels.dtype} {self.labels.shape}, {count} ids; required are uint8 [N, H, W, 3], uint8 "
                "[N, H, W] and N ids. Write the arrays again."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.labels.shape[1], self.labels.shape[2]

    @property
    def image_ids(self) -> list[str]:
        """Ids of the images that evaluations count: those of the pairs, unless these are tiles."""
        return sources_of(self.ids)[0]

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pairs as tensors on the CPU.

        Args:
            indices: B indices, in any order, repeated ones included.

        Returns:
            Images float32 [B, 3, H, W] in [-1, 1] and labels int64 [B, H, W].
        """
        chosen = np.asarray(indices, dtype=np.int64)
        return images_from_uint8(self.images[chosen]), torch.from_numpy(self.labels[chosen].astype(np.int64))


class LostLabelsError(DataError):
    """Labels that have no labelled pixel left at the size of work; `problems` has one text each."""


def lost_label(sample_id: str, size: tuple[int, int]) -> str:
    """Say that a sample's label has no labelled pixel left at a size, and what to do."""
    return (
        f"The label of '{sample_id}' has no labelled pixel left at {size[0]} x {size[1]} pixels. Remove the pair, or "
        "choose a larger size."
    )


def write_arrays(
    dataset: SegmentationDataset,
    size: tuple[int, int],
    folder: Path,
    advance: Callable[[], object] = lambda: None,
    *,
    keep_lost: bool = False,
) -> None:
    """Decode and resize a whole data set: images-SPLIT.npy, labels-SPLIT.npy, and SPLIT.json, which is written last.

    Images are resized bilinearly with antialiasing, labels to the nearest pixel, both straight to `size`: where the
    aspect ratio differs the scene is stretched, nothing is cropped or padded. Memory stays bounded whatever the number
    of samples; the files take N * H * W * 4 bytes.

    Args:
        dataset: An open data set.
        size: Height and width in pixels.
        folder: Where to write; created if needed.
        advance: Called after each sample.
        keep_lost: Whether labels may lose all labelled pixels, as those of tiles may that are evaluated in their own
            size.

    Raises:
        LostLabelsError: Labels lose all labelled pixels and may not; every one is listed.
        DataError: A sample can no longer be read.
        ScenepaletteError: The folder cannot be written; in either case no half-written file is left.
    """
    height, width = size
    if min(size) < 1:
        raise DataError(f"Arrays of {height} x {width} pixels were asked for; height and width must be 1 or more.")
    total = len(dataset)

    def load(index: int) -> Sample:
        return resize_sample(dataset[index], size)

    lost: list[str] = []
    # Taken before reading: if a file changes meanwhile, the arrays count as out of date.
    fingerprint, content = dataset.fingerprint, dataset.content
    # Without its index a split is unfinished, so an old index must not outlive the arrays it describes.
    _index_path(folder, dataset.split).unlink(missing_ok=True)
    images_path, labels_path = _images_path(folder, dataset.split), _labels_path(folder, dataset.split)
    with open_atomically(images_path) as images, open_atomically(labels_path) as labels:
        write_header(images, (total, height, width, 3))
        write_header(labels, (total, height, width))
        for sample in map_in_order(load, range(total)):
            if not keep_lost and (sample.label == IGNORE_ID).all():
                lost.append(lost_label(sample.id, size))
            images.write(sample.image.tobytes())
            labels.write(sample.label.tobytes())
            advance()
        if lost:  # before the files get their names
            raise LostLabelsError(
                lost[0] if len(lost) == 1 else f"{len(lost)} labels are too fine for {size[0]} x {size[1]}:", lost
            )
    write_json(
        _index_path(folder, dataset.split),
        {
            "schema": INDEX_SCHEMA,
            "name": dataset.name,
            "split": dataset.split,
            "size": [height, width],
            "licence": dataset.licence,
            "label_origins": dict(dataset.label_origins),
            "fingerprint": fingerprint,
            "content": content,
            "table": dataset.table.to_dict(),
            "ids": list(dataset.ids),
        },
    )


def write_label_array(path: Path, labels: Iterable[np.ndarray], shape: tuple[int, int, int]) -> None:
    """Write label maps one by one as a .npy file, so that memory does not grow with their number.

    Args:
        path: The file.
        labels: N times uint8 [H, W].
        shape: N, H, W.

    Raises:
        ScenepaletteError: The file cannot be written; no half-written one is left.
    """
    with open_atomically(path) as file:
        write_header(file, shape)
        for label in labels:
            file.write(label.tobytes())


def read_arrays(folder: Path, split: str) -> Pairs:
    """Open what `write_arrays` wrote, memory-mapped and read-only.

    Args:
        folder: The folder given to `write_arrays`.
        split: "train", "val" or "test".

    Returns:
        The pairs; nothing is read before it is asked for.

    Raises:
        DataError: The arrays are missing, unfinished, or not as their index describes them.
    """
    path = _index_path(folder, split)
    index = read_index(path, {"ids": list, "table": dict, "name": str, "licence": str, "size": list})
    images, labels = open_array(_images_path(folder, split)), open_array(_labels_path(folder, split))
    try:
        pairs = Pairs(
            images=images,
            labels=labels,
            ids=list(index["ids"]),
            table=ClassTable.from_dict(index["table"]),
            name=index["name"],
            licence=index["licence"],
            # Arrays of earlier versions do not state it; theirs were all of one kind.
            label_origins=index.get("label_origins", {}),
        )
    except DataError as error:
        names = ", ".join(each.name for each in (_images_path(folder, split), _labels_path(folder, split), path))
        raise DataError(f"{folder} is damaged, in {names}: {error}") from error
    if list(pairs.size) != index["size"]:
        raise DataError(f"{path} states the size {index['size']}, but the arrays have {pairs.size}. Write them again.")
    return pairs


def content_of(folder: Path, split: str) -> str:
    """Return the content hash of the data set that `write_arrays` wrote a split of; raises as `read_index`."""
    return read_content(_index_path(folder, split))


def read_index(path: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Return the index of arrays, which is written last.

    Args:
        path: The file.
        kinds: The type of each value that it must have.

    Raises:
        DataError: It is missing, as that of unfinished arrays, of another schema, or lacks a value.
    """
    if not path.is_file():
        raise DataError(f"{path.parent} holds no finished arrays ({path.name} is missing). Write them.")
    index = read_json(path)
    stated = index.get("schema") if isinstance(index, dict) else None
    if stated != INDEX_SCHEMA:
        raise DataError(f"{path} has schema {stated}; schema {INDEX_SCHEMA} is required. Write the arrays again.")
    if wrong := sorted(key for key, kind in kinds.items() if not isinstance(index.get(key), kind)):
        raise DataError(f"{path} lacks {', '.join(wrong)}, or has something else there. Write the arrays again.")
    return index


def read_content(index: Path) -> str:
    """Return the content hash in an index of arrays, of what they were made from; raises as `read_index`."""
    return read_index(index, {"content": str})["content"]


def open_array(
    path: Path, remedy: str = "Remove its folder and rerun the same command to write it again."
) -> np.ndarray:
    """Open a .npy file memory-mapped and read-only.

    Args:
        path: The file.
        remedy: What to do if it cannot be read, for the message.

    Raises:
        DataError: It is missing or damaged.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        # NumPy's reading of damaged headers raises errors of many types, among them Python's own on its syntax.
        raise DataError(f"{path} cannot be read ({error}). {remedy}") from error


def resize_sample(sample: Sample, size: tuple[int, int]) -> Sample:
    """Resize a sample, images bilinearly with antialiasing and labels to the nearest pixel.

    Args:
        sample: A sample of any size.
        size: Height and width in pixels; a different aspect ratio stretches the scene.

    Returns:
        The sample in that size; the same one if it has it already.
    """
    if sample.label.shape == tuple(size):
        return sample
    return Sample(id=sample.id, image=resize_image(sample.image, size), label=resize_label(sample.label, size))


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a label map to the nearest pixel.

    Args:
        label: Integers [H, W].
        size: Height and width in pixels; a different aspect ratio stretches the scene.

    Returns:
        The label map in that size; the same array if it has it already.
    """
    if label.shape == tuple(size):
        return label
    # In integers, because libraries round differently where a centre falls between two pixels.
    rows, columns = (_nearest(before, after) for before, after in zip(label.shape, size, strict=True))
    return label[np.ix_(rows, columns)]


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image bilinearly with antialiasing.

    Args:
        image: uint8 [H, W, 3].
        size: Height and width in pixels; a different aspect ratio stretches the scene.

    Returns:
        uint8 of that size; the same array if it has it already.
    """
    if image.shape[:2] == tuple(size):
        return image
    # Pillow's bilinear filter widens with the reduction, which is what antialiases.
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def images_from_uint8(images: np.ndarray) -> torch.Tensor:
    """Turn images uint8 [B, H, W, 3] into image tensors float32 [B, 3, H, W] in [-1, 1] on the CPU."""
    return scaled(torch.from_numpy(np.asarray(images)))


def scaled(images: torch.Tensor) -> torch.Tensor:
    """Turn images uint8 [B, H, W, 3] into image tensors float32 [B, 3, H, W] in [-1, 1] on the same device."""
    return images.permute(0, 3, 1, 2).contiguous().float().div_(127.5).sub_(1.0)


def images_to_uint8(images: torch.Tensor) -> np.ndarray:
    """Turn image tensors into images, rounding to the nearest value and clipping.

    Args:
        images: Float [B, 3, H, W] in [-1, 1], on any device.

    Returns:
        uint8 [B, H, W, 3].

    Raises:
        ScenepaletteError: A value is not finite, which no image can show.
    """
    values = images.detach().float()
    if not torch.isfinite(values).all():
        raise ScenepaletteError(
            "Images hold values that are not finite. Their generator's weights or inputs are broken; use an earlier "
            "checkpoint, or 32-bit precision."
        )
    pixels = values.add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _nearest(before: int, after: int) -> np.ndarray:
    """Return, for `after` pixels that share the length of `before`, the old pixel under each new one's centre."""
    return (2 * np.arange(after) + 1) * before // (2 * after)


def write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Write the header of a .npy file of uint8 values, whose bytes in C order follow."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _images_path(folder: Path, split: str) -> Path:
    return Path(folder) / f"images-{split}.npy"


def _labels_path(folder: Path, split: str) -> Path:
    return Path(folder) / f"labels-{split}.npy"


def _index_path(folder: Path, split: str) -> Path:
    return Path(folder) / f"{split}.json"
