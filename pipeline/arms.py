"""The arms of the comparison: what each segmenter is trained on."""

from __future__ import annotations

from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.training.arms import Arm

ARMS: dict[str, Arm] = {
    "real": Arm("real pairs"),
    "real-flip": Arm("real pairs, flips only", augmentation="flip"),
    "real-standard": Arm("real pairs, standard augmentation (flip, scale and crop, colour)", augmentation="standard"),
}
# Tables show images on real layouts first: less of them is generated than of the other kinds.
for _kind in sorted(PAIR_KINDS.values(), key=lambda kind: kind.name != "semi"):
    ARMS |= _kind.arms
DEFAULT_ARMS = tuple(
    name
    for name, arm in ARMS.items()
    if name != "real-flip"
    and arm.adaptation != "minent"
    and (arm.synthetic is None or PAIR_KINDS[arm.synthetic].by_default)
)
