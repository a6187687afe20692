"""What `mkdocs build` adds to docs/*.md: README.md as the first page, an API reference, and links to source files.

README.md and docs/ link to each other and to source files as GitHub resolves them, relative to the file. In the site,
links to pages stay links to pages, and links to other files of the repository lead to `repo_url` of mkdocs.yml.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import scenepalette

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/scenepalette"
HOME = "index.md"
# Fenced code and code spans, which hold no links, or a link, whose text may hold code and images.
CODE_OR_LINK = re.compile(
    r"^(?P<fence> *```+).*?^(?P=fence) *$"
    r"|(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)"
    r"|(?P<before>!?\[(?P<text>(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\()(?P<target>[^()\s]+)\)",
    re.DOTALL | re.MULTILINE,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README.md as the first page, and the pages of the API reference."""
    # Here, so that tests import this module without the packages of `make docs`.
    from mkdocs.structure.files import File

    files.append(File.generated(config, HOME, content=(ROOT / "README.md").read_text(encoding="utf-8")))
    for uri, content in reference_pages():
        files.append(File.generated(config, uri, content=content))
    return files


def reference_pages() -> Iterator[tuple[str, str]]:
    """Yield a page of the public names, and one per folder with the docstrings of its modules, as (URI, Markdown)."""
    blocks = [f"::: scenepalette.{name}" for name in scenepalette.__all__]
    head = "# Public API\n\n[Python](../python.md) has an example of each name."
    yield "reference/index.md", "\n\n".join([head, *blocks])
    # Path.rglob does not follow links, and the folders of the package are links.
    for folder, folders, files in os.walk(PACKAGE, followlinks=True):
        folders[:] = sorted(name for name in folders if (Path(folder) / name / "__init__.py").exists())
        if Path(folder) == PACKAGE:
            continue
        package = ".".join(("scenepalette", *Path(folder).relative_to(PACKAGE).parts))
        modules = sorted(name.removesuffix(".py") for name in files if name.endswith(".py") and name != "__init__.py")
        blocks = [f"::: {name}" for name in (package, *(f"{package}.{module}" for module in modules))]
        yield f"reference/{package.partition('.')[2]}.md", "\n\n".join([f"# {package}", *blocks])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that are relative to a file of the repository into links of the site."""
    uri = page.file.src_uri
    if uri.startswith("reference/"):
        return markdown
    source = "README.md" if uri == HOME else f"docs/{uri}"

    def translated(match: re.Match[str]) -> str:
        path, hash_, anchor = (match["target"] or "").partition("#")
        if not path or ":" in path or path.startswith("/"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        in_site = HOME if path == "README.md" else path.removeprefix("docs/")
        if in_site != path and files.get_file_from_path(in_site):
            target = posixpath.relpath(in_site, posixpath.dirname(uri) or ".")
        elif not (ROOT / path).exists():
            return match[0]  # mkdocs reports it
        elif config.repo_url:
            kind = "raw" if match["before"].startswith("!") else "tree" if (ROOT / path).is_dir() else "blob"
            target = f"{config.repo_url.rstrip('/')}/{kind}/HEAD/{path}"
        else:
            return match["text"]
        return f"{match['before']}{target}{hash_}{anchor})"

    return CODE_OR_LINK.sub(translated, markdown)
