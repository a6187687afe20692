"""What would stop a run late, looked for before anything of it is made."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.untrusted import short
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.data.datasets import DATASETS
from scenepalette.evaluation.generated import LEAST_PAIRS, SMALLEST_SIDE
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.palettes import control_problems
from scenepalette.pipeline.comparisons import ROWS
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.models import layout_model, model_problem, pair_models, row_models, row_problems
from scenepalette.pipeline.sections import settings_from
from scenepalette.pipeline.stages.segment import arm_settings
from scenepalette.segmenters.loading import build_segmenter
from scenepalette.segmenters.model import is_fetched, weights_file
from scenepalette.segmenters.settings import SegmenterSettings
from scenepalette.segmenters.train import size_problems

COMPUTED = ("layouts", "images", "finetuned", "shards", "segmenters", "report", "comparison")
"""Stages that need the device; the others read and count."""
LEAST = 2
"""Samples of which a spread can be taken: by the palettes' mixture, and by every Frechet distance."""


def check_before(config: RunConfig, units: Collection[str], *, wanted: Collection[str]) -> None:
    """Check, before anything is made, all that can be known from the configuration and this machine.

    Only what the units need is looked for: who has the data prepared needs no data set, and who has the segmenters
    trained no weights for them. Pre-trained weights of a segmenter are loaded once, which may download them.

    Args:
        config: The run's configuration.
        units: Names of the units that are still to be made.
        wanted: Names of the units that were asked for, for the message.

    Raises:
        ConfigError: All problems at once, each with its field.
    """
    problems = [*settings_problems(config, units), *_device_problems(config, units)]
    if problems:
        asked = ", ".join(dict.fromkeys(name.partition("/")[0] for name in wanted))
        raise ConfigError(f"These settings cannot lead to {asked}; nothing was begun.", problems)


def settings_problems(config: RunConfig, units: Collection[str], *, fetch: bool = True) -> list[str]:
    """Return what `check_before` finds wrong with the settings, whatever the device.

    Args:
        config: The run's configuration.
        units: Names of the units that are still to be made.
        fetch: Whether pre-trained weights of a segmenter are loaded, which may download them.
    """
    stages = {name.partition("/")[0] for name in units}
    problems = [
        *_data_problems(config, stages),
        *_model_problems(config, units),
        *(_comparison_problems(config) if "comparison" in stages else []),
        *_segmenter_problems(config, units, fetch),
    ]
    if "report" in stages and config.generate.pairs < LEAST:
        problems.append(
            f"generate.pairs: the report needs at least {LEAST} pairs of each kind, got {config.generate.pairs}"
        )
    return list(dict.fromkeys(problems))


def check_after_data(config: RunConfig, train: Pairs, validation: Pairs, units: Collection[str]) -> None:
    """Check, before anything is trained, what only the prepared data set can tell.

    Args:
        config: The run's configuration.
        train: Real training pairs.
        validation: Real validation pairs.
        units: Names of the units that are still to be made.

    Raises:
        ConfigError: All problems at once, each with its field.
    """
    stages = {name.partition("/")[0] for name in units}
    problems = [f"generate.{text}" for text in control_problems(config.generate.controls(), train.table.names)]
    if "palettes" in stages and len(train) < LEAST:
        problems.append(f"data.root: palettes need at least {LEAST} training pairs, got {len(train)}; add some")
    for stage, least in (("report", LEAST), ("comparison", LEAST_PAIRS)):
        if stage in stages and len(validation) < least:
            problems.append(
                f"data.root: the {stage} needs at least {least} validation pairs, got {len(validation)}; add some"
            )
    if problems:
        raise ConfigError(f"What is asked for cannot be made for {train.name}.", problems)


def _data_problems(config: RunConfig, stages: Collection[str]) -> list[str]:
    data, problems = config.data, []
    if "data" in stages:
        if data.root is not None and not _is_there(data.root.is_dir):
            problems.append(f"data.root: there is no folder {short(str(data.root))}")
        if data.class_file is not None and not _is_there(data.class_file.is_file):
            problems.append(f"data.class_file: there is no file {short(str(data.class_file))}")
    if "unlabelled" in stages and data.unlabelled is not None and not _is_there(data.unlabelled.is_dir):
        problems.append(f"data.unlabelled: there is no folder {short(str(data.unlabelled))}")
    return problems


def _device_problems(config: RunConfig, units: Collection[str]) -> list[str]:
    stages = {name.partition("/")[0] for name in units}
    if config.compute.accelerator != "cuda" or torch.cuda.is_available() or stages.isdisjoint(COMPUTED):
        return []
    return ["compute.accelerator: it is cuda, but torch sees no GPU; use cpu or auto"]


def _model_problems(config: RunConfig, units: Collection[str]) -> list[str]:
    """Return what is wrong with the generators to be trained, beside those that only a comparison has."""
    layouts = {field: layout_model(config, field) for field in ("full", "partial")}
    problems = [
        f"layouts.{field}: {text}"
        for field, model in layouts.items()
        if model.unit in units and (text := model_problem(model, config))
    ]
    models = [pair_models(config, kind) for kind in config.generate.kinds]
    models += [row_models(config, name, ROWS[name]) for name in config.compare.rows]
    weights = config.images.vgg_weights
    looks = any(
        IMAGE_SYSTEMS[model.image.system].perceptual and (model.image.unit in units or model.finetuned in units)
        for model in models
    )
    if weights is not None and looks and not _is_there(weights.is_file):
        problems.append(f"images.vgg_weights: there is no file {short(str(weights))}")
    return problems


def _comparison_problems(config: RunConfig) -> list[str]:
    """Return what keeps systems from being compared, before their data set is known."""
    data, problems = config.data, row_problems(config)
    if min(data.size) < SMALLEST_SIDE:
        problems.append(
            f"data.size: the comparison's measures need at least {SMALLEST_SIDE} pixels each way, got "
            f"{data.size[0]}x{data.size[1]}"
        )
    if DATASETS.get(data.name).drawn and data.val_scenes < LEAST_PAIRS:
        problems.append(f"data.val_scenes: the comparison needs at least {LEAST_PAIRS}, got {data.val_scenes}")
    return problems


def _segmenter_problems(config: RunConfig, units: Collection[str], fetch: bool) -> list[str]:
    """Return what is wrong with the segmenters to be trained, and whether what they need can be fetched."""
    arms = [name.split("/")[1] for name in units if name.startswith("segmenters/")]
    arms += ["syn" for name in units if name.startswith("comparison/") and name.endswith("/segmenter")]
    if not arms:
        return []
    problems = [
        f"data.size: {text}"
        for arm in dict.fromkeys(arms)
        for text in size_problems(arm_settings(config.segmenters, arm), config.data.size)
    ]
    settings = settings_from(config.segmenters, SegmenterSettings)
    if fetch and (settings.encoder_weights is not None or is_fetched(settings.encoder)):
        try:
            build_segmenter(settings, ClassTable.unnamed(2), settings.encoder_weights)
        except ScenepaletteError as error:
            problems += (
                [error.summary, *error.problems]
                if weights_file(settings.encoder_weights)
                else (error.problems or [error.summary])
            )
    return problems


def _is_there(look: Callable[[], bool]) -> bool:
    try:
        return look()
    except (OSError, ValueError):  # a name that the system does not take, or a folder above it that is closed
        return False
