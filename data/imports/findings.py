"""What an import found wrong or left out: one line per kind, with a count and three examples."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from scenepalette.data.files.naming import with_examples


class Fault(Enum):
    """A kind of problem that keeps an image from being imported.

    Attributes:
        found: What was found, in words that a count can follow.
        remedy: What is expected, and what to do.
    """

    MISSING = (
        "missing images",
        "Expected is an image file under the stated name below the source. Add them, or name their folder with "
        "--images.",
    )
    AMBIGUOUS = (
        "names that several images have",
        "Expected is one image per name. State more of the path in the annotations, or name one folder with --images.",
    )
    LEAVES = (
        "names of images that lead out of the folder",
        "Expected is a path within the source. With --images FOLDER, images are looked for there by their last name "
        "alone.",
    )
    NAME = (
        "names that cannot be those of files",
        "Expected is text without control characters, of at most 200 bytes. Rename them.",
    )
    TWICE = (
        "images that are annotated twice",
        "Expected is one list of annotations per image and split. Merge them, or remove all but one.",
    )
    IMAGE = ("images that cannot be read", "Copy them again from their source, or convert them.")
    SIZE = (
        "annotations for another size than that of the image",
        "Expected is the image that was annotated, not a scaled copy. Put it in place, or scale the annotations.",
    )
    UNREADABLE = ("files that cannot be read as annotations", "Export them again in the form that --from names.")
    UNKNOWN_CLASS = (
        "annotations of a class that is not declared",
        "Expected is a name of the class table. Add it there (--classes), or ignore its pixels with --ignore NAME.",
    )
    CLASS_NAME = (
        "class names that cannot be used",
        "Expected are 1 to 100 printable characters. Rename the class, or ignore its pixels with --ignore NAME.",
    )
    SHAPE = (
        "shapes that cannot be drawn",
        "Expected are numbers that fit the kind of shape, masks as large as they say. Export them again.",
    )
    NO_AREA = (
        "annotations without a mask or outline",
        "Expected are polygons or masks; boxes, points and captions do not describe an object's pixels. Annotate "
        "them, or remove them.",
    )
    KIND = (
        "shapes of a kind that is not read",
        "Expected are polygons, rectangles, ellipses, circles, lines and masks. Convert them.",
    )
    OUTSIDE = (
        "shapes that lie far outside of their image",
        "Expected are pixels of this image as units. Scale them, or put the image in place that was annotated.",
    )
    NORMALISED = (
        "shapes with all coordinates from 0 to 1",
        "Expected are pixels as units. Multiply them by the image's width and height.",
    )

    def __init__(self, found: str, remedy: str) -> None:
        self.found = found
        self.remedy = remedy


class Findings:
    """Gathers problems and notes; what is found twice in one place is said once."""

    def __init__(self) -> None:
        self._faults: dict[Fault, dict[str, None]] = {}
        self._notes: dict[str, dict[str, None]] = {}
        self._sentences: dict[str, None] = {}

    def __bool__(self) -> bool:
        """Whether there is a problem."""
        return bool(self._faults)

    def fault(self, fault: Fault, where: str) -> None:
        """Report a problem.

        Args:
            fault: Its kind.
            where: The file, and what it holds.
        """
        self._faults.setdefault(fault, {})[where] = None

    def left_out(self, what: str, where: str) -> None:
        """Note what is read otherwise than it stands there, or not at all.

        Args:
            what: In words that a count can follow.
            where: The file.
        """
        self._notes.setdefault(what, {})[where] = None

    def note(self, sentence: str) -> None:
        """Note what was decided."""
        self._sentences[sentence] = None

    def add(self, other: Findings) -> None:
        """Take over what was found elsewhere."""
        for mine, theirs in ((self._faults, other._faults), (self._notes, other._notes)):
            for key, places in theirs.items():
                mine.setdefault(key, {}).update(places)  # type: ignore[arg-type]
        self._sentences |= other._sentences

    @property
    def problems(self) -> list[str]:
        """A line per kind of problem: what, how many, three examples, what is expected and what to do."""
        return [f"{with_examples(places, fault.found)}. {fault.remedy}" for fault, places in self._faults.items()]

    @property
    def notes(self) -> list[str]:
        """A line per decision or kind of thing left out."""
        return [*self._sentences, *(f"{with_examples(places, what)}." for what, places in self._notes.items())]

    def every_problem(self) -> Iterator[dict[str, str]]:
        """Yield each problem for the record."""
        for fault, places in self._faults.items():
            for where in places:
                yield {"found": fault.found, "where": where, "remedy": fault.remedy}
