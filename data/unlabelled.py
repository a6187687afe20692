"""Images without labels: a folder of images of any size, decoded and resized once and kept memory-mapped."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scenepalette.common.errors import DataError
from scenepalette.common.problems import printable
from scenepalette.common.processors import map_in_order
from scenepalette.common.storage.files import open_atomically, sha256_of_files, sha256_of_json, write_json
from scenepalette.common.wording import counted
from scenepalette.data.arrays import (
    INDEX_SCHEMA,
    images_from_uint8,
    open_array,
    read_content,
    read_index,
    resize_image,
    write_header,
)
from scenepalette.data.decoding.image_opening import EXTENSIONS, FORMATS, has_image_extension, read_image
from scenepalette.data.files.finding import is_litter
from scenepalette.data.files.label_names import LABEL_FOLDERS, SEPARATED, is_label_word, named_as
from scenepalette.data.files.split_lists import SPLIT_FOLDERS
from scenepalette.data.fitting.geometry import Fit, crop_box

_ARRAY = "images.npy"
# A folder called target may hold the images of a target domain.
_OF_LABELS = frozenset(LABEL_FOLDERS) - {"target", "targets"}
_PUBLISHED = ("gtfine", "gtcoarse", "segmentationclass", "segmentationobject")
"""What folders of labels of Cityscapes and PASCAL VOC begin with."""
_INDEX = "images.json"


@dataclass(frozen=True)
class UnlabelledImages:
    """Images of one size, in memory or memory-mapped.

    Attributes:
        images: uint8 [N, H, W, 3].
        ids: N image ids: paths relative to their folder, with forward slashes.
        name: Name of their folder.

    Raises:
        DataError: Images and ids do not fit together.
    """

    images: np.ndarray
    ids: list[str]
    name: str

    def __post_init__(self) -> None:
        shape = self.images.shape
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[0] != len(self.ids):
            raise DataError(
                f"The images of '{self.name}' are {self.images.dtype} {list(shape)} with {len(self.ids)} ids; required "
                "are uint8 [N, H, W, 3] and N ids. Write them again."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]

    def batch(self, indices: Sequence[int] | np.ndarray) -> torch.Tensor:
        """Return the images at B indices as float32 [B, 3, H, W] in [-1, 1] on the CPU."""
        return images_from_uint8(self.images[np.asarray(indices, dtype=np.int64)])


def find_images(root: Path) -> list[Path]:
    """Return all image files below a folder, by their extensions in any case, in the order of their relative paths.

    Hidden files and folders are left out, as is what systems leave behind (@eaDir, __MACOSX). Links are not followed:
    what one inside the folder points to is found in its own place, and one that leads out of the folder is a problem.

    Args:
        root: The folder; it may itself be a link.

    Raises:
        DataError: There is no such folder, it holds no image, or labels of its images, a link leads out of it, or a
            folder in it cannot be read; all problems at once.
    """
    if not root.is_dir():
        raise DataError(f"Unlabelled images were looked for in {root}, which is not a folder. Correct data.unlabelled.")
    problems: list[str] = []
    found: list[Path] = []
    inside = os.path.realpath(root)

    def cannot_list(error: OSError) -> None:
        problems.append(f"{Path(error.filename).relative_to(root).as_posix()}: it cannot be read ({error.strerror})")

    for parent, folders, files in os.walk(root, onerror=cannot_list):
        folders[:] = [name for name in folders if not name.startswith(".") and not is_litter(name)]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        images = [name for name in files if has_image_extension(name) and not name.startswith(".")]
        for name in [*links, *images]:
            path = Path(parent, name)
            within = path.relative_to(root).as_posix()
            if printable(name) != name:
                problems.append(f"{within}: its name is not text in UTF-8; rename it")
            elif printable(within) != within:  # ids, and the rows of pairs, have it
                problems.append(f"{within}: the name of a folder that it is in is not text in UTF-8; rename that")
            elif not path.is_symlink():
                found.append(path)
            elif os.path.commonpath([inside, os.path.realpath(path)]) != inside:
                problems.append(f"{within}: a link out of the folder; put a copy in its place, or remove it")
    problems += _label_problems([path.relative_to(root) for path in found])
    if not found and not problems:
        problems.append(f"there is no image in it, that is no file that ends in {', '.join(sorted(EXTENSIONS))}")
    if problems:
        raise DataError(f"The unlabelled images in {root} cannot be used:", problems)
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _label_problems(paths: Sequence[Path]) -> list[str]:
    """Return what is wrong with folders called as those of labels are, whose files have names of other images.

    So it is with labels beside their images: a_mask.png beside a.png, or a.png beside a.jpg for all.
    """
    by_folder: defaultdict[Path, list[str]] = defaultdict(list)
    others: list[Path] = []
    for path in paths:
        depth = next((i for i, part in enumerate(path.parts[:-1], start=1) if _is_of_labels(part)), None)
        if depth is None:
            others.append(path)
        else:
            by_folder[Path(*path.parts[:depth])].append(path.stem)
    stems = [path.stem for path in others]
    problems = [
        f"{folder.as_posix()}/: {len(shared)} images in it have names of other images, so that they seem to be their "
        "labels; set data.unlabelled to the folder of images, or move this one out of it"
        for folder, labels in by_folder.items()
        if (shared := named_as(stems, labels))
    ]
    keys = {path.with_suffix("") for path in others}
    photographs = {path.with_suffix("") for path in others if path.suffix.lower() in FORMATS["JPEG"]}
    beside = [path for path in others if any(path.with_name(name) in keys for name in _before_a_label_word(path.stem))]
    if not beside and 2 * len(photographs) == len(others) and len(keys) == len(photographs):
        beside = [path for path in others if path.suffix.lower() not in FORMATS["JPEG"]]
    if beside:
        problems.append(
            f"{beside[0].as_posix()}: {counted(len(beside), 'image has', 'images have')} the name of another one in "
            "the folder, with a word for labels or in another format, and so seem to be labels; move them out of "
            "data.unlabelled"
        )
    return problems


def _is_of_labels(folder: str) -> bool:
    """Tell whether a folder is called as those of labels are: Masks, train_labels, trainannot, gtFine."""
    name = folder.lower()
    of_split = (name.removeprefix(word) for words in SPLIT_FOLDERS.values() for word in words)
    return name.startswith(_PUBLISHED) or not _OF_LABELS.isdisjoint({*SEPARATED.split(name), *of_split})


def _before_a_label_word(stem: str) -> list[str]:
    """Return what a name may have before a word for labels behind it; a letter, as in x_l.jpg, may say "large"."""
    places = (found.start() for found in SEPARATED.finditer(stem))
    return [stem[:place] for place in places if is_label_word(stem[place:]) and len(stem) - place > 2]


def content_of(root: Path) -> str:
    """Return the hex SHA-256 of all images below a folder and their relative paths, wherever the folder lies.

    Raises:
        DataError: As `find_images`, or an image cannot be read.
    """
    return _content(find_images(root), root)


def content_of_written(folder: Path) -> str:
    """Return the content hash of the images that `write_unlabelled` wrote.

    Raises:
        DataError: They are unfinished, or their index does not state it.
    """
    return read_content(folder / _INDEX)


def _content(paths: Sequence[Path], root: Path) -> str:
    return sha256_of_json(list(zip(_names(paths, root), sha256_of_files(paths), strict=True)))


def _names(paths: Sequence[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def write_unlabelled(
    root: Path,
    size: tuple[int, int],
    folder: Path,
    advance: Callable[[], object] = lambda: None,
    *,
    fit: Fit = "stretch",
) -> None:
    """Decode and resize all images below a folder: images.npy, and images.json, which is written last.

    Images are stretched to the size unless they are cropped. An image that its EXIF tag turns is turned: no
    label can contradict it. Memory stays bounded whatever the number of images; the file takes N * H * W * 3 bytes.

    Args:
        root: Folder of image files of any size.
        size: Height and width in pixels.
        folder: Where to write; created if needed.
        advance: Called after each image.
        fit: How images of another aspect ratio get to the size; with tile their middle is taken, as with crop.

    Raises:
        DataError: There is no image, or images cannot be read; every one is listed.
        ScenepaletteError: The folder cannot be written; no half-written file is left.
    """
    paths = find_images(root)
    names = _names(paths, root)
    # Taken before reading: if a file changes meanwhile, the array counts as out of date.
    content = _content(paths, root)
    problems: list[str] = []

    def load(path: Path) -> np.ndarray | DataError:
        try:
            image = read_image(path, upright=True)
            if fit != "stretch":
                box = crop_box((image.shape[0], image.shape[1]), size)
                image = image[box.top : box.bottom, box.left : box.right]
            return resize_image(image, size)
        except DataError as error:
            return error

    # Without its index an array is unfinished, so an old index must not outlive the array it describes.
    (folder / _INDEX).unlink(missing_ok=True)
    with open_atomically(folder / _ARRAY) as file:
        write_header(file, (len(paths), *size, 3))
        for name, image in zip(names, map_in_order(load, paths), strict=True):
            if isinstance(image, DataError):
                problems.append(f"{name}: {image.summary}")
            elif not problems:
                file.write(image.tobytes())
            advance()
        if problems:
            raise DataError(f"{len(problems)} of {len(paths)} unlabelled images in {root} cannot be used:", problems)
    write_json(
        folder / _INDEX,
        {"schema": INDEX_SCHEMA, "name": root.resolve().name, "size": list(size), "content": content, "ids": names},
    )


def read_unlabelled(folder: Path) -> UnlabelledImages:
    """Open what `write_unlabelled` wrote, memory-mapped and read-only.

    Raises:
        DataError: The images are missing, unfinished, or not as their index describes them.
    """
    index = read_index(folder / _INDEX, {"ids": list, "name": str})
    images = open_array(folder / _ARRAY, "Write the unlabelled images again.")
    return UnlabelledImages(images, list(index["ids"]), index["name"])
