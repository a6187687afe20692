"""Intersection over union of a segmenter, from confusion matrices kept per image for bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from scenepalette.common.errors import DataError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.training.device.fitting import in_fitting_batches

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scenepalette.data.arrays import PairSource


def apply_to_pairs(
    model: nn.Module,
    pairs: PairSource,
    function: Callable[[Tensor, Tensor], Tensor],
    batch_size: int,
    fabric: Fabric,
    progress: Progress,
    description: str,
) -> Iterator[Tensor]:
    """Yield `function(images, labels)` for all pairs in order, with the model in evaluation mode on the device.

    Args:
        model: Network that `function` uses; moved to the device and put into evaluation mode.
        pairs: Image-label pairs.
        function: Takes images B3HW in [-1, 1] and labels BHW on the device; called under the fabric's precision.
        batch_size: Images at once; the last batch may be smaller, and all where the device lacks memory for them.
        fabric: Device and precision.
        progress: Counts images.
        description: What the work is called.
    """
    model.to(fabric.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    progress.start(description, len(pairs))

    def of_rows(rows: range) -> Tensor:
        images, labels = pairs.batch(rows)
        images = images.to(fabric.device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), fabric.autocast():
            return function(images, labels.to(fabric.device))

    for rows, result in in_fitting_batches(len(pairs), batch_size, of_rows):
        yield result
        progress.advance(len(rows))
    progress.finish()


def confusion_of_batch(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Count per image how often each true class was predicted as each class.

    Args:
        prediction: BHW int64 class ids in 0..K-1.
        label: BHW int64 class ids; pixels of `IGNORE_ID` are left out.
        num_classes: K.

    Returns:
        int64 BKK, rows the truth, columns the prediction.

    Raises:
        DataError: A label is neither a class id nor `IGNORE_ID`.
    """
    batch = len(label)
    labelled = label != IGNORE_ID
    if labelled.any() and int(label[labelled].max()) >= num_classes:
        raise DataError(
            f"A label has class id {int(label[labelled].max())}, but there are {num_classes} classes (ids 0 to "
            f"{num_classes - 1}; {IGNORE_ID} marks ignored pixels). Evaluate with the data set's own class table."
        )
    image = torch.arange(batch, device=label.device).view(-1, 1, 1).expand_as(label)
    cells = (image * num_classes + label) * num_classes + prediction
    counts = torch.bincount(cells[labelled], minlength=batch * num_classes**2)
    return counts.view(batch, num_classes, num_classes)


def confusion_per_image(
    model: nn.Module, pairs: PairSource, batch_size: int, fabric: Fabric, progress: Progress = NO_PROGRESS
) -> np.ndarray:
    """Predict all pairs and return one confusion matrix per image.

    Args:
        model: Segmenter with one output channel per class of the pairs' table.
        pairs: Image-label pairs.
        batch_size: Images at once; the result does not depend on it.
        fabric: Device and precision.
        progress: Counts images.

    Returns:
        int64 [N, K, K], rows the truth, columns the prediction; ignored pixels are in no cell. Sum over N for the
        matrix of the data set, resample over N for its uncertainty.

    Raises:
        DataError: The network's classes are not those of the pairs, or a label is out of range.
    """
    num_classes = pairs.table.num_classes

    def confuse(image: Tensor, label: Tensor) -> Tensor:
        logits = model(image)  # B K H W
        check_classes(logits, pairs.table)
        return confusion_of_batch(logits.argmax(dim=1), label, num_classes).cpu()

    matrices = list(apply_to_pairs(model, pairs, confuse, batch_size, fabric, progress, "Evaluating the segmenter"))
    if not matrices:
        return np.zeros((0, num_classes, num_classes), dtype=np.int64)
    return torch.cat(matrices).numpy()


def check_classes(logits: Tensor, table: ClassTable) -> None:
    """Refuse scores BKHW of a segmenter whose classes are not those of the pairs that it is to be evaluated on.

    Raises:
        DataError: There are more or fewer.
    """
    if logits.shape[1] != table.num_classes:
        raise DataError(
            f"The segmenter predicts {logits.shape[1]} classes, the pairs have {table.num_classes} ({table.name}). "
            "Evaluate a segmenter that was trained on the same class table."
        )


def overlaps(confusion: np.ndarray, class_ids: Sequence[int] | None = None) -> np.ndarray:
    """Reduce confusions to what intersection over union needs; the result adds up over images.

    Args:
        confusion: Counts [..., K, K], rows the truth, columns the prediction.
        class_ids: Classes that count, as in the Cityscapes protocol: pixels whose true class is another are left out,
            while a pixel of a counted class that is predicted as another class is missed, whatever that other class
            is. None for all.

    Returns:
        float64 [..., 3, K]: pixels in both, in the truth, in the prediction; exact up to 2^53 pixels.
    """
    if class_ids is not None:
        others = np.setdiff1d(np.arange(confusion.shape[-1]), class_ids)
        confusion = confusion.copy()
        confusion[..., others, :] = 0
    parts = [np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1), confusion.sum(-2)]
    return np.stack(parts, axis=-2).astype(np.float64)


def intersection_over_union(counts: np.ndarray) -> np.ndarray:
    """Return the intersection over union of each class.

    Args:
        counts: Result of `overlaps` [..., 3, K], or a sum of such.

    Returns:
        float64 [..., K] in [0, 1]; nan for a class that is in neither truth nor prediction.
    """
    both, truth, prediction = np.moveaxis(counts, -2, 0)
    union = truth + prediction - both
    return np.divide(both, union, out=np.full_like(union, np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray, class_ids: Sequence[int]) -> float:
    """Return the mean intersection over union of a data set over the given classes.

    With the evaluated classes this is the papers' mIoU, with all classes their mIoU*; see `overlaps`.

    Args:
        confusion: Counts [K, K] or [N, K, K], which are summed first: a mean over images would be another measure.
        class_ids: Classes to average over.

    Returns:
        Fraction in [0, 1]; classes in neither truth nor prediction are left out of the mean; nan if none is left.
    """
    total = confusion.reshape(-1, *confusion.shape[-2:]).sum(axis=0)
    return float(mean_of_defined(intersection_over_union(overlaps(total, class_ids))[list(class_ids)]))


def mean_of_defined(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the mean of values that are not nan: `numpy.nanmean`, but nan without a warning where there is none."""
    defined = ~np.isnan(values)
    number = defined.sum(axis=axis)
    total = np.where(defined, values, 0.0).sum(axis=axis)
    return np.divide(total, number, out=np.full(np.shape(total), np.nan), where=number > 0)
