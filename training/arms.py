"""An arm: how a segmenter's training data is composed of real and generated pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scenepalette.training.settings import Rate

Adaptation = Literal["none", "advent", "minent"]
Mixing = Literal["none", "copy-paste", "class-mix"]
Trust = Literal["none", "mask", "relabel"]


@dataclass(frozen=True)
class Arm:
    """One way to compose a segmenter's training data (Le Moing et al., 2021, tables 1 to 3).

    Attributes:
        description: What the arm trains on, in a few words.
        real: How real pairs take part: with their labels, as unlabelled images, or not at all.
        synthetic: Kind of generated pairs that take part, or None. An arm with both divides its batches among them.
        adaptation: Domain adaptation between real and synthetic batches.
        augmentation: Its own choice of augmentation, or None for the one that all arms share.
        mixing: What is pasted from real images into other real ones (`data/augmentation/mixing.py`).
        steps_factor: Its optimizer steps as a multiple of those that the arms share.
        trust: Whether pixels of generated pairs are left out where teachers doubt their label, or also relabelled where
            these are sure of another one.
        teacher_labels: Whether real images carry the labels of teachers that did not see them, in place of their own.
    """

    description: str
    real: Literal["labelled", "unlabelled", "none"] = "labelled"
    synthetic: str | None = None
    adaptation: Adaptation = "none"
    augmentation: Literal["flip", "standard"] | None = None
    mixing: Mixing = "none"
    steps_factor: Rate = 1.0
    trust: Trust = "none"
    teacher_labels: bool = False
