"""The finished results of a run as JSON; those of the curve and the loop, the report shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scenepalette.common.storage.files import read_json

CURVE, RESULT = "curve", "result"
LOOP, REPORT = "loop", "report"
CURVE_RESULT, LOOP_RESULT = f"{CURVE}/{RESULT}", f"{LOOP}/{REPORT}"


def read_result(folder: Path, name: str) -> dict[str, Any]:
    """Return what NAME.json in a finished unit's folder holds.

    Raises:
        ScenepaletteError: It is missing or damaged.
    """
    # With pyarrow, for which the help of the command line need not wait.
    from scenepalette.pipeline.run_directory.manifests import check_contents

    check_contents(folder)
    return read_json(folder / f"{name}.json")
