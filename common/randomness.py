"""Randomness as a function of (seed, stage, step or index): never of time, workers or order."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on all parts and on nothing else.

    Args:
        parts: For example the run's seed, the name of a stage and a step; 1 and "1" differ.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Return a numpy generator seeded by `derive_seed(*parts)`."""
    return np.random.default_rng(derive_seed(*parts))


def torch_generator(*parts: int | str) -> torch.Generator:
    """Return a CPU torch generator seeded by `derive_seed(*parts)`."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def seed_step(seed: int, stage: str, step: int) -> None:
    """Seed torch's global generators for one step, so that its randomness is a function of (seed, stage, step)."""
    torch.manual_seed(derive_seed(seed, stage, step))


def epoch_batch(count: int, batch_size: int, step: int, seed: int, stage: str) -> np.ndarray:
    """Return the indices of batch `step`: epochs of random order, each index once an epoch, every batch full.

    Args:
        count: Number of samples, at least 1.
        batch_size: Indices to return; may be larger than `count`.
        step: Number of the batch from 0.
        seed: The run's seed.
        stage: Name that tells this stream of batches from others.

    Returns:
        int64 [batch_size]; a function of the arguments alone.
    """
    return epoch_indices(count, step * batch_size, batch_size, seed, stage)


def epoch_indices(count: int, start: int, number: int, seed: int, stage: str) -> np.ndarray:
    """Return a piece of an endless stream of indices: epochs of random order, each index once an epoch.

    Args:
        count: Number of samples, at least 1.
        start: Place of the first index in the stream, from 0.
        number: Indices to return; may be larger than `count`.
        seed: The run's seed.
        stage: Name that tells this stream from others.

    Returns:
        int64 [number]; a function of the arguments alone.
    """
    positions = np.arange(start, start + number)
    epochs, offsets = positions // count, positions % count
    orders = {epoch: numpy_generator(seed, stage, "epoch", int(epoch)).permutation(count) for epoch in set(epochs)}
    return np.array([orders[epoch][offset] for epoch, offset in zip(epochs, offsets, strict=True)], dtype=np.int64)
