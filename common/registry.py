"""Named things of one kind, built in or from packages elsewhere: see `Registry`."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, ClassVar, Generic, TypeVar

from scenepalette.common.errors import ConfigError

T = TypeVar("T")
PACKAGE = "scenepalette"


class Registry(Generic[T]):
    """Everything of one kind by name: the built-in entries, and those that installed packages declare.

    A package adds an entry by an entry point of the group, for example in its pyproject.toml:

        [project.entry-points."scenepalette.datasets"]
        my-data = "my_package.reader:MY_DATA"

    `add` does the same for the running process alone. Built-in entries win over plug-ins of the same name, and of two
    such plug-ins the one whose package comes first by name, unless it cannot be used. A plug-in that cannot be used is
    logged once as a warning and left out; only asking for it by name is an error. Entry points are read once per
    process.
    """

    _all: ClassVar[list[Registry[Any]]] = []

    def __init__(
        self,
        group: str,
        builtin: Mapping[str, str | T],
        entry_type: type[T],
        check: Callable[[str, T], str | None] = lambda name, entry: None,
        *,
        noun: str | None = None,
    ) -> None:
        """Create a registry; nothing is imported before it is asked for.

        Args:
            group: Group of the entry points, for example "scenepalette.image_systems".
            builtin: The entries of this package; a string "module:attribute" is imported on first use.
            entry_type: Class of the entries; if these have a `name`, it must be the one they are declared under.
            check: Says what else an entry of that name lacks, as the end of a sentence, or returns None.
            noun: What messages call an entry; by default from the group, for example "image system".
        """
        self.group = group
        self.noun = noun or group.rpartition(".")[2].replace("_", " ").removesuffix("s")
        self._builtin = dict(builtin)
        self._entry_type, self._check = entry_type, check
        self._added: dict[str, T] = {}
        self._loaded: dict[str, T] = {}
        self._refused: dict[str, str] = {}
        self._left_out: list[str] = []
        self._declared: dict[str, EntryPoint] | None = None
        Registry._all.append(self)

    @classmethod
    def knows_of_this_process(cls) -> bool:
        """Tell whether any registry has an entry that other processes do not know, since `add` made it known here."""
        return any(registry._added for registry in cls._all)

    def add(self, name: str, entry: T) -> None:
        """Add an entry for this process; adding under the same name again replaces it.

        Raises:
            ConfigError: The name is taken by a built-in entry or a plug-in, or the entry lacks something.
        """
        if name in self._builtin or name in self._plugins():
            raise ConfigError(f"There is a {self.noun} '{name}' already, of {self.source(name)}. Choose another name.")
        if reason := self._problem(name, entry):
            raise ConfigError(f"The {self.noun} '{name}' cannot be used: {reason}.")
        self._added[name] = entry

    def names(self) -> tuple[str, ...]:
        """Return the names that can be used, built-in ones first; this imports the plug-ins, not the built-in ones."""
        return (*self._builtin, *self._added, *(name for name in self._plugins() if self._load(name) is None))

    def get(self, name: str) -> T:
        """Return an entry.

        Raises:
            ConfigError: There is none of that name, or it is a plug-in that cannot be used.
        """
        reason = self._load(name)
        if reason is not None:
            raise ConfigError(reason)
        return self._added[name] if name in self._added else self._loaded[name]

    def __getitem__(self, name: str) -> T:
        return self.get(name)

    def items(self) -> Iterator[tuple[str, T]]:
        """Iterate over the names with their entries, all of which are imported."""
        return ((name, self.get(name)) for name in self.names())

    def refusal(self, name: str) -> str | None:
        """Return why the plug-in of that name cannot be used; None if it can, or if there is none."""
        self._load(name)
        return self._refused.get(name)

    def source(self, name: str) -> str:
        """Return where an entry comes from: "scenepalette", name and version of a distribution, or "this process".

        Raises:
            KeyError: There is none of that name.
        """
        if name in self._added:
            return "this process"
        return PACKAGE if name in self._builtin else _distribution(self._plugins()[name])

    def problems(self) -> tuple[str, ...]:
        """Return one line per plug-in that cannot be used, naming its package and the remedy."""
        self.names()
        return (*self._left_out, *self._refused.values())

    def reset(self) -> None:
        """Forget what was added, imported and installed, so that entry points are read again."""
        self._added = {}
        self._loaded, self._refused, self._left_out, self._declared = {}, {}, [], None
        _installed.cache_clear()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._load(name) is None

    def _plugins(self) -> dict[str, EntryPoint]:
        """Return an entry point for each name that is not built in; the others are problems."""
        if self._declared is not None:
            return self._declared
        self._declared = {}
        for entry in sorted(_installed(self.group), key=lambda entry: (entry.name, _distribution(entry))):
            name, package = entry.name, _distribution(entry)
            if name not in self._builtin and (name not in self._declared or self._load(name) is not None):
                if name in self._refused:
                    self._left_out.append(self._refused.pop(name))
                self._declared[name] = entry
                continue
            text = (
                f"{package}: its {self.noun} '{name}' has the same name as one of {self.source(name)}, which is used "
                "instead. Rename it there, or uninstall the package that you do not need."
            )
            self._left_out.append(_warned(text))
        return self._declared

    def _problem(self, name: str, entry: object) -> str | None:
        wanted = self._entry_type
        if not isinstance(entry, wanted):
            return f"it is of type {type(entry).__name__}; a {wanted.__module__}.{wanted.__qualname__} is required"
        if (own := getattr(entry, "name", name)) != name:
            return f"it calls itself {own!r}; both names must be equal"
        return self._check(name, entry)

    def _load(self, name: str) -> str | None:
        """Import an entry unless that was done; return why it cannot be used, or None."""
        if name in self._added or name in self._loaded:
            return None
        if name in self._builtin:
            entry = self._builtin[name]
            value: Any = EntryPoint(name, entry, self.group).load() if isinstance(entry, str) else entry
            self._loaded[name] = value
            return None
        if name in self._refused:
            return self._refused[name]
        plugins = self._plugins()
        if name not in plugins:
            return f"There is no {self.noun} '{name}'; known are {', '.join(self.names())}."
        try:
            loaded: Any = plugins[name].load()
            reason = self._problem(name, loaded)
        except (Exception, SystemExit) as error:
            # A stranger's module may raise anything when it is imported, and must not keep others from being used.
            reason = f"{plugins[name].value} cannot be imported ({type(error).__name__}: {error})"
        if reason is None:
            self._loaded[name] = loaded
            return None
        package = _distribution(plugins[name])
        text = f"{package}: its {self.noun} '{name}' cannot be used: {reason}. Update or uninstall that package."
        return self._refused.setdefault(name, _warned(text))


def folder_problem(name: str) -> str | None:
    """Return why an entry's name cannot be that of a folder in a run directory, as the end of a sentence, or None."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+._-]*", name):
        return None
    return "its name must be letters and digits, with + . _ or - between them, as run directories have folders of it"


@cache
def _installed(group: str) -> EntryPoints:
    return entry_points(group=group)


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.module


def _warned(text: str) -> str:
    line = " ".join(text.split())
    logging.getLogger(__name__).warning("%s", line)
    return line
