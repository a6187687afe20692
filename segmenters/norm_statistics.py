"""Statistics of batch norms, recomputed on chosen images at the end of a training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def measure_statistics(network: nn.Module, forward: Callable[[Tensor], Any], batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of a network's batch norms by those of images (Wu and Johnson, 2021, section 3).

    Averages kept in training follow the last batches, whatever they were made of: of an arm with generated pairs,
    these are not the images that it is evaluated on. As in training, each batch is normalised by its own statistics.
    With mean m_b and variance v_b of batch b, weighted by the values that they are over, the mean becomes E[m_b] and
    the variance E[v_b + m_b^2] - E[m_b]^2, which is that of all values together. Dropout is off.

    Args:
        network: A network, left in evaluation mode; one without batch norms stays as it is.
        forward: Computes it, in the precision of the training.
        batches: Images B3HW in [-1, 1], two or more in each.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    before = [(norm.momentum, norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]  # type: ignore
    # Per norm: number of values, their sum and the sum of their squares, in double precision.
    sums: dict[nn.Module, list[Any]] = defaultdict(lambda: [0, 0.0, 0.0])

    def record(norm: nn.Module, arguments: tuple[Tensor, ...], result: Any) -> None:
        size = arguments[0].numel() // arguments[0].shape[1]
        assert isinstance(norm.running_mean, Tensor) and isinstance(norm.running_var, Tensor)
        mean, variance = norm.running_mean.double(), norm.running_var.double() * ((size - 1) / size)
        sums[norm][0] += size
        sums[norm][1] = sums[norm][1] + size * mean
        sums[norm][2] = sums[norm][2] + size * (variance + mean.square())

    network.eval()
    hooks = [norm.register_forward_hook(record) for norm in norms]
    try:
        for norm in norms:
            # A norm computes the statistics of its batch anyway; with this momentum it keeps nothing else. What it kept
            # before is cleared, as nothing times a value that is not finite is not nothing.
            norm.train()
            norm.momentum = 1.0
            norm.running_mean.zero_()  # type: ignore[union-attr, operator]
            norm.running_var.fill_(1.0)  # type: ignore[union-attr, operator]
        for batch in batches if norms else ():
            forward(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for norm, (momentum, mean, variance) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.running_mean.copy_(mean)  # type: ignore[union-attr, operator]
            norm.running_var.copy_(variance)  # type: ignore[union-attr, operator]
        network.eval()
    for norm, (size, total, squares) in sums.items():
        mean = total / size
        norm.running_mean.copy_(mean)  # type: ignore[union-attr, operator]
        norm.running_var.copy_(squares / size - mean.square())  # type: ignore[union-attr, operator]
