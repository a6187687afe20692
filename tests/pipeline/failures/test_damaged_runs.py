"""Damaged files of a run directory, met by the command that reads them next: reported, or repaired and reported."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scenepalette.pipeline.cli.main import app
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.units.records import begin

Damage = Callable[[Path], object]


def cut(share: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def flip(place: float) -> Damage:
    """Flip the lowest bit of the byte at this share of a file."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int((len(content) - 1) * place)] ^= 1
        path.write_bytes(content)

    return damage


def holding(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def like(other: str) -> Damage:
    """Put another file of the run in its place."""
    return lambda path: shutil.copy(path.parent / other, path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def removed(path: Path) -> None:
    path.unlink()


BYTES: dict[str, Damage] = {
    "empty": cut(0),
    "cut at a half": cut(0.5),
    "cut at the end": cut(0.99),
    "zeros": holding(bytes(2000)),
    "a folder": a_folder,
    "missing": removed,
}
BITS = {f"a bit at {place}": flip(place) for place in (0.02, 0.5, 0.97)}
TEXTS: dict[str, Damage] = {
    "empty": cut(0),
    "cut": cut(0.6),
    "a list": holding(b"[1, 2]"),
    "a number": holding(b"7"),
    "no text": holding(b"\xff\xfe\x00"),
    "an empty object": holding(b"{}"),
    "deeply nested": holding(b"[" * 100_000),
}


@dataclass(frozen=True)
class Target:
    """A file of a run directory, and the command that reads it.

    Attributes:
        path: The file.
        command: A verb of the command line.
        without: Units, or files, that are not there yet.
        damages: What happens to it.
        begun: A unit that is begun and not finished.
    """

    path: str
    command: str
    without: tuple[str, ...]
    damages: dict[str, Damage]
    begun: str = ""


PALETTES = ("palettes",)
PAIRS = ("shards/full",)
REPORT = ("report",)
TARGETS = [
    Target("data/images-train.npy", "fit-palettes", PALETTES, {
        **BYTES, **BITS, "validation images": like("images-val.npy"), "labels": like("labels-train.npy")}),
    Target("data/labels-train.npy", "fit-palettes", PALETTES, {
        **BYTES, **BITS, "filled labels": like("filled-labels-train.npy"), "images": like("images-train.npy")}),
    Target("data/filled-labels-train.npy", "fit-palettes", PALETTES, {
        **BYTES, **BITS, "validation labels": like("labels-val.npy")}),
    Target("data/images-val.npy", "fit-palettes", PALETTES, {"cut": cut(0.9), **BITS}),
    Target("data/labels-val.npy", "fit-palettes", PALETTES, {"cut": cut(0.9), **BITS}),
    Target("data/train.json", "fit-palettes", PALETTES, {**TEXTS, "of the other split": like("val.json")}),
    Target("data/manifest.json", "fit-palettes", PALETTES, {
        **TEXTS, "of another unit": like("../layouts/semantic-palette/manifest.json")}),
    Target("palettes/sampler.json", "generate", PAIRS, {**TEXTS, "another file": like("manifest.json")}),
    Target("layouts/semantic-palette/weights.safetensors", "generate", PAIRS, {
        **BYTES, **BITS, "of another system": like("../semantic-palette-partial/weights.safetensors")}),
    Target("images/oasis/weights.safetensors", "generate", PAIRS, {
        **BYTES, **BITS,
        "of the discriminator": like("critic.safetensors"), "a checkpoint": like("checkpoint-00000003.safetensors")}),
    Target("shards/full/.finished/train-00000-of-00003.parquet.json", "generate", (), {**TEXTS}, begun="shards/full"),
    Target("shards/full/manifest.json", "train-segmenter", ("segmenters/syn",), {
        **TEXTS, "of another kind": like("../semi/manifest.json")}),
    Target("shards/full/train-00000-of-00003.parquet", "train-segmenter", ("segmenters/syn",), {
        **BYTES, **BITS,
        "of another kind": like("../semi/train-00000-of-00003.parquet"),
        "another": like("train-00001-of-00003.parquet")}),
    Target("segmenters/real/seed0/weights.safetensors", "report", REPORT, {**BYTES, **BITS}),
    Target("segmenters/real/seed0/validation-confusion.npy", "report", REPORT, {**BYTES, **BITS}),
    Target("segmenters/real/seed0/metrics.jsonl", "report", REPORT, {**TEXTS, "zeros": holding(bytes(99))}),
    Target("layouts/semantic-palette/metrics.jsonl", "report", REPORT, {**TEXTS, "zeros": holding(bytes(99))}),
    Target("report/report.json", "report", (), {**TEXTS}),
]  # fmt: skip
CASES = {f"{target.path}: {name}": (target, damage) for target in TARGETS for name, damage in target.damages.items()}


@pytest.mark.damaged
@pytest.mark.parametrize("case", CASES)
def test_damage_to_a_run_is_told(
    case: str,
    finished_run: Path,
    tiny_recipe: Path,
    tiny_config: RunConfig,
    tmp_path: Path,
    results_of: Callable[[Path], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, damage = CASES[case]
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    for name in target.without:
        shutil.rmtree(folder / name)
    if target.begun:
        (folder / target.begun / "manifest.json").unlink()
        run = Run(tiny_config, folder)
        begin(folder, run.units[target.begun], run.units)
    before = (folder / target.path).read_bytes()
    damage(folder / target.path)
    assert not (folder / target.path).is_file() or (folder / target.path).read_bytes() != before
    # Checked once: building its networks takes longer than everything else here.
    monkeypatch.setattr("scenepalette.pipeline.config.load_config", lambda *_: tiny_config)
    result = CliRunner().invoke(app, [target.command, str(tiny_recipe), "--out", str(folder)])
    assert result.exit_code in (0, 1), result.exit_code
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if result.exit_code == 1:
        told = result.stderr.replace("\n", "")
        assert Path(target.path).name in told or str((folder / target.path).parent) in told
    else:
        assert "amaged" in result.stderr, "accepted in silence"
