"""DeepLabV3, the segmenter of every training arm (Le Moing et al., 2021, Appendix F)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.encoders import encoders as known_encoders
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.untrusted import short

TIMM_PREFIX = "tu-"
"""Before the name of a timm model, where segmentation-models-pytorch takes the name of an encoder."""

# ImageNet's mean and deviation, stated for values in [0, 1], restated for the [-1, 1] of every image tensor here.
IMAGE_MEAN = [2 * mean - 1 for mean in (0.485, 0.456, 0.406)]
IMAGE_DEVIATION = [2 * deviation for deviation in (0.229, 0.224, 0.225)]


def _to_encoder_range(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Turn the encoder's input of [-1, 1] into what pre-trained encoders expect."""
    image, *others = arguments
    return (normalize(image, IMAGE_MEAN, IMAGE_DEVIATION), *others)


@functools.cache
def encoder_names() -> tuple[str, ...]:
    """Return the encoders of segmentation-models-pytorch that DeepLabV3 can have, beside those of timm, sorted."""

    def can_be_dilated(kind: Any) -> bool:
        try:
            kind.make_dilated(None, 8)
        except ValueError:  # raised at once by encoders that cannot be dilated
            return False
        except AttributeError:
            return True
        return True

    return tuple(sorted(name for name, entry in known_encoders.items() if can_be_dilated(entry["encoder"])))


def is_fetched(encoder: str) -> bool:
    """Tell whether an encoder's name leads to a hub or a folder, as "tu-hf-hub:..." does."""
    return encoder.startswith(TIMM_PREFIX) and not {":", "/"}.isdisjoint(encoder)


@functools.lru_cache(maxsize=256)
def encoder_problems(encoder: str, encoder_weights: str | None) -> tuple[str, ...]:
    """Return what keeps an encoder, or its pre-training, from being used, without loading anything.

    What is fetched by its name is known when it is built, not before.

    Args:
        encoder: As in `build_deeplabv3`.
        encoder_weights: As in `build_deeplabv3`.

    Returns:
        One text each, which begins with the field of the configuration.
    """
    if not encoder.startswith(TIMM_PREFIX):
        if encoder not in known_encoders:
            return (
                f"segmenters.encoder: got {short(repr(encoder))}, which segmentation-models-pytorch does not have. Use "
                f"one of {', '.join(encoder_names())}, or '{TIMM_PREFIX}' and the name of a timm model",
            )
        if encoder not in encoder_names():
            return (
                f"segmenters.encoder: {encoder} cannot be dilated, as DeepLabV3 needs it. Use one of "
                f"{', '.join(encoder_names())}, or '{TIMM_PREFIX}' and the name of a timm model",
            )
        available = sorted(known_encoders[encoder].get("pretrained_settings") or {})
    else:
        name = encoder.removeprefix(TIMM_PREFIX)
        if is_fetched(encoder):
            return ()
        architecture = name.partition(".")[0]
        if not timm.is_model(architecture):
            near = [TIMM_PREFIX + other for other in get_close_matches(architecture, timm.list_models(), 3)]
            hint = f" Similar names are {', '.join(near)}." if near else ""
            return (
                f"segmenters.encoder: got {short(repr(encoder))}, but timm has no model {short(repr(architecture))}."
                f"{hint} timm.list_models() lists all",
            )
        try:
            with torch.device("meta"):
                smp.DeepLabV3(encoder_name=encoder, encoder_weights=None, encoder_output_stride=8, classes=2)
        except Exception as error:  # timm's models refuse what they cannot be in ways of their own
            return (
                f"segmenters.encoder: {short(repr(encoder))} cannot be DeepLabV3's encoder, which has to give feature "
                f"maps at 1/2, 1/4 and on, and to be dilated ({short(str(error)) or type(error).__name__}). Use "
                f"another, for example {TIMM_PREFIX}resnet18 or {TIMM_PREFIX}convnext_tiny",
            )
        # The tag in a timm model's name says which pre-training is meant; "imagenet" stands for any.
        tag = getattr(timm.get_pretrained_cfg(name, allow_unregistered=True), "tag", None)
        available = sorted({"imagenet", tag or "imagenet"}) if timm.models.is_model_pretrained(name) else []
    if encoder_weights is not None and encoder_weights not in available:
        return (
            f"segmenters.encoder_weights: got {short(repr(encoder_weights))}; {encoder} has "
            f"{', '.join(available) or 'none'}. Use one of these, or leave it empty to start from random weights",
        )
    return ()


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
        ConfigError: The encoder is unknown, cannot be dilated, or has no such pre-training.
        ScenepaletteError: The pre-trained weights cannot be had.
    """
    if problems := encoder_problems(encoder, encoder_weights):
        raise ConfigError("The segmenter cannot be built.", problems)

    def build(weights: str | None) -> smp.DeepLabV3:
        return smp.DeepLabV3(
            encoder_name=encoder,
            encoder_weights=weights,
            encoder_output_stride=output_stride,
            decoder_channels=decoder_channels,
            decoder_atrous_rates=tuple(atrous_rates),
            classes=num_classes,
        )

    try:
        model = build(encoder_weights)
    except Exception as error:  # the hub client, the transport and the file format each raise their own kinds
        reason = str(error).partition("\n")[0] or type(error).__name__
        if is_fetched(encoder):
            raise ScenepaletteError(
                f"segmenters.encoder: {short(repr(encoder))} cannot be fetched, or cannot be DeepLabV3's encoder "
                f"({short(reason)}). Use the name of an encoder that needs no fetching, for example resnet18."
            ) from error
        if encoder_weights is not None:
            raise ScenepaletteError(
                f"The {encoder_weights} weights of the encoder {encoder} could not be loaded ({reason}). To go on "
                "without them, leave segmenters.encoder_weights empty: the encoder then starts from random weights. To "
                "use them, make a connection to huggingface.co possible or fill its cache (HF_HOME) beforehand."
            ) from error
        raise
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
