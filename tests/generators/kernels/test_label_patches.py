from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scenepalette.common.randomness import torch_generator
from scenepalette.data.labels import one_hot
from scenepalette.generators.images.noise import sample_noise
from scenepalette.generators.kernels.label_patches import (
    Conditions,
    Patches,
    RowSums,
    class_symbols,
    distinct_neighbourhoods,
    image_class_symbols,
    layout_ids,
    noise_symbols,
)
from scenepalette.generators.nn.blocks import SpatiallyAdaptiveNorm

CLASSES = 4


def blocky_labels(batch: int = 2, height: int = 12, width: int = 16) -> Tensor:
    coarse = torch.randint(0, CLASSES, (batch, height // 4, width // 4), generator=torch.Generator().manual_seed(1))
    return coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)


@pytest.mark.parametrize("count", [2, 5, 3000], ids=["counted", "few", "sorted"])
def test_neighbourhoods_are_those_that_a_loop_finds(count: int) -> None:
    ids = torch.randint(0, count, (2, 5, 6), generator=torch.Generator().manual_seed(0))
    found = distinct_neighbourhoods(ids, count)
    padded = F.pad(ids, (1, 1, 1, 1), value=count)
    seen = set()
    for image, row, column in itertools.product(range(2), range(5), range(6)):
        expected = padded[image, row : row + 3, column : column + 3].flatten().tolist()
        assert found.members[found.index[image, row, column]].tolist() == expected
        seen.add(tuple(expected))
    # Rows above and below the map give no neighbourhood of their own.
    assert len(found.members) == len(seen)


@pytest.mark.parametrize("taps", [1, 9])
def test_row_sums_and_their_gradients_are_those_of_plain_indexing(taps: int) -> None:
    random = torch.Generator().manual_seed(0)
    members = torch.randint(0, 6, (20, taps), generator=random)
    table = torch.randn(6, 3, generator=random, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(20, 3, generator=random, dtype=torch.float64)
    result = RowSums(members, 6)(table)
    expected = table[members].sum(dim=1)
    assert torch.allclose(result, expected)
    (gradient,) = torch.autograd.grad((result * weight).sum(), table, retain_graph=True)
    (wanted,) = torch.autograd.grad((expected * weight).sum(), table)
    assert torch.allclose(gradient, wanted)


@pytest.mark.parametrize(
    "label",
    [blocky_labels(), torch.zeros(2, 12, 16, dtype=torch.int64), blocky_labels(1, 4, 4), blocky_labels()[:, :1, :1]],
    ids=["blocks", "one class", "one block", "one pixel"],
)
@pytest.mark.parametrize("scheme", ["image", "region"])
def test_modulation_by_patches_is_the_one_of_the_condition_map_and_has_its_gradients(
    label: Tensor, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scenepalette.generators.kernels.label_patches.DENSE_SHARE", 2.0)  # patches at any rate
    torch.manual_seed(0)
    norm = SpatiallyAdaptiveNorm(6, 5 + CLASSES, 7).double()
    generators = [torch_generator(0, sample) for sample in range(len(label))]
    noise = sample_noise(scheme, label, 5, generators).double()  # type: ignore[arg-type]
    label_map = one_hot(label, CLASSES).double()
    symbols = noise_symbols(label, CLASSES, noise)
    assert symbols is not None
    x = torch.randn(len(label), 6, *label.shape[1:], dtype=torch.float64)
    results, gradients = [], []
    for condition in (Patches(symbols), torch.cat([noise, label_map], dim=1)):
        result = norm(x, condition)
        weight = torch.linspace(-1, 1, result.numel(), dtype=torch.float64).view_as(result)
        gradients.append(torch.autograd.grad((result * weight).sum(), list(norm.parameters())))
        results.append(result.detach())
    assert torch.allclose(*results, atol=1e-12)
    for ours, plain in zip(*gradients, strict=True):
        assert torch.allclose(ours, plain, atol=1e-10)


def test_patches_where_nearly_all_surroundings_differ_keep_the_condition_map() -> None:
    label = torch.randint(0, CLASSES, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    patches = Patches(class_symbols(label, CLASSES))
    assert patches.is_dense
    assert torch.equal(patches.condition, one_hot(label, CLASSES))
    assert not Patches(class_symbols(torch.zeros_like(label), CLASSES)).is_dense


def test_conditions_at_a_smaller_size_take_the_pixels_that_interpolation_takes() -> None:
    label = blocky_labels()
    label_map = one_hot(label, CLASSES)
    conditions = Conditions(class_symbols(label, CLASSES), lambda size: F.interpolate(label_map, size=size))
    patches = conditions((3, 8))
    assert isinstance(patches, Patches) and conditions((3, 8)) is patches
    assert torch.equal(patches.symbols.dense(), F.interpolate(label_map, size=(3, 8), mode="nearest"))


def test_gradients_pass_to_codes_of_images_and_classes() -> None:
    label = blocky_labels()
    codes = torch.randn(2, CLASSES, 3, requires_grad=True)
    symbols = image_class_symbols(label, codes)
    expected = torch.cat([one_hot(label, CLASSES), codes[torch.arange(2)[:, None, None], label].permute(0, 3, 1, 2)], 1)
    assert torch.equal(symbols.dense(), expected)
    torch.manual_seed(0)
    SpatiallyAdaptiveNorm(2, CLASSES + 3)(torch.randn(2, 2, 12, 16), Patches(symbols)).square().sum().backward()
    assert codes.grad is not None
    shown = torch.stack([torch.bincount(ids.flatten(), minlength=CLASSES) > 0 for ids in label])
    assert torch.equal(codes.grad.abs().sum(dim=2) > 0, shown)


def test_symbols_of_some_images_keep_their_vectors() -> None:
    label = blocky_labels(3)
    noise = sample_noise("region", label, 2, [torch_generator(0, sample) for sample in range(3)])
    symbols = noise_symbols(label, CLASSES, noise)
    assert symbols is not None
    some = symbols.of_images(1, 3)
    assert torch.equal(some.dense(), symbols.dense()[1:3])
    assert len(some.vectors) < len(symbols.vectors)


def test_noise_per_pixel_and_layouts_that_are_not_hard_are_taken_as_they_are() -> None:
    label = blocky_labels()
    noise = sample_noise("pixel", label, 2, [torch_generator(0, sample) for sample in range(2)])
    assert noise_symbols(label, CLASSES, noise) is None
    hard = one_hot(label, CLASSES)
    ids = layout_ids(hard)
    assert ids is not None and torch.equal(ids, label)
    assert layout_ids(hard * 0.9 + 0.1 / CLASSES) is None
    assert layout_ids(torch.where(hard == 1, hard, -hard + 1e-3)) is None
    assert layout_ids(hard.clone().requires_grad_()) is None
