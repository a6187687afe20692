"""What can be wrong with the files of a data set, as programs read it: see `Problem`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from scenepalette.common.urls import masked


class ProblemKind(Enum):
    """A kind of problem, and what to do about it.

    Attributes:
        title: What the doctor calls it.
        remedy: A sentence that helps with every problem of this kind.
    """

    LAYOUT = "layout", "Correct what is listed."
    CLASS_FILE = "class file", "Correct what is listed."
    LIST = "lists", "Correct these lines, or add the files that they name."
    PAIRING = "pairing", "Add the missing files, or rename those that belong together; move aside what belongs to none."
    FILE = (
        "files",
        "Follow the advice in each line. Leave out a file that is damaged at its source as well, with its image or "
        "label.",
    )
    IMAGE_FORMAT = "image format", "Follow the advice in each line; copying these files again does not help."
    SIZE = (
        "sizes",
        "Find the right label of each. Only a label that shows the whole of its image at another size may be scaled, "
        "to the nearest pixel.",
    )
    LABEL_FORMAT = (
        "label files",
        "Follow the advice in each line, or export them again as PNG files with the class id, or the class's colour, "
        "of each pixel. Converting files that were stored with losses, such as JPEG, does not restore exact values.",
    )
    LABEL_MEANING = "reading of labels", "Look at some labels, and settle it as it says there."
    LABEL_VALUE = (
        "label values",
        "Look at what these values are in a label. If they are classes, the class file has to name them; if they stand "
        "for no class, it has to ignore them; else correct the labels. No sample has to be removed for them.",
    )

    def __init__(self, title: str, remedy: str) -> None:
        self.title = title
        self.remedy = remedy


def printable(text: str) -> str:
    """Return a text that can be written and shown anywhere.

    Bytes of file names that are no text become hexadecimal numbers, and credentials in URLs are masked.
    """
    text = masked(text)
    try:
        return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a data set; its string is what a user reads.

    Attributes:
        kind: What kind of thing.
        path: The file, relative to the data set's folder; empty for the data set as a whole, or where the first
            sentence of the error names the file.
        text: What was received, what is required and what to do.
        line: Line of the file, counted from 1.
        ignored: Of label values: those that may occur without standing for a class.
    """

    kind: ProblemKind
    path: str
    text: str
    line: int | None = None
    ignored: frozenset[int] = frozenset()

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}, line {self.line}"
        return f"{place}: {self.text}" if place else self.text
