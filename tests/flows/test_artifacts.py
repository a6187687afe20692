from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from flows.artifacts import inline_figures


def write_figure(path: Path, size: tuple[int, int], noise: bool) -> None:
    path.parent.mkdir(exist_ok=True)
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
    picture = Image.open(io.BytesIO(base64.b64decode(contents[0])))
    assert picture.size[0] < 900 and abs(picture.size[0] / picture.size[1] - 1.5) < 0.02
    assert base64.b64decode(contents[1]) == (tmp_path / "figures/small.png").read_bytes()


def test_a_figure_that_cannot_fit_is_named(tmp_path: Path) -> None:
    write_figure(tmp_path / "figures/large.png", (600, 900), noise=True)
    assert inline_figures("![L](figures/large.png)", tmp_path, 100) == "*L: figures/large.png in the run directory*"


def test_text_without_figures_stays(tmp_path: Path) -> None:
    assert inline_figures("no figures", tmp_path) == "no figures"
