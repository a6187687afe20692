"""The registry of layout-to-image systems: a new one adds its file and its line here, or an entry point elsewhere."""

from __future__ import annotations

from dataclasses import is_dataclass

from scenepalette.common.registry import Registry, folder_problem
from scenepalette.generators.images.base import ImageSettings, ImageSystem

_FOLDER = "scenepalette.generators.images.systems"
BUILT_IN = {
    "oasis": f"{_FOLDER}.oasis:OASIS",
    "gaugan": f"{_FOLDER}.gaugan:GAUGAN",
    "spade+": f"{_FOLDER}.gaugan:SPADE_PLUS",
    "pix2pixhd": f"{_FOLDER}.pix2pixhd:PIX2PIXHD",
    "crn": f"{_FOLDER}.crn:CRN",
    "crn-imle": f"{_FOLDER}.crn:CRN_IMLE",
    "sean": f"{_FOLDER}.sean:SEAN",
}
EXTERNAL = {
    "command": "scenepalette.generators.images.external.command:COMMAND",
    "http": "scenepalette.generators.images.external.http:HTTP",
    "controlnet": "scenepalette.generators.images.diffusion.controlnet:CONTROLNET",
}
"""Systems that paint elsewhere, or with weights from elsewhere; no table compares them unless it is asked to."""


def _problem(name: str, entry: ImageSystem) -> str | None:
    """Say what a package's entry lacks of the contract in `scenepalette.generators.images.base`."""
    settings = entry.settings
    if not (isinstance(settings, type) and issubclass(settings, ImageSettings) and is_dataclass(settings)):
        return "its settings are no dataclass derived from ImageSettings"
    if entry.predict_labels is not None and entry.build_objective is None:
        return "it comes trained, so that there is no discriminator for predict_labels"
    if not callable(entry.build_generator):
        return "its build_generator cannot be called"
    if entry.build_objective is not None and not callable(entry.build_objective):
        return "its build_objective cannot be called, and is not None, as of a system that comes trained"
    return folder_problem(name)


IMAGE_SYSTEMS = Registry("scenepalette.image_systems", BUILT_IN | EXTERNAL, ImageSystem, _problem)
find_image_system = IMAGE_SYSTEMS.get
