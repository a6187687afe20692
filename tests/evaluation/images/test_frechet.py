from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance

from scenepalette.common.errors import DataError
from scenepalette.data.arrays import Pairs
from scenepalette.evaluation.images.features import inception_features, load_inception, segmenter_features
from scenepalette.evaluation.images.frechet import frechet_distance, fsd
from scenepalette.segmenters.model import build_network, pooled_features


def exact_gaussian(count: int, mean: np.ndarray, covariance: np.ndarray, seed: int) -> np.ndarray:
    """Samples whose own mean and covariance (divided by N - 1) are exactly the given ones."""
    raw = np.random.default_rng(seed).standard_normal((count, len(mean)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False)).T)
    return white @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_in_closed_form() -> None:
    # For diagonal covariances: |m - n|^2 + sum (s - t)^2 with standard deviations s and t.
    a = exact_gaussian(50, np.array([1.0, 0.0, -1.0]), np.diag([1.0, 4.0, 9.0]), seed=0)
    b = exact_gaussian(70, np.array([0.0, 2.0, -1.0]), np.diag([4.0, 4.0, 1.0]), seed=1)
    assert frechet_distance(a, b) == pytest.approx((1 + 4) + (1 + 0 + 4), rel=1e-10)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-10)


def test_frechet_distance_against_scipy_and_torch_fidelity() -> None:
    generator = np.random.default_rng(3)
    a = generator.standard_normal((40, 5)) @ generator.standard_normal((5, 5)) + 0.5
    b = generator.standard_normal((30, 5)) @ generator.standard_normal((5, 5))
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    by_scipy = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    statistics = [fid_features_to_statistics(torch.from_numpy(features)) for features in (a, b)]
    by_fidelity = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(a, b) == pytest.approx(by_scipy, rel=1e-9)
    assert frechet_distance(a, b) == pytest.approx(by_fidelity, rel=1e-9)


def test_frechet_distance_with_fewer_samples_than_features() -> None:
    # One direction of variation each, at right angles: the covariances share nothing.
    a, b = np.zeros((2, 6)), np.zeros((3, 6))
    a[:, 0], b[:, 1] = [-1, 1], [-1, 0, 1]
    assert frechet_distance(a, b) == pytest.approx(2.0 + 1.0)


@pytest.mark.parametrize(
    ("shape", "value", "message"), [((1, 3), 0.0, "at least 2"), ((4, 2), 0.0, "features"), ((4, 3), np.nan, "finite")]
)
def test_frechet_distance_refuses(shape: tuple[int, int], value: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        frechet_distance(np.full(shape, value), np.zeros((4, 3)))


def test_fsd_is_in_percentage_points() -> None:
    real = np.array([[0.5, 0.5], [0.5, 0.5]])
    generated = np.array([[0.6, 0.4], [0.6, 0.4]])
    assert fsd(real, generated) == pytest.approx(2 * 10**2)


def test_frechet_distance_of_segmenter_features(make_pairs: Callable[..., Pairs], fabric: Fabric) -> None:
    torch.manual_seed(0)
    model = build_network("deeplabv3", 3, decoder_channels=8)
    real, generated = make_pairs(count=5), make_pairs(count=4, seed=1, brightness=60)
    of_real, of_generated = (segmenter_features(model, pairs, 2, fabric) for pairs in (real, generated))
    value = frechet_distance(of_real, of_generated)
    with torch.no_grad():
        features = [
            pooled_features(model.eval(), pairs.batch(range(len(pairs)))[0]).double() for pairs in (real, generated)
        ]
    statistics = [fid_features_to_statistics(feature) for feature in features]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert value == pytest.approx(expected, rel=1e-3)
    assert frechet_distance(of_real, of_real) < 1e-6 < value


@pytest.mark.slow
def test_fid_with_local_weights_against_torchmetrics(inception_weights: Path) -> None:
    generator = np.random.default_rng(0)
    real = generator.integers(0, 256, (4, 32, 48, 3), dtype=np.uint8)
    generated = generator.integers(0, 128, (4, 32, 48, 3), dtype=np.uint8)
    network = load_inception(inception_weights)
    value = frechet_distance(
        inception_features(network, [real[:2], real[2:]]), inception_features(network, [generated])
    )
    # Without antialiasing images are resized as for the original network.
    independent = FrechetInceptionDistance(
        2048, feature_extractor_weights_path=str(inception_weights), antialias=False
    ).set_dtype(torch.float64)
    for images, is_real in ((real, True), (generated, False)):
        independent.update(torch.from_numpy(images).permute(0, 3, 1, 2), real=is_real)
    assert value > 1
    assert value == pytest.approx(independent.compute().item(), rel=1e-3)
