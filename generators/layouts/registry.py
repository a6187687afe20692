"""The layout systems that can be trained, by name: their networks, their losses, and which settings mean something.

A new one is an entry in BUILT_IN, or an entry point of another package. Trainer, tests and production go by what the
entry says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from scenepalette.common.errors import ConfigError
from scenepalette.common.registry import Registry, folder_problem
from scenepalette.data.classes import ClassTable
from scenepalette.generators.layouts.inputs import LayoutInputs
from scenepalette.generators.layouts.losses import matching_loss, novelty_loss
from scenepalette.generators.layouts.networks.progressive import (
    DrawnClasses,
    LayoutBatch,
    LayoutDiscriminator,
    LayoutGenerator,
    LayoutNetwork,
    PartialLayoutGenerator,
    SoftmaxLayoutGenerator,
)
from scenepalette.generators.layouts.networks.saa import conditional_loss
from scenepalette.generators.layouts.settings import LayoutSettings
from scenepalette.generators.nn.grids import base_grid
from scenepalette.generators.nn.padding import replicate_borders

SEMANTIC_PALETTE = "Semantic Palette: Guiding Scene Generation with Class Proportions (Le Moing et al., CVPR 2021)"
SB_GAN = "Semantic Bottleneck Scene Generation (Azadi et al., 2019)"


@dataclass(frozen=True)
class LayoutLoss:
    """A term of the generator's loss beside the adversarial one.

    Attributes:
        weight: Against the adversarial loss.
        compute: From what the generator put out and what it was given.
    """

    weight: float
    compute: Callable[[LayoutBatch, LayoutInputs], Tensor]


@dataclass(frozen=True)
class LayoutSystem:
    """A layout generator that can be trained, as a paper describes it.

    Attributes:
        name: In run directories, configurations and tables.
        paper: Where it comes from, with the section.
        conditional: Whether it takes a palette.
        partial: Whether it edits given layouts; else it makes whole ones.
        generator: Makes the generator, untrained unless it comes trained, from class table, base grid, doublings,
            settings and when classes are drawn.
        losses: The terms of the generator's loss beside the adversarial one, by name. None for a system that comes
            trained: its state becomes the weights as it is.
        conditional_discriminator: Whether the discriminator is shown the palette.
        always_draws: Whether a layout is a draw of classes, also when it is sampled; discriminators of such a system
            are shown one-hot real layouts. For others `LayoutSettings.soft_layouts` decides what is shown.
        options: Fields of LayoutSettings that mean something to this system and not to every one.
        problems: What is wrong with settings whose fields all mean something, one text each.
    """

    name: str
    paper: str
    conditional: bool
    partial: bool
    generator: Callable[[ClassTable, tuple[int, int], int, LayoutSettings, DrawnClasses], LayoutNetwork]
    losses: Callable[[LayoutSettings], Mapping[str, LayoutLoss]] | None
    conditional_discriminator: bool = False
    always_draws: bool = False
    options: frozenset[str] = frozenset()
    problems: Callable[[LayoutSettings], list[str]] = lambda settings: []

    def drawn_classes(self, settings: LayoutSettings) -> DrawnClasses:
        """Return when the generator draws classes."""
        if self.always_draws:
            return "always"
        return "never" if settings.soft_layouts else "training"

    def build_generator(self, table: ClassTable, size: tuple[int, int], settings: LayoutSettings) -> LayoutNetwork:
        """Return the generator for a class table and H x W, untrained unless the system comes trained.

        Raises:
            ConfigError: The settings do not fit the system, no base grid reaches the size, or the generator does not
                say how much noise it takes.
        """
        problems = settings_problems(self.name, settings)
        if problems:
            raise ConfigError(f"The settings do not fit the layout system '{self.name}'.", problems)
        base, doublings = base_grid(size)
        network = self.generator(table, base, doublings, settings, self.drawn_classes(settings))
        features = getattr(network, "noise_features", None)
        if features is None or (self.losses and features != settings.noise_features):
            raise ConfigError(
                f"The layout system '{self.name}' has a {type(network).__name__} with noise_features {features}; "
                f"required is {settings.noise_features}, the setting noise_features. Derive the generator from "
                "LayoutNetwork in scenepalette.generators.layouts.networks.progressive, and set the attribute in "
                "its constructor."
            )
        if settings.padding_mode == "replicate":
            replicate_borders(network)
        return network

    def build_discriminator(
        self, table: ClassTable, size: tuple[int, int], settings: LayoutSettings
    ) -> LayoutDiscriminator:
        """Return the untrained discriminator for a class table and H x W.

        Raises:
            ConfigError: No base grid reaches the size.
        """
        base, doublings = base_grid(size)
        return LayoutDiscriminator(
            len(table), base, doublings, settings.max_width, settings.base_width, self.conditional_discriminator
        )


def _build(
    network: Callable[..., LayoutNetwork],
    options: tuple[str, ...],
    table: ClassTable,
    base: tuple[int, int],
    doublings: int,
    settings: LayoutSettings,
    drawn_classes: DrawnClasses,
) -> LayoutNetwork:
    """Make a network, which takes the widths and some further settings by their own names."""
    names = ("noise_features", "max_width", "base_width", *options)
    given = {name: getattr(settings, name) for name in names}
    return network(len(table), base, doublings, drawn_classes=drawn_classes, **given)


_FUSION = ("residual_fusion", "sinkhorn_iterations")
_palette_generator = partial(_build, LayoutGenerator, _FUSION)
_partial_generator = partial(_build, PartialLayoutGenerator, ("hidden_channels", *_FUSION))
_softmax_generator = partial(_build, SoftmaxLayoutGenerator, ())
_sb_generator = partial(_build, partial(SoftmaxLayoutGenerator, conditional=False), ())


def _no_losses(settings: LayoutSettings) -> dict[str, LayoutLoss]:
    return {}


def _conditional_losses(settings: LayoutSettings) -> dict[str, LayoutLoss]:
    """L_COND at every level or at the active one (Le Moing et al., 2021, section 3.2 and Table 4)."""

    def compute(batch: LayoutBatch, inputs: LayoutInputs) -> Tensor:
        return conditional_loss(batch.scales if settings.multi_scale else batch.scales[-1:], inputs.class_weights)

    return {"conditional": LayoutLoss(settings.conditional_weight, compute)}


def _matching_losses(settings: LayoutSettings) -> dict[str, LayoutLoss]:
    """L_MATCH of the generated layout (Le Moing et al., 2021, Eq. 13)."""

    def compute(batch: LayoutBatch, inputs: LayoutInputs) -> Tensor:
        return matching_loss(batch.soft, inputs.target)

    return {"matching": LayoutLoss(settings.matching_weight, compute)}


def _partial_losses(settings: LayoutSettings) -> dict[str, LayoutLoss]:
    """L_COND of the generated mask and, where edits add, L_NOV of the merged layout (Le Moing et al., 2021, Eq. 14)."""

    def compute(batch: LayoutBatch, inputs: LayoutInputs) -> Tensor:
        assert inputs.layout is not None and batch.edited is not None
        # The pixels that the generator saw at this level.
        layout = F.interpolate(inputs.layout, size=batch.soft.shape[2:], mode="nearest")
        return novelty_loss(batch.soft, layout, batch.edited)

    novelty = {"novelty": LayoutLoss(settings.novelty_weight, compute)} if settings.edits == "add" else {}
    return {**_conditional_losses(settings), **novelty}


def _partial_problems(settings: LayoutSettings) -> list[str]:
    if settings.edits == "add":
        idle = {"crop_mode": "edits that add crop nothing; choose edits 'replace'"}
    else:
        idle = {
            "novelty_weight": "only edits that add have a novelty loss; choose edits 'add'",
            "palettes": "a crop is filled by its own palette; choose edits 'add'",
        }
    return [
        f"{field}: {getattr(settings, field)!r} has no effect, as {reason}, or leave it at {_default(field)!r}"
        for field, reason in idle.items()
        if getattr(settings, field) != _default(field)
    ]


_ASSISTED = frozenset(
    {"conditional_weight", "residual_fusion", "multi_scale", "soft_layouts", "sinkhorn_iterations", "balance"}
)

BUILT_IN: dict[str, LayoutSystem] = {
    system.name: system
    for system in (
        LayoutSystem(
            name="semantic-palette",
            paper=f"{SEMANTIC_PALETTE}, sections 3.1 and 3.2",
            conditional=True,
            partial=False,
            generator=_palette_generator,
            losses=_conditional_losses,
            options=_ASSISTED | {"palettes"},
        ),
        LayoutSystem(
            name="semantic-palette-partial",
            paper=f"{SEMANTIC_PALETTE}, section 4.2; with edits that add, section 5.4 and appendix D",
            conditional=True,
            partial=True,
            generator=_partial_generator,
            losses=_partial_losses,
            options=_ASSISTED | {"palettes", "crop_mode", "edits", "novelty_weight"},
            problems=_partial_problems,
        ),
        # Also the layout half of PCGAN, as the equal FSD of both in Table 2 of Le Moing et al., 2021, shows.
        LayoutSystem(
            name="sb-gan",
            paper=f"{SB_GAN}, section 3.1",
            conditional=False,
            partial=False,
            generator=_sb_generator,
            losses=_no_losses,
            always_draws=True,
        ),
        LayoutSystem(
            name="baseline-1",
            paper=f"{SEMANTIC_PALETTE}, section 5.1 and appendix B",
            conditional=True,
            partial=False,
            generator=_softmax_generator,
            losses=_matching_losses,
            options=frozenset({"matching_weight", "soft_layouts", "palettes"}),
        ),
        LayoutSystem(
            name="baseline-2",
            paper=f"{SEMANTIC_PALETTE}, section 5.1",
            conditional=True,
            partial=False,
            generator=_softmax_generator,
            losses=_no_losses,
            conditional_discriminator=True,
            options=frozenset({"soft_layouts", "palettes"}),
        ),
    )
}


OPTIONAL = frozenset[str]().union(*(system.options for system in BUILT_IN.values()))
"""Fields of LayoutSettings that do not mean something to every layout system."""


def _problem(name: str, entry: LayoutSystem) -> str | None:
    """Say what a package's entry lacks of the contract of a `LayoutSystem`."""
    if missing := [part for part in ("generator", "problems") if not callable(getattr(entry, part))]:
        return f"its {' and '.join(missing)} cannot be called"
    if entry.losses is not None and not callable(entry.losses):
        return "its losses cannot be called, and are not None, as of a system that comes trained"
    if unknown := sorted(set(entry.options) - OPTIONAL):
        return f"its options {', '.join(unknown)} are not among {', '.join(sorted(OPTIONAL))}"
    return folder_problem(name)


LAYOUT_SYSTEMS: Registry[LayoutSystem] = Registry("scenepalette.layout_systems", BUILT_IN, LayoutSystem, _problem)
layout_system = LAYOUT_SYSTEMS.get


def settings_problems(name: str, settings: LayoutSettings) -> list[str]:
    """Return what is wrong with settings for a layout system, each text beginning with its field.

    A field that differs from its default and means nothing to the system is a problem: what was wished for would
    silently not be done.

    Raises:
        ConfigError: There is no system of this name.
    """
    system = layout_system(name)
    problems = []
    for field in sorted(OPTIONAL):
        value, default = getattr(settings, field), _default(field)
        if value != default and field not in system.options:
            fitting = [other for other in LAYOUT_SYSTEMS if field in LAYOUT_SYSTEMS.get(other).options]
            problems.append(
                f"{field}: {value!r} means nothing to {name}; leave it at {default!r}, or choose {' or '.join(fitting)}"
            )
    return [*problems, *system.problems(settings)]


def _default(field: str) -> Any:
    return getattr(LayoutSettings(), field)
