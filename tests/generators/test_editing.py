"""Edits of scenes with networks whose reach is known, and the arithmetic of changed palettes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from scenepalette.common.errors import ConfigError
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import labels_to_palette
from scenepalette.generators.editing import (
    Painter,
    autoencoding,
    changed_palette,
    noise_interpolation,
    palette_interpolation,
    partial_edit,
    resampling,
)
from scenepalette.generators.images.base import ImageGenerator
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.generators.layouts.networks.progressive import FullLayoutGenerator, PartialLayoutGenerator
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.layouts.settings import LayoutSettings

SIZE = (12, 16)
REACH = 2  # pixels that a value of noise is seen from, each way
SMALL = LayoutSettings(noise_features=6, max_width=8, base_width=32, hidden_channels=6)


class Blur(ImageGenerator):
    """Noise per pixel, averaged over 5x5 pixels, above the class's brightness."""

    num_classes = 3
    noise_schemes = ("pixel",)

    def sample_noise(self, scheme: NoiseScheme | None, label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        return torch.stack([torch.randn(1, *label.shape[1:], generator=generator) for generator in generators])

    def forward(self, label_map: Tensor, noise: Tensor) -> Tensor:
        brightness = (label_map * torch.tensor([-0.5, 0.0, 0.5]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        blurred = F.avg_pool2d(noise, 2 * REACH + 1, 1, REACH, count_include_pad=False)
        return (brightness + blurred / 2).clamp(-1, 1).expand(-1, 3, -1, -1)


@pytest.fixture
def painter(fabric: Fabric) -> Painter:
    return Painter(Blur().eval(), 3, fabric)


@pytest.fixture
def label() -> np.ndarray:
    """Sky above wall above ground."""
    return np.repeat(np.array([2] * 4 + [1] * 4 + [0] * 4, dtype=np.uint8)[:, None], 16, axis=1)


def layout_generator(system: str) -> nn.Module:
    torch.manual_seed(0)
    return LAYOUT_SYSTEMS[system].build_generator(ClassTable.unnamed(3), SIZE, SMALL).eval()


def seen_from(region: np.ndarray) -> np.ndarray:
    """Pixels from which some pixel of the region is within reach."""
    grown = F.max_pool2d(torch.from_numpy(region).float()[None, None], 2 * REACH + 1, 1, REACH)
    return grown[0, 0].numpy() > 0


@pytest.mark.parametrize("edit", [noise_interpolation, resampling])
def test_noise_in_a_region_changes_what_can_see_it_and_nothing_else(
    edit: object, painter: Painter, label: np.ndarray
) -> None:
    region = np.zeros(SIZE, dtype=bool)
    region[1:4, 10:13] = True
    frames = edit(painter, label, 4, 7, region)  # type: ignore[operator]
    assert len(frames) == 4
    changed = np.stack([(frame.image != frames[0].image).any(axis=2) for frame in frames[1:]])
    assert not changed[:, ~seen_from(region)].any()
    assert changed[-1][region].mean() > 0.5
    assert all(np.array_equal(frame.label, label) and frame.palette_target is None for frame in frames)
    everywhere = edit(painter, label, 4, 7)  # type: ignore[operator]
    assert (everywhere[0].image == frames[0].image).all()
    assert (everywhere[-1].image != frames[0].image).any(axis=2)[~seen_from(region)].mean() > 0.5


def test_interpolated_noise_goes_straight_from_one_draw_to_the_other(painter: Painter, label: np.ndarray) -> None:
    first, middle, last = (frame.image.astype(float) for frame in noise_interpolation(painter, label, 3, 7))
    unclipped = (np.minimum(first, last) > 0) & (np.maximum(first, last) < 255)
    assert unclipped.mean() > 0.5
    np.testing.assert_allclose(middle[unclipped], ((first + last) / 2)[unclipped], atol=1)


def test_edits_are_functions_of_the_seed(painter: Painter, label: np.ndarray) -> None:
    for edit in (noise_interpolation, resampling):
        frames, again, other = edit(painter, label, 3, 7), edit(painter, label, 3, 7), edit(painter, label, 3, 8)
        assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, again, strict=True))
        assert not np.array_equal(frames[0].image, other[0].image)


def test_a_longer_strip_begins_with_the_shorter_one(painter: Painter, label: np.ndarray) -> None:
    short, long = resampling(painter, label, 2, 7), resampling(painter, label, 5, 7)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(short, long, strict=False))
    assert len({frame.image.tobytes() for frame in long}) == 5


def test_noise_is_refused_of_generators_without_it(fabric: Fabric, label: np.ndarray) -> None:
    class Still(Blur):
        """Takes no noise."""

        noise_schemes = ()

    class Global(Blur):
        """Its noise belongs to the whole image."""

        def sample_noise(
            self, scheme: NoiseScheme | None, label: Tensor, generators: Sequence[torch.Generator]
        ) -> Tensor:
            return torch.stack([torch.randn(4, generator=generator) for generator in generators])

    for edit in (noise_interpolation, resampling):
        with pytest.raises(ConfigError, match="asked of a Still, which takes none"):
            edit(Painter(Still(), 3, fabric), label, 2, 0)
        with pytest.raises(ConfigError, match="asked of a Global, whose noise belongs to the whole image"):
            edit(Painter(Global(), 3, fabric), label, 2, 0, label == 1)


def test_palettes_go_from_one_end_to_the_other(painter: Painter) -> None:
    generator = layout_generator("semantic-palette")
    assert isinstance(generator, FullLayoutGenerator)
    first, second = np.array([0.5, 0.5, 0.0]), np.array([0.1, 0.2, 0.7])
    scenes = palette_interpolation(generator, painter, first, second, 5, 3)
    targets = np.stack([scene.palette_target for scene in scenes])  # type: ignore[type-var]
    np.testing.assert_allclose(targets[[0, 2, 4]], [first, (first + second) / 2, second], atol=1e-12)
    # Noise and everything else is the same in all frames: equal palettes give equal scenes.
    still = palette_interpolation(generator, painter, first, first, 3, 3)
    assert all(np.array_equal(scene.label, scenes[0].label) for scene in still)
    assert all(np.array_equal(scene.image, scenes[0].image) for scene in still)


def test_autoencoding_paints_what_is_predicted(painter: Painter) -> None:
    image = torch.full((1, 3, *SIZE), 0.9)
    image[:, :, :5] = -0.9

    def predict(discriminator: nn.Module, pictures: Tensor) -> Tensor:
        return torch.where(pictures[:, 0] > 0, 2, 0)

    scenes = autoencoding(painter, nn.Identity(), predict, image, 3, 1)
    assert len(scenes) == 3
    for scene in scenes:
        assert (scene.label[:5] == 0).all() and (scene.label[5:] == 2).all()
        assert scene.image[8:].mean() > scene.image[:3].mean() + 60
    assert len({scene.image.tobytes() for scene in scenes}) == 3


def test_partial_edits_ask_for_the_changed_palette_and_repaint_what_they_changed(
    painter: Painter, label: np.ndarray
) -> None:
    generator = layout_generator("semantic-palette-partial")
    assert isinstance(generator, PartialLayoutGenerator)
    box = (0, 0, 12, 8)
    before, *variants = partial_edit(generator, painter, label, box, {1: 1.5}, 3, 4)
    np.testing.assert_array_equal(before.label, label)
    shares = labels_to_palette(torch.from_numpy(label.astype(np.int64))[None], 3)[0].numpy()
    np.testing.assert_allclose(before.palette_target, shares, atol=1e-6)  # type: ignore[arg-type]
    assert len(variants) == 3
    for scene in variants:
        # Half of the scene is kept with a third of each class; in the other half 0.5 wall, 0.25 of each other class.
        np.testing.assert_allclose(
            scene.palette_target, np.array([1 / 3 + 1 / 4, 1 / 3 + 1 / 2, 1 / 3 + 1 / 4]) / 2, atol=1e-6
        )  # type: ignore[arg-type]
        # The noise of the image is kept, so that the image changes where the layout does and nowhere else.
        same = scene.label == label
        np.testing.assert_array_equal(scene.image[same], before.image[same])
    again = partial_edit(generator, painter, label, box, {1: 1.5}, 1, 4)[1]
    np.testing.assert_array_equal(again.label, variants[0].label)


@pytest.mark.parametrize(
    ("palette", "factors", "expected"),
    [
        ([0.5, 0.25, 0.25, 0.0], {1: 2.0}, [1 / 3, 0.5, 1 / 6, 0.0]),
        ([0.5, 0.25, 0.25, 0.0], {1: 0.0}, [2 / 3, 0.0, 1 / 3, 0.0]),
        ([0.5, 0.25, 0.25, 0.0], {1: 2.0, 2: 0.0}, [0.5, 0.5, 0.0, 0.0]),
        ([0.5, 0.25, 0.25, 0.0], {0: 2.0}, [1.0, 0.0, 0.0, 0.0]),
        ([0.5, 0.25, 0.25, 0.0], {3: 9.0}, [0.5, 0.25, 0.25, 0.0]),
        ([0.5, 0.25, 0.25, 0.0], {}, [0.5, 0.25, 0.25, 0.0]),
    ],
)
def test_changed_shares_are_met_and_the_others_keep_their_proportions(
    palette: list[float], factors: dict[int, float], expected: list[float]
) -> None:
    before = np.array(palette)
    np.testing.assert_allclose(changed_palette(before, factors), expected, atol=1e-12)
    np.testing.assert_array_equal(before, palette)


@pytest.mark.parametrize("error", [-6e-8, 6e-8])
def test_rounding_of_single_precision_is_no_contradiction(error: float) -> None:
    changed = changed_palette(np.array([0.5 + error, 0.5, 0.0]), {0: 1.0, 1: 1.0})
    np.testing.assert_allclose(changed, [0.5, 0.5, 0.0], atol=1e-7)
    assert changed.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("factors", "text"),
    [({0: 3.0}, "would take 150.0 %"), ({0: 0.5, 1: 0.5}, "would take 50.0 % .* the others have 0.0 %")],
)
def test_factors_that_cannot_be_met_are_refused(factors: dict[int, float], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        changed_palette(np.array([0.5, 0.5, 0.0]), factors)
