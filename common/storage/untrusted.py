"""Reading files that come from others: only regular files, only so many bytes, YAML and XML that cannot grow when read.

Nothing that is read here can run code. Images have their own reader, `scenepalette.data.files.image_files`.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import yaml
from yaml.composer import ComposerError
from yaml.events import AliasEvent, Event
from yaml.nodes import MappingNode, Node, ScalarNode

from scenepalette.common.errors import DataError
from scenepalette.common.urls import masked

YAML_BYTES = 256 * 1024
"""Largest YAML or class file; a class file of 255 classes takes a tenth of it."""
LIST_BYTES = 64 * 2**20
"""Largest list of files or samples; a million lines fit."""
MAX_LINES = 1_000_000
"""Most lines of a list that are read; CelebA's has 202,599."""
MAX_DEPTH = 32
MAX_EXPANDED = 1_000_000
"""Most characters and entries that a YAML file may stand for once its aliases are written out."""
_SHOWN = 120
_NO_TEXT = re.compile(r"[\0\ud800-\udfff]")


def is_lfs_pointer(content: bytes) -> bool:
    """Tell whether a file is a pointer of Git LFS, which lies in the place of one that was not fetched."""
    return content.startswith(b"version https://git-lfs")


def is_web_page(content: bytes) -> bool:
    """Tell whether a file is a web page, as a server answers that asks for a login, by its first 256 bytes."""
    start = content[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))


def read_file(path: Path, limit: int, *, within: Path | None = None) -> bytes:
    """Read a whole file of bounded size.

    Args:
        path: A regular file, or a link to one. Pipes and devices, which may never end, are not read.
        limit: Most bytes.
        within: Folder that the file must lie in once links are followed; None if it may lie anywhere.

    Raises:
        DataError: It is missing, no regular file, too large, or outside the folder; the text follows the file's name.
    """
    try:
        if within is not None and not is_within(path, within):
            raise DataError("it is a link out of the data set's folder; put a copy in its place")
        # Not blocking: a pipe without a writer would be waited for before it could be refused.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError("it is not a regular file; put a copy of the file in its place")
            if status.st_size > limit:
                raise DataError(f"it has {status.st_size} bytes; at most {limit} are read")
            # The size was looked up once; a file that grows meanwhile is cut there.
            return file.read(status.st_size)
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            text = f"it is a link to {short(str(path.readlink()))}, which is not there; put a copy in its place"
            raise DataError(text) from error
        raise DataError(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error


def read_text(path: Path, limit: int, *, within: Path | None = None) -> str:
    """Read a whole text file in UTF-8, a byte order mark at its start left out.

    Args:
        path: The file.
        limit: Most bytes.
        within: Folder that the file must lie in once links are followed.

    Raises:
        DataError: As `read_file`, or the file is not UTF-8; the text follows the file's name.
    """
    content = read_file(path, limit, within=within)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"it cannot be read as text in UTF-8 ({error})") from error


def read_lines(path: Path, root: Path) -> Iterator[str]:
    """Return the lines of a list that belongs to a data set, one after the other.

    Whoever stops early spares the memory and time that millions of wrong lines would take.

    Args:
        path: The file.
        root: The data set's folder, which a link must not lead out of: messages show what a line holds.

    Raises:
        DataError: It cannot be read; or, once so many lines were taken, it has more than MAX_LINES.
    """
    try:
        content = read_file(path, LIST_BYTES, within=root)
    except DataError as error:
        raise DataError(f"The list {path} cannot be used: {error.summary}.") from error
    return _lines_of(path, content)


def _lines_of(path: Path, content: bytes) -> Iterator[str]:
    # Notepad and PowerShell write UTF-16.
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    text = io.TextIOWrapper(io.BytesIO(content), encoding=encoding, errors="replace")
    for number, line in enumerate(text, start=1):
        if number > MAX_LINES:
            raise DataError(f"The list {path} cannot be used: it has more than {MAX_LINES} lines.")
        yield line.rstrip("\n")


def is_within(path: Path, folder: Path) -> bool:
    """Tell whether a file lies in a folder once all links are followed."""
    inside = os.path.realpath(folder)
    return os.path.commonpath([inside, os.path.realpath(path)]) == inside


def parse_yaml(text: str) -> Any:
    """Read one YAML document as plain values.

    Beyond what YAML itself forbids, refused are keys that come twice in a mapping (of which only the last would
    count), depth above 32, aliases that multiply the content beyond a million characters or contain themselves, and
    text that is no Unicode (lone surrogates) or holds the character 0.

    Raises:
        ValueError: It cannot be read; the text says where and why.
    """
    try:
        return yaml.load(text, Loader=_BoundedLoader)
    except Exception as error:
        # Constructors of dates and numbers raise errors of many types on malformed text.
        raise ValueError(short(str(error) or type(error).__name__, 400)) from error


def parse_xml(content: bytes) -> Element:
    """Read an XML document without document types, entities and depth beyond MAX_DEPTH.

    Raises:
        ValueError: It cannot be read; the text says why.
    """
    builder, parser = TreeBuilder(), expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type, as annotations never need")

    # Without a document type there are no entities, of which a few lines could stand for gigabytes or other files.
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ValueError(f"it is not XML ({error})") from error
    return builder.close()


def short(value: object, length: int = _SHOWN) -> str:
    """Return a value as a message shows it: text as it is, all else by its repr, cut to a length, always printable.

    Credentials in URLs are masked before the cut, behind which their end would be missed.
    """
    text = masked(value if isinstance(value, str) else repr(value))
    text = text if len(text) <= length else f"{text[:length]}..."
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


class _BoundedLoader(yaml.SafeLoader):
    """A safe loader that counts depth and expanded content while it composes, before anything is built."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._expanded = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event, before = self.peek_event(), self._expanded
        self._depth += 1
        _require(self._depth <= MAX_DEPTH, f"it is nested deeper than {MAX_DEPTH}", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, AliasEvent):
            # A node's size is known once it is complete.
            _require(id(node) in self._sizes, f"the alias *{event.anchor} contains itself", event)
            self._expanded += self._sizes[id(node)]
        else:
            text = node.value if isinstance(node, ScalarNode) else ""
            _require(not _NO_TEXT.search(text), "it holds a character that is no text", event)
            self._expanded += 1 + len(text)
            self._sizes[id(node)] = self._expanded - before
        _require(self._expanded <= MAX_EXPANDED, "its aliases multiply its content beyond bounds", event)
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key in (key for key, _ in node.value if isinstance(key, ScalarNode)):
            _require((key.tag, key.value) not in seen, f"the key {key.value!r} comes twice", key)
            seen.add((key.tag, key.value))
        return node


def _require(holds: bool, why: str, at: Event | Node) -> None:
    if not holds:
        raise ComposerError(None, None, why, at.start_mark)
