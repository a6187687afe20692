from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from scenepalette.flows import artifacts
from scenepalette.flows.artifacts import ProgressArtifact, inline_figures, key_of, publish_report, publish_samples


def write_figure(path: Path, size: tuple[int, int], noise: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256 if noise else 1, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def test_small_figures_are_inlined_as_they_are(tmp_path: Path) -> None:
    write_figure(tmp_path / "figures/a-1.png", (20, 30), noise=True)
    text = "before ![A \\_figure\\_](figures/a-1.png) after ![not ours](https://example.org/x.png)"
    inlined = inline_figures(text, tmp_path)
    encoded = base64.b64encode((tmp_path / "figures/a-1.png").read_bytes()).decode()
    expected = f"before ![A \\_figure\\_](data:image/png;base64,{encoded}) after ![not ours](https://example.org/x.png)"
    assert inlined == expected


def test_large_figures_are_shrunk_until_they_fit(tmp_path: Path) -> None:
    write_figure(tmp_path / "figures/large.png", (600, 900), noise=True)
    write_figure(tmp_path / "figures/small.png", (10, 10), noise=False)
    inlined = inline_figures("![L](figures/large.png)\n![S](figures/small.png)", tmp_path, limit=400_000)
    contents = re.findall(r"base64,([^)]*)\)", inlined)
    assert len(contents) == 2 and len(inlined) <= 400_000
    image = Image.open(io.BytesIO(base64.b64decode(contents[0])))
    assert image.size[0] < 900 and abs(image.size[0] / image.size[1] - 1.5) < 0.02
    assert base64.b64decode(contents[1]) == (tmp_path / "figures/small.png").read_bytes()


@pytest.mark.slow
def test_a_figure_that_cannot_fit_is_named(tmp_path: Path) -> None:
    write_figure(tmp_path / "figures/large.png", (600, 900), noise=True)
    assert inline_figures("![L](figures/large.png)", tmp_path, 100) == "*L: figures/large.png in the run directory*"


def test_text_without_figures_stays(tmp_path: Path) -> None:
    assert inline_figures("no figures", tmp_path) == "no figures"


def tables_of(text: str) -> list[list[str]]:
    """The lines of each table of a text."""
    return [block.split("\n") for block in text.split("\n\n") if block.startswith("|")]


def seen_width(table: list[str]) -> int:
    """Pixels of a table as they were measured in the UI: 14-pixel Inter, 12 pixels on both sides of a cell."""
    rows = [line[2:-2].split(" | ") for line in table]
    lengths = [[len(re.sub(r"\\(.)", r"\1", cell)) for cell in row] for row in rows]
    return sum(7 * max(column) + 24 for column in zip(*lengths, strict=True))


@pytest.mark.slow
def test_no_table_of_a_published_report_is_cut_off(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published: dict[str, str] = {}
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda text, key, **_: published.update({key: text}))
    monkeypatch.setattr(artifacts, "create_link_artifact", lambda *_, **__: None)
    publish_report(finished_run / "report")
    whole, shown = (finished_run / "report" / "report.md").read_text(encoding="utf-8"), published["report"]
    assert max(map(seen_width, tables_of(whole))) > 718, "the report has wide tables"
    assert max(map(seen_width, tables_of(shown))) <= 718
    for table in tables_of(whole):
        for line in table[2:]:
            assert all(cell in shown for cell in line[2:-2].split(" | "))


def test_keys_of_artifacts() -> None:
    assert key_of("samples-images/crn-imle") == "samples-images-crn-imle"
    assert key_of("progress-train-images spade+") == "progress-train-images-spade"


def test_the_last_sample_sheet_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published: dict[str, str] = {}
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda text, key, **_: published.update({key: text}))
    publish_samples(tmp_path, "images/oasis")
    assert published == {}, "a unit without samples"
    write_figure(tmp_path / "samples/final.png", (20, 30), noise=True)
    publish_samples(tmp_path, "images/oasis")
    encoded = base64.b64encode((tmp_path / "samples/final.png").read_bytes()).decode()
    expected = f"![samples of images/oasis](data:image/png;base64,{encoded})"
    assert published == {"samples-images-oasis": expected}


def test_work_goes_on_where_progress_cannot_be_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise httpx.ConnectError("no server")

    monkeypatch.setattr(artifacts, "update_progress_artifact", fail)
    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda *_, **__: "an id")
    ProgressArtifact("key", "work", 2).show(1)
    assert "Progress is not shown" in caplog.text
    monkeypatch.setattr(artifacts, "create_progress_artifact", fail)
    ProgressArtifact("key", "work", 2).show(1)


def test_progress_is_in_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[float] = []
    monkeypatch.setattr(artifacts, "update_progress_artifact", lambda _, progress: shown.append(progress))
    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda *_, **__: "an id")
    bar = ProgressArtifact("key", "work", 4)
    for done in (0, 1, 4, 5):
        bar.show(done)
    assert shown == [0.0, 25.0, 100.0, 100.0]
