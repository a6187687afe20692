"""Checks of the images and label maps that metrics are given."""

from __future__ import annotations

import numpy as np

from scenepalette.common.errors import DataError
from scenepalette.data.classes import IGNORE_ID


def check_images(images: np.ndarray, what: str = "Images") -> None:
    """Refuse anything but images, uint8 [N, H, W, 3]; the message calls them `what`.

    Raises:
        DataError: Another type or shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise DataError(
            f"{what} must be uint8 [N, H, W, 3]; received {images.dtype} {list(images.shape)}. Turn tensors in [-1, 1] "
            "into images with scenepalette.data.arrays.images_to_uint8."
        )


def labelled_pixels(labels: np.ndarray, shape: tuple[int, ...], num_classes: int) -> np.ndarray:
    """Return which pixels have a class.

    Args:
        labels: Integer class ids 0..K-1, or `IGNORE_ID`.
        shape: The shape that the labels must have to fit their images.
        num_classes: K.

    Returns:
        bool, in the shape of the labels.

    Raises:
        DataError: The labels do not fit the images, or a label is neither a class id nor `IGNORE_ID`.
    """
    if labels.shape != shape or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"The label maps of images {list(shape)} must be integers of the same size; received {labels.dtype} "
            f"{list(labels.shape)}. Give each image its own label map."
        )
    labelled = labels != IGNORE_ID
    wrong = np.unique(labels[labelled & ((labels < 0) | (labels >= num_classes))])
    if len(wrong):
        raise DataError(
            f"A label map holds the ids {wrong[:8].tolist()}, but there are {num_classes} classes (ids 0 to "
            f"{num_classes - 1}; {IGNORE_ID} marks ignored pixels). Evaluate with the data set's own class table."
        )
    return labelled
