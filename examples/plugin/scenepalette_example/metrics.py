"""A metric: how far the contrast of generated images is from that of real ones."""

from scenepalette.data.arrays import Pairs
from scenepalette.evaluation.registry import Metric


def contrast_gap(real: Pairs, generated: Pairs) -> float:
    """Return the absolute difference of the standard deviations of all values, in [0, 1]."""
    first, second = (pairs.batch(range(min(len(pairs), 256)))[0].std() for pairs in (real, generated))
    return float((first - second).abs())


CONTRAST_GAP = Metric(
    "contrast gap",
    "difference of the contrast of generated and real images",
    ("real", "generated"),
    contrast_gap,
    better="lower",
)
