"""A data set: photos/SPLIT/NAME.jpg with masks/SPLIT/NAME.png."""

from pathlib import Path

from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.readers.image_files import PairedFiles, files_by_stem, match_names, require_folders
from scenepalette.data.sample import DatasetEntry

TABLE = ClassTable("allotments", (SemanticClass("path", (150, 120, 90)), SemanticClass("bed", (60, 140, 60))))


def open_allotments(root: Path, split: str) -> PairedFiles:
    """Open a split, "train" or "val", and check every file of it."""
    require_folders("allotments", root, [f"photos/{split}", f"masks/{split}"], "photos/SPLIT/*.jpg, masks/SPLIT/*.png")
    pairs, problems = match_names(
        files_by_stem(root / "photos" / split, ".jpg"),
        files_by_stem(root / "masks" / split, ".png"),
        root=root,
        wanted_label=f"masks/{split}/{{id}}.png",
    )
    return PairedFiles(
        name="allotments", split=split, root=root, table=TABLE, licence="CC BY 4.0", pairs=pairs, problems=problems
    )


ALLOTMENTS = DatasetEntry(name="allotments", open=open_allotments, description="allotment gardens", table=TABLE)
