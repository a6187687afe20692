"""Reports, images and progress as artifacts of a flow run, readable in Prefect's UI without the run directory."""

from __future__ import annotations

import base64
import io
import logging
import re
import time
from pathlib import Path
from uuid import UUID

import httpx
from PIL import Image
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from scenepalette.common.progress import PlainProgress
from scenepalette.common.storage.files import read_json
from scenepalette.pipeline.report.comparison import comparison_page
from scenepalette.pipeline.report.loop_page import loop_page
from scenepalette.pipeline.report.page import to_markdown
from scenepalette.pipeline.report.report_page import report_page

# Artifacts are rows of the server's database and are sent whole to every browser that opens them.
FIGURES_BYTES = 1_000_000
COLORS = 128
SHRINK = 0.8
SMALLEST_WIDTH = 240
LOG_SECONDS = 30.0
"""Time between two lines of progress in the log of a task."""
PAGES = {"report": report_page, "comparison": comparison_page, "loop": loop_page}
_FIGURE = re.compile(r"!\[(?P<title>[^\n]*)\]\((?P<file>figures/[\w.-]+\.png)\)")


def publish_report(folder: Path, name: str = "report") -> None:
    """Make a finished report an artifact of the current run, in tables that fit into the UI, and link its page.

    Args:
        folder: Folder with NAME.json, NAME.html and figures.
        name: Name of the files and of the artifact, "report", "comparison" or "loop".
    """
    page = PAGES[name](read_json(folder / f"{name}.json"))
    markdown = inline_figures(to_markdown(page, narrow=True), folder)
    create_markdown_artifact(markdown, key=name, description=f"The {name} of {folder.parent}")
    file = (folder / f"{name}.html").absolute()
    create_link_artifact(file.as_uri(), link_text=str(file), key=f"{name}-file", description="On the worker's disk")


def publish_image(path: Path, title: str) -> None:
    """Make an image an artifact of the current run, and link its file.

    Args:
        path: PNG, GIF or WebP. A strip that is too large is shrunk, an animation that is too large is only linked.
        title: What it shows.
    """
    create_markdown_artifact(_shown(path, title), key="edit", description=title)
    create_link_artifact(
        path.absolute().as_uri(), link_text=str(path.absolute()), key="edit-file", description="On the worker's disk"
    )


def publish_samples(folder: Path, unit: str) -> None:
    """Make the last sample sheet of a finished training an artifact of the current run; none if it has no sheet.

    Args:
        folder: The training's folder, with `samples/final.png`.
        unit: Its name in the run directory, such as "images/oasis".
    """
    sheet = folder / "samples" / "final.png"
    if sheet.exists():
        title = f"samples of {unit}"
        create_markdown_artifact(_shown(sheet, title), key=key_of(f"samples-{unit}"), description=title)


def key_of(text: str) -> str:
    """Return an artifact's key: lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


class ProgressArtifact:
    """A bar in the UI. Work continues without it if the server cannot be reached."""

    def __init__(self, key: str, description: str, total: int) -> None:
        """Make the bar, at nothing, for so many units of work."""
        self._total = max(1, total)
        self._id: UUID | None = None
        try:
            self._id = create_progress_artifact(0.0, key=key_of(key), description=description)  # type: ignore[assignment]
        except httpx.HTTPError as error:
            _not_shown(error)

    def show(self, done: int) -> None:
        """Set the bar to `done` units of work."""
        if self._id is not None:
            try:
                update_progress_artifact(self._id, 100.0 * min(done, self._total) / self._total)
            except httpx.HTTPError as error:
                _not_shown(error)


def _not_shown(error: httpx.HTTPError) -> None:
    logging.getLogger(__name__).warning("Progress is not shown, as Prefect's server does not answer: %s", error)


class PublishedProgress(PlainProgress):
    """Progress as lines of the log and as a bar in the UI, the latter as often as the former."""

    def start(self, description: str, total: int, done: int = 0) -> None:
        """Begin a piece of work with a bar of its own."""
        super().start(description, total, done)
        self._bar = ProgressArtifact(f"progress-{description}", description, total)
        self._shown = time.monotonic()
        if done:
            self._bar.show(done)

    def advance(self, count: int = 1, **values: float) -> None:
        """Count; print a line and move the bar if the last time is long enough ago."""
        super().advance(count, **values)
        now = time.monotonic()
        if now - self._shown >= self.interval:
            self._shown = now
            self._bar.show(self._done)

    def finish(self) -> None:
        """Say how long the work took, and leave the bar where the work ended."""
        if self._working:
            super().finish()
            self._bar.show(self._done)


def inline_figures(markdown: str, folder: Path, limit: int = FIGURES_BYTES) -> str:
    """Replace links to figures by the figures themselves, made smaller where they are too large together.

    Args:
        markdown: Text with `![title](figures/name.png)`.
        folder: What the links are relative to.
        limit: Most characters that all figures may take.

    Returns:
        The text with data URIs; a figure that cannot be made small enough is named instead.
    """
    count = len(_FIGURE.findall(markdown))

    def replace(match: re.Match[str]) -> str:
        content = _shrunk(folder / match["file"], limit // count)
        if content is None:
            return f"*{match['title']}: {match['file']} in the run directory*"
        return _inline(match["title"], "png", content)

    return _FIGURE.sub(replace, markdown)


def _shown(path: Path, title: str) -> str:
    """Return an image as Markdown, shrunk if it is too large, or named if it cannot be shrunk."""
    extension = path.suffix.lower()
    content: bytes | None = path.read_bytes()
    if 4 * -(-len(content) // 3) > FIGURES_BYTES:
        content = _shrunk(path, FIGURES_BYTES) if extension == ".png" else None
    if content is None:
        return f"*{path.name}: on the worker's disk*"
    return _inline(title, extension.removeprefix("."), content)


def _inline(title: str, kind: str, content: bytes) -> str:
    """Return an image as Markdown that needs no other file; `kind` is png, gif or webp."""
    return f"![{title}](data:image/{kind};base64,{base64.b64encode(content).decode('ascii')})"


def _shrunk(path: Path, limit: int) -> bytes | None:
    """Return a PNG whose base64 form has at most `limit` characters, or None if only a thumbnail would."""
    content = path.read_bytes()
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    width = image.width
    while 4 * -(-len(content) // 3) > limit:
        if width < SMALLEST_WIDTH:
            return None
        size = (width, max(1, round(image.height * width / image.width)))
        buffer = io.BytesIO()
        image.resize(size, Image.Resampling.LANCZOS).quantize(COLORS).save(buffer, "PNG", optimize=True)
        content, width = buffer.getvalue(), int(width * SHRINK)
    return content
