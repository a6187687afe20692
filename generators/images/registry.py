"""The registry of layout-to-image systems: a new one adds its file and its line here."""

from __future__ import annotations

from scenepalette.common.errors import ConfigError
from scenepalette.generators.images.base import ImageSystem
from scenepalette.generators.images.systems.crn import CRN, CRN_IMLE
from scenepalette.generators.images.systems.gaugan import GAUGAN, SPADE_PLUS
from scenepalette.generators.images.systems.oasis import OASIS
from scenepalette.generators.images.systems.pix2pixhd import PIX2PIXHD
from scenepalette.generators.images.systems.sean import SEAN

IMAGE_SYSTEMS: dict[str, ImageSystem] = {
    system.name: system
    for system in (
        OASIS,
        GAUGAN,
        SPADE_PLUS,
        PIX2PIXHD,
        CRN,
        CRN_IMLE,
        SEAN,
    )
}


def find_image_system(name: str) -> ImageSystem:
    """Return a system by name.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in IMAGE_SYSTEMS:
        raise ConfigError(f"There is no image system {name!r}. Image systems are {', '.join(IMAGE_SYSTEMS)}.")
    return IMAGE_SYSTEMS[name]
