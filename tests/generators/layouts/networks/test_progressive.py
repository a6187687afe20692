from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.data.labels import one_hot
from scenepalette.generators.layouts.crops import boxes_to_crop
from scenepalette.generators.layouts.networks.progressive import (
    LayoutDiscriminator,
    LayoutGenerator,
    PartialLayoutGenerator,
    addition_budget,
    crop_layout,
    partial_budget,
    progressive_widths,
    upsample,
)
from scenepalette.generators.nn.blocks import count_parameters

CLASSES = 4
SMALL = {"noise_features": 6, "max_width": 8, "base_width": 32}


def make_generator(seed: int = 0) -> LayoutGenerator:
    torch.manual_seed(seed)
    return LayoutGenerator(CLASSES, (3, 4), 2, **SMALL)


def make_partial(seed: int = 0) -> PartialLayoutGenerator:
    torch.manual_seed(seed)
    return PartialLayoutGenerator(CLASSES, (3, 4), 2, hidden_channels=5, **SMALL)


def make_inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return torch.randn(3, 6), torch.distributions.Dirichlet(torch.ones(CLASSES)).sample((3,))


def make_cropped(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return layouts, crops and the budget of filling them by random palettes, at 12x16."""
    torch.manual_seed(seed)
    layout = one_hot(torch.randint(0, CLASSES, (3, 12, 16)), CLASSES)
    crop = boxes_to_crop([(2, 3, 6, 9), (0, 0, 12, 8), (5, 1, 4, 4)], (12, 16))
    return layout, crop, partial_budget(make_inputs(seed)[1], crop)


def test_widths_are_those_of_the_progressive_networks() -> None:
    # ProGAN, table 2, for six levels; level 0 is the base grid.
    assert progressive_widths(5, 512, 8192) == [512, 512, 512, 512, 256, 128]
    assert progressive_widths(2, 16, 32) == [16, 8, 8]
    assert progressive_widths(2, 64, 64) == [32, 16, 8]


def test_parameters_of_the_papers_layout_generator() -> None:
    with torch.device("meta"):
        assert count_parameters(LayoutGenerator(12, (4, 8), 5)) == pytest.approx(27.61e6, rel=5e-4)


def test_parameters_of_small_networks_counted_by_hand() -> None:
    # Widths 8, 8, 8; convolutions have weights and biases.
    generator = (6 + 4) * 8 * 12 + 8 * 12 + 3 * (8 * 4 + 4) + 2 * (4 * 8 * 9 + 8) + 5 * (8 * 8 * 9 + 8)
    assert count_parameters(make_generator()) == generator
    spade = 3 * (4 * 5 * 9 + 5 + 5 * 16 * 9 + 16)
    blocks = 3 * (2 * (8 * 8 * 9 + 8) + spade * 2 // 3)
    partial = (6 + 5) * 8 * 12 + 8 * 12 + 3 * (8 * 5 + 5) + 2 * (5 * 8 * 9 + 8) + blocks
    assert count_parameters(make_partial()) == partial
    discriminator = 3 * (4 * 8 + 8) + 4 * (8 * 8 * 9 + 8) + (9 * 8 * 9 + 8) + (8 * 8 * 12 + 8) + 8 + 1
    assert count_parameters(LayoutDiscriminator(CLASSES, (3, 4), 2, 8, 32)) == discriminator


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("fade", [0.0, 0.3, 1.0])
def test_layouts_have_the_size_of_their_level_and_sum_to_one(level: int, fade: float) -> None:
    noise, palette = make_inputs()
    batch = make_generator()(noise, palette, level, fade)
    size = (3 << level, 4 << level)
    assert batch.layout.shape == (3, CLASSES, *size)
    torch.testing.assert_close(batch.layout.sum(dim=1), torch.ones(3, *size))
    assert [tuple(scale.mask.shape[2:]) for scale in batch.scales] == [(3 << i, 4 << i) for i in range(level + 1)]
    for scale in batch.scales:
        torch.testing.assert_close(scale.log_density.exp().sum(dim=(2, 3)), palette)


def test_the_last_level_is_the_default() -> None:
    noise, palette = make_inputs()
    network = make_generator()
    assert torch.equal(network(noise, palette).layout, network(noise, palette, 2, 1.0).layout)


@pytest.mark.parametrize("level", [1, 2])
def test_a_level_fades_in_from_the_one_before(level: int) -> None:
    noise, palette = make_inputs()
    network = make_generator()
    lower = network(noise, palette, level - 1).layout.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    full = network(noise, palette, level).layout
    torch.testing.assert_close(network(noise, palette, level, 0.0).layout, lower)
    torch.testing.assert_close(network(noise, palette, level, 0.25).layout, 0.75 * lower + 0.25 * full)
    assert (full - lower).abs().max() > 1e-3


@pytest.mark.parametrize("level", [1, 2])
def test_a_level_of_the_partial_generator_fades_in_from_the_one_before(level: int) -> None:
    network = make_partial().eval()
    layout, crop, budget = make_cropped()
    # A crop of the whole frame, so that nothing of the input, which has more detail, is merged in.
    cropped = crop_layout(layout, torch.ones_like(crop))
    budget = partial_budget(budget[:, :-1] / budget[:, :-1].sum(dim=1, keepdim=True), torch.ones_like(crop))
    noise, _ = make_inputs()
    lower = upsample(network(noise, budget, cropped, level - 1).layout)
    torch.testing.assert_close(network(noise, budget, cropped, level, 0.0).layout, lower)
    assert (network(noise, budget, cropped, level, 1.0).layout - lower).abs().max() > 1e-3


def test_every_part_of_the_generator_takes_part() -> None:
    noise, palette = make_inputs()
    network = make_generator()
    batch = network(noise, palette)
    (batch.layout.square().sum() + sum(scale.mask.square().sum() for scale in batch.scales)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if not (name.startswith("to_mask") and name.endswith("bias")):  # SAA takes no notice of a class's constant
            assert parameter.grad.abs().max() > 0, name


def test_noise_palette_and_the_lower_masks_reach_the_layout() -> None:
    noise, palette = make_inputs()
    network = make_generator()
    layout = network(noise, palette).layout
    assert (network(noise.flip(0), palette).layout - layout).abs().max() > 1e-3
    assert (network(noise, palette.flip(0)).layout - layout).abs().max() > 1e-3
    nn.init.zeros_(network.fusion[1].weight)  # type: ignore[arg-type]
    assert (network(noise, palette).layout - layout).abs().max() > 1e-4


@pytest.mark.parametrize("level", [0, 2])
def test_a_class_without_a_share_gets_no_pixel(level: int) -> None:
    noise, _ = make_inputs()
    palette = torch.tensor([[0.5, 0.0, 0.5, 0.0]]).expand(3, -1)
    layout = make_generator()(noise, palette, level, 0.5).layout
    assert layout[:, [1, 3]].abs().max().item() == 0.0
    only = torch.tensor([[0.0, 0.0, 0.0, 1.0]]).expand(3, -1)
    assert torch.equal(make_generator()(noise, only, level).layout[:, 3], torch.ones(3, 3 << level, 4 << level))


def test_budget_of_a_crop_by_hand() -> None:
    crop = boxes_to_crop([(0, 0, 2, 3), (0, 0, 4, 6)], (4, 6))  # a quarter of the frame, and all of it
    budget = partial_budget(torch.tensor([[0.2, 0.8], [0.5, 0.5]]), crop)
    torch.testing.assert_close(budget, torch.tensor([[0.05, 0.2, 0.75], [0.5, 0.5, 0.0]]))


def test_budget_of_additions_by_hand() -> None:
    target = torch.tensor([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]])
    current = torch.tensor([[0.7, 0.3, 0.0], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6]])
    expected = torch.tensor([[0.0, 0.0, 0.2, 0.8], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    torch.testing.assert_close(addition_budget(target, current), expected)


def test_nothing_is_added_to_a_layout_that_has_its_target() -> None:
    noise, _ = make_inputs()
    layout, _, _ = make_cropped()
    current = layout.mean(dim=(2, 3))
    batch = make_partial()(noise, addition_budget(current, current), layout)
    assert torch.equal(batch.layout, layout)
    assert batch.edited is not None and not batch.edited.any()


def test_where_the_mask_is_no_background_the_layout_counts_as_edited() -> None:
    noise, _ = make_inputs()
    layout, crop, budget = make_cropped()
    network = make_partial()
    network.to_mask[-1] = DecidedMask(crop)
    edited = network(noise, budget, crop_layout(layout, crop)).edited
    assert edited is not None and torch.equal(edited, crop)


def test_a_crop_is_marked_by_equal_shares() -> None:
    layout, crop, _ = make_cropped()
    cropped = crop_layout(layout, crop)
    for sample in range(3):
        assert torch.equal(cropped[sample][:, ~crop[sample]], layout[sample][:, ~crop[sample]])
        assert (cropped[sample][:, crop[sample]] == 1 / CLASSES).all()


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("fade", [0.4, 1.0])
def test_partial_layouts_sum_to_one_and_their_masks_have_a_background(level: int, fade: float) -> None:
    noise, _ = make_inputs()
    layout, crop, budget = make_cropped()
    batch = make_partial()(noise, budget, crop_layout(layout, crop), level, fade)
    size = (3 << level, 4 << level)
    assert batch.layout.shape == (3, CLASSES, *size)
    torch.testing.assert_close(batch.layout.sum(dim=1), torch.ones(3, *size))
    assert batch.scales[-1].mask.shape == (3, CLASSES + 1, *size)
    torch.testing.assert_close(batch.scales[-1].log_density.exp().sum(dim=(2, 3)), budget)


def test_merging_is_the_sum_of_the_mask_and_the_input_weighted_by_the_background() -> None:
    noise, _ = make_inputs()
    layout, crop, budget = make_cropped()
    cropped = crop_layout(layout, crop)
    batch = make_partial()(noise, budget, cropped)
    mask = batch.scales[-1].mask
    torch.testing.assert_close(batch.layout, mask[:, :CLASSES] + mask[:, CLASSES:] * cropped)


class DecidedMask(nn.Module):
    """Stands for a well-trained last layer: background outside the crop, the other classes inside."""

    def __init__(self, crop: Tensor) -> None:
        super().__init__()
        self.crop = crop

    def forward(self, x: Tensor) -> Tensor:
        inside = torch.where(self.crop, 0.0, -200.0)[:, None].expand(-1, CLASSES, -1, -1)
        return torch.cat([inside, torch.where(self.crop, -200.0, 0.0)[:, None]], dim=1)


def test_where_the_background_is_certain_the_input_is_kept() -> None:
    noise, palette = make_inputs()
    layout, crop, budget = make_cropped()
    network = make_partial()
    network.to_mask[-1] = DecidedMask(crop)
    merged = network(noise, budget, crop_layout(layout, crop)).layout
    for sample in range(3):
        inside = crop[sample]
        assert torch.equal(merged[sample][:, ~inside], layout[sample][:, ~inside])
        # The crop is filled by the palette of the crop, not of the frame.
        filled = merged[sample][:, inside].mean(dim=1)
        torch.testing.assert_close(filled, palette[sample], rtol=1e-4, atol=1e-5)


def test_nothing_is_changed_where_nothing_is_cropped() -> None:
    noise, palette = make_inputs()
    layout, crop, _ = make_cropped()
    crop = torch.zeros_like(crop)
    merged = make_partial()(noise, partial_budget(palette, crop), crop_layout(layout, crop)).layout
    assert torch.equal(merged, layout)


def test_the_partial_generator_sees_the_layout_around_the_crop() -> None:
    noise, _ = make_inputs()
    layout, crop, budget = make_cropped()
    network = make_partial()
    first = network(noise, budget, crop_layout(layout, crop)).scales[-1].mask
    second = network(noise, budget, crop_layout(layout.flip(0), crop)).scales[-1].mask
    assert (first - second).abs().max() > 1e-3


def make_discriminator(seed: int = 0) -> LayoutDiscriminator:
    torch.manual_seed(seed)
    return LayoutDiscriminator(CLASSES, (3, 4), 2, 8, 32)


def make_layout(level: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return torch.softmax(2 * torch.randn(3, CLASSES, 3 << level, 4 << level), dim=1)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_discriminators_score_each_layout_by_its_parts(level: int) -> None:
    discriminator, layout = make_discriminator(), make_layout(level)

    def activated(conv: nn.Module, x: Tensor) -> Tensor:
        x = conv(x)
        return torch.where(x > 0, x, 0.2 * x)

    x = activated(discriminator.from_mask[level], layout)
    for i in reversed(range(level)):
        first, second = discriminator.convs[i]  # type: ignore[misc]
        x = activated(second, activated(first, x))
        x = x.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5))
    deviation = torch.tensor([math.sqrt(((v - v.mean()) ** 2).mean().item() + 1e-8) for v in x.flatten(1).T]).mean()
    x = torch.cat([x, torch.full((3, 1, *x.shape[2:]), deviation.item())], dim=1)
    x = activated(discriminator.to_point, activated(discriminator.last, x))
    assert x.shape == (3, 8, 1, 1)
    torch.testing.assert_close(discriminator(layout, level), discriminator.to_score(x[:, :, 0, 0])[:, 0])


@pytest.mark.parametrize("level", [1, 2])
def test_a_level_of_the_discriminator_fades_in_from_the_one_before(level: int) -> None:
    discriminator, layout = make_discriminator(), make_layout(level)
    lower = discriminator(F.avg_pool2d(layout, 2), level - 1)
    torch.testing.assert_close(discriminator(layout, level, 0.0), lower)
    assert (discriminator(layout, level, 1.0) - lower).abs().max() > 1e-4
    assert (discriminator(layout, level, 0.5) - lower).abs().max() > 1e-5


@pytest.mark.parametrize("fade", [0.3, 1.0])
def test_a_conditional_discriminator_sees_the_palette_as_planes_beside_the_layout(fade: float) -> None:
    torch.manual_seed(0)
    discriminator, layout = LayoutDiscriminator(CLASSES, (3, 4), 2, 8, 32, conditional=True), make_layout(2)
    palette = make_inputs()[1]
    # The same weights in a discriminator of twice as many classes.
    plain = LayoutDiscriminator(2 * CLASSES, (3, 4), 2, 8, 32)
    plain.load_state_dict(discriminator.state_dict())
    planes = torch.ones(3, CLASSES, 12, 16) * palette.view(3, CLASSES, 1, 1)
    torch.testing.assert_close(
        discriminator(layout, 2, fade, palette), plain(torch.cat([layout, planes], dim=1), 2, fade)
    )


def test_the_discriminator_sees_how_much_a_batch_varies() -> None:
    discriminator, layout = make_discriminator(), make_layout(1)
    alike = layout[:1].expand(3, -1, -1, -1)
    assert (discriminator(alike, 1)[0] - discriminator(layout, 1)[0]).abs() > 1e-4
