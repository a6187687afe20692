from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.common.randomness import torch_generator
from scenepalette.data.labels import one_hot
from scenepalette.generators.images.noise import sample_noise
from scenepalette.generators.kernels.label_patches import (
    ConditionCache,
    Patches,
    RowSums,
    SymbolMap,
    distinct_neighbourhoods,
    find_symbols,
)
from scenepalette.generators.kernels.passes import accelerate, scale_and_shift
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
    plain = SpatiallyAdaptiveNorm(6, 5 + CLASSES, 7).double()
    by_patches = copy.deepcopy(plain)
    accelerate(by_patches)
    generators = [torch_generator(0, sample) for sample in range(len(label))]
    noise = sample_noise(scheme, label, 5, generators).double()  # type: ignore[arg-type]
    condition = torch.cat([noise, one_hot(label, CLASSES).double()], dim=1)
    symbols = find_symbols(condition)
    assert symbols is not None and len(symbols.vectors) <= len(label) * CLASSES
    x = torch.randn(len(label), 6, *label.shape[1:], dtype=torch.float64)
    results, gradients = [], []
    for norm in (by_patches, plain):
        result = norm(x, condition)
        weight = torch.linspace(-1, 1, result.numel(), dtype=torch.float64).view_as(result)
        gradients.append(torch.autograd.grad((result * weight).sum(), list(norm.parameters())))
        results.append(result.detach())
    assert torch.allclose(*results, atol=1e-12)
    scale, _ = scale_and_shift(by_patches, condition, (x.shape[2], x.shape[3]))
    assert "_RowSumsBackward" in str(scale.grad_fn.next_functions[0][0].next_functions)
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_patches_where_nearly_all_surroundings_differ_keep_the_condition_map() -> None:
    label = torch.randint(0, CLASSES, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    vectors = torch.eye(CLASSES)
    patches = Patches(SymbolMap(label, vectors))
    assert patches.is_dense
    assert torch.equal(patches.condition, one_hot(label, CLASSES))
    assert not Patches(SymbolMap(torch.zeros_like(label), vectors)).is_dense


def test_conditions_at_a_smaller_size_take_the_pixels_that_interpolation_takes() -> None:
    label_map = one_hot(blocky_labels(), CLASSES)
    patches = ConditionCache().patches(label_map, (3, 8))
    assert patches is not None
    assert torch.equal(patches.symbols.dense(), F.interpolate(label_map, size=(3, 8), mode="nearest"))


@pytest.mark.parametrize("inference", [True, False])
def test_patches_are_kept_for_one_forward_pass_and_not_for_a_changed_map(inference: bool) -> None:
    conditions, found = ConditionCache(), []

    class Network(nn.Module):
        def forward(self, label_map: Tensor) -> None:
            found.extend(conditions.patches(label_map, (6, 8)) for _ in range(2))
            unlike = torch.rand(1, 2, 12, 16)  # no two pixels are alike
            assert conditions.patches(unlike, (6, 8)) is None
            assert conditions.resized(unlike, (6, 8)) is conditions.resized(unlike, (6, 8))

    network = Network()
    conditions.attach(network)
    with torch.inference_mode(inference):
        label_map = one_hot(blocky_labels(), CLASSES)
        network(label_map)
        label_map[:, :, :6] = label_map[:, :, 6:].clone()
        network(label_map)
    assert found[0] is found[1] and found[2] is found[3]
    assert torch.equal(found[2].condition, F.interpolate(label_map, size=(6, 8), mode="nearest"))
    assert not torch.equal(found[0].condition, found[2].condition)
    assert conditions.patches(label_map, (6, 8)) is not conditions.patches(label_map, (6, 8))  # nobody runs the network


def test_gradients_pass_to_codes_of_images_and_classes() -> None:
    label = blocky_labels()
    codes = torch.randn(2, CLASSES, 3, requires_grad=True)
    label_map = one_hot(label, CLASSES)
    symbols = find_symbols(label_map)
    assert symbols is not None
    expected = torch.cat([label_map, codes[torch.arange(2)[:, None, None], label].permute(0, 3, 1, 2)], 1)
    assert torch.equal(symbols.with_codes(codes).dense(), expected)
    torch.manual_seed(0)
    norm, x = SpatiallyAdaptiveNorm(2, CLASSES + 3), torch.randn(2, 2, 12, 16)
    (wanted,) = torch.autograd.grad(norm(x, label_map, codes).square().sum(), codes)
    accelerate(norm)
    (gradient,) = torch.autograd.grad(norm(x, label_map, codes).square().sum(), codes)
    assert torch.allclose(gradient, wanted, rtol=1e-3, atol=1e-5)
    shown = torch.stack([torch.bincount(ids.flatten(), minlength=CLASSES) > 0 for ids in label])
    assert torch.equal(gradient.abs().sum(dim=2) > 0, shown)


def test_symbols_of_some_images_keep_their_vectors() -> None:
    label = blocky_labels(3)
    noise = sample_noise("region", label, 2, [torch_generator(0, sample) for sample in range(3)])
    symbols = find_symbols(torch.cat([noise, one_hot(label, CLASSES)], dim=1))
    assert symbols is not None
    some = symbols.of_images(1, 3)
    assert torch.equal(some.dense(), symbols.dense()[1:3])
    assert len(some.vectors) < len(symbols.vectors)


def test_symbols_are_the_map_and_none_are_found_where_pixels_differ_or_gradients_pass() -> None:
    label = blocky_labels()
    noise = sample_noise("pixel", label, 2, [torch_generator(0, sample) for sample in range(2)])
    assert find_symbols(noise) is None
    hard = one_hot(label, CLASSES)
    for condition in (hard, hard * 0.9 + 0.1 / CLASSES, torch.where(label[:, None] == 0, 1 / CLASSES, hard)):
        symbols = find_symbols(condition)
        assert symbols is not None and len(symbols.vectors) == CLASSES
        assert torch.equal(symbols.dense(), condition)
    assert find_symbols(hard.clone().requires_grad_()) is None


def test_different_vectors_with_one_product_are_not_taken_for_one() -> None:
    weights = torch.rand(2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    condition = torch.zeros(1, 2, 1, 16, dtype=torch.float64)
    condition[0, 0, 0, 8:], condition[0, 1, 0, 8:] = weights[1], -weights[0]
    assert condition[0, :, 0, 8].dot(torch.tensor(weights, dtype=torch.float64)) == 0
    assert find_symbols(condition) is None
