"""What the site is made of: links of README.md and docs/, and the pages of the API reference."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import scenepalette

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://example.org/owner/name/"


def load_hooks() -> Any:
    spec = importlib.util.spec_from_file_location("hooks_of_docs", ROOT / "docs/hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = load_hooks()


def translate(markdown: str, page: str, repo_url: str = REPOSITORY) -> str:
    """Translate a page of a site whose pages are README.md and all of docs/."""
    uris = {"index.md", *(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*"))}
    return hooks.on_page_markdown(
        markdown,
        page=SimpleNamespace(file=SimpleNamespace(src_uri=page)),
        config=SimpleNamespace(repo_url=repo_url),
        files=SimpleNamespace(get_file_from_path=lambda uri: uri if uri in uris else None),
    )


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("index.md", "docs/shards.md#checking", "shards.md#checking"),
        ("index.md", "LICENSE", "https://example.org/owner/name/blob/HEAD/LICENSE"),
        ("index.md", "pipeline", "https://example.org/owner/name/tree/HEAD/pipeline"),
        ("shards.md", "../README.md#report", "index.md#report"),
        ("shards.md", "recipes.md", "recipes.md"),
        ("shards.md", "../pipeline/run.py#L3", "https://example.org/owner/name/blob/HEAD/pipeline/run.py#L3"),
        ("results/README.md", "../shards.md", "../shards.md"),
        ("results/README.md", "../../README.md", "../index.md"),
        # What is missing stays as it is, for mkdocs to report.
        ("shards.md", "../pipeline/absent.py", "../pipeline/absent.py"),
        ("index.md", "docs/absent.md", "docs/absent.md"),
        ("index.md", "#report", "#report"),
        ("index.md", "https://example.org/docs/shards.md", "https://example.org/docs/shards.md"),
    ],
)
def test_links_lead_to_the_same_file_as_on_github(page: str, link: str, expected: str) -> None:
    assert translate(f"See [`this`]({link}).", page) == f"See [`this`]({expected})."


def test_images_inside_links_and_code_in_their_text() -> None:
    assert translate("![of `make demo`](docs/shards.md)", "index.md") == "![of `make demo`](shards.md)"
    assert translate("[![badge](https://example.org/a.svg)](LICENSE)", "index.md").endswith("/blob/HEAD/LICENSE)")
    assert translate("![logo](LICENSE)", "index.md") == "![logo](https://example.org/owner/name/raw/HEAD/LICENSE)"


def test_without_an_address_of_the_repository_links_to_sources_are_text() -> None:
    markdown = "See [the run](../pipeline/run.py) and [shards](shards.md)."
    assert translate(markdown, "recipes.md", repo_url="") == "See the run and [shards](shards.md)."


def test_code_is_left_alone() -> None:
    markdown = (
        "`[a](LICENSE)`\n\n```md\n[b](LICENSE)\n```\n\n``[c](LICENSE) ` ``\n\n- x\n\n  ```\n  [d](LICENSE)\n  ```\n"
    )
    assert translate(markdown, "index.md") == markdown
    assert translate(markdown + "[e](LICENSE)", "index.md") == f"{markdown}[e]({REPOSITORY}blob/HEAD/LICENSE)"


def test_the_reference_has_every_module_once_and_the_public_names() -> None:
    pages = dict(hooks.reference_pages())
    listed = re.findall(r"^::: (\S+)$", "\n".join(pages.values()), re.MULTILINE)
    package = ROOT / "src/scenepalette"
    modules = {
        ".".join(("scenepalette", *(Path(folder) / name).relative_to(package).with_suffix("").parts))
        for folder, _, files in os.walk(package, followlinks=True)
        for name in files
        if name.endswith(".py")
    }
    modules = {name.removesuffix(".__init__") for name in modules} - {"scenepalette"}
    assert "scenepalette.data.shards.reading" in modules
    assert sorted(listed) == sorted(modules | {f"scenepalette.{name}" for name in scenepalette.__all__})
    assert "::: scenepalette.ShardPairs" in pages["reference/index.md"]
    assert "::: scenepalette.data.shards.reading" in pages["reference/data.shards.md"]
