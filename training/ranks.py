"""Several processes that train one network: who they are, what each computes, and what they tell each other.

Every process ("rank") holds all networks and optimizers. A step's batch is drawn as one process would draw it, and
rank r of n computes its samples r, r + n, r + 2n, ... Gradients are averaged once per optimizer step, after the
backward pass: one call on one flat vector, which suits losses that differentiate twice. What looks at a whole batch
(batch norms, numbers of pixels) looks at that of all ranks. So the averaged gradient is that of one process, within
rounding.

Lightning Fabric sets up devices and precision, but not this: its strategies wrap networks in DistributedDataParallel,
which averages gradients inside each backward pass and so excludes gradient penalties and networks frozen for one of two
losses; its reductions pass no second derivatives; and it neither divides batches nor decides which process reports.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from scenepalette.common.errors import ConfigError

# Ranks wait while the first one does what is not shared. One that ends is noticed at once, by its closed connections.
COLLECTIVE_TIMEOUT = timedelta(days=30)


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, and which of them this one is.

    Attributes:
        index: This process's number, from 0.
        count: Number of processes.
        local: This process's number on its machine, which is that of its GPU.
        store: Where the processes leave word for each other; None if there is one process.
    """

    index: int = 0
    count: int = 1
    local: int = 0
    store: Store | None = field(default=None, repr=False, compare=False)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.index == 0

    @property
    def part(self) -> slice:
        """Which samples of a batch, or pieces of work, are this process's."""
        return slice(self.index, None, self.count)

    def check_batches(self, sizes: Mapping[str, Sequence[int]]) -> None:
        """Refuse batches that cannot be divided into equal parts.

        Args:
            sizes: Batch sizes by the name of their field.

        Raises:
            ConfigError: Names all fields, and the numbers of processes that fit.
        """
        problems = [
            f"{name}: {', '.join(map(str, values))}; each must be a multiple of {self.count}"
            for name, values in sizes.items()
            if any(value % self.count for value in values)
        ]
        if problems:
            largest = math.gcd(*(value for values in sizes.values() for value in values))
            fitting = [str(count) for count in range(1, largest + 1) if largest % count == 0]
            raise ConfigError(
                f"Batches cannot be divided among {self.count} processes. Change their sizes, or start one of "
                f"{', '.join(fitting)} processes.",
                problems,
            )

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over all processes of a tensor that each has; no gradient passes."""
        if self.count > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
        return value

    def means(self, values: dict[str, float]) -> dict[str, float]:
        """Return the means over all processes of numbers that each has under the same names."""
        if self.count == 1:
            return values
        means = self.total(torch.tensor(list(values.values()), dtype=torch.float64)) / self.count
        return dict(zip(values, means.tolist(), strict=True))

    def moments(self, x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and (biased) variance over dimensions and over all processes; gradients pass, also twice.

        Args:
            x: float32; the processes' may differ in size along `dims`.
            dims: Dimensions to reduce.

        Returns:
            Mean, variance, and the number of values that they are over, all of one shape.
        """
        variance, mean = torch.var_mean(x, dims, correction=0)
        size = torch.full_like(mean, math.prod(x.shape[dim] for dim in dims))
        if self.count == 1:
            return mean, variance, size
        own = torch.stack([size, mean, variance])
        others = own.new_zeros(self.count - 1, *own.shape)
        everyone = torch.cat([others[: self.index], own[None], others[self.index :]])
        sizes, means, variances = _Sum.apply(everyone).unbind(1)  # type: ignore[union-attr]
        size = sizes.sum(dim=0)
        shares = sizes / size
        mean = (shares * means).sum(dim=0)
        variance = (shares * (variances + (means - mean).square())).sum(dim=0)
        return mean, variance, size

    def average_gradients(self, *modules: nn.Module) -> None:
        """Replace the gradients of networks by their means over all processes; after backward, before the step."""
        if self.count == 1:
            return
        gradients = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view(gradient.shape))

    def join(self, *modules: nn.Module) -> None:
        """Let networks that are about to be trained take their batch statistics over all processes."""
        for module in modules:
            for part in module.modules():
                if isinstance(part, SpansRanks):
                    part.ranks = self

    def wait(self) -> None:
        """Wait until every process has come here, without keeping a GPU busy."""
        self.total(torch.zeros(()))

    def end_unless_first(self) -> None:
        """After an error, end without a word unless this is the first process that had one, which is to report it.

        Raises:
            SystemExit: Another process had an error before.
        """
        if self.store is None:
            return
        try:
            others = self.store.add("errors", 1) - 1
        except RuntimeError:  # whoever kept the store is gone
            others = 1
        if others:
            raise SystemExit(1) from None


ALONE = Ranks()


class SpansRanks(nn.Module):
    """A module that looks at a batch as a whole: that of one process, until `Ranks.join`."""

    ranks: Ranks = ALONE


class BatchNorm2d(SpansRanks, nn.BatchNorm2d):
    """Batch norm without affine parameters, in training over the batches of all processes, on any device."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise BCHW."""
        if self.ranks.count == 1 or not self.training:
            return super().forward(x)
        mean, variance, size = self.ranks.moments(x.float(), (0, 2, 3))
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * size / (size - 1), self.momentum)
        scale = torch.rsqrt(variance + self.eps)
        return ((x - mean[:, None, None]) * scale[:, None, None]).to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes; since each one's loss depends on it, so is the gradient's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Sum.apply(gradients[0].contiguous())


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the processes that `torchrun` started beside this one; a process that was started alone stays alone.

    If one of them fails, its error is raised here, and the others end with status 1 and without a word, whether their
    errors are the same or follow from its end.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "MASTER_ADDR" not in os.environ:
        yield ALONE
        return
    store, index, count = next(rendezvous("env://", timeout=COLLECTIVE_TIMEOUT))
    ranks = Ranks(index, count, int(os.environ.get("LOCAL_RANK", "0")), PrefixStore("scenepalette", store))
    try:
        # Both, so that waiting (of CPU tensors, by gloo) does not keep GPUs busy.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=index, world_size=count, timeout=COLLECTIVE_TIMEOUT)
        yield ranks
    except BaseException:
        ranks.end_unless_first()
        raise
    dist.destroy_process_group()
