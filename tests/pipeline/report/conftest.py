"""Made-up results of a run: tiny, deterministic, with one class left out of the evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.data.classes import IGNORE_ID, ClassTable, SemanticClass
from scenepalette.pipeline.report.results import ArmRun, PairSample, ReportInputs

HEIGHT, WIDTH = 8, 16
TABLE = ClassTable(
    "made up",
    (
        SemanticClass("road", (128, 64, 128)),
        SemanticClass("sky", (70, 130, 180)),
        SemanticClass("car_<b>|x", (0, 0, 142)),
        SemanticClass("void", (10, 10, 10), evaluated=False),
    ),
)
CLASSES = 4


def confusion(accuracy: float, images: int = 6, seed: int = 0) -> np.ndarray:
    """Pixel counts of a segmenter that is right with the given probability, on the same truth for every seed."""
    truth = np.random.default_rng(99).multinomial(HEIGHT * WIDTH, [0.5, 0.3, 0.15, 0.05], size=images)
    generator = np.random.default_rng(seed)
    wrong = (1 - accuracy) / (CLASSES - 1)
    rows = np.full((CLASSES, CLASSES), wrong) + (accuracy - wrong) * np.eye(CLASSES)
    return np.stack([[generator.multinomial(n, rows[k]) for k, n in enumerate(image)] for image in truth]).astype(
        np.int64
    )


def _pair(generator: np.random.Generator, kind: str) -> PairSample:
    label = generator.integers(0, CLASSES, (HEIGHT, WIDTH)).astype(np.uint8)
    label[0, 0] = IGNORE_ID
    achieved = np.bincount(label[label != IGNORE_ID], minlength=CLASSES) / (label != IGNORE_ID).sum()
    image = generator.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    return PairSample(
        image,
        label,
        np.full(CLASSES, 1 / CLASSES),
        achieved,
        source_image=None if kind == "full" else image[::-1],
        source_label=None if kind == "full" else label[::-1],
        edit_box=(1, 2, 4, 6) if kind == "partial" else None,
    )


@pytest.fixture
def make_inputs(tmp_path: Path) -> Callable[..., ReportInputs]:
    """Build inputs; keyword arguments replace fields."""

    def make(**changes: Any) -> ReportInputs:
        generator = np.random.default_rng(1)
        curve = tmp_path / "metrics.jsonl"
        curve.write_text(
            "".join(json.dumps({"step": s, "loss": 1 / (s + 1), "seconds": 2.0}) + "\n" for s in range(600))
        )
        fields: dict[str, Any] = {
            "dataset": {"name": "made <up>", "train": 20, "val": 6, "size": [HEIGHT, WIDTH], "licence": "CC0"},
            "table": TABLE,
            "arms": [
                ArmRun("real", "real pairs", 0, 100, confusion(0.7, seed=1), curve),
                ArmRun("real", "real pairs", 1, 100, confusion(0.7, seed=2), curve),
                ArmRun("real+full", "real and generated", 0, 100, confusion(0.9, seed=3), curve),
                ArmRun("real+full", "real and generated", 1, 100, confusion(0.9, seed=4), curve),
                ArmRun("full", "generated alone", 0, 100, confusion(0.3, seed=5)),
            ],
            "gan_train": {"full": "full"},
            "gan_test": {"full": confusion(0.6, images=9, seed=6)},
            "gan_test_real": confusion(0.7, seed=1),
            "palette_components": 3,
            "aic": [10.0, 6.0, 5.0, 7.0],
            "palette_kl": {"full": generator.uniform(0, 0.2, 30)},
            "metrics": {
                "fsd": 12.5,
                "fid": None,
                "fid_absent_because": "no Inception weights <here>",
                "segmenter_frechet": 3.25,
                "mean_absolute_difference": 17.5,
            },
            "samples": {kind: [_pair(generator, kind) for _ in range(2)] for kind in ("full", "partial", "semi")},
            "real_samples": [_pair(generator, "full")],
            "noise_samples": [
                (
                    generator.integers(0, CLASSES, (HEIGHT, WIDTH)).astype(np.uint8),
                    [generator.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8) for _ in range(3)],
                )
            ],
            "class_shares": {"real": np.array([0.5, 0.3, 0.2, 0.0]), "full": np.array([0.4, 0.4, 0.1, 0.1])},
            "training_curves": {"layouts": curve},
            "durations": {"layouts": 61.5, "images": 7000.0},
            "provenance": {"version": "0.1.0", "command": "scenepalette run demo", "seed": 7, "config": "<hash>"},
            "bootstrap_samples": 200,
            "seed": 7,
        }
        return ReportInputs(**{**fields, **changes})

    return make
