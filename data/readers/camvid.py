"""CamVid in the layout of the SegNet release (Brostow et al. 2009; Badrinarayanan et al. 2017)."""

from __future__ import annotations

from pathlib import Path

from data.classes import CAMVID
from data.readers.pairs import FilePair, LabelValues, PairedFiles, files_by_stem, match_names, require_folders
from data.untrusted import read_lines

LICENCE = "CamVid, published for research; terms: http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"
UNLABELLED = 11
"""The label files' value for pixels without one of the 11 classes."""


def open_camvid(root: Path, split: str) -> PairedFiles:
    """Open a split: ROOT/SPLIT/NAME.png with its label ROOT/SPLITannot/NAME.png.

    If there is a list ROOT/SPLIT.txt, as the release has it (an image path and a label path per line), then the split
    is what it lists, in that order; of the paths, only the file names are used. Otherwise it is all files, sorted.

    Args:
        root: Folder of the data set.
        split: "train" or "val".

    Returns:
        The checked data set; label value 11 ("unlabelled") is ignored.

    Raises:
        DataError: Something is missing or wrong; every problem is listed with its file.
    """
    layout = "SPLIT/NAME.png, SPLITannot/NAME.png and, if wanted, SPLIT.txt"
    require_folders("camvid", root, [split, f"{split}annot"], layout)
    listing = root / f"{split}.txt"
    if listing.is_file():
        pairs, problems = _listed_pairs(root, split, listing)
    else:
        images, labels = files_by_stem(root / split, ".png"), files_by_stem(root / f"{split}annot", ".png")
        pairs, problems = match_names(images, labels, root=root, wanted_label=f"{split}annot/{{id}}.png")
    return PairedFiles(
        name="camvid",
        split=split,
        root=root,
        table=CAMVID,
        licence=LICENCE,
        pairs=pairs,
        values=LabelValues.class_ids(CAMVID.num_classes, ignored=[UNLABELLED]),
        problems=problems,
    )


def _listed_pairs(root: Path, split: str, listing: Path) -> tuple[list[FilePair], list[str]]:
    pairs: list[FilePair] = []
    problems: list[str] = []
    for number, line in enumerate(read_lines(listing, root), start=1):
        paths = line.split()
        if not paths:
            continue
        if len(paths) != 2:
            problems.append(f"{listing.name}, line {number}: {len(paths)} entries; an image and a label are required")
            continue
        image = root / split / Path(paths[0]).name
        label = root / f"{split}annot" / Path(paths[1]).name
        missing = [path.relative_to(root).as_posix() for path in (image, label) if not path.is_file()]
        if missing:
            problems.append(f"{listing.name}, line {number}: {' and '.join(missing)} listed, but missing")
            continue
        pairs.append(FilePair(id=image.stem, image=image, label=label))
    return pairs, problems
