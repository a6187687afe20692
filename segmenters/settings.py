"""Settings of a segmenter's training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

from scenepalette.common.errors import ConfigError
from scenepalette.training.settings import ADDED, Count, Rate, Weight, range_problems

Domain = Literal["real", "synthetic"]


@dataclass(frozen=True)
class SegmenterSettings:
    """Numbers of one segmenter training.

    Optimizer and network have the defaults of Semantic Palette (Appendix F) and AdvEnt. How real and generated images
    share a training has defaults of its own: the papers give the arms with generated pairs twice as many images.

    Raises:
        ConfigError: Names every field that is out of range.
    """

    steps: Annotated[Count, Doc("Optimizer steps per training.")] = 2000
    # The ASPP's image-level branch normalises over the batch alone.
    batch_size: Annotated[int, Ge(2), Doc("Images per step of every arm, real and generated together.")] = 16
    schedule: Annotated[
        Literal["mixed", "pretrain"],
        Doc("Real and generated images in each step, or training on generated ones first and on real ones after."),
    ] = "mixed"
    synthetic_share: Annotated[
        float, Gt(0), Lt(1), Doc("Share of generated images in a mixed batch, or of pre-training in the steps.")
    ] = 0.5
    synthetic_fade: Annotated[
        float,
        Ge(0),
        Le(1),
        Doc("Last part of the steps over which that share falls to 0; not with pretrain, nor with an adaptation."),
    ] = 0.25
    synthetic_weight: Annotated[Rate, Doc("Weight of a generated image's loss against a real one's.")] = 0.5
    statistics_images: Annotated[
        int, Ge(0), Doc("Real training images that batch-norm statistics are taken from at the end; 0 for none.")
    ] = 256
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
    optimizer: Annotated[Literal["sgd", "adamw"], Doc("Optimizer; adamw wants smaller learning rates.")] = "sgd"
    learning_rate: Annotated[Rate, Doc("The largest one.")] = 0.01
    warmup: Annotated[float, Ge(0), Lt(1), Doc("First part of the steps, over which the learning rate rises.")] = 0.05
    momentum: Annotated[Weight, Doc("SGD's.")] = 0.9
    weight_decay: Annotated[Weight, Doc("The optimizer's.")] = 5e-4
    poly_power: Annotated[Weight, Doc("Learning rates fall as (1 - step / steps) ** poly_power.")] = 0.9
    augmentation: Annotated[
        Literal["flip", "standard"], Doc("Of all arms alike; the arms real-flip and real-standard name their own.")
    ] = "flip"
    class_weights: Annotated[
        Literal["none", "median-frequency", "root-median-frequency"],
        Doc(
            "Weights of classes in the loss; median-frequency makes those larger that are rare in training, "
            "root-median-frequency less so, by the square roots of its weights."
        ),
    ] = "none"
    prior_correction: Annotated[
        bool,
        ADDED,
        Doc(
            "Weigh classes in generated images, and in real ones with pasted objects, so that none counts for more or "
            "less than its share of the real training pairs."
        ),
    ] = False
    mixing: Annotated[
        Literal["none", "copy-paste", "class-mix"], Doc("Mixing of real images among themselves; an arm's choice.")
    ] = "none"
    mixing_probability: Annotated[float, Ge(0), Le(1), Doc("Of pasting into a real image, in arms that mix.")] = 0.5
    rare_classes: Annotated[
        tuple[str, ...],
        Doc("Classes that copy-paste pastes; by default those below half the median share in training."),
    ] = ()
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
