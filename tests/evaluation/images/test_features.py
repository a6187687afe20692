from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from scenepalette.common.errors import AbsentError
from scenepalette.data.arrays import Pairs
from scenepalette.evaluation.images.features import inception_features, load_inception, segmenter_features
from scenepalette.segmenters.model import build_network, pooled_features


@pytest.mark.parametrize("content", [b"", b"not a network", None])
def test_inception_weights_that_cannot_be_used(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AbsentError) as absent:
        load_inception(path)
    reason = str(absent.value)
    assert str(path) in reason and "\n" not in reason
    assert reason.endswith("give the path of weights-inception-2015-12-05-6726825d.pth.")


class ChannelMeans(nn.Module):
    """Has the interface of torch-fidelity's networks."""

    def forward(self, images: Tensor) -> tuple[Tensor]:
        assert images.dtype == torch.uint8
        return (images.float().mean(dim=(2, 3)),)


def test_inception_features_are_in_the_order_of_the_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
    features = inception_features(ChannelMeans(), [images[:2], images[2:]])
    np.testing.assert_allclose(features, images.mean(axis=(1, 2)), rtol=1e-6)
    assert inception_features(ChannelMeans(), []).shape == (0, 2048)


def test_segmenter_features_are_in_the_order_of_the_pairs(make_pairs: Callable[..., Pairs], fabric: Fabric) -> None:
    torch.manual_seed(0)
    model, pairs = build_network("deeplabv3", 3, decoder_channels=8), make_pairs(count=5)
    features = segmenter_features(model, pairs, batch_size=2, fabric=fabric)
    with torch.no_grad():
        expected = [pooled_features(model.eval(), pairs.batch([index])[0])[0].numpy() for index in range(5)]
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-5)
