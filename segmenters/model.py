"""Networks of segmentation-models-pytorch; DeepLabV3 is that of Le Moing et al., 2021, Appendix F.

The library, and timm and torchvision with it, takes seconds to import, which is done when a network is built or the
name of an encoder is checked: `scenepalette status` needs neither.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.storage.untrusted import short
from scenepalette.segmenters.encoder_file import load_encoder

TIMM_PREFIX = "tu-"
"""Before the name of a timm model, where segmentation-models-pytorch takes the name of an encoder."""

# ImageNet's mean and deviation, stated for values in [0, 1], restated for the [-1, 1] of every image tensor here.
IMAGE_MEAN = [2 * mean - 1 for mean in (0.485, 0.456, 0.406)]
IMAGE_DEVIATION = [2 * deviation for deviation in (0.229, 0.224, 0.225)]


def _to_encoder_range(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Turn the encoder's input of [-1, 1] into what pre-trained encoders expect."""
    image, *others = arguments
    return (to_encoder_range(image), *others)


def to_encoder_range(image: Tensor) -> Tensor:
    """Turn images B3HW in [-1, 1] into what encoders expect that were trained on ImageNet."""
    from torchvision.transforms.v2.functional import normalize

    return normalize(image, IMAGE_MEAN, IMAGE_DEVIATION)


@functools.cache
def known_encoders() -> dict[str, dict[str, Any]]:
    """Return the encoders of segmentation-models-pytorch by name, without those of timm."""
    from segmentation_models_pytorch.encoders import encoders

    return encoders


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

    return tuple(sorted(name for name, entry in known_encoders().items() if can_be_dilated(entry["encoder"])))


def is_fetched(encoder: str) -> bool:
    """Tell whether an encoder's name leads to a hub or a folder, as "tu-hf-hub:..." does."""
    return encoder.startswith(TIMM_PREFIX) and not {":", "/"}.isdisjoint(encoder)


Numbers = dict[str, Any]


def _dilated(channels: int, rates: Sequence[int], stride: int) -> Numbers:
    return {"decoder_channels": channels, "decoder_atrous_rates": tuple(rates), "encoder_output_stride": stride}


def _halving(channels: int, rates: Sequence[int], stride: int) -> Numbers:
    return {"decoder_channels": tuple(max(1, channels >> i) for i in range(5))}


class Architecture(NamedTuple):
    """An architecture of segmentation-models-pytorch: its name in papers, and what it takes besides an encoder.

    `numbers` makes its arguments of the width of its decoder (256 is everyone's usual one), and of the dilations and
    the output stride of DeepLabV3 and DeepLabV3+.
    """

    title: str
    numbers: Callable[[int, Sequence[int], int], Numbers]


ARCHITECTURES: dict[str, Architecture] = {
    "deeplabv3": Architecture("DeepLabV3", _dilated),
    "deeplabv3plus": Architecture("DeepLabV3+", _dilated),
    "unet": Architecture("Unet", _halving),
    "unetplusplus": Architecture("Unet++", _halving),
    "manet": Architecture("MAnet", _halving),
    "linknet": Architecture("Linknet", lambda channels, rates, stride: {}),
    "fpn": Architecture(
        "FPN",
        lambda channels, rates, stride: {
            "decoder_pyramid_channels": channels,
            "decoder_segmentation_channels": max(32, channels // 64 * 32),  # its normalisation has 32 groups
        },
    ),
    "pspnet": Architecture("PSPNet", lambda channels, rates, stride: {"psp_out_channels": 2 * channels}),
    "pan": Architecture("PAN", lambda channels, rates, stride: {"decoder_channels": max(1, channels // 8)}),
    "upernet": Architecture("UPerNet", lambda channels, rates, stride: {"decoder_channels": channels}),
    "segformer": Architecture("Segformer", lambda channels, rates, stride: {"decoder_segmentation_channels": channels}),
    "dpt": Architecture(
        "DPT", lambda channels, rates, stride: {"decoder_fusion_channels": channels, "dynamic_img_size": True}
    ),
}
"""The architectures of segmentation-models-pytorch by name, the usual one first."""
DEFAULT_ARCHITECTURE = "deeplabv3"
DILATING = ("deeplabv3", "deeplabv3plus", "pan")
WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")


def title_of(architecture: str) -> str:
    """Return the name that papers have for an architecture."""
    return ARCHITECTURES[architecture].title if architecture in ARCHITECTURES else architecture


def weights_file(encoder_weights: str | None) -> Path | None:
    """Return the local file that `encoder_weights` names, or None where it names a pre-training or nothing."""
    named = encoder_weights is not None and encoder_weights.endswith(WEIGHTS_SUFFIXES)
    return Path(encoder_weights) if encoder_weights is not None and named else None


@functools.lru_cache(maxsize=256)
def encoder_problems(
    encoder: str, encoder_weights: str | None, architecture: str = DEFAULT_ARCHITECTURE
) -> tuple[str, ...]:
    """Return what keeps an encoder, or its pre-training, from being used, without loading anything.

    What is fetched by its name, or read from a file, is known when it is built, not before.

    Args:
        encoder: As in `build_network`.
        encoder_weights: As in `build_network`.
        architecture: As in `build_network`.

    Returns:
        One text each, which begins with the field of the configuration.
    """
    title = title_of(architecture)
    if not encoder.startswith(TIMM_PREFIX):
        if encoder not in known_encoders():
            return (
                f"segmenters.encoder: got {short(repr(encoder))}, which segmentation-models-pytorch does not have. Use "
                f"one of {', '.join(encoder_names())}, or '{TIMM_PREFIX}' and the name of a timm model",
            )
        if architecture in DILATING and encoder not in encoder_names():
            return (
                f"segmenters.encoder: {encoder} cannot be dilated, as {title} needs it. Use one of "
                f"{', '.join(encoder_names())}, or '{TIMM_PREFIX}' and the name of a timm model",
            )
        if architecture not in DILATING and (reason := _building_problem(architecture, encoder)):
            return (_unfit(architecture, encoder, reason),)
        available = sorted(known_encoders()[encoder].get("pretrained_settings") or {})
    else:
        name = encoder.removeprefix(TIMM_PREFIX)
        if is_fetched(encoder):
            return ()
        model = name.partition(".")[0]
        import timm

        if not timm.is_model(model):
            near = [TIMM_PREFIX + other for other in get_close_matches(model, timm.list_models(), 3)]
            hint = f" Similar names are {', '.join(near)}." if near else ""
            return (
                f"segmenters.encoder: got {short(repr(encoder))}, but timm has no model {short(repr(model))}."
                f"{hint} timm.list_models() lists all",
            )
        if reason := _building_problem(architecture, encoder):
            return (_unfit(architecture, encoder, reason),)
        # The tag in a timm model's name says which pre-training is meant; "imagenet" stands for any.
        tag = getattr(timm.get_pretrained_cfg(name, allow_unregistered=True), "tag", None)
        available = sorted({"imagenet", tag or "imagenet"}) if timm.models.is_model_pretrained(name) else []
    named = encoder_weights is not None and weights_file(encoder_weights) is None
    if named and encoder_weights not in available:
        return (
            f"segmenters.encoder_weights: got {short(repr(encoder_weights))}; {encoder} has "
            f"{', '.join(available) or 'none'}. Use one of these, name a file (.safetensors or .pth), or leave it "
            "empty to start from random weights",
        )
    return ()


def trial(build: Callable[[], object]) -> str:
    """Return why something made of networks cannot be done, or nothing; it is tried without memory if that works."""
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                build()
        except Exception as error:  # networks, timm's above all, refuse what they cannot be in ways of their own
            reason = short(str(error)) or type(error).__name__
            if device == "cpu" or "meta" not in str(error):
                return reason
        else:
            break
    return ""


def _building_problem(architecture: str, encoder: str) -> str:
    """Return why a network of this package cannot be built on an encoder, or nothing; it is tried without memory."""
    if architecture not in ARCHITECTURES:
        return ""
    import segmentation_models_pytorch as smp

    numbers = ARCHITECTURES[architecture].numbers(64, (12, 24, 36), 8)
    return trial(lambda: smp.create_model(architecture, encoder, None, classes=2, **numbers))


def _unfit(architecture: str, encoder: str, reason: str) -> str:
    title = title_of(architecture)
    if architecture in DILATING:
        required, examples = (
            ", which has to give feature maps at 1/2, 1/4 and on, and to be dilated",
            f"{TIMM_PREFIX}resnet18 or {TIMM_PREFIX}convnext_tiny",
        )
    elif architecture == "dpt":
        required, examples = ", which has to be a vision transformer of timm", f"{TIMM_PREFIX}vit_tiny_patch16_224"
    else:
        required, examples = "", "resnet18"
    return (
        f"segmenters.encoder: {short(repr(encoder))} cannot be {title}'s encoder{required} ({reason}). Use another, "
        f"for example {examples}"
    )


def build_network(
    architecture: str,
    num_classes: int,
    encoder: str = "resnet18",
    encoder_weights: str | None = None,
    decoder_channels: int = 256,
    atrous_rates: Sequence[int] = (12, 24, 36),
    output_stride: Literal[8, 16] = 8,
) -> nn.Module:
    """Build an architecture of segmentation-models-pytorch for images in [-1, 1].

    The network maps B3HW in [-1, 1] to class scores BKHW, whatever the size. In training mode a batch must hold at
    least 2 images, because DeepLabV3's image-level branch, and others like it, normalise over the batch alone. The
    encoder itself shifts its input to ImageNet's mean and deviation, so `model.encoder` takes [-1, 1] as well, and
    networks with and without pre-trained weights see the same input.

    Args:
        architecture: One of `ARCHITECTURES`.
        num_classes: K, number of classes.
        encoder: Name of an encoder of segmentation-models-pytorch, or "tu-" and the name of a timm model.
        encoder_weights: None for random weights, the name of a pre-training such as "imagenet", which is downloaded
            once, or a local file, see `load_encoder`.
        decoder_channels: Width of the decoder; Linknet's follows the encoder.
        atrous_rates: Dilations of the three ASPP branches of DeepLabV3 and DeepLabV3+, in feature-map pixels.
        output_stride: Image pixels per feature-map pixel, of DeepLabV3 and DeepLabV3+.

    Returns:
        The network in training mode, on the CPU.

    Raises:
        ConfigError: The encoder is unknown, does not suit the architecture, or has no such pre-training; or the file
            does not fit it.
        ScenepaletteError: The pre-trained weights cannot be had.
    """
    import segmentation_models_pytorch as smp

    if problems := encoder_problems(encoder, encoder_weights, architecture):
        raise ConfigError("The segmenter cannot be built.", problems)
    file = weights_file(encoder_weights)
    numbers = ARCHITECTURES[architecture].numbers(decoder_channels, atrous_rates, output_stride)
    try:
        pretrained = encoder_weights if file is None else None
        model = smp.create_model(architecture, encoder, pretrained, classes=num_classes, **numbers)
    except Exception as error:  # the hub client, the transport and the file format each raise their own kinds
        reason = str(error).partition("\n")[0] or type(error).__name__
        if is_fetched(encoder):
            raise ScenepaletteError(
                f"segmenters.encoder: {short(repr(encoder))} cannot be fetched, or cannot be "
                f"{title_of(architecture)}'s encoder ({short(reason)}). Use the name of an encoder "
                "that needs no fetching, for example resnet18."
            ) from error
        if encoder_weights is not None:
            raise ScenepaletteError(
                f"The {encoder_weights} weights of the encoder {encoder} could not be loaded ({reason}). To go on "
                "without them, leave segmenters.encoder_weights empty: the encoder then starts from random weights. To "
                "use them, make a connection to huggingface.co possible or fill its cache (HF_HOME) beforehand, or "
                "name a local file."
            ) from error
        raise
    network: Any = model.encoder
    if file is not None:
        load_encoder(network, encoder, file)
    network.register_forward_pre_hook(_to_encoder_range)
    model.__class__ = _of_any_size(type(model))
    return model


@functools.cache
def _of_any_size(kind: type[nn.Module]) -> type[nn.Module]:
    """Return a class of networks like another that take images of any size.

    Encoders halve images several times, and decoders enlarge what they give by whole factors. Images whose sides are no
    multiples of that are framed with mid-grey at the bottom and on the right, and the scores there are cut off. The
    weights have the names that they have without.
    """

    class OfAnySize(kind):  # pyright: ignore
        def forward(self, image: Tensor) -> Tensor:
            height, width = image.shape[-2:]
            network: Any = self
            stride = int(network.encoder.output_stride) if network.requires_divisible_input_shape else 1
            below, beside = -height % stride, -width % stride
            if not (below or beside):
                return super().forward(image)
            return super().forward(functional.pad(image, (0, beside, 0, below)))[..., :height, :width]

    OfAnySize.__name__ = OfAnySize.__qualname__ = kind.__name__
    return OfAnySize


def feature_maps(model: nn.Module, image: Tensor) -> list[Tensor]:
    """Return what a segmenter's encoder makes of images, from fine to coarse, without the images themselves.

    Args:
        model: A segmenter, in evaluation mode.
        image: B3HW in [-1, 1].

    Returns:
        Feature maps BCHW.
    """
    encoder: Any = model.encoder
    maps = encoder(image)
    if isinstance(maps[0], list | tuple):  # vision transformers give their tokens beside the maps
        maps = maps[0]
    # Some transformers have an empty map where they skip a resolution.
    return [one for one in maps if one.numel() and one.shape[1:] != image.shape[1:]]


def pooled_features(model: nn.Module, image: Tensor) -> Tensor:
    """Return the global average of the encoder's last feature map.

    Args:
        model: A segmenter, in evaluation mode.
        image: B3HW in [-1, 1].

    Returns:
        float32 BD, with D the width of the encoder's last stage (512 for resnet18).
    """
    return feature_maps(model, image)[-1].to(torch.float32).mean(dim=(2, 3))
