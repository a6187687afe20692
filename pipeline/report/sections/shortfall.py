"""Which classes generated layouts hold less of than was asked for: as a part of report.json, and in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from scenepalette.data.classes import ClassTable
from scenepalette.pipeline.report.wording import NO_VALUE

ENOUGH = 0.8
"""Part of the asked share below which a class is named."""


def reached_by_class(reached: np.ndarray, table: ClassTable) -> dict[str, float]:
    """Return achieved against asked shares by class name, nan for a class that was never asked for."""
    return dict(zip(table.names, reached.tolist(), strict=True))


def shortfall_sentences(document: Mapping[str, Any]) -> list[str]:
    """Return a sentence per kind of pairs that are made for palettes; none for reports of earlier versions."""
    sentences = []
    for kind, reached in document["palettes"].get("reached", {}).items():
        known = {name: value for name, value in reached.items() if value is not None}
        short = sorted((value, name) for name, value in known.items() if value < ENOUGH)
        if short:
            names = ", ".join(f"{name} ({_percent(value)})" for value, name in short)
            sentences.append(f"{kind} pairs hold less than {_percent(ENOUGH)} of what was asked of: {names}.")
        else:
            least = _percent(min(known.values())) if known else NO_VALUE
            sentences.append(f"{kind} pairs hold at least {least} of what was asked of every class.")
    return sentences


def _percent(share: float) -> str:
    # Rounded down, so that what is below a bound does not look as if it were not.
    return f"{math.floor(100 * share + 1e-9)} %"
