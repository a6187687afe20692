"""The arms of the comparison: what each segmenter is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scenepalette.common.registry import Registry, folder_problem
from scenepalette.training.settings import range_problems

Adaptation = Literal["none", "advent", "minent"]


@dataclass(frozen=True)
class Arm:
    """One way to compose a segmenter's training data (Semantic Palette, tables 1 to 3).

    Attributes:
        description: What the arm trains on, in a few words.
        real: How real pairs take part: with their labels, as unlabelled images, or not at all.
        synthetic: Kind of generated pairs that take part, or None. An arm with both draws one batch of each a step.
        adaptation: Domain adaptation between real and synthetic batches.
        augmentation: Its own choice of augmentation, or None for the one that all arms share.
    """

    description: str
    real: Literal["labelled", "unlabelled", "none"] = "labelled"
    synthetic: Literal["full", "partial", "semi", "pseudo"] | None = None
    adaptation: Adaptation = "none"
    augmentation: Literal["flip", "standard"] | None = None


_BUILT_IN: dict[str, Arm] = {
    "real": Arm("real pairs"),
    "real-flip": Arm("real pairs, flips only", augmentation="flip"),
    "real-standard": Arm("real pairs, standard augmentation (flip, scale and crop, colour)", augmentation="standard"),
    "semi": Arm("real pairs and images regenerated on real layouts", synthetic="semi"),
    "semi-advent": Arm(
        "real pairs and images regenerated on real layouts, AdvEnt", synthetic="semi", adaptation="advent"
    ),
    "syn": Arm("generated pairs alone (GAN-train)", real="none", synthetic="full"),
    "syn-advent": Arm(
        "generated pairs, and real images without labels by AdvEnt",
        real="unlabelled",
        synthetic="full",
        adaptation="advent",
    ),
    "syn-minent": Arm(
        "generated pairs, and real images without labels by MinEnt",
        real="unlabelled",
        synthetic="full",
        adaptation="minent",
    ),
    "real+syn": Arm("real and generated pairs", synthetic="full"),
    "real+syn-advent": Arm("real and generated pairs, AdvEnt", synthetic="full", adaptation="advent"),
    "real+syn-minent": Arm("real and generated pairs, MinEnt", synthetic="full", adaptation="minent"),
    "real+partial": Arm("real pairs and real layouts edited in part", synthetic="partial"),
    "real+partial-advent": Arm(
        "real pairs and real layouts edited in part, AdvEnt", synthetic="partial", adaptation="advent"
    ),
    "real+pseudo": Arm("real pairs and images painted on predicted layouts of unlabelled images", synthetic="pseudo"),
}
DEFAULT_ARMS = tuple(
    name for name, arm in _BUILT_IN.items() if name not in ("real-flip", "real+pseudo") and arm.adaptation != "minent"
)


def _problem(name: str, entry: object) -> str | None:
    """Say what is wrong with the arm of another package."""
    if not isinstance(entry, Arm):
        return f"it is {type(entry).__name__}, not an Arm"
    if wrong := range_problems(entry, "Arm"):
        return " ".join(wrong).removesuffix(".")
    if entry.real != "labelled" and entry.synthetic is None:
        return "it has no labelled pairs to learn from; name a kind of pairs as its synthetic"
    if entry.adaptation != "none" and (entry.real == "none" or entry.synthetic is None):
        return f"its adaptation {entry.adaptation!r} needs real and synthetic pairs"
    if entry.real == "unlabelled" and entry.adaptation == "none":
        return "its real pairs are unlabelled, which only an adaptation has a use for"
    return folder_problem(name)


ARMS: Registry[Arm] = Registry("scenepalette.arms", _BUILT_IN, _problem)
"""The arms by name."""
