from __future__ import annotations

import pytest
import torch

from scenepalette.common.randomness import torch_generator
from scenepalette.generators.images.noise import NoiseScheme, sample_noise

LABEL = torch.tensor([[[0, 0, 1, 1], [2, 2, 1, 1]], [[1, 1, 1, 1], [0, 0, 0, 2]]])


def generators(seed: int = 0, count: int = 2) -> list[torch.Generator]:
    return [torch_generator(seed, sample) for sample in range(count)]


def distinct_vectors(noise: torch.Tensor) -> int:
    return len({tuple(vector) for vector in noise.flatten(1).T.tolist()})


@pytest.mark.parametrize(("scheme", "vectors"), [("image", 1), ("region", 3), ("pixel", 8)])
def test_schemes_draw_as_many_vectors_as_they_say(scheme: NoiseScheme, vectors: int) -> None:
    noise = sample_noise(scheme, LABEL, 5, generators())
    assert noise.shape == (2, 5, 2, 4)
    assert [distinct_vectors(sample) for sample in noise] == [vectors, vectors]
    assert not torch.equal(noise[0], noise[1])


def test_region_noise_is_one_vector_for_each_class_wherever_it_lies() -> None:
    noise = sample_noise("region", LABEL, 5, generators())
    for sample, label in zip(noise, LABEL, strict=True):
        for class_id in range(3):
            vectors = sample[:, label == class_id]
            assert torch.equal(vectors, vectors[:, :1].expand_as(vectors))
    # A class keeps its vector when other classes vanish.
    changed = sample_noise("region", torch.where(LABEL == 2, 0, LABEL), 5, generators())
    assert torch.equal(changed[:, :, 0, 2], noise[:, :, 0, 2])


def test_mix_is_image_or_region_by_a_fair_coin() -> None:
    label = LABEL[:1].expand(400, -1, -1)
    noise = sample_noise("mix", label, 3, generators(count=400))
    counts = [distinct_vectors(sample) for sample in noise]
    assert set(counts) == {1, 3}
    assert counts.count(1) / 400 == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("scheme", ["image", "region", "pixel"])
def test_noise_is_standard_normal(scheme: NoiseScheme) -> None:
    noise = sample_noise(scheme, LABEL.repeat(50, 1, 1), 64, generators(count=100))
    assert noise.dtype == torch.float32
    assert noise.mean().item() == pytest.approx(0.0, abs=0.05)
    assert noise.std().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("scheme", ["image", "region", "pixel", "mix"])
def test_a_samples_noise_does_not_depend_on_its_batch(scheme: NoiseScheme) -> None:
    both = sample_noise(scheme, LABEL, 4, generators())
    alone = sample_noise(scheme, LABEL[1:], 4, generators()[1:])
    assert torch.equal(both[1:], alone)
    assert not torch.equal(both, sample_noise(scheme, LABEL, 4, generators(seed=1)))
