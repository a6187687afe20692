from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scenepalette.generators.images.warping import draw_warp, warp_image, warp_label

SIZE = (24, 36)


def draw(strength: float, seeds: range = range(8)) -> Tensor:
    return draw_warp(strength, SIZE, [torch.Generator().manual_seed(seed) for seed in seeds])


def displacements(field: Tensor) -> Tensor:
    """How far from a pixel its source is, in pixels, x and y, [B, H, W, 2]."""
    height, width = SIZE
    xs, ys = (2 * torch.arange(width) + 1) / width - 1, (2 * torch.arange(height) + 1) / height - 1
    own = torch.stack([xs.expand(height, -1), ys[:, None].expand(-1, width)], dim=-1)
    return (field - own) * torch.tensor([width / 2, height / 2])


def test_label_and_image_move_together() -> None:
    label = torch.randint(0, 3, (8, SIZE[0] // 6, SIZE[1] // 6), generator=torch.Generator().manual_seed(0))
    label = label.repeat_interleave(6, 1).repeat_interleave(6, 2)
    image = label[:, None].float().expand(-1, 3, -1, -1)
    field = draw(0.08)
    moved_label, moved_image = warp_label(label, field), warp_image(image, field)
    assert moved_label.dtype == label.dtype and set(moved_label.unique().tolist()) == {0, 1, 2}
    # Where all neighbours are of one class, the image shows this class; elsewhere it lies between its neighbours.
    whole = (moved_image - moved_image.round()).abs() < 1e-4
    assert whole.float().mean() > 0.7
    assert ((moved_image - moved_label[:, None]).abs() < 1e-3)[whole].float().mean() > 0.99
    assert not torch.equal(moved_label, label)


def test_sources_are_read_bilinearly_and_by_the_nearest_pixel() -> None:
    field = draw(0.1)
    image = torch.rand(8, 1, *SIZE, generator=torch.Generator().manual_seed(1))
    label = torch.randint(0, 200, (8, *SIZE), generator=torch.Generator().manual_seed(2))
    moved_image, moved_label = warp_image(image, field), warp_label(label, field)
    height, width = SIZE
    inside = 0
    for sample in range(8):
        for i, j in [(0, 0), (5, 30), (12, 18), (20, 3), (23, 35)]:
            x = float((field[sample, i, j, 0] + 1) * width / 2 - 0.5)
            y = float((field[sample, i, j, 1] + 1) * height / 2 - 0.5)
            left, top = int(x // 1), int(y // 1)
            if not (0 <= left < width - 1 and 0 <= top < height - 1):
                continue
            inside += 1
            a, b = x - left, y - top
            block = image[sample, 0, top : top + 2, left : left + 2]
            expected = (1 - b) * ((1 - a) * block[0, 0] + a * block[0, 1]) + b * (
                (1 - a) * block[1, 0] + a * block[1, 1]
            )
            assert moved_image[sample, 0, i, j].item() == pytest.approx(expected.item(), abs=1e-4)
            if min(abs(a - 0.5), abs(b - 0.5)) > 1e-3:
                assert moved_label[sample, i, j] == label[sample, top + round(b), left + round(a)]
    assert inside > 20


def test_the_strength_is_the_typical_displacement() -> None:
    for strength in (0.02, 0.05, 0.1):
        moved = displacements(draw(strength, range(200))).norm(dim=-1).mean(dim=(1, 2))
        still = moved < 1e-4
        assert 0.4 < still.float().mean() < 0.6
        assert 0.5 < moved[~still].mean() / (strength * min(SIZE)) < 2
    # Shapes stay whole: neighbours come from neighbours.
    steps = displacements(draw(0.05, range(200))).diff(dim=2).abs()
    assert steps.max() < 1


def test_no_strength_changes_nothing() -> None:
    label = torch.randint(0, 256, (8, *SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.int64)
    assert torch.equal(warp_label(label, draw(0.0)), label)  # ids up to 255, ignored pixels among them
    image = torch.rand(8, 3, *SIZE)
    torch.testing.assert_close(warp_image(image, draw(0.0)), image, rtol=0, atol=1e-4)


def test_a_sample_s_warp_depends_on_its_own_generator_alone() -> None:
    together = draw(0.1, range(20))
    for seed in range(20):
        assert torch.equal(draw(0.1, range(seed, seed + 1))[0], together[seed])
    assert len({field.numpy().tobytes() for field in together}) > 3
