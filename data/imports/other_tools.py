"""Telling whose annotations a source holds where it has none of the stated form, and what to do about it."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from scenepalette.common.errors import DataError
from scenepalette.common.storage.untrusted import read_text
from scenepalette.data.imports.findings import Findings
from scenepalette.data.imports.source import files_named, relative_name

_FILE_BYTES = 2**26
_MOST_FILES = 20
_EXPORT = "export or convert them to COCO's JSON, and use --from coco."
_READ = (
    ("coco", "COCO's", {"images", "annotations", "categories"}),
    ("labelme", "LabelMe's", {"shapes", "imagePath"}),
    ("cityscapes-json", "Cityscapes'", {"imgHeight", "imgWidth", "objects"}),
)
"""Forms that are read: what --from calls them, whose they are, and keys of their JSON."""
_NOT_READ = (
    ("Supervisely's", {"size", "objects"}),
    ("Supervisely's", {"classes", "tags"}),
    ("ISAT's", {"info", "objects"}),
    ("V7's", {"item", "annotations"}),
    ("VIA's", {"_via_img_metadata"}),
    ("VIA's", {"filename", "regions"}),
    ("Label Studio's", {"data", "annotations"}),
    ("Label Studio's", {"data", "completions"}),
    ("Encord's", {"data_units"}),
    ("CreateML's", {"image", "annotations"}),
)


def none_of_form(source: Path, form: str, text: str, findings: Findings) -> DataError:
    """Return the error that a source has no annotations of the stated form.

    Args:
        source: The folder or file.
        form: What --from is.
        text: What it lacks, a sentence.
        findings: What was found on the way.
    """
    return DataError(f"{text} {_hint(source, form)}".strip(), findings.problems, notes=findings.notes)


def _hint(source: Path, form: str) -> str:
    paths = files_named(source, (".json", ".xml", ".txt")) if source.is_dir() else [source]
    for path in islice(paths, _MOST_FILES):
        name = relative_name(path, source if source.is_dir() else source.parent)
        with suppress(DataError, ValueError, RecursionError):
            if said := _said_of(read_text(path, _FILE_BYTES), path.suffix.lower()):
                # What is of the form and cannot be read is a problem of its own.
                return "" if said.endswith(f": use --from {form}.") else f"{name} seems to be {said}"
    return (
        "Annotations of other tools are read as what these export: COCO's JSON (--from coco), "
        "CVAT's XML for images (cvat), label maps (voc, colours)."
    )


def _said_of(text: str, ending: str) -> str:
    """Return whose annotations a text holds, and what to do with them; nothing if that is not known."""
    if ending == ".xml":
        return "CVAT's: use --from cvat." if re.search(r"<annotations\b", text[:1000]) else ""
    if ending == ".txt":
        is_outline = re.match(r"\d+( [\d.eE-]+){4,}\s*$", text.split("\n", 1)[0])
        return f"YOLO's, which are not read: {_EXPORT}" if is_outline else ""
    content: Any = json.loads(text)
    if isinstance(content, dict) and content and all(isinstance(value, dict) for value in content.values()):
        content = next((value for value in content.values() if "regions" in value), content)
    if isinstance(content, list):
        content = content[0] if content else None
    if not isinstance(content, dict):
        return ""
    for form, owner, keys in _READ:
        if keys <= content.keys():
            return f"{owner}: use --from {form}."
    owner = next((owner for owner, keys in _NOT_READ if keys <= content.keys()), "")
    return f"{owner}, which are not read: {_EXPORT}" if owner else ""
