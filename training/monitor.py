"""Signs that an adversarial training goes wrong: a generator that collapses, a discriminator that stalls.

They are looked for in the lines of the metrics log, reported, and never acted on: what looks like a stall may be the
balance that was hoped for, and whether to go on is for whoever looks at the samples to decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from statistics import fmean, stdev
from typing import Any

import torch
from torch import nn

from scenepalette.training.loop import LOG_EVERY, Line

# Below this mean absolute difference, of 255 grey levels, two images look the same.
SAME_IMAGE = 2.0
# Measure in the log -> least value of a generator that has not collapsed, and what it means to be below. All are 0 for
# a generator whose output is constant. Those of whole samples are fractions of what real samples differ by, of which a
# trained generator reaches half and more; a tenth leaves room for early training. Noise under one and the same
# condition may rightly change little of a layout, hence the low limit there.
COLLAPSES: Mapping[str, tuple[float, str]] = {
    "layout_diversity": (0.1, "layouts of different samples hardly differ from each other: the generator may collapse"),
    "layout_noise_diversity": (0.02, "different noise gives nearly the same layout: the noise has lost its effect"),
    "image_diversity": (0.1, "images of different layouts hardly differ from each other: the generator may collapse"),
    "image_noise_difference": (SAME_IMAGE, "different noise gives nearly the same image: the noise has no effect"),
}
# A collapse is reported if it was measured so often in a row; the first measurements of a training may be anything.
MEASUREMENTS = 3
# Lines of the log (500 steps) over which a discriminator is judged: single steps swing.
WINDOW = 25
# A discriminator's gap is compared with its own scatter, for which fewer do: levels of a growing network may be short.
LEAST_GAPS = 8
# A discriminator's loss this near to that of one that cannot tell (which says 1/2 everywhere) ...
NEARLY_CHANCE = 0.98
# ... or this near to zero, in the whole window, teaches the generator nothing.
NEARLY_CERTAIN = 0.01
MEASURES_A_TRAINING = 20
LEAST_INTERVAL = 100


def watch_interval(steps: int) -> int:
    """Return the optimizer steps between two measurements of diversity (and sample sheets) in a training of `steps`.

    About twenty in a training, but none more often than every 100 steps, and at steps that are logged anyhow.
    """
    return LOG_EVERY * math.ceil(max(LEAST_INTERVAL, steps / MEASURES_A_TRAINING) / LOG_EVERY)


class CollapseMonitor:
    """Looks at the lines of a metrics log and describes what is wrong with a training."""

    def __init__(self, chance_level: Mapping[str, float] | None = None, score_gap: str | None = None) -> None:
        """Say what a log's entries mean.

        Args:
            chance_level: Loss of a discriminator in the log -> its value if real and generated samples cannot be told
                apart. Zero is its value if they are told apart without fail.
            score_gap: Entry that holds minus the gap between the mean scores of real and of generated samples (the
                loss of a Wasserstein discriminator). It has no fixed scale and does not saturate; only a gap that does
                not stand out from its own scatter is a sign.
        """
        self.chance_level, self.score_gap = dict(chance_level or {}), score_gap

    def __call__(self, lines: Sequence[Line]) -> list[str]:
        """Return the signs at the last line, in constant words."""
        return [*_collapses(lines), *self._stalls(lines)]

    def _stalls(self, lines: Sequence[Line]) -> Iterator[str]:
        # Losses of another level of a growing network are of another scale.
        level = lines[-1].get("level")
        window = [line for line in lines[-WINDOW:] if line.get("level") == level]
        for name, chance_level in self.chance_level.items():
            losses = [line[name] for line in window if name in line]
            if len(losses) < WINDOW:
                continue
            if fmean(losses) > NEARLY_CHANCE * chance_level:
                yield f"the discriminator cannot tell generated from real samples (loss {name}): it may be stalled"
            elif max(losses) < NEARLY_CERTAIN * chance_level:
                yield f"the discriminator tells all generated samples (loss {name} near 0): it teaches nothing more"
        if self.score_gap is not None:
            gaps = [-line[self.score_gap] for line in window if self.score_gap in line]
            if len(gaps) >= LEAST_GAPS and fmean(gaps) <= 2 * stdev(gaps) / math.sqrt(len(gaps)):
                yield "the discriminator scores generated and real samples alike: it may be stalled"


def _collapses(lines: Sequence[Line]) -> Iterator[str]:
    for name, (least, text) in COLLAPSES.items():
        values = list(islice((line[name] for line in reversed(lines) if name in line), MEASUREMENTS))
        if len(values) == MEASUREMENTS and max(values) < least:
            yield text


def summary_of_log(lines: Sequence[Line]) -> dict[str, Any]:
    """Return what a report says of a training: its steps, last measures of diversity, and warnings.

    Args:
        lines: All lines of its metrics log.

    Returns:
        "steps", "measures" (by name) and "warnings", each with its "text", the "first" and "last" step at which it was
        seen, and whether it was there "at_end"; JSON values.
    """
    measures = {name: line[name] for line in lines for name in COLLAPSES if name in line}
    warnings: dict[str, dict[str, Any]] = {}
    for line in lines:
        for text in line.get("warnings", []):
            seen = warnings.setdefault(text, {"text": text, "first": line["step"]})
            seen["last"] = line["step"]
    at_end = lines[-1].get("warnings", []) if lines else []
    for text, seen in warnings.items():
        seen["at_end"] = text in at_end
    return {"steps": lines[-1]["step"] if lines else 0, "measures": measures, "warnings": list(warnings.values())}


@contextmanager
def preserve_state(module: nn.Module) -> Iterator[None]:
    """Let a block generate with a network without a trace: no gradients, buffers and random state as before."""
    mode, buffers = module.training, {name: buffer.clone() for name, buffer in module.named_buffers()}
    with torch.random.fork_rng(), torch.no_grad():
        module.eval()
        try:
            yield
        finally:
            module.train(mode)
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
