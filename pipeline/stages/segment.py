"""Stage segmenters: train one segmenter per arm and seed, and evaluate it on the real validation split."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric

from scenepalette.common.errors import DataError
from scenepalette.common.files import write_atomically
from scenepalette.common.progress import Progress
from scenepalette.data.arrays import Pairs, open_array
from scenepalette.data.shards.pairs import FirstPairs
from scenepalette.evaluation.miou import confusion_per_image
from scenepalette.pipeline.arms import ARMS
from scenepalette.pipeline.config import SegmentersConfig
from scenepalette.pipeline.sections import settings_from
from scenepalette.segmenters.settings import SegmenterSettings
from scenepalette.segmenters.train import train_segmenter

VERSION = 1
CONFUSION = "validation-confusion.npy"
EVALUATION_BATCH = 16


def arm_settings(config: SegmentersConfig, arm: str) -> SegmenterSettings:
    """Return the numbers of an arm's training: the shared ones and what the arm names itself."""
    choice = ARMS[arm]
    return replace(
        settings_from(config, SegmenterSettings),
        augmentation=choice.augmentation or config.augmentation,
        adaptation=choice.adaptation,
        # Arms without labels on real images have no choice.
        adapted_domain=config.adapted_domain if choice.real == "labelled" else None,
    )


def train_arm(
    folder: Path,
    arm: str,
    config: SegmentersConfig,
    *,
    train: Pairs,
    validation: Pairs,
    synthetic: FirstPairs | None,
    seed: int,
    fabric: Fabric,
    progress: Progress,
    tensorboard: bool = False,
) -> None:
    """Train an arm's segmenter and write its confusion matrix for each validation image.

    Args:
        folder: Output folder.
        arm: Name of the arm.
        config: Settings that all arms share.
        train: Real training pairs.
        validation: Real validation pairs; they choose nothing, the last weights are evaluated.
        synthetic: Generated pairs, if the arm has any.
        seed: Seed of the training.
        fabric: Device and precision.
        progress: Watches the steps.
        tensorboard: Whether numbers are also written for TensorBoard.
    """
    choice = ARMS[arm]
    model = train_segmenter(
        folder,
        arm_settings(config, arm),
        real=train if choice.real != "none" else None,
        synthetic=synthetic,
        supervise_real=choice.real != "unlabelled",
        table=train.table,
        seed=seed,
        fabric=fabric,
        progress=progress,
        tensorboard=tensorboard,
    )
    confusion = confusion_per_image(model, validation, EVALUATION_BATCH, fabric, progress)
    buffer = io.BytesIO()
    np.save(buffer, confusion, allow_pickle=False)
    write_atomically(folder / CONFUSION, buffer.getvalue())


def read_confusion(folder: Path) -> np.ndarray:
    """Return the confusion matrices [N, K, K] that `train_arm` wrote, memory-mapped: all arms' need not fit at once.

    Raises:
        DataError: The file is missing or damaged.
    """
    path = folder / CONFUSION
    try:
        confusion = open_array(path)
        if confusion.ndim != 3 or confusion.shape[1] != confusion.shape[2] or confusion.dtype.kind not in "iu":
            raise ValueError(f"{confusion.dtype} {confusion.shape}, not integers [N, K, K]")
    except (DataError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error}). Remove it and the manifest.json beside it, and give the same command "
            "again."
        ) from error
    return confusion
