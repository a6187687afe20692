"""DeepLabV3, the segmenter of every training arm (semantic-palette.txt, Appendix F)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders import encoders as known_encoders
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from data.errors import ConfigError, ScenepaletteError

# ImageNet's mean and deviation, stated for values in [0, 1], restated for the [-1, 1] of every image tensor here.
IMAGE_MEAN = [2 * mean - 1 for mean in (0.485, 0.456, 0.406)]
IMAGE_DEVIATION = [2 * deviation for deviation in (0.229, 0.224, 0.225)]


def _to_encoder_range(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Turn the encoder's input of [-1, 1] into what pre-trained encoders expect."""
    image, *others = arguments
    return (normalize(image, IMAGE_MEAN, IMAGE_DEVIATION), *others)


def build_deeplabv3(
    num_classes: int,
    encoder: str = "resnet18",
    encoder_weights: str | None = None,
    decoder_channels: int = 256,
    atrous_rates: Sequence[int] = (12, 24, 36),
    output_stride: Literal[8, 16] = 8,
) -> smp.DeepLabV3:
    """Build DeepLabV3 (segmentation-models-pytorch) for images in [-1, 1].

    The network maps B3HW in [-1, 1], H and W multiples of `output_stride`, to class scores BKHW. In training mode a
    batch must hold at least 2 images, because the image-level branch of the ASPP normalises over the batch alone.
    The encoder itself shifts its input to ImageNet's mean and deviation, so `model.encoder` takes [-1, 1] as well,
    and networks with and without pre-trained weights see the same input.

    Args:
        num_classes: K, number of classes.
        encoder: Name of an encoder of segmentation-models-pytorch, or "tu-" and the name of a timm model.
        encoder_weights: None for random weights, or the name of a pre-training such as "imagenet", which is
            downloaded once.
        decoder_channels: Channels of each ASPP branch and of the layer after it.
        atrous_rates: Dilations of the three ASPP branches, in feature-map pixels.
        output_stride: Image pixels per feature-map pixel.

    Returns:
        The network in training mode, on the CPU.

    Raises:
        ConfigError: The encoder is unknown or has no such pre-training.
        ScenepaletteError: The pre-trained weights cannot be had.
    """
    if not encoder.startswith("tu-"):
        if encoder not in known_encoders:
            raise ConfigError(
                f"segmenters.encoder is {encoder!r}, which segmentation-models-pytorch does not have. Use one of "
                f"{', '.join(sorted(known_encoders))}, or 'tu-' and the name of a timm model."
            )
        available = sorted(known_encoders[encoder].get("pretrained_settings") or {})
        if encoder_weights is not None and encoder_weights not in available:
            raise ConfigError(
                f"segmenters.encoder_weights is {encoder_weights!r}; {encoder} has {', '.join(available) or 'none'}. "
                "Use one of these, or leave it empty to start from random weights."
            )

    def build(weights: str | None) -> smp.DeepLabV3:
        return smp.DeepLabV3(
            encoder_name=encoder,
            encoder_weights=weights,
            encoder_output_stride=output_stride,
            decoder_channels=decoder_channels,
            decoder_atrous_rates=tuple(atrous_rates),
            classes=num_classes,
        )

    if encoder_weights is None:
        model = build(None)
    else:
        try:
            model = build(encoder_weights)
        except Exception as error:  # the hub client, the transport and the file format each raise their own kinds
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise ScenepaletteError(
                f"The {encoder_weights} weights of the encoder {encoder} could not be loaded ({reason}). To go on "
                "without them, leave segmenters.encoder_weights empty: the encoder then starts from random weights. To "
                "use them, make a connection to huggingface.co possible or fill its cache (HF_HOME) beforehand."
            ) from error
    model.encoder.register_forward_pre_hook(_to_encoder_range)
    return model


def pooled_features(model: nn.Module, image: Tensor) -> Tensor:
    """Return the global average of the encoder's last feature map.

    Args:
        model: Result of `build_deeplabv3`, in evaluation mode.
        image: B3HW in [-1, 1].

    Returns:
        float32 BD, with D the width of the encoder's last stage (512 for resnet18).
    """
    encoder: Any = model.encoder
    features = encoder(image)[-1]  # B D h w
    return features.to(torch.float32).mean(dim=(2, 3))
