from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import sealed
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.pipeline.stages.palettes import stored_palettes


def test_stored_palettes_are_those_of_the_rows_in_order(finished_run: Path) -> None:
    folder = finished_run / "shards/full"
    rows = list(iterate_rows(folder))
    target, achieved = stored_palettes(folder)
    assert target.dtype == achieved.dtype == np.float64
    np.testing.assert_array_equal(target, np.stack([row.palette_target for row in rows]))
    np.testing.assert_array_equal(achieved, np.stack([row.palette_achieved for row in rows]))
    assert not np.array_equal(target, achieved)


def test_a_shard_of_another_number_of_rows_is_refused(finished_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished_run / "shards/full", tmp_path / "full"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0]["rows"] += 1
    manifest["rows"] += 1
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))
    for read in (stored_palettes, lambda folder: list(iterate_rows(folder))):
        with pytest.raises(DataError, match="rows, its manifest says"):
            read(folder)
