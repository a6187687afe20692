"""One import name: links from `src/scenepalette` to the top-level folders, and public names that load when used."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import scenepalette

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/scenepalette"
FOLDERS = sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"})
NAMES = sorted(set(scenepalette.__all__) - {"__version__"})
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOOLS = PROJECT["tool"]
HEAVY = {"torch", "numpy", "prefect", "pyarrow", "pydantic", "typer", "PIL"}


@pytest.mark.parametrize("name", [*FOLDERS, "automations.yaml", "prefect.toml", "prefect.yaml"])
def test_the_package_links_to_every_folder(name: str) -> None:
    link = PACKAGE / name
    assert link.is_symlink(), f"Make it: ln -s ../../{name} src/scenepalette/{name}"
    # A link with an absolute target would lead into another checkout after a clone.
    assert os.readlink(link) == f"../../{name}" and link.resolve() == ROOT / name


def test_the_package_holds_nothing_but_links_and_itself() -> None:
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert entries == {*FOLDERS, "automations.yaml", "prefect.toml", "prefect.yaml", "__init__.py", "py.typed"}


def test_folders_are_imported_by_the_one_name() -> None:
    """Under its old name a module would be loaded twice, and its classes would not be those that others raise."""
    assert set(TOOLS["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]) == set(FOLDERS)
    strings = re.compile(rf"-m (?:{'|'.join(FOLDERS)})\.|from (?:{'|'.join(FOLDERS)})(?:\.\w+)* import ")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for folder in (*FOLDERS, "docs", "benchmarks", "deploy", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".yaml", ".jinja"}
        for match in strings.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_every_folder_has_its_types_checked_and_its_place_among_the_layers() -> None:
    assert set(TOOLS["pyright"]["include"]) == {"src/scenepalette", *(f"src/scenepalette/{name}" for name in FOLDERS)}
    layers = TOOLS["importlinter"]["contracts"][0]["layers"]
    assert {name.strip() for layer in layers for name in layer.split("|")} == set(FOLDERS)


def test_the_version_is_written_once() -> None:
    assert "version" not in PROJECT["project"] and PROJECT["project"]["dynamic"] == ["version"]
    assert TOOLS["setuptools"]["dynamic"]["version"] == {"attr": "scenepalette.__version__"}
    assert version("scenepalette") == scenepalette.__version__, "Install again: pip install -e ."


def test_the_package_is_imported_without_what_it_is_built_on() -> None:
    code = (
        "import sys, time; begin = time.perf_counter(); import scenepalette; took = time.perf_counter() - begin; "
        f"dir(scenepalette); import json; print(json.dumps([took, sorted(sys.modules.keys() & {HEAVY!r})]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    took, heavy = json.loads(done.stdout)
    assert heavy == [] and took < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_the_thing_itself(name: str) -> None:
    found = getattr(scenepalette, name)
    assert found.__name__ == name and found.__doc__
    assert getattr(importlib.import_module(found.__module__), name) is found
    assert name in dir(scenepalette)


def test_editors_and_the_interpreter_see_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    for_editors = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scenepalette.")
        for alias in node.names
    }
    assert for_editors == {name: f"scenepalette.{module}" for name, module in scenepalette._MODULES.items()}
    assert sorted(for_editors) == NAMES


def test_an_unknown_name_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'scenepalette' has no attribute 'ShardPair'"):
        scenepalette.ShardPair  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ImportError, match="ShardPair"):
        exec("from scenepalette import ShardPair")
