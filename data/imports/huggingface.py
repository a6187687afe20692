"""Data sets of Hugging Face, by the package `datasets`: a name on the hub, or a folder of files that it reads."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.storage.files import write_atomically
from scenepalette.common.storage.untrusted import YAML_BYTES, is_within, read_file, short
from scenepalette.data.decoding.image_opening import MAX_FILE_BYTES, extension_of_content
from scenepalette.data.imports.findings import Findings
from scenepalette.data.imports.masks import read_folder
from scenepalette.data.imports.source import ImportOptions, Source, divide, read_json_file, split_named

if TYPE_CHECKING:
    from datasets import Dataset

IMAGE_COLUMNS = ("image", "img", "pixel_values")
LABEL_COLUMNS = (
    "label", "mask", "annotation", "segmentation", "segmentation_mask", "semantic_segmentation", "label_map", "labels",
    "masks", "annotations", "semantic_mask", "semantic_map",
)  # fmt: skip
_ID_FILES = ("id2label.json", "config.json")
_ID = re.compile(r"-?[0-9]+$")
_SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")
_MISSING = (
    "--from huggingface needs the package datasets, which is not installed. Install the extra: "
    "pip install 'scenepalette[import]'"
)


def read_source(source: str, options: ImportOptions, scratch: Path) -> Source:
    """Read a data set by `datasets`, into files that the reader `folder` then decides about.

    Args:
        source: A folder, or a name on the hub such as "scene_parse_150".
        options: What the user says.
        scratch: An empty folder for the files, which are read from there.

    Raises:
        ConfigError: `datasets` is not installed, or columns or classes are not clear.
        DataError: The data set cannot be read, or its label maps cannot; every problem is listed.
        ScenepaletteError: A file cannot be written.
    """
    if Path(source).is_file():
        raise ConfigError(f"{source} is a file; `datasets` reads folders. Give the folder that it lies in.")
    class_file = _class_file(Path(source), options, scratch)
    findings = Findings()
    with _explained(source):
        splits = _splits_of(source, options, scratch, findings)
    written: dict[str, list[str]] = {}
    for split, dataset in splits.items():
        image, label = _columns_of(dataset, options, findings)
        with _explained(source):
            written[split] = _write(dataset, image, label, source, options, scratch / "data" / split, findings)
    _divide(written, scratch / "data", options, findings)
    found = read_folder(scratch / "data", class_file, "auto", options, findings, [], source=source)
    # Files of the scratch folder are no source; `datasets` identifies what it read.
    found.files = [path for path in (options.classes,) if path is not None]
    found.identity = [str(getattr(dataset, "_fingerprint", "")) for dataset in splits.values()]
    licences = {str(dataset.info.license) for dataset in splits.values() if dataset.info.license}
    found.licence = "; ".join(sorted(licences)) or found.licence
    return found


def _class_file(source: Path, options: ImportOptions, scratch: Path) -> Path:
    """Return the class file; of an id2label in JSON one is made."""
    beside = [source / name for name in _ID_FILES if (source / name).is_file()] if source.is_dir() else []
    path = options.classes or next((path for path in beside if _names_in(path)), None)
    if path is None:
        if beside:
            raise ConfigError(_no_names(beside[0]))
        raise ConfigError(
            "--from huggingface needs --classes FILE, as label maps hold numbers alone: a class file with name and id "
            "of each class (docs/data/datasets.md, Class files), or an id2label.json, as many data sets have beside "
            "them."
        )
    if path.suffix.lower() != ".json":
        return path
    names = _names_in(path)
    if not names:
        raise ConfigError(_no_names(path))
    made = scratch / "classes.yaml"
    write_atomically(made, json.dumps({"classes": names}, ensure_ascii=False))
    return made


def _names_in(path: Path) -> dict[str, str]:
    try:
        content = read_json_file(path, YAML_BYTES)
    except DataError as error:
        raise DataError(f"{path} cannot be used: {error.summary}.") from error
    names = content.get("id2label", content) if isinstance(content, dict) else {}
    if not isinstance(names, dict) or not all(_ID.match(key) and isinstance(name, str) for key, name in names.items()):
        return {}
    # No label map holds -1, as which Cityscapes counts licence plates.
    return {key: name for key, name in names.items() if not key.startswith("-")}


def _no_names(path: Path) -> str:
    return (
        f'{path} names no classes; required is a text for each id: {{"0": "wall", "1": "building", ...}}. Correct it, '
        "or name a class file with --classes."
    )


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """Turn what `datasets` raises into a message: errors of many types, of files, of the network, of the hub."""
    try:
        yield
    except ScenepaletteError:
        raise
    except Exception as error:
        reason = short(" ".join(str(error).split()) or type(error).__name__, 300)
        raise DataError(
            f"The package datasets cannot read {source} ({type(error).__name__}: {reason}). Correct the name or the "
            "folder, and name one of several configurations with --subset; a name on the hub needs the network, and "
            "for some data sets `hf auth login`."
        ) from error


def _splits_of(source: str, options: ImportOptions, scratch: Path, findings: Findings) -> dict[str, Dataset]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ConfigError(_MISSING) from error
    folder = Path(source)
    if folder.is_dir() and any((folder / name).is_file() for name in _SAVED):
        loaded = datasets.load_from_disk(str(folder))
    elif folder.is_dir():
        # What is made of files that are here is not kept in the user's cache.
        loaded = datasets.load_dataset(str(folder), options.subset, cache_dir=str(scratch / "cache"))
    else:
        loaded = datasets.load_dataset(source, options.subset)
    if not isinstance(loaded, Mapping):
        loaded = {"train": loaded}
    found: dict[str, Any] = {}
    for name, dataset in loaded.items():
        split = split_named(str(name))
        if split is None or split in found:
            findings.left_out("splits other than train, validation and test, skipped", str(name))
        else:
            found[split] = dataset
    if not found:
        names = ", ".join(map(str, loaded))
        raise DataError(f"{source} has the splits {short(names)}; required is train, and validation if there is one.")
    return found


def _columns_of(dataset: Dataset, options: ImportOptions, findings: Findings) -> tuple[str, str]:
    """Return the columns of images and of label maps.

    Raises:
        ConfigError: A named one is not there, or it is not clear which they are.
    """
    import datasets

    columns = list(dataset.column_names)
    # Parquet files that other libraries wrote have images without saying so.
    shown = [
        name
        for name, feature in dataset.features.items()
        if isinstance(feature, datasets.Image) or (isinstance(feature, dict) and feature.keys() == {"bytes", "path"})
    ]
    wanted = {"--image-column": options.image_column, "--label-column": options.label_column}
    absent = [f"{option} {name}" for option, name in wanted.items() if name is not None and name not in columns]
    image = options.image_column or _only(IMAGE_COLUMNS, shown)
    rest = [name for name in shown if name != image]
    label = options.label_column or _only(LABEL_COLUMNS, rest) or (rest[0] if len(rest) == 1 else None)
    if absent or image is None or label is None or image == label:
        said = f"{' and '.join(absent)} not there" if absent else "it is not clear which hold images and label maps"
        kinds = ", ".join(type(dataset.features[name]).__name__ for name in columns)
        listed = short(f"{', '.join(columns)} ({kinds})", 300)
        remedy = "Name them with --image-column and --label-column; they hold images, names of image files or arrays."
        if len(shown) == 1 and not absent:
            remedy += (
                " A data set without label maps, such as one of classes of whole images, cannot be imported; a folder "
                "of images and label maps needs no import (data.name=folder)."
            )
        raise ConfigError(f"The columns are {listed}: {said}. {remedy}")
    findings.note(f"Images are those of the column {image}, label maps those of {label}.")
    return image, label


def _only(names: tuple[str, ...], columns: list[str]) -> str | None:
    found = [name for name in columns if name.lower() in names]
    return found[0] if len(found) == 1 else None


def _write(
    dataset: Dataset, image: str, label: str, source: str, options: ImportOptions, folder: Path, findings: Findings
) -> list[str]:
    """Write the images and label maps of a split, after which the folder is called, as stored; return their names."""
    import datasets
    from datasets import config

    for column in (image, label):
        if isinstance(dataset.features[column], datasets.Image):
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
    named = [path for path in (Path(source), options.images) if path is not None and path.is_dir()]
    roots = [*named, Path(config.HF_CACHE_HOME), folder.parent.parent]
    dataset = dataset.select_columns(list(dict.fromkeys([image, label])))
    names: list[str] = []
    taken: set[str] = set()
    for number, row in enumerate(dataset):
        assert isinstance(row, dict)
        told = f"{folder.name}, row {number}"
        if row[image] is None or row[label] is None:
            findings.left_out("rows without an image or a label map left out", told)
            continue
        stated = row[image].get("path") if isinstance(row[image], dict) else None
        name = Path(stated.replace("\\", "/")).stem if isinstance(stated, str) else ""
        if not name.isprintable() or not name or name.startswith(".") or name.casefold() in taken:
            name = f"{folder.name}_{number:06d}"
        contents = [_bytes_of(_content_of(row[column], named), column, told, roots) for column in (image, label)]
        taken.add(name.casefold())
        names.append(name)
        for place, content in zip(("images", "labels"), contents, strict=True):
            write_atomically(
                folder / place / f"{name}{extension_of_content(content) or '.png'}", content, durable=False
            )
    return names


def _content_of(value: object, folders: list[Path]) -> object:
    """Return the bytes of the file in one of some folders that a text names, or the value itself."""
    if isinstance(value, str):
        with suppress(OSError, ValueError):  # no name of a file
            for folder in folders:
                if (path := folder / value).is_file() and is_within(path, folder):
                    return read_file(path, MAX_FILE_BYTES)
    return value


def _bytes_of(value: object, column: str, where: str, roots: list[Path]) -> bytes:
    """Return an image file of a cell: its bytes, those of a file within the source, or a PNG of an array."""
    if isinstance(value, Mapping):
        content, path = value.get("bytes"), value.get("path")
        if content is None and isinstance(path, str):
            if not any(is_within(Path(path), root) for root in roots):
                raise DataError(
                    f"{where}: the file {short(repr(path))} of the column {column} lies outside of the source. Put it "
                    "there, or name its folder with --images."
                )
            return read_file(Path(path), MAX_FILE_BYTES)
        value = content if isinstance(content, bytes) else value
    if isinstance(value, bytes):
        return value
    # Of a list of images with palettes, NumPy would take the indices.
    images = isinstance(value, list) and any(isinstance(each, Image.Image) for each in value)
    try:
        array: np.ndarray[Any, Any] = np.empty(0) if images else np.asarray(value)
    except ValueError:
        array = np.empty(0)
    if array.ndim == 3 and array.shape[-1] != 3 and 1 in (array.shape[0], array.shape[-1]):
        array = array[..., 0] if array.shape[-1] == 1 else array[0]
    whole = array.dtype.kind in "iub" and array.size and array.min() >= 0 and array.max() <= 255
    if not whole or not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3)):
        is_array = array.ndim > 1 and array.size and array.dtype.kind in "iubf"
        held = f"numbers {array.dtype} {list(array.shape)} from {array.min():g} to {array.max():g}" if is_array else ""
        raise DataError(
            f"{where}: the column {column} holds {held or short(repr(value), 60)}; required are images, names of image "
            "files within the source, or arrays of whole numbers from 0 to 255, [H, W] or [H, W, 3]."
        )
    content = io.BytesIO()
    Image.fromarray(array.astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


def _divide(written: dict[str, list[str]], folder: Path, options: ImportOptions, findings: Findings) -> None:
    """Move part of the only split into the one that is missing."""
    have = next((split for split in ("train", "val", "test") if written.get(split)), None)
    if have is None:
        raise DataError("No row has an image and a label map.")
    if written.get("train") and written.get("val"):
        return
    names = written[have]
    train, val = divide(names, options, findings)
    for split, chosen in (("train", train), ("val", val)):
        for place in ("images", "labels"):
            (folder / f"divided-{split}" / place).mkdir(parents=True)
            stems = {names[index] for index in chosen}
            for path in sorted((folder / have / place).iterdir()):
                if path.stem in stems:
                    path.rename(folder / f"divided-{split}" / place / path.name)
    (folder / have).rename(folder.parent / "left-out")
    for split in ("train", "val"):
        (folder / f"divided-{split}").rename(folder / split)
