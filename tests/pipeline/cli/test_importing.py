"""The command `scenepalette import`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from annotated_sources import SQUARE, labelme, shape, write_images, write_json_file
from scenepalette.data.imports.importing import FORMATS
from scenepalette.pipeline.cli.main import app


def invoke(*arguments: str, expected: int = 0) -> tuple[str, str]:
    """Return what the command printed on standard output and standard error."""
    result = CliRunner().invoke(app, ["import", *arguments])
    assert result.exit_code == expected, result.output
    assert "Traceback" not in result.output
    return result.stdout, result.stderr


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        write_images(tmp_path / "in" / split, [f"{split}.png"])
        shapes = [shape("car", SQUARE), shape("unsure", [[15, 3], [19, 3], [19, 9]])]
        write_json_file(tmp_path / "in" / split / "a.json", labelme(shapes, f"{split}.png"))
    return tmp_path / "in"


def test_import_says_what_it_decided_and_made(source: Path, tmp_path: Path) -> None:
    arguments = (str(source), "--from", "labelme", "--to", str(tmp_path / "out"), "--ignore", "unsure")
    output, errors = invoke(*arguments)
    assert output == f"Done: {tmp_path / 'out'} (1 train, 1 val; 2 classes). Read it with data.name=folder.\n"
    assert "Note: Pixels that no annotation covers are of the class 'background'" in errors
    output, errors = invoke(*arguments)
    assert "holds this import already" in errors and output.startswith("Done: ")


def test_problems_end_it_with_1_and_can_be_left_out(source: Path, tmp_path: Path) -> None:
    write_json_file(source / "train/b.json", labelme([], "b.png"))
    arguments = (str(source), "--from", "labelme", "--to", str(tmp_path / "out"))
    output, errors = invoke(*arguments, expected=1)
    assert output == "" and "  - missing images: 1 (train/b.json: 'b.png'). Expected is" in errors
    output, errors = invoke(*arguments, "--skip-problems")
    assert "Left out: missing images: 1" in errors and output.startswith("Done: ")


@pytest.mark.parametrize("name", FORMATS)
def test_help_and_page_name_every_format(name: str) -> None:
    output, _ = invoke("--help")
    assert name in " ".join(output.split())
    page = (Path(__file__).parents[3] / "docs/data/importing.md").read_text(encoding="utf-8")
    assert f"## {name}" in page


@pytest.mark.parametrize("listed", ["[0, 4]", "0,4"])
def test_values_without_a_class_are_given_as_messages_write_them(listed: str, source: Path, tmp_path: Path) -> None:
    arguments = (str(source), "--from", "labelme", "--to", str(tmp_path / "out"), "--ignore-ids")
    _, errors = invoke(*arguments, listed, expected=1)
    assert "--ignore-ids is for voc, colours, huggingface alone" in errors
    _, errors = invoke(*arguments, "none", expected=2)
    assert "required are numbers" in errors
