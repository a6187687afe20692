"""docs/architecture.md shows the data's way file by file; the files are there, and they are those that are passed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from scenepalette.generators.images import training as image_training
from scenepalette.generators.images.systems import oasis
from scenepalette.generators.layouts.networks.progressive import LayoutGenerator
from scenepalette.generators.palettes import PaletteSampler
from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.config import run_config
from scenepalette.training import checkpoint, loop, trainee

ROOT = Path(__file__).parents[1]
FOLDERS = {path.name for path in (ROOT / "src/scenepalette").iterdir() if path.is_dir()}
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
MOST_FILES = 10
ROW = "From the command line to a row of a Parquet file"
WEIGHTS = "From `train-images` to a weights file"
# What a row, or a weights file, comes about by: whoever calls one of these, the first time, is on the way.
CHECKED = (run_config, "disagreements")
MOMENTS: dict[str, list[tuple[Any, str]]] = {
    ROW: [
        CHECKED,
        (PaletteSampler, "sample"),
        (LayoutGenerator, "forward"),
        (oasis.OasisGenerator, "forward"),
        (pq.ParquetWriter, "write_batch"),
    ],
    WEIGHTS: [
        CHECKED,
        (loop, "seed_step"),
        (image_training.TrainingBatches, "batch"),
        (oasis.OasisGenerator, "forward"),
        (oasis, "real_loss"),
        (trainee, "require_finite_gradients"),
        (checkpoint, "write_atomically"),
    ],
}


def way_of(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def listed(title: str) -> list[str]:
    """Return the files of a way in their order; that of a training begins with those that every verb passes."""
    files = re.findall(r"^\d+\. `([\w/]+\.py)`", way_of(title), re.MULTILINE)
    return files if title == ROW else [*listed(ROW)[:3], *files]


def files_passed(owner: Any) -> set[str]:
    """Return the files of the package that are on the call stack, and that of `owner` on its top."""
    frame, names = sys._getframe(1), [str(sys.modules[getattr(owner, "__module__", owner.__name__)].__file__)]
    while frame is not None:
        names.append(frame.f_code.co_filename)
        frame = frame.f_back
    paths = (Path(name).resolve() for name in names if not name.startswith("<"))
    own = (path.relative_to(ROOT) for path in paths if path.is_relative_to(ROOT))
    return {path.as_posix() for path in own if path.parts[0] in FOLDERS}


def test_every_file_and_folder_that_is_named_exists() -> None:
    folders = "pipeline|generators|segmenters|training|data|flows|tests"
    named = set(re.findall(rf"`((?:{folders})/[\w./]*)`", PAGE)) - {"data/"}
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("title", "said"),
    [
        (ROW, "passes through {} files:"),
        (WEIGHTS, 'passes through the same first three files, for the stage "images", and {} more:'),
    ],
)
def test_each_way_takes_as_many_files_as_it_says(title: str, said: str) -> None:
    files = listed(title)
    assert len(set(files)) == len(files) <= MOST_FILES
    assert said.format(len(files) if title == ROW else len(files) - 3) in " ".join(way_of(title).split())


@pytest.mark.parametrize(
    ("title", "verb", "unit"), [(ROW, "generate", "shards/full"), (WEIGHTS, "train-images", "images/oasis")]
)
def test_the_files_of_a_way_are_those_that_are_passed(
    title: str,
    verb: str,
    unit: str,
    tiny_recipe: Path,
    copy_of_run: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passed: dict[tuple[Any, str], set[str]] = {}

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if (owner, name) not in passed:
                passed[owner, name] = files_passed(owner)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    run_dir = copy_of_run(unit)
    for owner, name in MOMENTS[title]:
        watch(owner, name)
    result = CliRunner().invoke(app, [verb, str(tiny_recipe), "--out", str(run_dir)], catch_exceptions=False)
    assert result.exit_code == 0 and (run_dir / unit / "manifest.json").is_file()
    assert passed.keys() == set(MOMENTS[title])
    assert set().union(*passed.values()) == set(listed(title))
