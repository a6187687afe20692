"""Samples fitted to the sizes that are worked at, and written for segmenters where these have a size of their own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scenepalette.common.progress import Progress
from scenepalette.common.wording import counted
from scenepalette.data.arrays import Pairs, read_arrays, write_arrays
from scenepalette.data.datasets import Split
from scenepalette.data.fitting.dataset import LEAST_LABELLED, TiledDataset, fit_dataset
from scenepalette.data.fitting.native import NativeLabels, write_native_labels
from scenepalette.data.sample import SegmentationDataset
from scenepalette.pipeline.config import DataConfig, RunConfig


def fitted_splits(
    splits: Mapping[Split, SegmentationDataset], config: DataConfig, progress: Progress
) -> dict[Split, SegmentationDataset]:
    """Return data sets whose samples are fitted as `data.fit` says, and say in one line what tiles there are."""
    return {split: fitted(dataset, config, progress) for split, dataset in splits.items()}


def fitted(dataset: SegmentationDataset, config: DataConfig, progress: Progress) -> SegmentationDataset:
    """Return a data set as `fitted_splits` does.

    Raises:
        DataError: Samples can no longer be read, or are too narrow.
    """
    if config.fit == "tile":
        progress.start(f"tiles of {dataset.split}", len(dataset))
    result = fit_dataset(dataset, config.fit, config.size, config.tile_height, lambda: progress.advance(1))
    if isinstance(result, TiledDataset):
        progress.finish()
        few = "labelled pixels" if dataset.split != "train" else f"{100 * LEAST_LABELLED:g} % of labelled pixels"
        aside = f"; {result.left_out} without {few} left out" if result.left_out else ""
        images = counted(len(dataset), "image is", "images are")
        print(f"{dataset.split}: {images} cut into {counted(len(result), 'tile')}{aside}.", file=sys.stderr)
    return result


def write_watched(
    dataset: SegmentationDataset, size: tuple[int, int], folder: Path, config: DataConfig, progress: Progress
) -> None:
    """Write a fitted data set as `write_arrays` does; the caller starts and finishes the progress of its samples."""
    # Of tiles that are evaluated, some may have few labelled pixels.
    keep_lost = config.fit == "tile" and dataset.split != "train"
    write_arrays(dataset, size, folder, progress.advance, keep_lost=keep_lost)


def size_note(config: RunConfig) -> str:
    """Say in one line at which sizes a run works, where they differ; else nothing."""
    sizes = {"data.size": config.data.size, "generators": config.generator_size, "segmenters": config.segmenter_size}
    data, generators, segmenters = ("{}x{}".format(*size) for size in sizes.values())
    if generators == data == segmenters:
        return ""
    why = "" if generators == data else f", the nearest to data.size {data} that doubling a base grid reaches"
    resampled = f"; pairs are resampled to {segmenters}, at which segmenters work" if segmenters != generators else ""
    return f"Generators work at {generators}{why}{resampled}."


def resolution_of(config: RunConfig) -> dict[str, Any]:
    """Return what reports say of the sizes of segmenters and their evaluation, as JSON values; nothing if all agree."""
    if len(config.data_of_segmenters) == 1:
        return {}
    evaluation = "native" if config.evaluates_natively else "resized"
    values = {"segmenters": list(config.segmenter_size), "evaluation": evaluation, "fit": config.data.fit}
    return {"resolution": values}


def write_for_segmenters(dataset: SegmentationDataset, config: RunConfig, folder: Path, progress: Progress) -> None:
    """Write what segmenters take of a data set in a size of their own: arrays, labels in their own size, or both.

    Args:
        dataset: The data set, fitted.
        config: The run's configuration.
        folder: Output folder.
        progress: Watches the samples, each once for arrays and once for labels.
    """
    split = dataset.split
    if config.segmenter_size != config.generator_size:
        write_watched(dataset, config.segmenter_size, folder, config.data, progress)
    if config.evaluates_natively and split != "train":
        write_native_labels(dataset, folder / native_file(split), lambda: progress.advance(1))


def read_for_segmenters(config: RunConfig, folder: Path, split: str, prepared: Pairs | None = None) -> Pairs:
    """Open what `write_for_segmenters` wrote of a split.

    Args:
        config: The run's configuration.
        folder: The folder.
        split: "train", "val" or "test".
        prepared: The split at the size that generators work at, which serves where segmenters work at the same.

    Raises:
        DataError: A file is missing or not what was written.
    """
    if config.segmenter_size != config.generator_size or prepared is None:
        prepared = read_arrays(folder, split)
    if config.evaluates_natively and split != "train":
        return replace(prepared, native=NativeLabels(folder / native_file(split), prepared.ids))
    return prepared


def native_file(split: str) -> str:
    """Return the name of the file with the labels of a split in their own size."""
    return f"native-labels-{split}.npz"
