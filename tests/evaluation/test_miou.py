from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from scenepalette.common.errors import DataError
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import IGNORE_ID
from scenepalette.evaluation.miou import (
    confusion_of_batch,
    confusion_per_image,
    intersection_over_union,
    mean_iou,
    overlaps,
)


class ByBrightness(nn.Module):
    """Predicts the class from thresholds on the red channel, so that its mistakes are known."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.linspace(-0.5, 0.6, classes))

    def forward(self, image: Tensor) -> Tensor:
        return -(image[:, :1] - self.levels.view(1, -1, 1, 1)).abs()


def test_confusion_by_hand() -> None:
    label = torch.tensor([[[0, 0, 1], [2, IGNORE_ID, 1]], [[2, 2, 2], [IGNORE_ID, 0, 0]]])
    prediction = torch.tensor([[[0, 1, 1], [2, 0, 0]], [[2, 2, 0], [1, 0, 0]]])
    expected = [[[1, 1, 0], [1, 1, 0], [0, 0, 1]], [[2, 0, 0], [0, 0, 0], [1, 0, 2]]]
    assert confusion_of_batch(prediction, label, 3).tolist() == expected


def test_confusion_of_images_without_a_label() -> None:
    label = torch.full((2, 4, 4), IGNORE_ID)
    assert confusion_of_batch(torch.zeros_like(label), label, 3).sum() == 0


def test_label_out_of_range_is_refused() -> None:
    with pytest.raises(DataError, match="class id 3"):
        confusion_of_batch(torch.zeros(1, 2, 2, dtype=torch.int64), torch.full((1, 2, 2), 3), 3)


def test_confusion_per_image_against_torchmetrics(make_pairs: Callable[..., Pairs], fabric: Fabric) -> None:
    pairs, model = make_pairs(count=5), ByBrightness()
    confusion = confusion_per_image(model, pairs, batch_size=2, fabric=fabric)
    assert confusion.shape == (5, 3, 3) and confusion.dtype == np.int64
    images, labels = pairs.batch(range(5))
    prediction = model(images).argmax(dim=1)
    for image in range(5):
        independent = MulticlassConfusionMatrix(3, ignore_index=IGNORE_ID)(prediction[image], labels[image])
        assert confusion[image].tolist() == independent.tolist()
    jaccard = MulticlassJaccardIndex(3, average="none", ignore_index=IGNORE_ID)(prediction, labels)
    assert (confusion.sum(axis=0).diagonal() > 0).sum() >= 2  # the comparison is not about zeros
    np.testing.assert_allclose(intersection_over_union(overlaps(confusion.sum(axis=0))), jaccard.numpy(), rtol=1e-6)


def test_confusion_does_not_depend_on_the_batch_size(make_pairs: Callable[..., Pairs], fabric: Fabric) -> None:
    pairs, model = make_pairs(count=5), ByBrightness()
    results = [confusion_per_image(model, pairs, batch_size=size, fabric=fabric).tolist() for size in (1, 3, 8)]
    assert results[0] == results[1] == results[2]


def test_batches_are_halved_where_memory_is_lacking_and_the_confusion_stays(
    make_pairs: Callable[..., Pairs], fabric: Fabric, capsys: pytest.CaptureFixture[str]
) -> None:
    class Limited(ByBrightness):
        def forward(self, image: Tensor) -> Tensor:
            if len(image) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(image)

    pairs = make_pairs(count=7)
    confusion = confusion_per_image(Limited(), pairs, batch_size=16, fabric=fabric)
    np.testing.assert_array_equal(confusion, confusion_per_image(ByBrightness(), pairs, batch_size=7, fabric=fabric))
    assert "from here on 3 are taken" in capsys.readouterr().err


def test_network_of_another_number_of_classes_is_refused(make_pairs: Callable[..., Pairs], fabric: Fabric) -> None:
    with pytest.raises(DataError, match=r"predicts 4 classes.*have 3"):
        confusion_per_image(ByBrightness(4), make_pairs(count=1), batch_size=1, fabric=fabric)


def test_intersection_over_union_by_hand() -> None:
    confusion = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    values = intersection_over_union(overlaps(confusion))
    assert values[:2].tolist() == pytest.approx([3 / 6, 4 / 7])
    assert math.isnan(values[2])
    stacked = intersection_over_union(overlaps(np.stack([confusion, confusion.T])))
    np.testing.assert_array_equal(stacked, [values, values])


def test_mean_iou_is_of_the_data_set_and_not_a_mean_over_images() -> None:
    one, other = np.array([[9, 1], [0, 0]]), np.array([[0, 0], [1, 0]])
    both = np.stack([one, other])  # totals: truth 10 and 1, predicted 10 and 1
    assert mean_iou(both, (0, 1)) == pytest.approx((9 / 11 + 0) / 2)
    assert mean_iou(both.sum(axis=0), (0, 1)) == mean_iou(both, (0, 1))


def test_mean_iou_leaves_out_pixels_of_classes_that_do_not_count() -> None:
    # Class 2 does not count: its 5 pixels predicted as 0 are no false positives, but the 1 pixel of class 0 that is
    # predicted as 2 is missed. Class 1 is nowhere.
    confusion = np.array([[4, 0, 1], [0, 0, 0], [5, 0, 7]])
    assert mean_iou(confusion, (0, 1)) == pytest.approx(4 / 5)
    assert mean_iou(confusion, (0, 1, 2)) == pytest.approx((4 / 10 + 7 / 13) / 2)


def test_mean_iou_of_nothing_is_nan() -> None:
    assert math.isnan(mean_iou(np.zeros((0, 3, 3), dtype=np.int64), (0, 1)))
