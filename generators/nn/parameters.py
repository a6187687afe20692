"""How large networks are."""

from __future__ import annotations

from torch import nn


def count_parameters(network: nn.Module | None) -> int:
    """Return the number of a network's parameters; 0 where there is none."""
    return sum(parameter.numel() for parameter in network.parameters()) if network is not None else 0
