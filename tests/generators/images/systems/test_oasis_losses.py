from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scenepalette.data.classes import IGNORE_ID
from scenepalette.generators.images.systems.oasis import (
    class_weights,
    fake_loss,
    label_mix,
    label_mix_loss,
    label_mix_mask,
    real_loss,
)

CLASSES = 4


def random_case(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, CLASSES - 1, (2, 3, 5), generator=generator)  # the last class does not occur
    label[0, 0, :2] = IGNORE_ID
    return 2 * torch.randn(2, CLASSES + 1, 3, 5, generator=generator), label


def cross_entropies(logits: Tensor) -> list[list[float]]:
    """Return -log softmax as [pixel][class], over all samples."""
    pixels = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).tolist()
    return [[math.log(sum(math.exp(v) for v in pixel)) - value for value in pixel] for pixel in pixels]


def test_weights_are_inverse_frequencies_by_hand() -> None:
    label = torch.tensor([[[0, 0, 0, 1], [0, 0, 0, IGNORE_ID]], [[1, 3, IGNORE_ID, 0], [0, 0, 0, 0]]])
    # 14 labelled pixels: 11, 2, 0 and 1; H * W / count of Eq. 2, divided by the 3 classes that occur.
    expected = torch.tensor([14 / 11 / 3, 14 / 2 / 3, 0.0, 14 / 1 / 3])
    torch.testing.assert_close(class_weights(label, CLASSES), expected)


def test_real_pixels_weigh_1_on_average_and_each_class_the_same() -> None:
    _, label = random_case(0)
    weights = class_weights(label, CLASSES)
    labelled = label[label != IGNORE_ID]
    assert weights[labelled].mean().item() == pytest.approx(1.0, rel=1e-6)
    totals = [float(weights[labelled[labelled == c]].sum()) for c in range(CLASSES - 1)]
    assert totals == pytest.approx([totals[0]] * (CLASSES - 1), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_balanced_cross_entropy_equals_plain_loops(seed: int) -> None:
    logits, label = random_case(seed)
    ids = label.flatten().tolist()
    counts = [ids.count(c) for c in range(CLASSES)]
    labelled = sum(counts)
    present = sum(count > 0 for count in counts)
    terms = [
        labelled / counts[c] / present * entropies[c]
        for entropies, c in zip(cross_entropies(logits), ids, strict=True)
        if c != IGNORE_ID
    ]
    assert real_loss(logits, label).item() == pytest.approx(sum(terms) / labelled, rel=1e-5)


def test_ignored_pixels_do_not_matter() -> None:
    logits, label = random_case(0)
    changed = logits.clone()
    changed[0, :, 0, :2] = 50 * torch.randn(CLASSES + 1, 2)
    assert real_loss(changed, label).item() == real_loss(logits, label).item()


def test_a_batch_without_labels_costs_nothing() -> None:
    logits, label = random_case(0)
    logits.requires_grad_(True)
    loss = real_loss(logits, torch.full_like(label, IGNORE_ID))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None and logits.grad.abs().max().item() == 0.0
    assert fake_loss(logits, torch.zeros_like(label, dtype=torch.bool)).item() == 0.0


def test_fake_loss_equals_plain_loops_over_visible_pixels() -> None:
    logits, label = random_case(1)
    visible = label != IGNORE_ID
    terms = [e[CLASSES] for e, seen in zip(cross_entropies(logits), visible.flatten().tolist(), strict=True) if seen]
    assert len(terms) == 28
    assert fake_loss(logits, visible).item() == pytest.approx(sum(terms) / 28, rel=1e-5)


def test_losses_of_an_undecided_discriminator_by_hand() -> None:
    _, label = random_case(0)
    logits = torch.zeros(2, CLASSES + 1, 3, 5)
    assert real_loss(logits, label).item() == pytest.approx(math.log(5), rel=1e-5)
    assert fake_loss(logits, label >= 0).item() == pytest.approx(math.log(5), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_label_mix_equals_plain_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    _, label = random_case(seed)
    choices = torch.rand(2, 256, generator=generator) < 0.5
    real, fake = torch.randn(2, 2, 3, 3, 5, generator=generator)
    mask = label_mix_mask(label, choices)
    mixed = label_mix(real, fake, mask)
    assert mask.shape == (2, 1, 3, 5)
    for b in range(2):
        for i in range(3):
            for j in range(5):
                taken = bool(choices[b, int(label[b, i, j])])
                assert bool(mask[b, 0, i, j]) == taken
                assert torch.equal(mixed[b, :, i, j], (real if taken else fake)[b, :, i, j])


def test_consistency_loss_equals_plain_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    mixed, real, fake = torch.randn(3, 2, 5, 3, 4, generator=generator)
    mask = torch.rand(2, 1, 3, 4, generator=generator) < 0.5
    total = 0.0
    for b in range(2):
        for c in range(5):
            for i in range(3):
                for j in range(4):
                    m = float(mask[b, 0, i, j])
                    target = m * float(real[b, c, i, j]) + (1 - m) * float(fake[b, c, i, j])
                    total += (float(mixed[b, c, i, j]) - target) ** 2
    assert label_mix_loss(mixed, real, fake, mask).item() == pytest.approx(total / 120, rel=1e-5)
    assert label_mix_loss(label_mix(real, fake, mask), real, fake, mask).item() == 0.0


def test_consistency_trains_all_three_passes() -> None:
    mixed, real, fake = (torch.randn(2, 5, 3, 4, requires_grad=True) for _ in range(3))
    mask = torch.zeros(2, 1, 3, 4, dtype=torch.bool)
    mask[:, :, 0] = True
    label_mix_loss(mixed, real, fake, mask).backward()
    assert mixed.grad is not None and real.grad is not None and fake.grad is not None
    assert real.grad[:, :, 0].abs().min() > 0 and real.grad[:, :, 1:].abs().max() == 0
    assert fake.grad[:, :, 1:].abs().min() > 0 and fake.grad[:, :, 0].abs().max() == 0
