from __future__ import annotations

import itertools
import urllib.error
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
from scipy.ndimage import gaussian_filter1d
from torch import nn
from torchvision.models import alexnet

from scenepalette.common.errors import AbsentError, DataError
from scenepalette.data.classes import IGNORE_ID
from scenepalette.evaluation.images.diversity import (
    SCALE_EXPONENTS,
    alexnet_url,
    class_variance,
    load_lpips,
    mean_pairwise_difference,
    mean_pairwise_lpips,
    mean_pairwise_ms_ssim,
    number_of_scales,
)


def draws(count: int, size: tuple[int, int], seed: int = 0, difference: int = 60) -> np.ndarray:
    """A smooth image with smooth differences between draws."""
    generator = np.random.default_rng(seed)
    height, width = size
    base = generator.uniform(0, 200, (1, height // 8 + 1, width // 8 + 1, 3))
    change = generator.uniform(0, difference, (count, height // 8 + 1, width // 8 + 1, 3))
    large = np.kron(base + change, np.ones((1, 8, 8, 1)))[:, :height, :width]
    fine = generator.uniform(0, 10, large.shape)
    return (large + fine).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "scales"),
    [
        ((11, 90), 1),
        ((21, 21), 1),
        ((22, 22), 2),
        ((44, 300), 3),
        ((96, 128), 3),
        ((99, 99), 4),
        ((175, 999), 4),
        ((176, 200), 5),
        ((512, 1024), 5),
    ],
)
def test_number_of_scales(size: tuple[int, int], scales: int) -> None:
    assert number_of_scales(*size) == scales


def test_images_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(DataError, match="received images of 10 x 50"):
        number_of_scales(10, 50)


def ms_ssim(first: np.ndarray, second: np.ndarray, exponents: list[float]) -> float:
    """Wang et al. 2003, eq. 7, of two images HW3 in [0, 1]; at borders the image is mirrored."""

    def blur(values: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            values = gaussian_filter1d(values, sigma=1.5, radius=5, axis=axis, mode="mirror")
        return values

    value = 1.0
    for scale, exponent in enumerate(exponents, start=1):
        mean_a, mean_b = blur(first), blur(second)
        variance_a, variance_b = blur(first**2) - mean_a**2, blur(second**2) - mean_b**2
        covariance = blur(first * second) - mean_a * mean_b
        luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        structure = (2 * covariance + 0.03**2) / (variance_a + variance_b + 0.03**2)
        # Only the coarsest scale counts luminance; the finer ones leave out what the mirrored border reaches.
        term = (luminance * structure).mean() if scale == len(exponents) else structure[5:-5, 5:-5].mean()
        value *= max(term, 0.0) ** exponent
        height, width = (length // 2 * 2 for length in first.shape[:2])
        first, second = (
            picture[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
            for picture in (first, second)
        )
    return value


@pytest.mark.parametrize(("size", "scales"), [((20, 30), 1), ((25, 47), 2), ((96, 128), 3), ((100, 101), 4)])
def test_ms_ssim_against_its_definition(size: tuple[int, int], scales: int) -> None:
    images = draws(3, size)
    exponents = np.array(SCALE_EXPONENTS[:scales]) / sum(SCALE_EXPONENTS[:scales])
    pairs = itertools.combinations(images / 255, 2)
    expected = np.mean([ms_ssim(first, second, exponents.tolist()) for first, second in pairs])
    value = mean_pairwise_ms_ssim(images)
    assert 0.1 < value < 0.95
    assert value == pytest.approx(expected, abs=1e-4)


def test_ms_ssim_with_all_five_scales() -> None:
    assert sum(SCALE_EXPONENTS) == pytest.approx(1, abs=1e-3)
    images = draws(2, (176, 180))
    assert mean_pairwise_ms_ssim(images) == pytest.approx(
        ms_ssim(images[0] / 255, images[1] / 255, list(SCALE_EXPONENTS)), abs=1e-4
    )


def test_ms_ssim_limits() -> None:
    image = draws(1, (48, 64))
    assert mean_pairwise_ms_ssim(np.repeat(image, 4, axis=0)) == pytest.approx(1, abs=1e-5)
    assert mean_pairwise_ms_ssim(np.concatenate([image, 255 - image])) == 0
    near, far = (mean_pairwise_ms_ssim(draws(4, (48, 64), difference=change)) for change in (10, 200))
    assert far < near < 1


def test_ms_ssim_of_many_pairs_does_not_depend_on_the_order() -> None:
    images = draws(10, (24, 24))  # 45 pairs, more than are compared at once
    each = [mean_pairwise_ms_ssim(images[list(pair)]) for pair in itertools.combinations(range(10), 2)]
    assert mean_pairwise_ms_ssim(images) == pytest.approx(np.mean(each), abs=1e-6)
    assert mean_pairwise_ms_ssim(images[::-1]) == pytest.approx(np.mean(each), abs=1e-6)


@pytest.mark.parametrize("function", [mean_pairwise_ms_ssim, lambda images: class_variance(images, images[0], 2)])
def test_one_image_or_none_is_refused(function: Callable[[np.ndarray], object]) -> None:
    with pytest.raises(DataError, match="at least 2; received 1"):
        function(draws(1, (48, 64)))
    with pytest.raises(DataError, match="received float64"):
        function(draws(2, (48, 64)) / 255)


@pytest.fixture(scope="module")
def lpips(alexnet_weights: Path) -> nn.Module:
    before = torch.hub.get_dir()
    network = load_lpips(alexnet_weights)
    assert torch.hub.get_dir() == before
    return network


def lpips_by_hand(first: np.ndarray, second: np.ndarray, weights: Path) -> float:
    """Zhang et al. 2018, eq. 1, with torchvision's AlexNet and the linear layers that torchmetrics ships."""
    backbone = alexnet(weights=None).eval()
    backbone.load_state_dict(torch.load(weights, weights_only=True))
    shipped = Path(torchmetrics.__file__).parent / "functional/image/lpips_models/alex.pth"
    heads = torch.load(shipped, map_location="cpu", weights_only=True)
    total = 0.0
    with torch.no_grad():
        values = []
        for picture in (first, second):
            value = torch.from_numpy(picture / 127.5 - 1).permute(2, 0, 1)[None].float()
            shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]]).view(2, 1, 3, 1, 1)
            values.append((value - shift) / scale)
        # After each of the five rectified convolutions.
        for head, (start, stop) in enumerate([(0, 2), (2, 5), (5, 8), (8, 10), (10, 12)]):
            values = [backbone.features[start:stop](value) for value in values]
            unit = [value / value.square().sum(dim=1, keepdim=True).sqrt().clamp_min(1e-10) for value in values]
            difference = (unit[0] - unit[1]).square()
            total += float((difference * heads[f"lin{head}.model.1.weight"]).sum(dim=1).mean())
    return total


def test_lpips_against_its_definition(lpips: nn.Module, alexnet_weights: Path) -> None:
    images = draws(3, (64, 80))
    expected = np.mean([lpips_by_hand(a, b, alexnet_weights) for a, b in itertools.combinations(images, 2)])
    assert expected > 0
    assert mean_pairwise_lpips(images, lpips) == pytest.approx(expected, rel=1e-3)


def test_lpips_limits_and_pairs(lpips: nn.Module) -> None:
    images = draws(9, (32, 40))  # 36 pairs, more than are compared at once
    assert mean_pairwise_lpips(np.repeat(images[:1], 4, axis=0), lpips) == 0
    each = [mean_pairwise_lpips(images[list(pair)], lpips) for pair in itertools.combinations(range(9), 2)]
    assert mean_pairwise_lpips(images, lpips) == pytest.approx(np.mean(each), rel=1e-4)
    assert mean_pairwise_lpips(images[::-1], lpips) == pytest.approx(np.mean(each), rel=1e-4)


def test_lpips_of_the_smallest_images(lpips: nn.Module) -> None:
    assert mean_pairwise_lpips(draws(2, (31, 31)), lpips) > 0
    with pytest.raises(DataError, match="at least 31 pixels each way; received 30 x 64"):
        mean_pairwise_lpips(draws(2, (30, 64)), lpips)


def test_lpips_without_weights_is_absent_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def unreachable(url: str, path: str, **_: object) -> None:
        asked.append(url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(AbsentError) as absent:
        load_lpips()
    assert str(absent.value) == (
        "AlexNet weights could not be downloaded (no network); give the path of alexnet-owt-7be5be79.pth."
    )
    assert asked == [alexnet_url()]


def test_lpips_with_weights_of_another_network_is_absent(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(AbsentError, match=r"other\.pth could not be loaded") as absent:
        load_lpips(tmp_path / "other.pth")
    assert "\n" not in str(absent.value)


def test_the_mean_difference_is_taken_over_all_pairs_of_images() -> None:
    images = np.stack([np.full((2, 3, 3), value, np.uint8) for value in (0, 10, 250)])
    assert mean_pairwise_difference(images) == pytest.approx((10 + 250 + 240) / 3)


def test_class_variance_by_hand() -> None:
    label = np.array([[0, 0, 1], [1, IGNORE_ID, 1]], dtype=np.uint8)
    images = np.zeros((2, 2, 3, 3), dtype=np.uint8)
    images[1, 0, 0] = 255  # one of two pixels of class 0: variance 1/4 in all channels
    images[1, 1, 2, 0] = 51  # one of three pixels of class 1: variance 0.01 in one channel of three
    images[1, 1, 1] = 255  # ignored
    values = class_variance(images, label, 3)
    assert values[:2] == pytest.approx([0.25 / 2, 0.01 / 3 / 3])
    assert np.isnan(values[2])


def test_class_variance_against_numpy() -> None:
    label = np.random.default_rng(0).integers(0, 4, (12, 14))
    images = draws(5, (12, 14))
    expected = [np.var(images[:, label == class_id] / 255, axis=0).mean() for class_id in range(4)]
    assert class_variance(images, label, 4) == pytest.approx(expected)


def test_class_variance_limits() -> None:
    label = np.zeros((48, 64), dtype=np.int64)
    assert class_variance(np.repeat(draws(1, (48, 64)), 3, axis=0), label, 1) == pytest.approx(0, abs=1e-12)
    assert np.isnan(class_variance(draws(2, (48, 64)), np.full_like(label, IGNORE_ID), 2)).all()
    with pytest.raises(DataError, match=r"holds the ids \[5\], but there are 2 classes"):
        class_variance(draws(2, (48, 64)), label + 5, 2)
    with pytest.raises(DataError, match="of the same size"):
        class_variance(draws(2, (48, 64)), label[:-1], 2)
