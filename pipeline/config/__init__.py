"""The configuration of a run: its sections, a file for each part of the pipeline, and what they are made from."""

from scenepalette.pipeline.config.data import DataConfig
from scenepalette.pipeline.config.field_types import MOST_FOLDS
from scenepalette.pipeline.config.generation import FinetuneConfig, GenerateConfig, ImagesConfig, LayoutsConfig
from scenepalette.pipeline.config.reporting import CurveConfig
from scenepalette.pipeline.config.run_config import (
    RunConfig,
    config_of_pairs,
    config_text,
    load_config,
    make_config,
    with_following_lists,
    write_config,
)
from scenepalette.pipeline.config.segmenters import SegmentersConfig
from scenepalette.pipeline.config.values import merge, with_overrides

__all__ = [
    "MOST_FOLDS",
    "CurveConfig",
    "DataConfig",
    "FinetuneConfig",
    "GenerateConfig",
    "ImagesConfig",
    "LayoutsConfig",
    "RunConfig",
    "SegmentersConfig",
    "config_of_pairs",
    "config_text",
    "load_config",
    "make_config",
    "merge",
    "with_following_lists",
    "with_overrides",
    "write_config",
]
