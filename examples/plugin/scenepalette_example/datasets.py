"""A data set: images in photos/SPLIT/ with masks of the same names in masks/SPLIT/."""

from pathlib import Path

from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.files.finding import require_folders
from scenepalette.data.files.image_files import PairedFiles
from scenepalette.data.sample import DatasetEntry

TABLE = ClassTable("allotments", (SemanticClass("path", (150, 120, 90)), SemanticClass("bed", (60, 140, 60))))


def open_allotments(root: Path, split: str) -> PairedFiles:
    """Open a split, "train" or "val", and check every file of it."""
    layout = "photos/SPLIT/*, masks/SPLIT/*"
    search = require_folders("allotments", root, [f"photos/{split}", f"masks/{split}"], layout)
    images, labels = search.images(f"photos/{split}"), search.labels(f"masks/{split}")
    return PairedFiles(
        name="allotments",
        split=split,
        root=root,
        table=TABLE,
        licence="CC BY 4.0",
        pairs=search.pair(images, labels, f"masks/{split}/{{id}}.png"),
        problems=search.problems,
        notes=search.notes,
    )


ALLOTMENTS = DatasetEntry(name="allotments", open=open_allotments, description="allotment gardens", table=TABLE)
