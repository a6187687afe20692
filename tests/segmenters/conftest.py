from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bands import fabric, make_pairs, table

from scenepalette.segmenters.train import SegmenterSettings

__all__ = ["fabric", "make_pairs", "table"]


@pytest.fixture
def make_settings() -> Callable[..., SegmenterSettings]:
    def make(**changes: Any) -> SegmenterSettings:
        small: dict[str, Any] = {"steps": 4, "batch_size": 2, "decoder_channels": 8, "discriminator_width": 4}
        small |= {"output_stride": 16, "log_every": 1}
        return SegmenterSettings(**(small | changes))

    return make
