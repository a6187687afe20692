"""CamVid in the layout of the SegNet release (Brostow et al., 2009; Badrinarayanan et al., 2017)."""

from __future__ import annotations

import os
from pathlib import Path

from scenepalette.common.problems import Problem, ProblemKind
from scenepalette.common.storage.untrusted import read_lines, short
from scenepalette.data.decoding.class_files import CAMVID
from scenepalette.data.decoding.label_images import LabelValues
from scenepalette.data.decoding.label_reading import AS_FOUND, LabelSettings
from scenepalette.data.files.finding import Search, require_folders
from scenepalette.data.files.image_files import MOST_LINE_PROBLEMS, FilePair, PairedFiles, not_read_further
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
    require_folders("camvid", root, [split, f"{split}annot"], layout)
    listing = root / f"{split}.txt"
    search = Search(root)
    if listing.is_file():
        pairs, problems = _listed_pairs(root, split, listing)
        used = {path for pair in pairs for path in (pair.image, pair.label)}
        found = [path for folder in (split, f"{split}annot") for path in search.paths(folder)]
        search.pass_over((path for path in found if path not in used), f"not listed in {listing.name}")
        search.problems += problems
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


def _listed_pairs(root: Path, split: str, listing: Path) -> tuple[list[FilePair], list[Problem]]:
    pairs: list[FilePair] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    repeated = 0
    for number, line in enumerate(read_lines(listing, root), start=1):
        # Repeated lines are listed as problems later.
        if len(problems) + repeated >= MOST_LINE_PROBLEMS:
            problems.append(not_read_further(listing, number))
            break
        paths = line.split()
        if not paths:
            continue
        if len(paths) != 2:
            text = f"{len(paths)} entries; an image and a label are required"
            problems.append(Problem(ProblemKind.LIST, listing.name, text, number))
            continue
        image = root / split / Path(paths[0]).name
        label = root / f"{split}annot" / Path(paths[1]).name
        # Not Path.is_file, which raises an error for a name that is too long.
        missing = [path.relative_to(root).as_posix() for path in (image, label) if not os.path.isfile(path)]
        if missing:
            names = " and ".join(short(name) for name in missing)
            problems.append(Problem(ProblemKind.LIST, listing.name, f"{names} listed, but missing", number))
            continue
        repeated += image.stem in seen
        seen.add(image.stem)
        pairs.append(FilePair(id=image.stem, image=image, label=label))
    return pairs, problems
