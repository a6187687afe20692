"""Numbers and switches of a layout system; which of them mean something to which is said in `layout_systems`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scenepalette.generators.layouts.crops import CropMode

PaletteSource = Literal["sampled", "real"]
Edits = Literal["replace", "add"]


@dataclass(frozen=True)
class LayoutSettings:
    """Numbers of a layout generator and its training; the defaults are the papers' at 128x256.

    Attributes:
        noise_features: Z.
        max_width: Largest number of feature channels.
        base_width: Level i has base_width / 2^(i+1) channels, at most `max_width`.
        hidden_channels: Width inside SPADE modulations (partial generator).
        fade_steps: Optimizer steps of fading in, one number a level; the base grid's is 0.
        stable_steps: Optimizer steps after fading in, one number a level.
        batch_sizes: One number a level.
        learning_rate: Of both Adam optimizers.
        betas: Of both Adam optimizers.
        gradient_penalty_weight: Lambda of the improved Wasserstein loss.
        penalty_share: Part of each batch that the gradient penalty is taken on, in (0, 1].
        conditional_weight: Weight of L_COND against the adversarial loss.
        average_decay: Of the averaged generator that is used for sampling.
        relative_sigma: Blur of softened real layouts as a fraction of the height.
        crop_mode: Where partial edits are trained, if they replace.
        checkpoint_every: Optimizer steps between checkpoints.
        residual_fusion: Whether a level's mask is added to the features that the next level grows from.
        multi_scale: Whether L_COND is taken at every level, or at the active one alone.
        soft_layouts: Whether real layouts are softened to be like generated ones; else real ones stay one-hot and the
            critic is shown classes drawn from the generated ones (Gumbel-softmax).
        palettes: Where target palettes come from in training: "sampled" by the palette sampler, or "real" ones.
        sinkhorn_iterations: Of each semantically-assisted activation, at least 1.
        matching_weight: Weight of L_MATCH against the adversarial loss (`baseline-1`).
        edits: What the partial generator does: "replace" a crop by new content of the same palette (section 4.2), or
            "add" to a whole layout what its palette lacks of another (section 5.4).
        novelty_weight: Weight of L_NOV against the adversarial loss, if edits add.
    """

    noise_features: int = 512
    max_width: int = 512
    base_width: int = 8192
    hidden_channels: int = 128
    fade_steps: tuple[int, ...] = (0, 1500, 3000, 6000, 12000, 24000)
    stable_steps: tuple[int, ...] = (1500, 1500, 3000, 6000, 12000, 24000)
    batch_sizes: tuple[int, ...] = (1024, 512, 256, 64, 16, 8)
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.0, 0.99)
    gradient_penalty_weight: float = 10.0
    penalty_share: float = 1.0
    conditional_weight: float = 1.0
    average_decay: float = 0.999
    relative_sigma: float = 1 / 64
    crop_mode: CropMode = "band"
    checkpoint_every: int = 500
    residual_fusion: bool = True
    multi_scale: bool = True
    soft_layouts: bool = True
    palettes: PaletteSource = "sampled"
    sinkhorn_iterations: int = 1
    matching_weight: float = 1.0
    edits: Edits = "replace"
    novelty_weight: float = 1.0
