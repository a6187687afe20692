"""Spectral normalisation, left out of networks on the meta device."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrizations


def spectral_norm(module: nn.Module) -> nn.Module:
    """Return a module whose weight is divided by its spectral norm; on the meta device, the module as it is.

    Networks are built there to learn their shapes and parameter counts. Torch's first power iterations would take
    nearly all of that time, half a second of each check of a configuration, and have no numbers to work on.

    Args:
        module: Has a parameter "weight".
    """
    if module.get_parameter("weight").is_meta:
        return module
    return parametrizations.spectral_norm(module)
