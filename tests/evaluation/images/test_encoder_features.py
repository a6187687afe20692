from __future__ import annotations

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch

from scenepalette.common.errors import ConfigError
from scenepalette.evaluation.images.encoder_features import EncoderFeatures, load_encoder_features
from scenepalette.segmenters.model import build_network, feature_maps


def test_features_are_those_of_a_segmenter_with_the_same_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    path = tmp_path / "weights.pth"
    torch.save(smp.encoders.get_encoder("mobilenet_v2", weights=None).state_dict(), path)
    network = load_encoder_features("mobilenet_v2", path)
    segmenter = build_network("fpn", 2, "mobilenet_v2", str(path)).eval()
    image = torch.rand(2, 3, 32, 64) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(network(image), feature_maps(segmenter, image))
    assert [map_.shape[1] for map_ in network(image)] == [16, 24, 32, 96, 1280]
    assert network.description == "encoder mobilenet_v2 with the weights of weights.pth"
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_loading_leaves_the_random_numbers_of_a_training_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(smp.encoders.get_encoder("mobilenet_v2", weights=None).state_dict(), path)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_encoder_features("mobilenet_v2", path)
    assert torch.equal(torch.rand(3), expected)


def test_gradients_reach_the_image(tmp_path: Path) -> None:
    network = EncoderFeatures("mobilenet_v2", "random weights").eval()
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    network(image)[-1].sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["no_such_encoder", "tu-no_such_model", "tu-hf-hub:someone/model"])
def test_an_unknown_encoder_is_refused_by_the_name_of_the_setting(name: str) -> None:
    with pytest.raises(ConfigError, match=r"images\.perceptual_encoder: .*Use the name of an encoder"):
        EncoderFeatures(name, "x")


def test_a_file_of_another_encoder_is_refused_by_the_name_of_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(smp.encoders.get_encoder("mobilenet_v2", weights=None).state_dict(), path)
    with pytest.raises(ConfigError, match=r"images\.perceptual_encoder_weights: .*set images\.perceptual_encoder to"):
        load_encoder_features("resnet18", path)
    with pytest.raises(ConfigError, match=r"images\.perceptual_encoder_weights: there is no file"):
        load_encoder_features("mobilenet_v2", tmp_path / "nothing.pth")
