from __future__ import annotations

from pathlib import Path

import numpy as np

from data.shards.reading import iterate_rows
from pipeline.stages.palettes import stored_palettes


def test_stored_palettes_are_those_of_the_rows_in_order(finished_run: Path) -> None:
    folder = finished_run / "shards/full"
    rows = list(iterate_rows(folder))
    target, achieved = stored_palettes(folder)
    assert target.dtype == achieved.dtype == np.float64
    np.testing.assert_array_equal(target, np.stack([row.palette_target for row in rows]))
    np.testing.assert_array_equal(achieved, np.stack([row.palette_achieved for row in rows]))
    assert not np.array_equal(target, achieved)
