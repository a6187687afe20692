"""Runs whose images a command or a service makes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.pipeline.config import make_config
from scenepalette.pipeline.run import Run, units_of
from scenepalette.pipeline.units.records import fingerprint_of

SCRIPT = """
import pathlib, sys
from PIL import Image
labels, out = map(pathlib.Path, sys.argv[1:3])
with open(sys.argv[0] + ".calls", "a") as calls:
    calls.write("x")
if pathlib.Path(sys.argv[0] + ".calls").stat().st_size == 6:
    sys.exit("out of memory")
for label in labels.iterdir():
    Image.open(label).convert("RGB").save(out / label.name)
"""


@pytest.fixture
def painter(tmp_path: Path) -> Path:
    path = tmp_path / "paint.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def values(tiny_values: dict[str, Any], painter: Path) -> dict[str, Any]:
    text = f"{shlex.join([sys.executable, str(painter)])} {{labels}} {{out}}"
    generate = {**tiny_values["generate"], "kinds": ["semi"], "batch_size": 4}
    segmenters = {**tiny_values["segmenters"], "arms": ["real", "semi"]}
    images = {"system": "command", "command": text}
    return {**tiny_values, "generate": generate, "segmenters": segmenters, "images": images}


def test_a_failed_batch_is_told_and_the_same_command_resumes(
    values: dict[str, Any], painter: Path, tmp_path: Path
) -> None:
    run = Run(make_config(values), tmp_path / "run")
    with pytest.raises(ScenepaletteError, match="ended with exit status 1") as caught:
        run.make(run.names_of("shards"))  # four layouts are painted for the sample sheet first
    assert caught.value.problems == ("out of memory",)
    folder = tmp_path / "run/shards/semi"
    (first,) = folder.rglob("*.parquet")
    before = first.read_bytes()
    run = Run(make_config(values), tmp_path / "run")
    run.make(run.names_of("shards"))
    assert (folder / first.name).read_bytes() == before
    pairs = ShardPairs(folder)
    images, labels = pairs.batch(range(len(pairs)))
    # JPEG, so that greys are near the class ids that they were painted from.
    assert len(pairs) == 10 and ((images[:, 0] + 1) * 127.5 - labels).abs().median() <= 1
    # One process for each of the batches of 4, 4 and 2, and the one that failed.
    assert painter.with_name("paint.py.calls").stat().st_size == 4 + 3 + 1


def test_the_text_and_the_script_identify_the_model(values: dict[str, Any], painter: Path) -> None:
    def fingerprint(unit: str = "shards/semi") -> str:
        units = units_of(make_config(values))
        return fingerprint_of(units[unit], units)

    before, real = fingerprint(), fingerprint("segmenters/real/seed0")
    values["images"]["systems"] = {"command": {"timeout": 9}}
    assert fingerprint() == before
    painter.write_text(SCRIPT + "# painted otherwise\n")
    other = fingerprint()
    values["images"]["command"] += " --fast"
    assert len({before, other, fingerprint()}) == 3
    assert fingerprint("segmenters/real/seed0") == real


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({"system": "command"}, "images.command: it is missing"),
        ({"system": "command", "command": "paint {labels}"}, "images.command: got 'paint {labels}', which lacks {out}"),
        ({"command": "paint {labels} {out}"}, "images.command: nothing uses it, as images.system is oasis"),
        ({"system": "http"}, "images.url: it is missing"),
        ({"system": "http", "url": "http://me:pass@host"}, "images.url: http://***@host holds credentials"),
    ],
)
def test_a_configuration_that_cannot_paint_is_refused(
    tiny_values: dict[str, Any], images: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config({**tiny_values, "images": images})
    (problem,) = caught.value.problems
    assert words in problem and "pass@" not in str(caught.value)


def test_a_program_that_is_not_there_is_told_before_anything_is_made(values: dict[str, Any], tmp_path: Path) -> None:
    values["images"]["command"] = "no-such-program {labels} {out}"
    run = Run(make_config(values), tmp_path / "run")
    with pytest.raises(ScenepaletteError) as caught:
        run.make(run.names_of("shards"))
    assert any("images.command: there is no program no-such-program" in text for text in caught.value.problems)
    assert not (tmp_path / "run/data").exists()
