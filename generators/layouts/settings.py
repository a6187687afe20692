"""Numbers and switches of a layout system; the registry says which of them mean something to which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from typing_extensions import Doc

from scenepalette.generators.layouts.crops import CropMode
from scenepalette.generators.nn.padding import PaddingMode
from scenepalette.training.settings import ADDED, Count, Decay, Rate, Weight

PaletteSource = Literal["sampled", "real"]
Edits = Literal["replace", "add"]
PerLevel = tuple[int, ...]


@dataclass(frozen=True)
class LayoutSettings:
    """Numbers of a layout generator and its training; the defaults are the papers' at 128x256.

    Lists have one entry per level of the growing network. Edits that replace put new content of the same palette into a
    crop (Le Moing et al., 2021, section 4.2); edits that add put into a whole layout what its palette lacks of another
    (section 5.4).
    """

    noise_features: Annotated[Count, Doc("Length of the noise vector.")] = 512
    max_width: Annotated[Count, Doc("Largest number of feature channels.")] = 512
    base_width: Annotated[int, Ge(2), Doc("Level i has base_width / 2^(i+1) channels, up to max_width.")] = 8192
    hidden_channels: Annotated[Count, Doc("Width inside SPADE modulations (partial generator).")] = 128
    fade_steps: Annotated[PerLevel, Doc("Steps of fading in, per level; the first is 0.")] = (
        0,
        1500,
        3000,
        6000,
        12000,
        24000,
    )
    stable_steps: Annotated[PerLevel, Doc("Steps after fading in, per level.")] = (1500, 1500, 3000, 6000, 12000, 24000)
    batch_sizes: Annotated[PerLevel, Doc("Batch size per level.")] = (1024, 512, 256, 64, 16, 8)
    learning_rate: Annotated[Rate, Doc("Adam's.")] = 1e-3
    betas: Annotated[tuple[float, float], Doc("Adam's.")] = (0.0, 0.99)
    gradient_penalty_weight: Annotated[Weight, Doc("Lambda of the improved Wasserstein loss.")] = 10.0
    penalty_share: Annotated[float, Gt(0), Le(1), Doc("Part of each batch that the gradient penalty is taken on.")] = (
        1.0
    )
    conditional_weight: Annotated[Weight, Doc("Weight of L_COND against the adversarial loss.")] = 1.0
    average_decay: Annotated[Decay, Doc("Of the averaged generator used for sampling.")] = 0.999
    relative_sigma: Annotated[Rate, Doc("Blur of softened real layouts as a fraction of the height.")] = 1 / 64
    crop_mode: Annotated[CropMode, Doc("Where partial edits happen.")] = "band"
    checkpoint_every: Annotated[Count, Doc("Steps between checkpoints.")] = 500
    residual_fusion: Annotated[
        bool, Doc("Whether a level's mask is added to the features that the next level grows from.")
    ] = True
    multi_scale: Annotated[bool, Doc("Whether L_COND is taken at every level, or at the active one alone.")] = True
    soft_layouts: Annotated[
        bool, Doc("Whether real layouts are softened; else classes are drawn by Gumbel-softmax.")
    ] = True
    palettes: Annotated[PaletteSource, Doc("Target palettes in training: from the sampler, or of real layouts.")] = (
        "sampled"
    )
    sinkhorn_iterations: Annotated[
        Count, Doc("Of each semantically-assisted activation; more keep closer to the palette.")
    ] = 1
    matching_weight: Annotated[Weight, Doc("Weight of L_MATCH (baseline-1).")] = 1.0
    edits: Annotated[
        Edits, Doc("Partial edits replace a crop, or add to a whole layout what its target has more of.")
    ] = "replace"
    novelty_weight: Annotated[Weight, Doc("Weight of L_NOV, where partial edits add.")] = 1.0
    balance: Annotated[
        float, Ge(0), Le(1), Doc("How far rare classes count more in L_COND: 0 not at all, 1 by the inverse share.")
    ] = 0.0
    warp: Annotated[
        float, Ge(0), Le(0.25), Doc("Random warps of real layouts: largest shift of a pixel as a fraction of the side.")
    ] = 0.0
    padding_mode: Annotated[
        PaddingMode, ADDED, Doc("What the generator's convolutions see beyond borders; replicate draws no frame.")
    ] = "zeros"
