from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrizations

from scenepalette.generators.nn.spectral_norm import spectral_norm


def test_weights_are_normalised_as_torch_does_it() -> None:
    networks = []
    for wrap in (spectral_norm, parametrizations.spectral_norm):
        torch.manual_seed(0)
        networks.append(wrap(nn.Conv2d(3, 5, 3)))
    ours, theirs = networks
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert torch.equal(ours.weight, theirs.weight)  # type: ignore[arg-type]
    assert torch.linalg.matrix_norm(ours.weight.flatten(1), 2) < 1.1  # type: ignore[operator]


def test_a_module_without_numbers_stays_as_it_is() -> None:
    with torch.device("meta"):
        plain = nn.Conv2d(3, 5, 3)
        assert spectral_norm(plain) is plain
        assert plain(torch.zeros(1, 3, 6, 6)).shape == (1, 5, 4, 4)
    assert {name for name, _ in plain.named_parameters()} == {"weight", "bias"}
