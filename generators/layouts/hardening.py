"""Class ids from soft layouts so that every class gets the share that was asked for.

The largest share at each pixel (`soft_to_label`) loses thin classes: a pole that has 40 % of many pixels gets none of
them. Here classes are assigned to pixels so that their product of probabilities is the largest among all assignments in
which every class has its number of pixels: an optimal transport between pixels and classes (Peyré and Cuturi, 2019,
section 2.2). Its dual has one offset per class, by which log-probabilities are raised before the largest is taken.

Shapes: B batch, K classes, H x W pixels, N pixels of one layout.
"""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scenepalette.common.errors import ScenepaletteError
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.labels import soft_to_label
from scenepalette.generators.layouts.networks.gumbel import SMALLEST_SHARE
from scenepalette.generators.layouts.networks.progressive import LayoutBatch

Hardening = Literal["argmax", "exact", "objects"]

TEMPERATURES = (1.0, 0.5, 0.25, 0.12, 0.06, 0.03, 0.02)
ITERATIONS = 12
SMALLEST_FACTOR = 1e-15  # of a class within one temperature: keeps products finite in single precision
EXACT_MOVES = 32
TIE = 1e-9
SUM_TOLERANCE = 1e-3  # as everywhere where palettes are checked


def harden(batch: LayoutBatch, hardening: Hardening, palettes: Tensor, kept: Tensor | None = None) -> Tensor:
    """Return the class ids of generated layouts, int64 [B, H, W].

    Args:
        batch: What a layout generator put out.
        hardening: "argmax": the largest share at each pixel, or the drawn class. "exact": by `harden_exactly` from
            smoothed shares, since what a class lacks would else be made up by single pixels all over the layout.
            "objects": as "argmax"; what is lacking is added by `PairMaker.put_lacking_objects`.
        palettes: BK, what exact hardening keeps to where it chooses.
        kept: int64 [B, H, W], class ids that exact hardening leaves as they are, IGNORE_ID where it chooses; None to
            choose everywhere.
    """
    if hardening != "exact":
        return soft_to_label(batch.layout)
    if kept is None:
        return harden_exactly(smoothed(batch.soft), palettes)
    kept = kept.to(batch.soft.device)
    chosen = harden_exactly(smoothed(batch.soft), palettes, kept == IGNORE_ID)
    return torch.where(kept == IGNORE_ID, chosen, kept)


def smoothed(soft: Tensor) -> Tensor:
    """Return shares averaged over 3x3 pixels with the weights of a binomial filter, the border repeated.

    Args:
        soft: BKHW.
    """
    row = torch.tensor([0.25, 0.5, 0.25], device=soft.device)
    planes = F.pad(soft.float().flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
    planes = F.conv2d(F.conv2d(planes, row.view(1, 1, 3, 1)), row.view(1, 1, 1, 3))
    return planes[:, 0].view_as(soft)


def harden_exactly(probabilities: Tensor, palettes: Tensor, region: Tensor | None = None) -> Tensor:
    """Choose a class at each pixel so that every class has its share of the pixels and the product is the largest.

    Shares are met to the pixel: class k gets `palette_k * N` pixels, rounded so that the sum is N. Offsets are found
    by Sinkhorn's algorithm at falling temperatures (Peyré and Cuturi, 2019, sections 4.1 and 4.4), each starting from
    the one before; what then is still wrong is moved along shortest paths between classes, which keeps an optimal
    assignment optimal (Ahuja et al., 1993, section 9.7). Where more than 32 pixels are to be moved,
    several at once go the same way, and the sum of log-probabilities can be a little below the optimum.

    The result is a function of each layout alone, whatever its batch. Equals are settled in reading order: of a layout
    that is uniform, the top rows go to class 0, the next to class 1, and what is left to the class that has most.

    Args:
        probabilities: BKHW, not negative and finite; what a softmax puts out.
        palettes: BK, rows not negative, summing to 1; inside the region. A class of share 0 is never chosen.
        region: BHW bool, the pixels that get a class; None for all.

    Returns:
        int64 [B, H, W], 0..K-1, and IGNORE_ID outside the region; on the device of `probabilities`.

    Raises:
        ScenepaletteError: Shapes do not fit, or there are values out of range.
    """
    _check(probabilities, palettes, region)
    result = torch.full_like(probabilities[:, 0], IGNORE_ID, dtype=torch.int64)
    shares = palettes.detach().double().cpu().numpy()
    for sample, soft in enumerate(probabilities.detach()):  # by itself, so that no sum depends on the batch
        inside = torch.ones_like(result[sample], dtype=torch.bool) if region is None else region[sample].to(soft.device)
        counts = share_counts(shares[sample], int(inside.sum()))
        wanted = np.flatnonzero(counts)
        if len(wanted):
            scores = soft[torch.from_numpy(wanted).to(soft.device)][:, inside].T.float().clamp(min=SMALLEST_SHARE).log()
            classes = _assign(scores.contiguous(), counts[wanted])
            result[sample, inside] = torch.from_numpy(wanted[classes]).to(soft.device)
    return result


def share_counts(palette: np.ndarray, pixels: int) -> np.ndarray:
    """Return how many of N pixels each class gets: the largest remainders are rounded up, the lowest id first.

    Args:
        palette: [K], not negative, with a positive sum; it is divided by that.
        pixels: N.

    Returns:
        int64 [K], summing to N; 0 where the share is 0.
    """
    exact = palette / palette.sum() * pixels
    counts = np.floor(exact).astype(np.int64)
    left = pixels - int(counts.sum())
    order = np.argsort(np.where(palette > 0, counts - exact, np.inf), kind="stable")
    counts[order[:left]] += 1
    return counts


def _assign(scores: Tensor, counts: np.ndarray) -> np.ndarray:
    """Return the class of each pixel, int64 [N]: nearly optimal by offsets, then moved until all counts are met.

    Args:
        scores: float32 [N, K], log-probabilities.
        counts: int64 [K], pixels per class, at least 1, summing to N.
    """
    offsets = _offsets(scores, torch.from_numpy(counts).to(scores)).double().cpu().numpy()
    scores_of = scores.double().cpu().numpy()
    classes = np.argmax(scores_of + offsets, axis=1)
    surplus = np.bincount(classes, minlength=len(counts)) - counts
    # costs[i, j]: what it costs at least to move a pixel from class i to class j.
    costs = np.stack([_cheapest(scores_of, classes, source) for source in range(len(counts))])
    while (wrong := int(np.maximum(surplus, 0).sum())) > 0:
        # By offsets that fit, no move costs less than nothing. A cycle that pays is cut off where moves at once made
        # one, so that shortest paths exist.
        lengths = np.maximum(costs, offsets[None, :] - offsets[:, None])
        offsets, path = _shortest_path(lengths, surplus)
        edges = list(itertools.pairwise(path))
        most = min(surplus[path[0]], -surplus[path[-1]])
        ranked = [_ranked(scores_of, classes, *edge) for edge in edges]
        equal = min(np.count_nonzero(cost <= cost[0] + TIE) for _, cost in ranked)
        count = min(most, max(equal, -(-wrong // EXACT_MOVES)), *(len(pixels) for pixels, _ in ranked))
        for (pixels, _), (_, target) in zip(ranked, edges, strict=True):
            classes[pixels[:count]] = target
        surplus[path[0]] -= count
        surplus[path[-1]] += count
        for source in path:
            costs[source] = _cheapest(scores_of, classes, source)
    return classes


def _offsets(scores: Tensor, counts: Tensor) -> Tensor:
    """Return offsets [K] by which the softmax of the raised scores nearly has the counts at a low temperature.

    Args:
        scores: float32 [N, K], log-probabilities.
        counts: float32 [K], pixels per class, above 0.
    """
    offsets = torch.zeros_like(counts)
    for temperature in TEMPERATURES:
        # The offsets so far are absorbed, so that all factors stay near 1 (Peyré and Cuturi, 2019, section 4.4).
        raised = scores + offsets
        kernel = ((raised - raised.amax(dim=1, keepdim=True)) / temperature).exp()
        factors = torch.ones_like(offsets)
        for _ in range(ITERATIONS):
            reached = (kernel @ factors).clamp(min=SMALLEST_FACTOR).reciprocal() @ kernel
            factors = (counts / reached.clamp(min=SMALLEST_FACTOR)).clamp(SMALLEST_FACTOR, 1 / SMALLEST_FACTOR)
        offsets = offsets + temperature * factors.log()
    return offsets


def _cheapest(scores: np.ndarray, classes: np.ndarray, source: int) -> np.ndarray:
    """Return [K]: the least loss of score at which a pixel of a class goes to each other class; inf if it has none."""
    own = scores[classes == source]
    if len(own) == 0:
        return np.full(scores.shape[1], np.inf)
    costs = (own[:, source, None] - own).min(axis=0)
    costs[source] = np.inf
    return costs


def _ranked(scores: np.ndarray, classes: np.ndarray, source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of a class by what their move to another one costs, the cheapest first, and these costs."""
    pixels = np.flatnonzero(classes == source)
    costs = scores[pixels, source] - scores[pixels, target]
    order = np.argsort(costs, kind="stable")
    return pixels[order], costs[order]


def _shortest_path(lengths: np.ndarray, surplus: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Return the distance of each class from those with too many pixels, and the shortest path to one with too few.

    Bellman and Ford's algorithm.

    Args:
        lengths: [K, K], inf where there is no way; without cycles of negative length.
        surplus: [K], pixels that a class has too many.
    """
    distance = np.where(surplus > 0, 0.0, np.inf)
    before = np.full(len(surplus), -1)
    for _ in range(len(surplus)):
        through = distance[:, None] + lengths
        nearest = through.argmin(axis=0)
        shorter = through[nearest, np.arange(len(surplus))] < distance - TIE
        if not shorter.any():
            break
        distance = np.where(shorter, through.min(axis=0), distance)
        before = np.where(shorter, nearest, before)
    path = [int(np.argmin(np.where(surplus < 0, distance, np.inf)))]
    while before[path[-1]] >= 0:
        path.append(int(before[path[-1]]))
    return distance, path[::-1]


def _check(probabilities: Tensor, palettes: Tensor, region: Tensor | None) -> None:
    batch, classes, height, width = probabilities.shape
    problems = []
    if tuple(palettes.shape) != (batch, classes):
        problems.append(f"The palettes are {list(palettes.shape)}; required are {[batch, classes]}, a row a layout.")
    elif not torch.isfinite(palettes).all() or (palettes < 0).any():
        problems.append("A palette holds shares that are negative or not finite.")
    elif len(wrong := torch.nonzero((palettes.double().sum(dim=1) - 1).abs() > SUM_TOLERANCE)[:, 0].tolist()):
        total = float(palettes[wrong[0]].double().sum())
        problems.append(f"Palettes {wrong[:8]} do not sum to 1; the first sums to {total:.4f}. Divide each by its sum.")
    if not torch.isfinite(probabilities).all() or (probabilities < 0).any():
        problems.append("The soft layouts hold shares that are negative or not finite; give those of a softmax.")
    if region is not None and (tuple(region.shape) != (batch, height, width) or region.dtype != torch.bool):
        problems.append(
            f"The region is {region.dtype} {list(region.shape)}; required is torch.bool {[batch, height, width]}."
        )
    if problems:
        raise ScenepaletteError("These layouts cannot be hardened. " + " ".join(problems))
