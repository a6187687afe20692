"""Checks of sizes: at which everything works, and what becomes of the images' parts where they are not stretched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.common.wording import counted
from scenepalette.data.arrays import lost_label, resize_label
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.datasets import Split
from scenepalette.data.fitting.dataset import fit_dataset
from scenepalette.data.fitting.geometry import crop_box, tiles_of
from scenepalette.data.sample import SegmentationDataset
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.doctor.findings import Check, Status
from scenepalette.pipeline.doctor.scan import Scan
from scenepalette.pipeline.stages.inputs.fitted import size_note

FEW_LABELLED = 0.05
"""Share of labelled pixels below which a label may lose all of them when it is resized."""
MUCH_LOST = 0.35
"""Share of the pixels of an image from which it is a warning that they are cropped away."""


def check_sizes(config: RunConfig) -> Check | None:
    """Say at which sizes generators and segmenters work and are evaluated, where that is not all `data.size`."""
    note = size_note(config)
    if not (note or config.evaluates_natively):
        return None
    evaluated = "Segmenters are evaluated by labels "
    evaluated += "in the size of their files." if config.evaluates_natively else "resized to the size they work at."
    return Check("resolution", "note", " ".join(filter(None, (note, evaluated))))


def with_parts(config: RunConfig, scan: Scan) -> Scan:
    """Return a scan with the sizes of what is resized of each image: the whole, its middle, or one of its tiles."""
    if config.data.fit == "stretch":
        return scan
    sizes = [_part(config, (height, width)) if height else (0, 0) for height, width in scan.sizes.tolist()]
    return replace(scan, sizes=np.array(sizes, np.int64).reshape(-1, 2))


def at_scale_of_tiles(config: RunConfig, scan: Scan) -> Scan:
    """Return a scan whose `resized_pixels` are those that all tiles of an image show, without what overlaps.

    Scans are of whole images at `data.size`, in which an object has far fewer pixels than in a tile of that size.
    """
    if config.data.fit != "tile":
        return scan
    tiles = with_parts(config, scan).sizes.prod(1)
    scale = np.where(tiles > 0, np.prod(config.data.size) / np.maximum(tiles, 1), 0)
    return replace(scan, resized_pixels=np.rint(scan.pixels * scale[:, None]).astype(np.int64))


def samples_of(config: RunConfig, scan: Scan) -> int:
    """Return how many samples a run makes of a split at most: its tiles, where images are cut, else its images."""
    if config.data.fit != "tile":
        return len(scan)
    sizes = [(height, width) for height, width in scan.sizes.tolist() if height]
    return sum(len(tiles_of(size, config.data.size, config.data.tile_height)) for size in sizes)


def check_lost_labels(
    config: RunConfig, datasets: Mapping[Split, SegmentationDataset], scans: Mapping[Split, Scan]
) -> Check | None:
    """Refuse samples whose label has no labelled pixel left at a size that generators or segmenters work at.

    Of labels that are resized to another size than they were scanned for, those with less than 5 % of labelled pixels
    are read once more. Tiles without labels are left out by the run itself.
    """
    if config.data.fit == "tile":
        return None
    sizes = tuple(dict.fromkeys((config.generator_size, config.segmenter_size)))
    lost = []
    for split, entry in scans.items():
        fitted = fit_dataset(datasets[split], config.data.fit, config.data.size)
        labelled = entry.pixels[:, :-1].sum(1)
        few = np.flatnonzero((labelled < FEW_LABELLED * entry.pixels.sum(1)) & (labelled > 0)).tolist()
        labels: dict[int, np.ndarray] = {}
        if any(size != config.data.size for size in sizes):
            with suppress(DataError):  # changed since it was scanned, which is reported elsewhere
                labels = {index: fitted[index].label for index in few}
        for size in sizes:
            if size == config.data.size:
                found = (entry.resized_pixels[:, :-1].sum(1) == 0) & (entry.pixels.sum(1) > 0)
                places = np.flatnonzero(found).tolist()
            else:
                resized = {index: resize_label(label, size) for index, label in labels.items()}
                places = [index for index, label in resized.items() if (label == IGNORE_ID).all()]
            lost += [lost_label(entry.ids[index], size) for index in places]
    at = f"at {' and '.join('{} x {}'.format(*size) for size in sizes)}"
    if not lost:
        return Check("labels after resizing", "ok", f"Every sample keeps labelled pixels {at}.")
    summary = f"{counted(len(lost), 'label has', 'labels have')} no labelled pixel left {at}."
    larger = "data.size" if len(sizes) == 1 else "data.size or segmenters.size"
    remedy = f"Choose a larger {larger}, or leave these samples out."
    return Check("labels after resizing", "problem", summary, remedy, tuple(lost))


def _part(config: RunConfig, size: tuple[int, int]) -> tuple[int, int]:
    if config.data.fit == "crop":
        return crop_box(size, config.data.size).size
    return tiles_of(size, config.data.size, config.data.tile_height)[0].box.size


def check_parts(config: RunConfig, scans: Sequence[Scan]) -> Check:
    """Say what crops leave of the images, or how many tiles there are, and whether parts are enlarged.

    Crops that leave less than 65 % of an image, and parts smaller than the size that segmenters work at, are a warning.
    """
    size, target = config.data.size, config.segmenter_size
    sizes = np.concatenate([scan.sizes[scan.sizes[:, 0] > 0] for scan in scans])
    counts = Counter((height, width) for height, width in sizes.tolist())
    texts, remedies, details = [], [], []
    status: Status = "ok"
    small = tiles = 0
    most_lost = 0.0
    for (height, width), count in counts.most_common():
        part = _part(config, (height, width))
        if config.data.fit == "crop":
            lost = 1 - part[0] * part[1] / (height * width)
            most_lost = max(most_lost, lost)
            details.append(f"{counted(count, 'image')} of {height} x {width}: cropped to {part[0]} x {part[1]}")
        else:
            number = len(tiles_of((height, width), size, config.data.tile_height))
            tiles += number * count
            details.append(
                f"{counted(count, 'image')} of {height} x {width}: {counted(number, 'tile')} of "
                f"{part[0]} x {part[1]} each"
            )
        small += count if part[0] < target[0] or part[1] < target[1] else 0
    if config.data.fit == "crop":
        texts.append(f"Images are cropped to the aspect ratio of data.size {size[0]} x {size[1]}")
        if most_lost > 0:
            texts.append(f"up to {100 * most_lost:.0f} % of an image is neither learned from nor evaluated")
        if most_lost > MUCH_LOST:
            status = "warning"
            remedies.append("Choose a data.size of their aspect ratio, or data.fit=tile, which loses nothing.")
    else:
        texts.append(
            f"{counted(len(sizes), 'image is', 'images are')} cut into {counted(tiles, 'tile')}, before "
            "those without labels are left out"
        )
    if small:
        status = "warning"
        texts.append(
            f"parts of {counted(small, 'image')} are smaller than {target[0]} x {target[1]}, at which segmenters work, "
            "and are enlarged, which adds no detail"
        )
        larger = ", or a larger data.tile_height" if config.data.tile_height is not None else ""
        remedies.append(f"Choose a smaller size{larger}.")
    return Check("scaling", status, f"{'; '.join(texts)}.", " ".join(remedies), tuple(details))
