from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.stages.segment import CONFUSION, read_confusion


def test_confusions_stay_on_disk_until_they_are_asked_for(finished_run: Path) -> None:
    """With 182 classes and 5,000 images they take 1.3 GB for each arm and seed, and a report opens all of them."""
    folder = finished_run / "segmenters/real/seed0"
    confusion = read_confusion(folder)
    assert isinstance(confusion, np.memmap)
    np.testing.assert_array_equal(confusion, np.load(folder / CONFUSION))
