from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bands import fabric, make_pairs, table
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision.models import alexnet

__all__ = ["fabric", "make_pairs", "table"]


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in torch-fidelity's format."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # as they start out, 94 layers leave nothing of the differences of images
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def alexnet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in torchvision's format; those of the large layers that LPIPS leaves out are one stored zero."""
    path = tmp_path_factory.mktemp("alexnet") / "weights.pth"
    torch.manual_seed(0)
    weights = alexnet(weights=None).state_dict()
    for name, value in weights.items():
        if name.startswith("classifier"):
            weights[name] = torch.zeros(1).expand(value.shape)
    torch.save(weights, path)
    assert path.stat().st_size < 20 * 2**20
    return path
