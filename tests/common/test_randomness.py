from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from scenepalette.common.randomness import derive_seed, epoch_batch, numpy_generator, seed_step, torch_generator


def test_seeds_are_hashes_of_all_parts() -> None:
    digest = hashlib.blake2b(b"int:7\x1fstr:oasis\x1fint:12", digest_size=8).digest()
    assert derive_seed(7, "oasis", 12) == int.from_bytes(digest, "little") // 2
    cases = [(1,), ("1",), (1, 2), (12,), (2, 1), ("a", "b"), ("ab",), (1, "a"), (-1,), ()]
    seeds = [derive_seed(*parts) for parts in cases]
    assert len(set(seeds)) == len(cases)
    assert all(0 <= derive_seed("range", index) < 2**63 for index in range(1000))


def test_seeds_use_all_63_bits() -> None:
    seeds = [derive_seed("spread", index) for index in range(2000)]
    for bit in range(63):
        assert 800 < sum(seed >> bit & 1 for seed in seeds) < 1200, bit


def test_seeds_are_the_same_in_another_process() -> None:
    # Python's own hash() of text differs from process to process.
    code = "from scenepalette.common.randomness import derive_seed; print(derive_seed(3, 'stage', 5))"
    path = [entry or "." for entry in sys.path]
    script = f"import sys; sys.path[:] = {path!r}; {code}"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(found.stdout) == derive_seed(3, "stage", 5)


def test_generators_are_functions_of_their_parts() -> None:
    first, second, other = numpy_generator(1, "a"), numpy_generator(1, "a"), numpy_generator(1, "b")
    values = first.random(5).tolist()
    assert values == second.random(5).tolist() != other.random(5).tolist()

    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    draws = [torch.rand(5, generator=torch_generator(1, part)).tolist() for part in ("a", "a", "b")]
    assert draws[0] == draws[1] != draws[2]
    assert torch.equal(torch.rand(3), expected)  # the global generator is left alone
    assert torch_generator(1).device.type == "cpu"


def test_a_steps_randomness_is_a_function_of_seed_stage_and_step() -> None:
    def draw(*parts: object) -> float:
        torch.rand(7)
        seed_step(*parts)  # type: ignore[arg-type]
        return torch.rand(()).item()

    assert draw(1, "a", 2) == draw(1, "a", 2)
    assert len({draw(1, "a", 2), draw(2, "a", 2), draw(1, "b", 2), draw(1, "a", 3), draw(1, "a", -1)}) == 5


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (7, 7), (3, 8), (1, 2), (10, 1)])
def test_every_sample_comes_once_an_epoch_and_every_batch_is_full(count: int, batch_size: int) -> None:
    batches = [epoch_batch(count, batch_size, step, 5, "stage") for step in range(4 * count)]
    assert {batch.shape for batch in batches} == {(batch_size,)}
    stream = np.concatenate(batches)
    assert stream.dtype == np.int64
    epochs = stream.reshape(-1, count)  # 4 * count * batch_size is a multiple of count
    assert all(sorted(epoch.tolist()) == list(range(count)) for epoch in epochs)
    if count > 3:
        assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1


def test_batches_are_a_function_of_their_arguments() -> None:
    first = epoch_batch(50, 20, 7, 5, "stage")
    np.random.default_rng(0).random(9)
    np.testing.assert_array_equal(first, epoch_batch(50, 20, 7, 5, "stage"))
    assert not np.array_equal(first, epoch_batch(50, 20, 7, 6, "stage"))
    assert not np.array_equal(first, epoch_batch(50, 20, 7, 5, "other"))
