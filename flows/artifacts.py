"""Reports and pictures as artifacts of a flow run, readable in Prefect's UI without the run directory."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import Image
from prefect.artifacts import create_link_artifact, create_markdown_artifact

# Artifacts are rows of the server's database and are sent whole to every browser that opens them.
FIGURES_BYTES = 1_000_000
COLORS = 128
SHRINK = 0.8
SMALLEST_WIDTH = 240
_FIGURE = re.compile(r"!\[(?P<title>[^\n]*)\]\((?P<file>figures/[\w.-]+\.png)\)")


def publish_report(folder: Path, name: str = "report") -> None:
    """Make a finished report an artifact of the current run, and link its files.

    Args:
        folder: Folder with NAME.md, NAME.html and figures.
        name: Name of the files and of the artifact.
    """
    markdown = inline_figures((folder / f"{name}.md").read_text(encoding="utf-8"), folder)
    create_markdown_artifact(markdown, key=name, description=f"The {name} of {folder.parent}")
    page = (folder / f"{name}.html").absolute()
    create_link_artifact(page.as_uri(), link_text=str(page), key=f"{name}-file", description="On the worker's disk")


def publish_picture(path: Path, title: str) -> None:
    """Make a picture an artifact of the current run, and link its file.

    Args:
        path: PNG, GIF or WebP. A strip that is too large is shrunk, an animation that is too large is only linked.
        title: What it shows.
    """
    ending = path.suffix.lower()
    content = path.read_bytes()
    if 4 * -(-len(content) // 3) > FIGURES_BYTES:
        small = _shrunk(path, FIGURES_BYTES) if ending == ".png" else None
    else:
        small = content
    shown = f"*{path.name}: on the worker's disk*" if small is None else _inline(title, ending.removeprefix("."), small)
    create_markdown_artifact(shown, key="edit", description=title)
    create_link_artifact(
        path.absolute().as_uri(), link_text=str(path.absolute()), key="edit-file", description="On the worker's disk"
    )


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


def _inline(title: str, kind: str, content: bytes) -> str:
    """Return a picture as Markdown that needs no other file; `kind` is png, gif or webp."""
    return f"![{title}](data:image/{kind};base64,{base64.b64encode(content).decode('ascii')})"


def _shrunk(path: Path, limit: int) -> bytes | None:
    """Return a PNG whose base64 form has at most `limit` characters, or None if only a thumbnail would."""
    content = path.read_bytes()
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    width = picture.width
    while 4 * -(-len(content) // 3) > limit:
        if width < SMALLEST_WIDTH:
            return None
        size = (width, max(1, round(picture.height * width / picture.width)))
        buffer = io.BytesIO()
        picture.resize(size, Image.Resampling.LANCZOS).quantize(COLORS).save(buffer, "PNG", optimize=True)
        content, width = buffer.getvalue(), int(width * SHRINK)
    return content
