from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scenepalette.common.errors import DataError
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.fitting.dataset import fit_dataset
from scenepalette.data.fitting.geometry import crop_box
from scenepalette.data.fitting.native import NativeLabels, write_native_labels
from scenepalette.data.sample import Sample
from scenepalette.evaluation import native as native_module
from scenepalette.evaluation.miou import confusion_per_image
from scenepalette.evaluation.native import confusion_of_images, predict_at
from scenepalette.training.fabric import make_fabric

CLASSES = 3
SIZE = (9, 12)
FACTORS, SHIFTS = (1.0, 1.0137, 0.9871), (0.0, 0.00123, 0.0031)
SIZES = ((45, 60), (30, 70), (9, 12), (70, 31))


class Scenes:
    """Random labels of several sizes, some pixels ignored."""

    name, split, licence, fingerprint, content = "scenes", "val", "none", "f", "c"
    label_origins: dict[str, str] = {}  # noqa: RUF012
    table = ClassTable.unnamed(CLASSES)

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.ids = [f"s{i}" for i in range(len(SIZES))]
        self.labels = [random.choice(np.array([0, 1, 2, IGNORE_ID], np.uint8), size) for size in SIZES]
        self.images = [random.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]

    def __len__(self) -> int:
        return len(SIZES)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.ids[index], self.images[index], self.labels[index])


class Channels(nn.Module):
    """Scores that are nearly the image's channels, so that anyone can compute them; no two are ever equal."""

    def forward(self, image: Tensor) -> Tensor:
        return image * torch.tensor(FACTORS)[:, None, None] + torch.tensor(SHIFTS)[:, None, None]


def bilinear(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize [h, w] by the definition: pixel centres, edges repeated."""
    result = np.zeros(size)
    for i in range(size[0]):
        y = min(max((i + 0.5) * values.shape[0] / size[0] - 0.5, 0), values.shape[0] - 1)
        for j in range(size[1]):
            x = min(max((j + 0.5) * values.shape[1] / size[1] - 0.5, 0), values.shape[1] - 1)
            top, left = int(y), int(x)
            below, right = min(top + 1, values.shape[0] - 1), min(left + 1, values.shape[1] - 1)
            upper = values[top, left] * (left + 1 - x) + values[top, right] * (x - left)
            lower = values[below, left] * (left + 1 - x) + values[below, right] * (x - left)
            result[i, j] = upper * (top + 1 - y) + lower * (y - top)
    return result


def count(confusion: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> None:
    for true, guess in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if true != IGNORE_ID:
            confusion[true, guess] += 1


def prediction_of(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    scores = (pixels / 127.5 - 1) * FACTORS + SHIFTS
    return np.stack([bilinear(scores[..., k], size) for k in range(CLASSES)]).argmax(axis=0)


def prepared(fit: str, tmp_path: Path, tile_height: int | None = None) -> Pairs:
    dataset = fit_dataset(Scenes(), fit, SIZE, tile_height)  # type: ignore[arg-type]
    write_native_labels(dataset, tmp_path / "native.npz")
    random = np.random.default_rng(1)
    # What the network sees need not be the resized image for the count to be checked.
    images = random.integers(0, 256, (len(dataset), *SIZE, 3), np.uint8)
    labels = np.zeros((len(dataset), *SIZE), np.uint8)
    pairs = Pairs(images, labels, list(dataset.ids), dataset.table, dataset.name, dataset.licence)
    return replace(pairs, native=NativeLabels(tmp_path / "native.npz", dataset.ids))


def evaluate(pairs: Pairs) -> np.ndarray:
    return confusion_of_images(Channels(), pairs, 2, make_fabric("cpu", "32-true"))


def test_stretched_images_are_evaluated_pixel_by_pixel_in_their_own_size(tmp_path: Path) -> None:
    pairs, scenes = prepared("stretch", tmp_path), Scenes()
    expected = np.zeros((len(SIZES), CLASSES, CLASSES), int)
    for index, size in enumerate(SIZES):
        count(expected[index], scenes.labels[index], prediction_of(pairs.images[index], size))
    assert np.array_equal(evaluate(pairs), expected)


def test_crops_are_evaluated_in_the_middle_and_nowhere_else(tmp_path: Path) -> None:
    pairs, scenes = prepared("crop", tmp_path), Scenes()
    expected = np.zeros((len(SIZES), CLASSES, CLASSES), int)
    for index, size in enumerate(SIZES):
        box = crop_box(size, SIZE)
        label = scenes.labels[index][box.top : box.bottom, box.left : box.right]
        count(expected[index], label, prediction_of(pairs.images[index], box.size))
    assert np.array_equal(evaluate(pairs), expected)


@pytest.mark.parametrize("tile_height", [None, 20])
def test_tiles_are_put_together_and_every_pixel_counts_once(tmp_path: Path, tile_height: int | None) -> None:
    pairs, scenes = prepared("tile", tmp_path, tile_height), Scenes()
    tiles = fit_dataset(scenes, "tile", SIZE, tile_height)
    whole = [np.full(size, -1) for size in SIZES]
    for row in range(len(pairs)):
        source, (box, own) = tiles._places[row]  # type: ignore[attr-defined]
        predicted = prediction_of(pairs.images[row], box.size)
        rows, columns = slice(own.top - box.top, own.bottom - box.top), slice(own.left - box.left, own.right - box.left)
        whole[source][own.top : own.bottom, own.left : own.right] = predicted[rows, columns]
    expected = np.zeros((len(SIZES), CLASSES, CLASSES), int)
    for index, predicted in enumerate(whole):
        assert (predicted >= 0).all()
        count(expected[index], scenes.labels[index], predicted)
    found = evaluate(pairs)
    assert np.array_equal(found, expected)
    assert found.sum() == sum((label != IGNORE_ID).sum() for label in scenes.labels)
    assert len(pairs) > len(SIZES) and pairs.image_ids == scenes.ids


def test_without_labels_of_their_own_size_pairs_are_evaluated_as_they_are(tmp_path: Path) -> None:
    pairs = replace(prepared("stretch", tmp_path), native=None)
    fabric = make_fabric("cpu", "32-true")
    assert np.array_equal(evaluate(pairs), confusion_per_image(Channels(), pairs, 3, fabric))


def test_classes_are_resized_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(7, 5, 6, generator=torch.Generator().manual_seed(0))
    logits[4] = logits[2]  # of equal scores the lowest id
    whole = predict_at(logits, (11, 13))
    for numbers in (1, 11 * 13 * 3):
        monkeypatch.setattr(native_module, "_NUMBERS_AT_ONCE", numbers)
        assert torch.equal(predict_at(logits, (11, 13)), whole)
    resized = torch.nn.functional.interpolate(logits[None], (11, 13), mode="bilinear")[0]
    assert torch.equal(whole, torch.from_numpy(resized.numpy().argmax(axis=0))) and 4 not in whole


def test_a_segmenter_of_other_classes_is_refused(tmp_path: Path) -> None:
    pairs = replace(prepared("stretch", tmp_path), table=ClassTable.unnamed(5))
    with pytest.raises(DataError, match="predicts 3 classes, the pairs have 5"):
        evaluate(pairs)
