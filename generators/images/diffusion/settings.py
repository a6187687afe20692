"""Settings of the image system `controlnet`, and what can be said of them without its weights."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le
from typing_extensions import Doc

from scenepalette.common.storage.untrusted import short
from scenepalette.common.urls import is_url
from scenepalette.data.classes import ClassTable
from scenepalette.data.decoding.class_files import packaged_table
from scenepalette.generators.images.base import ImageSettings
from scenepalette.training.settings import Count, Rate, Weight

SCHEDULERS = {
    "unipc": "UniPCMultistepScheduler",
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "pndm": "PNDMScheduler",
}
"""Classes of diffusers by their name in configurations; none of them draws noise after the first."""
PREFIX = "systems.controlnet"
"""Where the settings stand in the section `images`."""
MULTIPLE = 8
"""Sides of images are multiples of it."""
USUAL_SIDE = 512
"""Shorter side that Stable Diffusion 1 was trained at."""
HUB = "hf://"
_HUB_NAME = re.compile(r"hf://([\w.-]+/[\w.-]+)@([0-9a-f]{40})")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_OFFERED = ("classes", "names")


@dataclass(frozen=True)
class ControlnetSettings(ImageSettings):
    """Which weights, how images are drawn with them, and how the ControlNet is fine-tuned."""

    base: Annotated[str, Doc("Folder of Stable Diffusion in the form of diffusers, or hf://ORG/NAME@COMMIT.")] = ""
    controlnet: Annotated[
        str,
        Doc("The same of the ControlNet for segmentations; none to train one from the base's encoder (steps above 0)."),
    ] = ""
    base_licence: Annotated[str, Doc("Terms of the base's weights; none for what its README.md says.")] = ""
    controlnet_licence: Annotated[str, Doc("Terms of the ControlNet's weights; none for what its README.md says.")] = ""
    colours: Annotated[
        Literal["ade20k", "classes"],
        Doc("Colours by which the ControlNet knows the classes: ADE20K's, or those of the class table."),
    ] = "ade20k"
    ade20k_names: Annotated[
        dict[str, str], Doc("The class of ADE20K for each class that ADE20K has under another name.")
    ] = field(default_factory=dict)
    prompt: Annotated[
        str,
        Doc(
            'The prompt; {classes} stands for the evaluated classes of the layout, the largest first, as "road 34 %, '
            'sky 20 %", {names} for the same without shares. What does not fit is left out from the end.'
        ),
    ] = "photo, realistic, detailed, {classes}"
    negative_prompt: Annotated[str, Doc("What images should not look like; used with guidance above 1.")] = (
        "drawing, painting, blurred, distorted"
    )
    scheduler: Annotated[
        Literal["unipc", "ddim", "dpm++", "euler", "pndm"], Doc("How noise becomes an image, step by step.")
    ] = "unipc"
    inference_steps: Annotated[int, Ge(1), Le(1000), Doc("Steps of the scheduler for an image.")] = 20
    guidance: Annotated[
        Weight, Doc("How strongly images follow the prompt; the negative prompt is used above 1 only.")
    ] = 7.5
    conditioning_scale: Annotated[Weight, Doc("How strongly images follow the layout.")] = 1.0
    size: Annotated[
        tuple[Count, Count] | None,
        Doc(
            "Height and width at which images are made, multiples of 8, before they get the size of the data; none for "
            "a shorter side of 512."
        ),
    ] = None
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], Doc("Numbers that the weights which are not trained are kept in.")
    ] = "float32"
    steps: Annotated[
        int, Ge(0), Doc("Optimizer steps that fine-tune the ControlNet on the training pairs; 0 to use it as it is.")
    ] = 0
    batch_size: Annotated[Count, Doc("Training pairs per step of the fine-tuning.")] = 4
    prompt_dropout: Annotated[float, Ge(0), Le(1), Doc("Share of training pairs whose prompt is left empty.")] = 0.5
    generator_learning_rate: Annotated[Rate, Doc("Adam's learning rate for the ControlNet.")] = 1e-5
    betas: Annotated[tuple[float, float], Doc("Of Adam.")] = (0.9, 0.999)


def hub_name(place: str) -> tuple[str, str] | None:
    """Return name and commit of a repository on the hub; None for a folder."""
    found = _HUB_NAME.fullmatch(place)
    return None if found is None else (found[1], found[2])


def places(settings: ControlnetSettings) -> list[tuple[str, str, str]]:
    """Return role, place and, if they are said, terms of the weights that are named."""
    named = (
        ("base", settings.base, settings.base_licence),
        ("controlnet", settings.controlnet, settings.controlnet_licence),
    )
    return [(role, place.strip(), licence.strip()) for role, place, licence in named if place.strip()]


def working_size(settings: ControlnetSettings, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width at which images for data of a height and width are made."""
    if settings.size is not None:
        return settings.size
    height, width = (MULTIPLE * max(1, round(side * USUAL_SIDE / min(size) / MULTIPLE)) for side in size)
    return height, width


def settings_problems(settings: ControlnetSettings) -> list[str]:
    """Return what is wrong with the settings, whatever the machine and the data."""
    problems = _place_texts(settings)
    if settings.size is not None and any(side % MULTIPLE for side in settings.size):
        problems.append(
            f"{PREFIX}.size: got {settings.size[0]} x {settings.size[1]}; multiples of {MULTIPLE} are required"
        )
    for field_name in ("prompt", "negative_prompt"):
        offered = _OFFERED if field_name == "prompt" else ()
        unknown = sorted({name for name in _PLACEHOLDER.findall(getattr(settings, field_name)) if name not in offered})
        if unknown:
            shown = ", ".join(f"{{{name}}}" for name in unknown)
            there = "placeholders are {classes} and {names}" if offered else "it has no placeholders"
            problems.append(f"{PREFIX}.{field_name}: it has {short(shown)}; {there}")
    if settings.scheduler == "pndm" and settings.inference_steps < 4:
        problems.append(f"{PREFIX}.inference_steps: got {settings.inference_steps}; pndm takes 4 or more")
    if settings.steps and settings.dtype == "float16":
        problems.append(
            f"{PREFIX}.dtype: gradients of the fine-tuning vanish in float16; use bfloat16 or float32, or steps=0"
        )
    if settings.noise_scheme not in (None, "image"):
        problems.append(f"noise_scheme: got {settings.noise_scheme!r}, but noise of controlnet is per image")
    if settings.colours == "classes" and settings.ade20k_names:
        problems.append(f"{PREFIX}.ade20k_names: colours=classes does not use it; leave it out, or use colours=ade20k")
    known = {entry.casefold() for entry in packaged_table("ade20k").names}
    if unknown := sorted({name for name in settings.ade20k_names.values() if name.casefold() not in known}):
        problems.append(
            f"{PREFIX}.ade20k_names: {short(', '.join(unknown))}: ADE20K has no such class; its classes are "
            f"{', '.join(packaged_table('ade20k').names[:8])}, ... (data/class_tables/ade20k.csv)"
        )
    return problems


def _place_texts(settings: ControlnetSettings) -> list[str]:
    """Return what is wrong with the places of weights as texts."""
    problems, given = [], [role for role, _, _ in places(settings)]
    for name, also in (("base", ""), *([] if settings.steps else [("controlnet", ", or steps above 0 to train one")])):
        if name not in given:
            problems.append(
                f"{PREFIX}.{name}: it is missing; give the folder of its weights, or hf://ORG/NAME@COMMIT{also}"
            )
    for name, place, licence in places(settings):
        if place.startswith(HUB) and hub_name(place) is None:
            problems.append(
                f"{PREFIX}.{name}: got {short(place)}; from the hub, hf://ORG/NAME@COMMIT is required, with the 40 "
                "digits of a commit (its page lists them), so that weights stay the same"
            )
        elif place.startswith(HUB) and not licence:
            problems.append(
                f"{PREFIX}.{name}_licence: it is missing; of weights on the hub give what their page says, for example "
                "creativeml-openrail-m"
            )
        elif not place.startswith(HUB) and is_url(place):
            problems.append(f"{PREFIX}.{name}: weights have to lie in a folder, or on the hub (hf://ORG/NAME@COMMIT)")
    return problems


def class_colours(settings: ControlnetSettings, table: ClassTable) -> dict[str, tuple[int, int, int]]:
    """Return the colours by which the ControlNet knows classes, by name; those that ADE20K lacks are left out."""
    if settings.colours == "classes":
        return {entry.name: entry.color for entry in table.classes}
    colours = {entry.name.casefold(): entry.color for entry in packaged_table("ade20k").classes}
    names = {name: settings.ade20k_names.get(name, name).casefold() for name in table.names}
    return {name: colours[known] for name, known in names.items() if known in colours}


def table_problems(settings: ControlnetSettings, table: ClassTable) -> list[str]:
    """Return which classes of a data set the ControlNet would not know, and which names are for nothing."""
    problems = []
    coloured = class_colours(settings, table)
    if lacking := [name for name in table.names if name not in coloured]:
        given = "{" + ", ".join(f'"{name}": "..."' for name in lacking[:3]) + "}"
        problems.append(
            f"{PREFIX}.ade20k_names: ADE20K has no class {short(', '.join(map(repr, lacking)), 300)}; say which of its "
            f"classes each is like (ade20k_names={given}), or use colours=classes for a ControlNet that learned yours"
        )
    if unknown := [name for name in settings.ade20k_names if name not in table.names]:
        problems.append(
            f"{PREFIX}.ade20k_names: the data has no class {short(', '.join(map(repr, unknown)))}; leave it out"
        )
    return problems
