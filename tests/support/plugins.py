"""Packages elsewhere that extend scenepalette, as tests install them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from scenepalette.common.registry import Registry


class Plugins:
    """Installs distributions into a folder on sys.path; the fixture `plugins` undoes it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._registries: list[Registry] = []
        self._modules: list[str] = []

    def install(
        self, registry: Registry, entries: Mapping[str, str], *, name: str = "stranger", source: str | None = ""
    ) -> None:
        """Install the distribution NAME-1.0 with entry points of a registry's group.

        Args:
            registry: Reads its entry points again.
            entries: "module:attribute" by entry name; {module} stands for the distribution's own module.
            name: Of the distribution, whose module is named after it.
            source: Python code of that module; None for a distribution without it.
        """
        site, module = self._folder / name, f"{name.replace('-', '_')}_module"
        information = site / f"{name}-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"{entry} = {value.format(module=module)}" for entry, value in entries.items()]
        text = "\n".join([f"[{registry.group}]", *lines])
        (information / "entry_points.txt").write_text(f"{text}\n", encoding="utf-8")
        if source is not None:
            (site / f"{module}.py").write_text(source, encoding="utf-8")
        self._monkeypatch.syspath_prepend(site)
        self._modules.append(module)
        self._registries.append(registry)
        registry.reset()

    def uninstall(self) -> None:
        """Forget all modules and entries."""
        self._monkeypatch.undo()
        for module in self._modules:
            sys.modules.pop(module, None)
        for registry in self._registries:
            registry.reset()
