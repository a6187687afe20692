from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from scenepalette.common.randomness import torch_generator
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import fill_ignored, one_hot
from scenepalette.generators.images.base import ImageBatch, ImageSettings
from scenepalette.generators.images.systems.sean import (
    SeanGenerator,
    SeanSettings,
    StyleEncoder,
    build_sean_generator,
    build_sean_objective,
)
from scenepalette.generators.images.training import TrainingBatches


def make_generator(base: tuple[int, int] = (3, 4), bank_images: int = 4, seed: int = 0) -> SeanGenerator:
    torch.manual_seed(seed)
    return SeanGenerator(
        3, base, 2, width=4, hidden_channels=6, style_channels=5, encoder_width=4, bank_images=bank_images
    ).eval()


def make_source(pairs: Pairs, generator: SeanGenerator, seed: int = 3) -> TrainingBatches:
    filled = np.stack([fill_ignored(label) for label in pairs.labels])
    return TrainingBatches(pairs, filled, generator, ImageSettings(), seed, torch.device("cpu"))


def draw(generator: SeanGenerator, scheme: str | None = None, count: int = 200) -> Tensor:
    label = torch.zeros(count, 12, 16, dtype=torch.int64)
    return generator.sample_noise(scheme, label, [torch_generator(0, i) for i in range(count)])  # type: ignore[arg-type]


def fill_bank(generator: SeanGenerator) -> None:
    """Fill three of four rows with codes of their own; class 1 is only in the first, class 2 in none."""
    generator.in_bank.zero_()
    generator.bank[:3] = torch.arange(1.0, 10.0).view(3, 3, 1).expand(3, 3, 5)
    generator.in_bank[:3, 0] = True
    generator.in_bank[0, 1] = True
    generator.bank[~generator.in_bank] = 0.0


def test_codes_are_means_over_the_regions_of_classes() -> None:
    torch.manual_seed(0)
    encoder = StyleEncoder(style_channels=5, width=4).eval()
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    label = torch.zeros(1, 16, 16, dtype=torch.int64)
    label[:, 4:8, 2:12] = 2
    maps: list[Tensor] = []
    encoder.to_style.register_forward_hook(lambda _, args, out: maps.append(torch.tanh(out)))
    codes = encoder(image, one_hot(label, 3))
    assert codes.shape == (1, 3, 5)
    style = maps[0][0]  # at half the resolution, where the region's borders lie between pixels
    torch.testing.assert_close(codes[0, 2], style[:, 2:4, 1:6].mean(dim=(1, 2)))
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[2:4, 1:6] = False
    torch.testing.assert_close(codes[0, 0], style[:, mask].mean(dim=1))
    assert torch.equal(codes[0, 1], torch.zeros(5))


def test_a_region_of_one_pixel_has_a_code() -> None:
    torch.manual_seed(0)
    encoder = StyleEncoder(style_channels=5, width=4).eval()
    label = torch.zeros(1, 16, 16, dtype=torch.int64)
    label[0, 7, 7] = 1
    assert encoder(torch.rand(1, 3, 16, 16), one_hot(label, 3))[0, 1].abs().max() > 1e-3


def test_each_class_draws_the_code_of_an_image_that_shows_it() -> None:
    generator = make_generator()
    fill_bank(generator)
    codes = draw(generator, "region")
    assert codes.shape == (200, 3, 5)
    assert torch.equal(codes, codes[..., :1].expand_as(codes))
    values, counts = codes[:, 0, 0].unique(return_counts=True)
    assert values.tolist() == [1.0, 4.0, 7.0] and counts.min() > 40
    assert codes[:, 1, 0].unique().tolist() == [2.0]  # only the first image shows it
    assert codes[:, 2, 0].unique().tolist() == [0.0]  # none does


def test_all_classes_can_draw_from_one_image_as_far_as_it_shows_them() -> None:
    generator = make_generator()
    generator.bank[:] = torch.arange(4.0).view(4, 1, 1).expand(4, 3, 5) + 1
    generator.in_bank[:] = True
    together, apart = draw(generator, "image")[..., 0], draw(generator, "region")[..., 0]
    assert torch.equal(together, together[:, :1].expand_as(together))
    assert together[:, 0].unique().tolist() == [1.0, 2.0, 3.0, 4.0]
    assert (apart[:, 0] != apart[:, 1]).float().mean() > 0.6
    fill_bank(generator)
    assert draw(generator, "image")[:, 1, 0].unique().tolist() == [2.0]


def test_the_bank_holds_the_codes_of_training_images_and_shows_every_class(make_pairs: Callable[..., Pairs]) -> None:
    pairs = make_pairs(count=8)
    pairs.labels[:] = 0
    pairs.labels[5, :4, :4] = 1
    pairs.labels[6, :4, :4] = 2
    for seed in range(5):
        generator = make_generator()
        generator.finish(make_source(pairs, generator, seed))
        assert generator.in_bank.any(dim=0).all()
        images, labels = pairs.batch(range(8))
        codes = generator.encode(images, one_hot(labels, 3))
        for row, shown in zip(generator.bank, generator.in_bank, strict=True):
            (match,) = [i for i in range(8) if torch.allclose(codes[i], row, atol=1e-6)]
            assert shown.tolist() == [True, match == 5, match == 6]


def test_a_bank_larger_than_the_training_set_keeps_empty_rows(make_pairs: Callable[..., Pairs]) -> None:
    generator = make_generator(bank_images=9)
    generator.finish(make_source(make_pairs(), generator))
    assert generator.in_bank.any(dim=1).sum() == 6
    assert (generator.bank[6:] == 0).all() and draw(generator).abs().amin(dim=(0, 2)).max() > 0


def test_training_uses_the_codes_of_the_real_image(make_batch: Callable[..., ImageBatch]) -> None:
    generator = make_generator()
    settings = SeanSettings(discriminator_width=4, perceptual_weight=0.0)
    objective = build_sean_objective(ClassTable.unnamed(3), (12, 16), settings, None)
    batch = make_batch(generator)
    fake, _ = objective.generator_loss(generator, objective.discriminator, batch)
    codes = generator.encode(batch.image, batch.label_map)
    torch.testing.assert_close(fake, generator(batch.label_map, codes))
    assert (fake - generator(batch.label_map, torch.zeros_like(codes))).abs().mean() > 1e-4


def test_the_style_of_each_pixel_is_its_class_code() -> None:
    generator = make_generator()
    conditions: list[Tensor] = []
    for block in generator.blocks.blocks:
        block.norm_0.hidden.register_forward_hook(lambda _, args, out: conditions.append(args[0]))
    label, codes = torch.randint(0, 3, (2, 12, 16)), torch.randn(2, 3, 5)
    generator(one_hot(label, 3), codes)
    assert [tuple(condition.shape[1:]) for condition in conditions] == [(8, 3, 4), (8, 6, 8), (8, 6, 8), (8, 12, 16)]
    assert torch.equal(conditions[-1][:, :3], one_hot(label, 3))
    for b in range(2):
        torch.testing.assert_close(conditions[-1][b, 3:], codes[b, label[b]].permute(2, 0, 1))


def test_an_edit_keeps_the_appearance_of_the_rest() -> None:
    generator = make_generator(base=(24, 32))
    label = torch.zeros(1, 96, 128, dtype=torch.int64)
    label[:, :, 64:] = 1
    edited = label.clone()
    edited[:, 40:60, :20] = 2
    image = torch.rand(1, 3, 96, 128) * 2 - 1
    codes = generator.encode(image, one_hot(label, 3))
    assert generator.is_absent(one_hot(label, 3)).tolist() == [[False, False, True]]
    borrowed = generator.noise_of_image(torch.ones_like(codes), image, one_hot(label, 3))
    assert torch.equal(borrowed[:, :2], codes[:, :2]) and (borrowed[:, 2] == 1).all()
    before = generator(one_hot(label, 3), borrowed)
    difference = (generator(one_hot(edited, 3), borrowed) - before).abs().mean(dim=1)
    assert difference[:, 40:60, :20].mean() > 1e-3
    # Beyond the reach of the convolutions nothing changes at all.
    assert difference[:, :, 100:].max() < 1e-6


def test_replacing_a_code_changes_its_class_and_no_other_far_away() -> None:
    generator = make_generator(base=(24, 32))
    label = torch.zeros(1, 96, 128, dtype=torch.int64)
    label[:, :, :30] = 1
    codes = torch.zeros(1, 3, 5)
    changed = generator.replace_codes(codes, torch.ones_like(codes), torch.tensor([[False, True, False]]))
    assert changed[0, :, 0].tolist() == [0.0, 1.0, 0.0]
    first, second = (generator(one_hot(label, 3), each) for each in (codes, changed))
    difference = (first - second).abs().mean(dim=1)
    assert difference[:, :, :30].mean() > 1e-3
    assert difference[:, :, 100:].max() < 1e-6


def test_the_papers_numbers_are_the_default() -> None:
    settings = SeanSettings()
    assert (settings.generator_learning_rate, settings.discriminator_learning_rate) == (1e-4, 4e-4)
    assert (settings.betas, settings.style_channels, settings.encoder_width) == ((0.0, 0.999), 512, 32)
    with torch.device("meta"):
        network = build_sean_generator(ClassTable.unnamed(19), (256, 256), settings)
    assert len(network.blocks.blocks) == 7
    assert network.bank.shape == (256, 19, 512)
    widths = [(conv.in_channels, conv.out_channels) for conv in network.encoder.convs]
    assert widths == [(3, 32), (32, 64), (64, 128), (128, 256)]
