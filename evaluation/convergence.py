"""Whether a segmenter's training was long enough, from its own curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LAST_PART = 0.2
"""The part of the steps that is looked at."""
SMALL_GAIN = 0.01
"""mIoU: less than one point gained in that part counts as converged."""


def validation_curve(lines: Iterable[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Return (step, mIoU) of the lines of a metrics log that have one."""
    return [(line["step"], line["validation_miou"]) for line in lines if line.get("validation_miou") is not None]


def converged(curve: Iterable[tuple[int, float]]) -> tuple[bool, str]:
    """Tell whether a training had converged: its validation mIoU gained less than one point in the last fifth.

    Learning rates fall to 0 towards the end, which by itself raises mIoU a little, so that the rule rather calls a
    training too short than long enough.

    Args:
        curve: (step, mIoU) in rising order, the last one at the end of the training.

    Returns:
        Whether it had, and a sentence that says why; False if the curve has no value from before the last fifth.
    """
    *before, (last, end) = list(curve) or [(0, 0.0)]
    earlier = [(step, value) for step, value in before if step <= (1 - LAST_PART) * last + 1]
    if not earlier:
        return False, "it was not validated before the last fifth of its steps, so this is not known"
    step, value = earlier[-1]
    # What is near the limit gets the decimals that tell it apart.
    digits = 3 if abs(end - value - SMALL_GAIN) < SMALL_GAIN / 20 else 1
    gain = f"{100 * (end - value):+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return end - value < SMALL_GAIN, (
        f"validation mIoU went from {100 * value:.1f} at step {step} to {100 * end:.1f} at step {last} ({gain} points)"
    )
