"""Mixing on images of 4 x 4 pixels, done by hand."""

from __future__ import annotations

import pytest
import torch

from scenepalette.common.randomness import torch_generator
from scenepalette.data.augmentation.mixing import class_mix, copy_paste
from scenepalette.data.classes import IGNORE_ID

FIRST = [[0, 0, 0, 0], [0, 0, 2, 0], [1, 1, 2, 1], [1, 1, 1, 255]]
SECOND = [[0, 0, 3, 3], [0, 0, 0, 3], [1, 0, 0, 0], [255, 1, 1, 1]]


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of one value each, so that a pixel tells where it is from."""
    image = torch.tensor([0.25, -0.5])[:, None, None, None].expand(2, 3, 4, 4).clone()
    return image, torch.tensor([FIRST, SECOND])


def test_copy_paste_takes_the_classes_from_the_other_image() -> None:
    image, label = pair()
    mixed, mixed_label = copy_paste(image, label, [2, 3], 1.0, torch_generator("any"))
    expected = torch.tensor(
        [
            [[0, 0, 3, 3], [0, 0, 2, 3], [1, 1, 2, 1], [1, 1, 1, 255]],
            [[0, 0, 3, 3], [0, 0, 2, 3], [1, 0, 2, 0], [255, 1, 1, 1]],
        ]
    )
    assert torch.equal(mixed_label, expected)
    first = torch.full((4, 4), 0.25)
    first[0, 2:], first[1, 3] = -0.5, -0.5
    second = torch.full((4, 4), -0.5)
    second[1, 2], second[2, 2] = 0.25, 0.25
    assert torch.equal(mixed, torch.stack([first, second])[:, None].expand(2, 3, 4, 4))
    assert torch.equal(image, pair()[0]) and torch.equal(label, pair()[1])


def test_nothing_is_pasted_at_probability_0_and_into_a_batch_of_one() -> None:
    image, label = pair()
    for unchanged, number in (
        (copy_paste(image, label, [2, 3], 0.0, torch_generator("any")), 2),
        (copy_paste(image[:1], label[:1], [2, 3], 1.0, torch_generator("any")), 1),
        (class_mix(image[:1], label[:1], 1.0, torch_generator("any")), 1),
        (class_mix(image, label, 0.0, torch_generator("any")), 2),
    ):
        assert torch.equal(unchanged[0], image[:number]) and torch.equal(unchanged[1], label[:number])


@pytest.mark.parametrize("seed", range(6))
def test_class_mix_takes_half_of_the_classes_rounded_up(seed: int) -> None:
    image, label = pair()
    mixed, mixed_label = class_mix(image, label, 1.0, torch_generator("classes", seed))
    for index, (own, other) in enumerate(((label[0], label[1]), (label[1], label[0]))):
        pasted = mixed[index, 0] == image[1 - index, 0]
        taken = set(other[pasted].tolist())
        # Of three classes each: two whole classes, and never what is ignored.
        assert len(taken) == 2 and IGNORE_ID not in taken
        assert torch.equal(pasted, torch.isin(other, torch.tensor(sorted(taken))))
        assert torch.equal(mixed_label[index], torch.where(pasted, other, own))


def test_class_mix_takes_every_class_at_times() -> None:
    image, label = pair()
    taken = set()
    for seed in range(12):
        mixed, _ = class_mix(image, label, 1.0, torch_generator("classes", seed))
        taken |= set(label[1][mixed[0, 0] == -0.5].tolist())
    assert taken == {0, 1, 3}


def test_about_the_asked_part_of_a_batch_is_pasted_into_always_from_another() -> None:
    count = 200
    label = torch.arange(count)[:, None, None].expand(count, 2, 2) % 250
    image = torch.arange(count).float()[:, None, None, None].expand(count, 3, 2, 2)
    mixed, _ = copy_paste(image, label, range(250), 0.5, torch_generator("many"))
    changed = mixed[:, 0, 0, 0] != torch.arange(count)
    assert 70 < changed.sum() < 130
    turns = (mixed[:, 0, 0, 0] - torch.arange(count))[changed] % count
    assert len(set(turns.tolist())) == 1 and turns[0] != 0


def test_mixing_is_a_function_of_the_generator_alone() -> None:
    image, label = pair()
    torch.manual_seed(1)
    first = class_mix(image, label, 0.5, torch_generator("same", 3))
    torch.manual_seed(2)
    second = class_mix(image, label, 0.5, torch_generator("same", 3))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
