"""What a diffusion model is told of a layout: its classes in words, and their places in colours."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from scenepalette.data.classes import ClassTable


def class_shares(label: Tensor, table: ClassTable) -> dict[str, float]:
    """Return the share of each evaluated class in a layout [H, W] by name, the largest first, without absent ones."""
    counts = torch.bincount(label.flatten().cpu(), minlength=len(table)).tolist()
    shares = {table.names[k]: counts[k] / label.numel() for k in table.eval_ids if counts[k]}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))  # equals stay in the order of ids


def prompt_of(template: str, shares: Mapping[str, float], fits: Callable[[str], bool]) -> str:
    """Return a template with the classes filled in, as many as fit.

    Args:
        template: {classes} stands for "road 34 %, sky 20 %", {names} for "road, sky".
        shares: Share of each class, in [0, 1], in the order of the text.
        fits: Tells whether a text encoder takes a prompt whole.
    """
    shown = {name: f"{name} {100 * share:.0f} %" if share >= 0.005 else name for name, share in shares.items()}
    whole = list(shown.items())
    for count in range(len(whole), -1, -1):
        names, classes = (", ".join(entry[part] for entry in whole[:count]) for part in (0, 1))
        # At once: a class may be named like a placeholder.
        parts = [piece.replace("{names}", names) for piece in template.split("{classes}")]
        prompt = classes.join(parts).strip(" ,")
        if fits(prompt):
            break
    return prompt


def colour_image(label: Tensor, colours: Tensor, size: tuple[int, int]) -> Tensor:
    """Return layouts painted in colours, each pixel in one of them.

    Args:
        label: BHW class ids.
        colours: float [K, 3] in [0, 1].
        size: Height and width of the result.

    Returns:
        float B3HW in [0, 1].
    """
    resized = F.interpolate(label[:, None].float(), size, mode="nearest-exact").long()[:, 0]
    return colours[resized].movedim(3, 1).contiguous()
