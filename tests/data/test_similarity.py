from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.data import similarity
from scenepalette.data.similarity import (
    UPRIGHT,
    are_copies,
    candidates,
    comparable,
    overlay,
    similar_pairs,
    thumbnail_of,
    thumbnail_of_blocks,
)


@pytest.fixture
def thumbnails() -> np.ndarray:
    """Six images of noise, uint8 [6, 32, 32], from 20 to 120."""
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
    assert similar_pairs(thumbnails, turns=[UPRIGHT]) == []


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
    thumbnails[:] = 7
    assert similar_pairs(thumbnails) == candidates(thumbnails, thumbnails) == []


def test_blocks_and_limits_lose_no_pair_among_what_is_compared(
    thumbnails: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    thumbnails[5] = thumbnails[0]
    whole = similar_pairs(thumbnails)
    monkeypatch.setattr(similarity, "_BLOCK", 2)
    assert [(pair.first, pair.second) for pair in similar_pairs(thumbnails)] == [(0, 5)] and len(whole) == 1
    monkeypatch.setattr(similarity, "MOST_COMPARED", 2)
    assert [(pair.first, pair.second) for pair in similar_pairs(thumbnails)] == [(0, 5)]  # the first and the last


def scene(seed: int, height: int = 240, width: int = 320) -> np.ndarray:
    """An image with structure of all sizes, uint8 [H, W, 3]."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for side in (4, 8, 16, 32, 64):
        # Colours are pale, as in photographs: the channels have most of their structure together.
        noise = (random.normal(size=(side, side, 1)) + 0.3 * random.normal(size=(side, side, 3))) / side**0.6
        for channel in range(3):
            layer = Image.fromarray(noise[:, :, channel].astype(np.float32)).resize((width, height))
            total[:, :, channel] += np.asarray(layer)
    return np.clip(128 + 60 * total / total.std(), 0, 255).astype(np.uint8)


def cropped(image: np.ndarray, share: float = 0.05) -> np.ndarray:
    height, width = image.shape[:2]
    top, left = round(height * share / 2), round(width * share / 2)
    return np.asarray(Image.fromarray(image[top : height - top, left : width - left]).resize((width, height)))


def thumbnail(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).convert("L").resize((32, 32), Image.Resampling.BOX))


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "shifted by 1": lambda image: np.roll(image, 1, 1),
    "shifted by 3 and 3": lambda image: np.roll(image, (3, 3), (0, 1)),
    "gamma 0.6": lambda image: (255 * (image / 255) ** 0.6).astype(np.uint8),
    "gamma 1.6": lambda image: (255 * (image / 255) ** 1.6).astype(np.uint8),
    "cropped by 5 %": cropped,
    "cropped, with a gamma": lambda image: cropped((255 * (image / 255) ** 0.6).astype(np.uint8)),
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned by 180 degrees": lambda image: image[::-1, ::-1],
}


@pytest.mark.parametrize("how", COPIES)
def test_changed_copies_are_candidates_and_the_same_once_laid_over_each_other(how: str) -> None:
    images = [scene(seed) for seed in range(6)]
    copy = COPIES[how](images[4])
    (pair,) = candidates(thumbnail(copy)[None], np.stack([thumbnail(image) for image in images]))
    assert (pair.first, pair.second) == (0, 4)
    assert (pair.mirrored, pair.upside_down) == (
        how in ("mirrored", "turned by 180 degrees"),
        how in ("upside down", "turned by 180 degrees"),
    )
    upright = copy[:: -1 if pair.upside_down else 1, :: -1 if pair.mirrored else 1]
    assert are_copies(comparable(upright), comparable(images[4]))


@pytest.mark.slow
def test_frames_next_to_each_other_in_a_real_video_are_candidates_but_no_copies(camvid: Path) -> None:
    paths = sorted((camvid / "train").glob("*.png"))
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    small = np.stack([thumbnail(image) for image in images])
    found = [pair for pair in candidates(small[::2], small[1::2]) if not pair.mirrored and not pair.upside_down]
    ready = [comparable(image) for image in images]
    alike = [overlay(ready[2 * pair.first], ready[2 * pair.second + 1]) for pair in found]
    assert len(alike) > 50 and max(alike)[0] < similarity.ALIGNED
    changed = {image: np.roll(images[image], (2, 3), (0, 1)) for image in range(0, len(images), 20)}
    assert all(are_copies(comparable(copy), ready[image]) for image, copy in changed.items())


def test_pictures_whose_parts_moved_differently_are_no_copies() -> None:
    before, far = scene(0), np.roll(scene(0), 2, 1)
    near = np.roll(before, 14, 1)
    after = np.concatenate([far[:150], near[150:]])  # as the ground moves in a video, more than what is behind it
    (pair,) = candidates(thumbnail(after)[None], thumbnail(before)[None])
    assert pair.correlation > 0.9
    assert not are_copies(comparable(after), comparable(before))


def test_smooth_pictures_with_different_detail_are_no_copies() -> None:
    slope = np.linspace(0, 180, 240)[:, None, None] + np.zeros((240, 320, 3))
    images = [
        comparable((slope + np.random.default_rng(seed).normal(0, 9, slope.shape)).clip(0, 255).astype(np.uint8))
        for seed in range(2)
    ]
    alike, detailed = overlay(*images)
    assert alike > 0.985 and detailed < 0.5 and not are_copies(*images)


def test_flat_pictures_can_be_laid_over_each_other() -> None:
    flat = comparable(np.full((40, 60, 3), 9, np.uint8))
    assert overlay(flat, flat) == (0.0, 0.0) and overlay(flat, comparable(scene(1)))[0] == 0.0


def test_candidates_are_the_nearest_few(monkeypatch: pytest.MonkeyPatch) -> None:
    image = scene(3)
    others = np.stack([thumbnail(np.roll(image, shift, 1)) for shift in (3, 0, 2, 1)])
    expected = [(0, 1), (0, 3)]
    for block in (2048, 2):
        monkeypatch.setattr(similarity, "_BLOCK", block)
        found = candidates(thumbnail(image)[None], others, most=2)
        assert [(pair.first, pair.second) for pair in found] == expected


@pytest.mark.parametrize("size", [(96, 128), (97, 131), (130, 513)])
def test_thumbnails_of_blocks_are_means_over_areas(size: tuple[int, int]) -> None:
    means = np.random.default_rng(0).integers(0, 256, size).astype(np.float32)
    height, width = size[0] - 0.25, size[1] - 0.75  # the last blocks are cut off
    # Twenty points to a block, as many of them as of the image.
    rows = ((np.arange(3200) + 0.5) * height / 3200).astype(int)
    columns = ((np.arange(3200) + 0.5) * width / 3200).astype(int)
    expected = means[np.ix_(rows, columns)].reshape(32, 100, 32, 100).mean((1, 3))
    assert abs(thumbnail_of_blocks(means, height, width) - expected).max() < 4


def test_whole_blocks_have_the_thumbnail_of_their_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 512), dtype=np.uint8)
    means = pixels.reshape(64, 4, 128, 4).mean((1, 3))
    assert abs(thumbnail_of_blocks(means, 64, 128).astype(int) - thumbnail_of(Image.fromarray(pixels))).max() <= 1
