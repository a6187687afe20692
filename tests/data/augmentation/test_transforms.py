"""Joint augmentation: image and label move together, and only the passed generator decides."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as vision

from scenepalette.common.randomness import torch_generator
from scenepalette.data.augmentation.transforms import StandardAugmentation, flip_horizontally
from scenepalette.data.classes import IGNORE_ID


def _encoded_batch(count: int = 12, height: int = 48, width: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks of ids 0..9 whose image is id / 10 in every channel: the image tells the label."""
    blocks = torch.randint(0, 10, (count, height // 16, width // 16), generator=torch_generator("blocks"))
    label = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)
    return (label / 10)[:, None].expand(-1, 3, -1, -1).contiguous(), label


def _geometry_only(scale: tuple[float, float]) -> StandardAugmentation:
    return StandardAugmentation(scale=scale, brightness=0, contrast=0, saturation=0, hue=0)


def _inner(label: torch.Tensor) -> torch.Tensor:
    """Pixels whose 5x5 neighbourhood has one label only, where interpolation cannot blend two.

    At the edge of a crop it can: what was cut off belongs to the neighbourhood.
    """
    padded = torch.nn.functional.pad(label[:, None].float(), (2, 2, 2, 2), mode="replicate")
    high = torch.nn.functional.max_pool2d(padded, 5, 1)
    low = -torch.nn.functional.max_pool2d(-padded, 5, 1)
    inner = torch.zeros_like(label, dtype=torch.bool)
    inner[:, 2:-2, 2:-2] = (high == low)[:, 0, 2:-2, 2:-2]
    return inner


@pytest.mark.parametrize("scale", [(0.6, 1.5), (0.6, 0.6), (1.5, 1.5), (1.0, 1.0)])
def test_image_and_label_move_together(scale: tuple[float, float]) -> None:
    image, label = _encoded_batch()
    moved, moved_label = _geometry_only(scale)(image, label, torch_generator("joint"))
    inside = _inner(moved_label) & (moved_label != IGNORE_ID)
    assert inside.float().mean() > 0.05
    torch.testing.assert_close(moved[:, 0][inside], moved_label[inside] / 10, atol=1e-4, rtol=0)


def test_scaling_equals_that_of_torchvision() -> None:
    """Each sample by itself: resized with antialiasing, then cropped or framed at the place that the numbers say."""
    height, width, count = 40, 56, 16
    image = torch.rand(count, 3, height, width, generator=torch_generator("noise")) * 2 - 1
    label = torch.randint(0, 9, (count, height, width), generator=torch_generator("labels"))
    moved, moved_label = _geometry_only((0.5, 1.6))(image, label, torch_generator("reference"))
    draws = torch.rand(count, 8, generator=torch_generator("reference"))
    for index, (flip, size, *places) in enumerate(draws[:, :4].double().tolist()):
        source, source_label = image[index], label[index]
        if flip < 0.5:
            source, source_label = source.flip(-1), source_label.flip(-1)
        factor = 0.5 * (1.6 / 0.5) ** size
        scaled = [round(height * factor), round(width * factor)]
        resized = vision.resize(source, scaled, v2.InterpolationMode.BILINEAR, antialias=True)
        resized_label = vision.resize(source_label[None], scaled, v2.InterpolationMode.NEAREST_EXACT)
        spare = [height - scaled[0], width - scaled[1]]
        top, left = (int(place * (abs(room) + 1)) for place, room in zip(places, spare, strict=True))
        if factor > 1:
            expected = resized[:, top : top + height, left : left + width]
            expected_label = resized_label[:, top : top + height, left : left + width]
        else:
            frame = [left, top, spare[1] - left, spare[0] - top]
            expected = vision.pad(resized, frame, fill=0)
            expected_label = vision.pad(resized_label, frame, fill=IGNORE_ID)
        torch.testing.assert_close(moved[index], expected, atol=2e-5, rtol=0)
        assert torch.equal(moved_label[index], expected_label[0])


def test_colours_equal_those_of_torchvision_where_nothing_is_clipped() -> None:
    image = torch.rand(6, 3, 8, 10, generator=torch_generator("pale")) * 0.2 - 0.1
    label = torch.zeros(6, 8, 10, dtype=torch.int64)
    augment = StandardAugmentation(scale=(1, 1), hue=0, flip=False)
    moved, _ = augment(image, label, torch_generator("colours"))
    draws = torch.rand(6, 8, generator=torch_generator("colours"))[:, 4:7].tolist()
    for sample, result, draw in zip(image, moved, draws, strict=True):
        expected = (sample + 1) / 2
        adjusts = (vision.adjust_brightness, vision.adjust_contrast, vision.adjust_saturation)
        for adjust, value in zip(adjusts, draw, strict=True):
            expected = adjust(expected, 1 + 0.25 * (2 * value - 1))
        torch.testing.assert_close(result, expected * 2 - 1, atol=1e-4, rtol=0)  # its luma has four digits


def test_hue_keeps_greys_and_luma() -> None:
    image = torch.rand(5, 3, 8, 10, generator=torch_generator("pale")) * 0.2 - 0.1
    image[:, :, 0] = image[:, :1, 0]
    label = torch.zeros(5, 8, 10, dtype=torch.int64)
    augment = StandardAugmentation(scale=(1, 1), brightness=0, contrast=0, saturation=0, hue=0.5, flip=False)
    moved, _ = augment(image, label, torch_generator("hue"))
    luma = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(moved[:, :, 0], image[:, :, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.einsum("bchw,c", moved, luma), torch.einsum("bchw,c", image, luma))
    assert (moved - image)[:, :, 1:].abs().mean() > 0.02


def test_half_a_pixel_of_misalignment_would_show() -> None:
    # A horizontal ramp makes position itself visible: image column / width against label column, without any blocks.
    width = 64
    columns = torch.arange(width)
    image = (columns / width).expand(6, 3, 48, width).contiguous()
    label = columns.expand(6, 48, width).contiguous()
    augment = StandardAugmentation(scale=(0.6, 1.5), brightness=0, contrast=0, saturation=0, hue=0)
    moved, moved_label = augment(image, label, torch_generator("ramp"))
    inside = (moved_label > 3) & (moved_label < width - 4)
    difference = moved[:, 0][inside] * width - moved_label[inside]
    # Nearest is at most half a source pixel off, and not to one side on average.
    assert difference.abs().max() <= 0.51
    assert abs(difference.mean()) < 0.1


def test_outside_is_ignored_and_grey() -> None:
    image = torch.ones(8, 3, 40, 60)
    label = torch.full((8, 40, 60), 3)
    moved, moved_label = _geometry_only((0.5, 0.5))(image, label, torch_generator("outside"))
    outside = moved_label == IGNORE_ID
    assert (outside.sum(dim=(1, 2)) == 40 * 60 - 20 * 30).all()
    assert (moved.permute(0, 2, 3, 1)[outside] == 0).all()
    torch.testing.assert_close(moved.permute(0, 2, 3, 1)[~outside], torch.ones(8 * 600, 3))
    corners = {tuple(torch.nonzero(~sample)[0].tolist()) for sample in outside}
    assert len(corners) > 4


def test_ignored_stays_ignored_and_enlarging_adds_none() -> None:
    image, label = _encoded_batch()
    label[:, :8] = IGNORE_ID
    _, moved_label = _geometry_only((1.0, 1.0))(image, label, torch_generator("ignored"))
    assert (moved_label[:, :8] == IGNORE_ID).all()
    assert (moved_label[:, 8:] != IGNORE_ID).all()
    label[:, :8] = 0
    _, enlarged = _geometry_only((1.2, 1.5))(image, label, torch_generator("enlarged"))
    assert (enlarged != IGNORE_ID).all()


def test_result_is_a_function_of_the_generator_alone() -> None:
    image, label = _encoded_batch()
    augment = StandardAugmentation()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = augment(image, label, torch_generator("same", 1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = augment(image, label, torch_generator("same", 1))
    other = augment(image, label, torch_generator("same", 2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])


def test_inputs_are_left_alone_and_form_is_kept() -> None:
    image, label = _encoded_batch()
    image_before, label_before = image.clone(), label.clone()
    moved, moved_label = StandardAugmentation(hue=0.5, brightness=0.9)(image, label, torch_generator("form"))
    assert torch.equal(image, image_before)
    assert torch.equal(label, label_before)
    assert moved.shape == image.shape
    assert moved.dtype == image.dtype
    assert moved_label.shape == label.shape
    assert moved_label.dtype == torch.int64
    assert moved.min() >= -1
    assert moved.max() <= 1


def test_colour_jitter_leaves_geometry_and_changes_each_sample_differently() -> None:
    image = torch.rand(4, 3, 24, 32, generator=torch_generator("colours")) * 2 - 1
    image = image[:1].repeat(4, 1, 1, 1)
    label = torch.arange(32).expand(4, 24, 32).contiguous()
    augment = StandardAugmentation(scale=(1, 1), flip=False)
    moved, moved_label = augment(image, label, torch_generator("jitter"))
    assert torch.equal(moved_label, label)
    assert len({round(float(sample.mean()), 5) for sample in moved}) == 4


def test_brightness_multiplies_the_unit_range() -> None:
    image = torch.zeros(64, 3, 4, 4)
    label = torch.zeros(64, 4, 4, dtype=torch.int64)
    augment = StandardAugmentation(scale=(1, 1), brightness=0.4, contrast=0, saturation=0, hue=0)
    moved, _ = augment(image, label, torch_generator("brightness"))
    # Mid-grey is 0.5 in [0, 1]: factors 0.6 to 1.4 give 0.3 to 0.7, that is -0.4 to 0.4 in [-1, 1].
    values = moved[:, 0, 0, 0]
    assert -0.4 <= values.min() < -0.3
    assert 0.3 < values.max() <= 0.4


def test_flip_is_an_involution_and_mirrors_about_half() -> None:
    image, label = _encoded_batch(64)
    once, once_label = flip_horizontally(image, label, torch_generator("flip"))
    twice, twice_label = flip_horizontally(once, once_label, torch_generator("flip"))
    assert torch.equal(twice, image)
    assert torch.equal(twice_label, label)
    mirrored = torch.tensor([torch.equal(once[index], image[index].flip(-1)) for index in range(64)])
    same = torch.tensor([torch.equal(once[index], image[index]) for index in range(64)])
    assert (mirrored | same).all()
    assert 16 < mirrored.sum() < 48
    for index in range(64):
        expected = label[index].flip(-1) if mirrored[index] else label[index]
        assert torch.equal(once_label[index], expected)


def test_mismatched_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="B3HW and BHW"):
        flip_horizontally(torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 9, dtype=torch.int64), torch_generator("shape"))
