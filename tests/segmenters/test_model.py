from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.segmenters.model import (
    ARCHITECTURES,
    build_network,
    encoder_names,
    encoder_problems,
    known_encoders,
    pooled_features,
)


def test_parameter_count_of_the_papers_layout() -> None:
    # Counted by hand: ResNet-18 without its classifier, ASPP, one 3x3 layer, head.
    resnet18 = 11_689_512 - (512 * 1000 + 1000)
    norm = 2 * 256
    aspp = 512 * 256 + norm + 3 * (512 * 256 * 9 + norm) + (512 * 256 + norm) + (5 * 256 * 256 + norm)
    expected = resnet18 + aspp + (256 * 256 * 9 + norm) + (256 * 12 + 12)
    assert sum(p.numel() for p in build_network("deeplabv3", 12).parameters()) == expected


def test_scores_have_one_channel_per_class_and_the_images_size() -> None:
    model = build_network("deeplabv3", 5, decoder_channels=8).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 48)).shape == (1, 5, 32, 48)
        assert pooled_features(model, torch.zeros(2, 3, 32, 48)).shape == (2, 512)


def test_images_reach_the_encoder_with_imagenet_statistics() -> None:
    model = build_network("deeplabv3", 3, decoder_channels=8).eval()
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (image - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    seen = []
    first: Any = model.encoder.conv1
    first.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        model(image * 2 - 1)
    torch.testing.assert_close(seen[0], expected, rtol=1e-5, atol=1e-5)


def test_pooled_features_are_the_mean_over_the_last_feature_map() -> None:
    model = build_network("deeplabv3", 3, decoder_channels=8).eval()
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        last = model.encoder(image)[-1]
        expected = torch.stack([last[:, channel].flatten(1).mean(1) for channel in range(last.shape[1])], dim=1)
        torch.testing.assert_close(pooled_features(model, image), expected)


def test_pretrained_weights_are_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(7)
    donor = smp.encoders.get_encoder("resnet18", weights=None)
    save_file(donor.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(
        "segmentation_models_pytorch.encoders.hf_hub_download", lambda _, filename, **__: tmp_path / filename
    )
    model = build_network("deeplabv3", 3, encoder_weights="imagenet", decoder_channels=8)
    torch.testing.assert_close(dict(model.encoder.state_dict()), dict(donor.state_dict()), rtol=0, atol=0)


def test_missing_pretrained_weights_say_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", fail)
    with pytest.raises(ScenepaletteError, match=r"no route to host.*leave segmenters\.encoder_weights empty"):
        build_network("deeplabv3", 3, encoder_weights="imagenet")


@pytest.mark.parametrize(
    ("encoder", "weights", "message"),
    [
        ("resnet19", None, "resnet19.*resnet18"),
        ("resnet18", "imagenette", "imagenette.*imagenet"),
        ("tu-resnett18", None, "tu-resnett18.*tu-resnet18"),
        ("tu-resnet18", "imagenette", "imagenette.*a1_in1k, imagenet"),
        ("tu-resnet18.tv_in1k", "a1_in1k", "a1_in1k.*imagenet, tv_in1k"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(encoder: str, weights: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network("deeplabv3", 3, encoder=encoder, encoder_weights=weights)


def test_names_of_encoders_are_those_that_can_be_built_and_dilated() -> None:
    """By building each, without memory."""
    built = set()
    for name in known_encoders():
        try:
            with torch.device("meta"):
                smp.DeepLabV3(encoder_name=name, encoder_weights=None, encoder_output_stride=8)
        except ValueError as error:
            assert "dilated" in str(error)
        except RuntimeError as error:  # mit_b0 and its like look at numbers while they are built
            assert "meta tensors" in str(error)
            built.add(name)
        else:
            built.add(name)
    assert set(encoder_names()) == built


def test_an_encoder_that_cannot_be_fetched_is_told_in_words(tmp_path: Path) -> None:
    encoder = f"tu-local-dir:{tmp_path}"
    assert encoder_problems(encoder, None) == ()
    with pytest.raises(ScenepaletteError, match=r"segmenters\.encoder.*cannot be fetched"):
        build_network("deeplabv3", 3, encoder=encoder)


@pytest.mark.parametrize("architecture", ["deeplabv3", "fpn", "unet"])
def test_images_of_any_size_are_framed_with_grey_and_their_scores_cut(architecture: str) -> None:
    model = build_network(architecture, 3, decoder_channels=32).eval()
    image = torch.rand(2, 3, 45, 60, generator=torch.Generator().manual_seed(0)) * 2 - 1
    framed = torch.zeros(2, 3, 64, 64)
    framed[:, :, :45, :60] = image
    stride = model.encoder.output_stride if architecture != "unet" else 1
    height, width = (side + -side % stride for side in (45, 60))
    with torch.inference_mode():
        scores = model(image)
        assert scores.shape == (2, 3, 45, 60)
        assert torch.equal(scores, model(framed[:, :, :height, :width])[:, :, :45, :60])


def test_titles_are_the_names_that_the_library_has() -> None:
    named = {name: kind.__name__.replace("Plus", "+") for name, kind in smp.MODEL_ARCHITECTURES_MAPPING.items()}
    assert {name: named[name] for name in ARCHITECTURES} == {name: kind.title for name, kind in ARCHITECTURES.items()}
