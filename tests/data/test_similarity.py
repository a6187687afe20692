from __future__ import annotations

import numpy as np
import pytest

from data import similarity
from data.similarity import similar_pairs


@pytest.fixture
def thumbnails() -> np.ndarray:
    """Six pictures of noise, uint8 [6, 32, 32], from 20 to 120."""
    return np.random.default_rng(0).integers(20, 121, (6, 32, 32), dtype=np.uint8)


def test_only_copies_are_similar_whatever_their_brightness_and_contrast(thumbnails: np.ndarray) -> None:
    others = np.random.default_rng(1).integers(20, 121, (4, 32, 32), dtype=np.uint8)
    others[2] = thumbnails[4] * 2 + 10
    others[0] = thumbnails[1]
    found = similar_pairs(thumbnails, others)
    assert {(pair.first, pair.second, pair.mirrored) for pair in found} == {(1, 0, False), (4, 2, False)}
    assert all(pair.correlation > 0.9999 for pair in found)


def test_mirrored_copies_are_found_if_asked_for(thumbnails: np.ndarray) -> None:
    thumbnails[5] = thumbnails[2][:, ::-1]
    (pair,) = similar_pairs(thumbnails)
    assert (pair.first, pair.second, pair.mirrored) == (2, 5, True)
    assert similar_pairs(thumbnails, mirrored=False) == []


def test_correlation_is_pearsons_and_the_threshold_holds(thumbnails: np.ndarray) -> None:
    noise = np.random.default_rng(2).normal(0, 8, (32, 32))
    thumbnails[1] = (thumbnails[0] + noise).clip(0, 255)
    expected = np.corrcoef(thumbnails[0].ravel(), thumbnails[1].ravel())[0, 1]
    (pair,) = similar_pairs(thumbnails, threshold=expected - 1e-4)
    assert abs(pair.correlation - expected) < 1e-5
    assert similar_pairs(thumbnails, threshold=expected + 1e-4) == []


def test_flat_pictures_are_left_out(thumbnails: np.ndarray) -> None:
    thumbnails[:3] = 7
    assert similar_pairs(thumbnails) == []


def test_blocks_and_limits_lose_no_pair_among_what_is_compared(
    thumbnails: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    thumbnails[5] = thumbnails[0]
    whole = similar_pairs(thumbnails)
    monkeypatch.setattr(similarity, "_BLOCK", 2)
    assert [(pair.first, pair.second) for pair in similar_pairs(thumbnails)] == [(0, 5)] and len(whole) == 1
    monkeypatch.setattr(similarity, "MOST_COMPARED", 2)
    assert [(pair.first, pair.second) for pair in similar_pairs(thumbnails)] == [(0, 5)]  # the first and the last
