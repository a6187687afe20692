"""A layout system: layouts by palette, whose borders between classes are short."""

from torch import Tensor

from scenepalette.data.classes import ClassTable
from scenepalette.generators.layouts.inputs import LayoutInputs
from scenepalette.generators.layouts.networks.progressive import DrawnClasses, LayoutBatch, LayoutGenerator
from scenepalette.generators.layouts.registry import LayoutLoss, LayoutSystem
from scenepalette.generators.layouts.settings import LayoutSettings


def build_generator(
    table: ClassTable, base: tuple[int, int], doublings: int, settings: LayoutSettings, drawn_classes: DrawnClasses
) -> LayoutGenerator:
    """Return the generator of Semantic Palette."""
    widths = (settings.noise_features, settings.max_width, settings.base_width)
    return LayoutGenerator(len(table), base, doublings, *widths, drawn_classes=drawn_classes)


def border_length(batch: LayoutBatch, inputs: LayoutInputs) -> Tensor:
    """Return how much class shares differ between neighbours (total variation), on average."""
    return batch.soft.diff(dim=2).abs().mean() + batch.soft.diff(dim=3).abs().mean()


SMOOTH_PALETTE = LayoutSystem(
    name="smooth-palette",
    paper="Total variation (Rudin et al., 1992) on Semantic Palette (Le Moing et al., CVPR 2021)",
    conditional=True,
    partial=False,
    generator=build_generator,
    losses=lambda settings: {"border": LayoutLoss(1.0, border_length)},
    options=frozenset({"soft_layouts", "palettes"}),
)
