"""Spectral normalisation of weights that are there."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrizations


def spectral_norm(module: nn.Module) -> nn.Module:
    """Return a module whose weight is divided by its spectral norm; on the meta device, the module as it is.

    Networks are built there for their shapes alone, and torch's first power iterations, on no numbers, would take
    nearly all of the time: half a second of each check of a configuration.

    Args:
        module: Has a parameter "weight".
    """
    if module.get_parameter("weight").is_meta:
        return module
    return parametrizations.spectral_norm(module)
