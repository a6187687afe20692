"""Settings of a segmenter's training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge
from typing_extensions import Doc

from scenepalette.common.errors import ConfigError
from scenepalette.training.settings import Count, Rate, Weight, range_problems

Domain = Literal["real", "synthetic"]


@dataclass(frozen=True)
class SegmenterSettings:
    """Numbers of one segmenter training; the defaults are those of Semantic Palette (Appendix F) and AdvEnt.

    Raises:
        ConfigError: Names every field that is out of range.
    """

    steps: Annotated[Count, Doc("Optimizer steps per training.")] = 2000
    # The ASPP's image-level branch normalises over the batch alone.
    batch_size: Annotated[int, Ge(2), Doc("Images per domain and step.")] = 16
    architecture: Annotated[str, Doc("Segmenter by name; `scenepalette systems` lists them.")] = "deeplabv3"
    encoder: Annotated[
        str, Doc("Encoder name in segmentation-models-pytorch, or 'tu-' and the name of a timm model.")
    ] = "resnet18"
    encoder_weights: Annotated[
        str | None,
        Doc("A pre-training, for example imagenet, or a .safetensors or .pth file; none for random weights."),
    ] = None
    decoder_channels: Annotated[Count, Doc("Width of the decoder.")] = 256
    atrous_rates: Annotated[tuple[int, int, int], Doc("Dilations of the ASPP, in feature-map pixels.")] = (12, 24, 36)
    output_stride: Annotated[Literal[8, 16], Doc("Image pixels per feature-map pixel.")] = 8
    learning_rate: Annotated[Rate, Doc("SGD's at the first step.")] = 0.01
    momentum: Annotated[Weight, Doc("SGD's.")] = 0.9
    weight_decay: Annotated[Weight, Doc("SGD's.")] = 5e-4
    poly_power: Annotated[Weight, Doc("Learning rates fall as (1 - step / steps) ** poly_power.")] = 0.9
    augmentation: Annotated[
        Literal["flip", "standard"], Doc("Of all arms alike; the arms real-flip and real-standard name their own.")
    ] = "flip"
    adaptation: Annotated[Literal["none", "advent", "minent"], Doc("Domain adaptation; an arm's choice.")] = "none"
    # The reference code of Le Moing et al., 2021 has 0.01.
    adversarial_weight: Annotated[Weight, Doc("Weight of AdvEnt's loss.")] = 0.001
    entropy_weight: Annotated[Weight, Doc("Weight of MinEnt's loss.")] = 0.001
    adapted_domain: Annotated[
        Domain | None, Doc("Whose images are adapted; synthetic if it is left out and real pairs have labels.")
    ] = None
    discriminator_width: Annotated[Count, Doc("Channels of AdvEnt's discriminator.")] = 64
    discriminator_learning_rate: Annotated[Rate, Doc("Adam's, at the first step.")] = 1e-4
    discriminator_betas: Annotated[tuple[float, float], Doc("Adam's.")] = (0.9, 0.99)
    checkpoint_every: Annotated[Count, Doc("Steps between checkpoints.")] = 500
    log_every: Annotated[Count, Doc("Steps between lines of the metrics log.")] = 10

    def __post_init__(self) -> None:
        if problems := range_problems(self, "segmenters"):
            raise ConfigError("The settings of a segmenter cannot be used.", problems)
