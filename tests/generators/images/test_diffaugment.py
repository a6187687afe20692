from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scenepalette.data.classes import IGNORE_ID
from scenepalette.generators.images.diffaugment import (
    POLICIES,
    Augmentation,
    Policy,
    augment_image,
    augment_label,
    draw_augmentation,
)

CPU = torch.device("cpu")
SIZE = (24, 32)


def draw(seed: int = 0, count: int = 3, size: tuple[int, int] = SIZE) -> Augmentation:
    torch.manual_seed(seed)
    return draw_augmentation(count, size, CPU)


def without_colour(augmentation: Augmentation) -> Augmentation:
    ones = torch.ones_like(augmentation.brightness)
    return augmentation._replace(brightness=0 * ones, saturation=ones, contrast=ones)


def without_geometry(augmentation: Augmentation) -> Augmentation:
    count, height, width = augmentation.kept.shape
    return augmentation._replace(
        rows=torch.arange(height).expand(count, -1),
        columns=torch.arange(width).expand(count, -1),
        kept=torch.ones(count, height, width, dtype=torch.bool),
    )


@pytest.mark.parametrize("seed", range(4))
def test_image_and_label_move_together(seed: int) -> None:
    label = torch.randint(0, 5, (3, *SIZE), generator=torch.Generator().manual_seed(seed))
    image = (label[:, None].float() + 1).expand(-1, 3, -1, -1)
    augmentation = without_colour(draw(seed))
    moved_image, moved_label = augment_image(image, augmentation), augment_label(label, augmentation)
    # Every pixel still shows its class, and 0 where there is none.
    expected = torch.where(moved_label == IGNORE_ID, 0.0, moved_label + 1.0)
    torch.testing.assert_close(moved_image, expected[:, None].expand_as(moved_image))
    assert (moved_label == IGNORE_ID).any() and (moved_label != IGNORE_ID).any()


@pytest.mark.parametrize("seed", range(4))
def test_geometry_equals_plain_loops(seed: int) -> None:
    label = torch.randint(0, 5, (3, *SIZE), generator=torch.Generator().manual_seed(seed))
    augmentation = draw(seed)
    moved = augment_label(label, augmentation)
    for sample in range(3):
        down = int((torch.arange(SIZE[0]) - augmentation.rows[sample])[SIZE[0] // 2])
        right = int((torch.arange(SIZE[1]) - augmentation.columns[sample])[SIZE[1] // 2])
        assert abs(down) <= SIZE[0] // 8 and abs(right) <= SIZE[1] // 8
        for i in range(SIZE[0]):
            for j in range(SIZE[1]):
                inside = 0 <= i - down < SIZE[0] and 0 <= j - right < SIZE[1]
                kept = bool(augmentation.kept[sample, i, j])
                assert inside or not kept
                expected = int(label[sample, i - down, j - right]) if kept else IGNORE_ID
                assert int(moved[sample, i, j]) == expected


def test_shifts_and_boxes_have_the_published_reach() -> None:
    augmentation = draw(count=2000)
    shifts = torch.arange(SIZE[0]) - augmentation.rows
    middle = shifts[:, SIZE[0] // 2]
    assert sorted(set(middle.tolist())) == list(range(-3, 4))  # 24 / 8
    inside = (augmentation.rows >= 0)[:, :, None] & (augmentation.columns >= 0)[:, None, :]
    cut = inside & ~augmentation.kept
    heights, widths = cut.any(dim=2).sum(dim=1), cut.any(dim=1).sum(dim=1)
    assert heights.max() == 8 and widths.max() == 10  # a third of 24 and 32, rounded down
    assert (cut.sum(dim=(1, 2)) == heights * widths).all()  # a box
    # 17 of 31 rows and 23 of 41 columns for its corner leave a box whole, and a shift may take some of it.
    assert 0.2 < (cut.sum(dim=(1, 2)) == 80).float().mean() < 17 / 31 * 23 / 41


def test_colour_by_hand() -> None:
    augmentation = without_geometry(draw())
    image = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    changed = augment_image(image, augmentation)
    for sample in range(3):
        x = image[sample].double() + float(augmentation.brightness[sample])
        grey = (x[0] + x[1] + x[2]) / 3
        x = grey + (x - grey) * float(augmentation.saturation[sample])
        mean = x.sum() / x.numel()
        x = mean + (x - mean) * float(augmentation.contrast[sample])
        torch.testing.assert_close(changed[sample].double(), x, rtol=1e-4, atol=1e-6)


def test_colours_have_the_published_ranges() -> None:
    augmentation = draw(count=4000)
    for values, (low, high) in zip(augmentation[:3], [(-0.5, 0.5), (0.0, 2.0), (0.5, 1.5)], strict=True):
        assert low <= values.min() < low + 0.01 * (high - low) + 1e-3
        assert high - 0.01 * (high - low) - 1e-3 < values.max() <= high
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.03)
    assert torch.corrcoef(torch.stack([v.flatten() for v in augmentation[:3]]))[0, 1].abs() < 0.05


def test_gradients_flow_to_the_pixels_that_are_seen() -> None:
    augmentation = draw(count=2, size=(8, 8))
    image = torch.rand(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    in_double = Augmentation(*(x.double() if x.is_floating_point() else x for x in augmentation))

    def seen(x: Tensor) -> Tensor:
        return augment_image(x, in_double)

    assert torch.autograd.gradcheck(seen, (image,))
    moving = without_colour(augmentation)
    (gradient,) = torch.autograd.grad(augment_image(image.float(), moving).sum(), image)
    assert gradient.sum().item() == pytest.approx(3 * float(moving.kept.sum()))


def test_an_augmentation_is_a_function_of_torchs_seed() -> None:
    for first, second, other in zip(draw(1), draw(1), draw(2), strict=True):
        assert torch.equal(first, second)
        assert not torch.equal(first, other)


def test_policies_that_are_not_named_change_nothing_and_others_stay_as_drawn() -> None:
    everything = draw()
    image = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    label = torch.randint(0, 5, (3, *SIZE), generator=torch.Generator().manual_seed(0))

    def drawn(*policies: Policy) -> Augmentation:
        torch.manual_seed(0)
        return draw_augmentation(3, SIZE, CPU, policies)

    for whole, chosen in zip(everything, drawn(*POLICIES), strict=True):
        assert torch.equal(whole, chosen)
    colour, cutout, translation = drawn("colour"), drawn("cutout"), drawn("translation")
    torch.testing.assert_close(augment_image(image, colour), augment_image(image, without_geometry(everything)))
    assert torch.equal(augment_label(label, colour), label)
    assert torch.equal(translation.rows, everything.rows) and torch.equal(translation.columns, everything.columns)
    shown = (everything.rows >= 0)[:, :, None] & (everything.columns >= 0)[:, None, :]
    assert torch.equal(translation.kept, shown)  # all but what was moved out of sight
    assert torch.equal(cutout.kept & shown, everything.kept)
    torch.testing.assert_close(augment_image(image, cutout), image * cutout.kept[:, None])
    assert torch.equal(augment_label(label, cutout), label.where(cutout.kept, IGNORE_ID))
