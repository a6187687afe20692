"""Label map operations against per-pixel calculations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scenepalette.common.errors import ScenepaletteError
from scenepalette.data.labels import fill_ignored, labels_to_palette, one_hot, soft_to_label


def random_labels(num_classes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, num_classes, (3, 5, 7), generator=generator)
    label[torch.rand(label.shape, generator=generator) < 0.3] = 255
    return label


def test_palette_is_the_share_of_labelled_pixels() -> None:
    label = random_labels(4)
    palette = labels_to_palette(label, 4)
    assert palette.dtype == torch.float32
    for b in range(3):
        pixels = [value for value in label[b].flatten().tolist() if value != 255]
        expected = [pixels.count(k) / len(pixels) for k in range(4)]
        assert palette[b].tolist() == pytest.approx(expected)
    assert palette.sum(dim=1).tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_palette_has_a_zero_for_an_absent_class() -> None:
    assert labels_to_palette(torch.tensor([[[1, 1], [255, 1]]]), 3).tolist() == [[0.0, 1.0, 0.0]]


def test_palette_of_a_wholly_ignored_map_is_refused() -> None:
    label = random_labels(4)
    label[1] = 255
    with pytest.raises(ScenepaletteError, match=r"Label maps \[1\] of a batch of 3"):
        labels_to_palette(label, 4)


@pytest.mark.parametrize("wrong", [-1, 4, 254])
def test_ids_outside_the_classes_are_refused(wrong: int) -> None:
    label = random_labels(4)
    label[2, 0, 0] = wrong
    for function in (labels_to_palette, one_hot):
        with pytest.raises(ScenepaletteError, match=rf"ids \[{wrong}\]; required are 0 to 3"):
            function(label, 4)


def test_one_hot_marks_the_class_and_leaves_ignored_pixels_zero() -> None:
    label = random_labels(4)
    layout = one_hot(label, 4)
    assert layout.shape == (3, 4, 5, 7)
    assert layout.dtype == torch.float32
    for b, y, x in np.ndindex(3, 5, 7):
        value = int(label[b, y, x])
        assert layout[b, :, y, x].tolist() == [float(k == value) for k in range(4)]


def test_soft_to_label_inverts_one_hot_on_labelled_pixels() -> None:
    label = random_labels(4).clamp(max=3)
    assert torch.equal(soft_to_label(one_hot(label, 4)), label)


def test_fill_ignored_takes_the_nearest_labelled_pixel() -> None:
    generator = np.random.default_rng(0)
    label = generator.integers(0, 5, (9, 11), dtype=np.uint8)
    label[generator.random(label.shape) < 0.8] = 255
    filled = fill_ignored(label)
    known = np.argwhere(label != 255)
    for y, x in np.ndindex(*label.shape):
        distances = ((known - [y, x]) ** 2).sum(axis=1)
        nearest = {int(label[tuple(place)]) for place in known[distances == distances.min()]}
        assert int(filled[y, x]) in nearest


def test_fill_ignored_returns_a_copy_and_refuses_a_wholly_ignored_map() -> None:
    label = np.zeros((2, 2), dtype=np.uint8)
    filled = fill_ignored(label)
    filled[0, 0] = 1
    assert label[0, 0] == 0
    with pytest.raises(ScenepaletteError, match="no labelled pixel"):
        fill_ignored(np.full((2, 3), 255, dtype=np.uint8))
