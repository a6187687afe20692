"""CamVid in the layout of the SegNet release (Brostow et al., 2009; Badrinarayanan et al., 2017)."""

from __future__ import annotations

import os
from pathlib import Path

from scenepalette.common.storage.untrusted import short
from scenepalette.data.decoding.class_files import CAMVID
from scenepalette.data.decoding.label_images import LabelValues
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.finding import require_folders
from scenepalette.data.files.image_files import FilePair, PairedFiles
from scenepalette.data.files.split_lists import numbered_lines, pairs_of_lines
from scenepalette.data.sample import DatasetEntry

LICENCE = "CamVid, published for research; terms: http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"
UNLABELLED = 11
"""The label files' value for pixels without one of the 11 classes."""


def open_camvid(root: Path, split: str, *, labels: LabelSettings = AS_FOUND) -> PairedFiles:
    """Open a split: ROOT/SPLIT/NAME.png with its label ROOT/SPLITannot/NAME.png.

    If there is a list ROOT/SPLIT.txt, as the release has it (an image path and a label path per line), then the split
    is what it lists, in that order; of the paths, only the file names are used. Otherwise it is all files, sorted.
    Label value 11 ("unlabelled") is ignored. There is a split "test" if ROOT/testannot is there. The arguments are
    those of `DatasetEntry.open`.
    """
    layout = "SPLIT/NAME.png, SPLITannot/NAME.png and, if wanted, SPLIT.txt"
    search = require_folders("camvid", root, [split, f"{split}annot"], layout)
    listing = root / f"{split}.txt"
    if listing.is_file():
        lines = ((number, line, _pair_of_line(root, split, line)) for number, line in numbered_lines(listing, root))
        pairs = [pair for pair, _ in pairs_of_lines(search, listing, lines).values()]
        used = {path for pair in pairs for path in (pair.image, pair.label)}
        found = [path for folder in (split, f"{split}annot") for path in search.paths(folder)]
        search.pass_over((path for path in found if path not in used), f"not listed in {listing.name}")
    else:
        images, labelled = search.images(split), search.labels(f"{split}annot")
        pairs = search.pair(images, labelled, f"{split}annot/{{id}}.png")
    return PairedFiles(
        name="camvid",
        split=split,
        root=root,
        table=CAMVID,
        licence=LICENCE,
        pairs=pairs,
        values=LabelValues.class_ids(CAMVID.num_classes, ignored=[UNLABELLED]),
        problems=search.problems,
        notes=search.notes,
        labels=labels,
        other_labels=search.all_labels(*(f"{part}annot" for part in ("train", "val", "test"))),
    )


DATASET = DatasetEntry(
    name="camvid",
    open=open_camvid,
    description="street scenes from a car, 11 classes",
    table=CAMVID,
    has_test=lambda root: (root / "testannot").is_dir(),
    takes_label_settings=True,
)


def _pair_of_line(root: Path, split: str, line: str) -> FilePair | str:
    """Return the pair that a line of a list names, or what is wrong with the line."""
    paths = line.replace("\\", "/").split()  # as Windows writes them
    if len(paths) != 2:
        return f"{len(paths)} entries; an image and a label are required"
    image, label = root / split / Path(paths[0]).name, root / f"{split}annot" / Path(paths[1]).name
    # Not Path.is_file, which raises an error for a name that is too long.
    missing = [path.relative_to(root).as_posix() for path in (image, label) if not os.path.isfile(path)]
    if missing:
        return f"{' and '.join(map(short, missing))} listed, but missing"
    return FilePair(id=image.stem, image=image, label=label)
