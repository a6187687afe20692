"""The registry of segmenters: every architecture of segmentation-models-pytorch, and those of packages elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import nn

from scenepalette.common.registry import Registry
from scenepalette.common.storage.untrusted import short
from scenepalette.data.classes import ClassTable
from scenepalette.segmenters.model import ARCHITECTURES, build_network, encoder_problems, feature_maps, trial
from scenepalette.segmenters.settings import SegmenterSettings


@dataclass(frozen=True)
class Segmenter:
    """An entry of the registry.

    Attributes:
        name: Value of `segmenters.architecture`.
        title: Its name in full, or what it is in a few words.
        build: Makes the network from class table and settings. It maps B3HW in [-1, 1] to class scores BKHW and has an
            attribute `encoder` that maps B3HW to feature maps BCHW, from fine to coarse: distances between images, and
            perceptual losses, compare these. It is also built on torch's meta device, for its sizes.
        takes_encoder: Whether `settings.encoder` and `settings.encoder_weights` choose the encoder; else the segmenter
            brings its own.
    """

    name: str
    title: str
    build: Callable[[ClassTable, SegmenterSettings], nn.Module]
    takes_encoder: bool = True


def _build(architecture: str, table: ClassTable, settings: SegmenterSettings) -> nn.Module:
    return build_network(
        architecture,
        len(table),
        encoder=settings.encoder,
        encoder_weights=settings.encoder_weights,
        decoder_channels=settings.decoder_channels,
        atrous_rates=settings.atrous_rates,
        output_stride=settings.output_stride,
    )


def _problem(name: str, entry: Segmenter) -> str | None:
    """Say what a package's entry lacks of the contract of a `Segmenter`."""
    return None if callable(entry.build) else "its build cannot be called"


def segmenter_problems(
    architecture: str, encoder: str, encoder_weights: str | None, *, look_up: bool = True
) -> Sequence[str]:
    """Return what keeps a choice of architecture, encoder and weights from being used, without loading anything.

    With `look_up`, the encoder's name is looked up in segmentation-models-pytorch and timm, which takes seconds.

    Returns:
        One text each, which begins with the field of the configuration.
    """
    if architecture not in SEGMENTERS:
        known = f"got {short(repr(architecture))}; segmenters are {', '.join(SEGMENTERS)}"
        return [f"segmenters.architecture: {SEGMENTERS.refusal(architecture) or known}"]
    problems: Sequence[str] = []
    if SEGMENTERS[architecture].takes_encoder:
        problems = encoder_problems(encoder, encoder_weights, architecture) if look_up else []
    elif encoder_weights is not None:
        problems = [f"segmenters.encoder_weights: {architecture} brings its own encoder; leave it empty"]
    if problems or not look_up or architecture in BUILT_IN:
        return problems
    return _encoder_lacking(SegmenterSettings(architecture=architecture, encoder=encoder))


def _encoder_lacking(settings: SegmenterSettings) -> list[str]:
    """Say if a network has no encoder; one that cannot be built says why at a size."""
    networks = list[nn.Module]()
    trial(lambda: networks.append(SEGMENTERS[settings.architecture].build(ClassTable.unnamed(2), settings)))
    if not networks or hasattr(networks[-1], "encoder"):
        return []
    return [
        f"segmenters.architecture: the network of {settings.architecture} has no attribute `encoder`; give it one that "
        "maps images to feature maps, as distances between images are measured by these "
        "(docs/extending/adding-a-segmenter.md)"
    ]


@cache
def network_problem(settings: SegmenterSettings, size: tuple[int, int], table: ClassTable | None = None) -> str:
    """Return why a segmenter cannot work at a height and width, or nothing; it is tried without memory.

    Those of other packages may depend on the names of classes, and need the data's class table.
    """
    classes = table or ClassTable.unnamed(2)

    def run() -> None:
        build = SEGMENTERS[settings.architecture].build
        network = build(classes, replace(settings, encoder_weights=None))
        image, wanted = torch.zeros(2, 3, *size), (2, len(classes), *size)
        if (scores := network(image)).shape != wanted:
            raise ValueError(f"its scores are {tuple(scores.shape)}, not {wanted}")
        if not feature_maps(network, image):
            raise ValueError("its encoder makes no feature maps")

    reason = trial(run)
    if not reason:
        return ""
    return f"{settings.architecture} cannot take it ({reason}); choose another size, encoder or architecture"


BUILT_IN = {name: Segmenter(name, kind.title, partial(_build, name)) for name, kind in ARCHITECTURES.items()}
SEGMENTERS: Registry[Segmenter] = Registry("scenepalette.segmenters", BUILT_IN, Segmenter, _problem)
