"""The finished result of `scenepalette curve` in a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scenepalette.common.storage.files import read_json
from scenepalette.pipeline.run_directory.manifests import check_contents

RESULT = "curve/result"
CURVE_FILE = "curve.json"


def read_curve(run_dir: Path) -> dict[str, Any]:
    """Return the finished result.

    Raises:
        ScenepaletteError: It is missing or damaged.
    """
    check_contents(run_dir / RESULT)
    return read_json(run_dir / RESULT / CURVE_FILE)
