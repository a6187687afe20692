"""What is said of splits before anything is trained: notes of readers, findings about test splits."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import read_json, write_json
from scenepalette.data.sample import SegmentationDataset
from scenepalette.pipeline.checks.splits import Findings, Origin
from scenepalette.pipeline.stages.inputs.opened_splits import notes_of

TEST_FILE = "test-split.json"


def print_notes(datasets: Iterable[SegmentationDataset]) -> None:
    """Print what readers decided and skipped."""
    for note in notes_of(datasets):
        print(f"Note: {note}", file=sys.stderr)


def refuse(findings: Findings) -> None:
    """Refuse a test split of which there are problems."""
    if findings.problems:
        raise DataError("The test split cannot be used; nothing was trained.", findings.problems)


def write_findings(folder: Path, origin: Origin, findings: Findings) -> None:
    """Write what was found of a test split, and print its warnings, unless it is to be refused."""
    refuse(findings)
    for text in findings.warnings:
        print(f"Warning: {text}", file=sys.stderr, flush=True)
    write_json(folder / TEST_FILE, {"origin": origin, "warnings": findings.warnings})


def read_findings(folder: Path) -> dict[str, Any]:
    """Return how a test split in a finished folder came about ("origin"), and what was found of it ("warnings").

    Raises:
        DataError: The file is missing or damaged.
    """
    path = folder / TEST_FILE
    stated = read_json(path) if path.is_file() else None
    if not isinstance(stated, dict) or not {"origin", "warnings"} <= stated.keys():
        raise DataError(f"{path} is missing or damaged. Remove {folder} and rerun the same command to write it again.")
    return stated
