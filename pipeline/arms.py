"""The arms of the comparison: what each segmenter is trained on."""

from __future__ import annotations

from scenepalette.common.registry import Registry, folder_problem
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.training.arms import Arm
from scenepalette.training.settings import range_problems

_BUILT_IN: dict[str, Arm] = {
    "real": Arm("real pairs"),
    "real-flip": Arm("real pairs, flips only", augmentation="flip"),
    "real-standard": Arm("real pairs, standard augmentation (flip, scale and crop, colour)", augmentation="standard"),
    # What costs no generator: a generated pair has to be worth more than these.
    "real-long": Arm("real pairs, twice the steps", steps_factor=2.0),
    "copy-paste": Arm("real pairs, rare classes pasted from one into another", mixing="copy-paste"),
    "class-mix": Arm("real pairs, half of the classes pasted from one into another", mixing="class-mix"),
    # What the teachers add by themselves: a gain of trusted pairs has to be more than this.
    "relabelled": Arm("real images with labels of teachers that did not see them", teacher_labels=True),
}
# Tables show images on real layouts first: less of them is generated than of the other kinds.
for _kind in sorted(PAIR_KINDS.values(), key=lambda kind: kind.predicts or kind.layout_section is not None):
    _BUILT_IN |= _kind.arms
DEFAULT_ARMS = tuple(
    name
    for name, arm in _BUILT_IN.items()
    if name not in ("real-flip", "class-mix")
    and arm.adaptation != "minent"
    and arm.trust == "none"
    and not arm.teacher_labels
    and (arm.synthetic is None or PAIR_KINDS[arm.synthetic].by_default)
)


def _problem(name: str, entry: Arm) -> str | None:
    """Say what is wrong with the arm of another package."""
    if wrong := range_problems(entry, "Arm"):
        return " ".join(wrong).removesuffix(".")
    if entry.synthetic not in (None, *PAIR_KINDS):
        return f"Arm.synthetic is {entry.synthetic!r}; use one of None, {', '.join(map(repr, PAIR_KINDS))}"
    if entry.real != "labelled" and entry.synthetic is None:
        return "it has no labelled pairs to learn from; name a kind of pairs as its synthetic"
    if entry.adaptation != "none" and (entry.real == "none" or entry.synthetic is None):
        return f"its adaptation {entry.adaptation!r} needs real and synthetic pairs"
    if entry.real == "unlabelled" and entry.adaptation == "none":
        return "its real pairs are unlabelled, which only an adaptation has a use for"
    if entry.mixing != "none" and entry.real != "labelled":
        return f"its mixing {entry.mixing!r} needs real pairs with labels"
    if entry.trust != "none" and entry.synthetic is None:
        return f"its trust {entry.trust!r} is in generated pairs; name a kind of pairs as its synthetic"
    if entry.teacher_labels and entry.real != "labelled":
        return "its teacher_labels need real pairs with labels"
    return folder_problem(name)


ARMS: Registry[Arm] = Registry("scenepalette.arms", _BUILT_IN, Arm, _problem)
"""The arms by name."""
CONTROLS = ("real-long", "copy-paste")
"""What a user would try in place of generated pairs."""


def added_kind(name: str) -> str | None:
    """Return the kind of generated pairs that an arm adds to real labels, or None for any other arm."""
    arm = ARMS[name]
    return arm.synthetic if arm.real == "labelled" else None
