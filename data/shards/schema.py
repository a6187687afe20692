"""The columns of a shard, the row they hold, and how a row becomes bytes and comes back."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from scenepalette.common.errors import DataError
from scenepalette.common.png import png_of
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.decoding.image_opening import MAX_PIXELS
from scenepalette.data.shards.kinds import KIND_CARDS, is_kind, origin_of

SCHEMA_VERSIONS = (1, 2)
"""Schema 2 is schema 1 with the columns of `INSERTED` behind its own; only shards that have them are of schema 2."""
INSERTED = ("inserted_classes", "source_ids")
ROW_GROUP = 64
IMAGE_FORMATS = ("jpeg", "png")
PALETTE_TOLERANCE = 1e-4
MAX_ID = 200

ImageFormat = Literal["jpeg", "png"]


@dataclass(frozen=True, eq=False)
class Row:
    """One labelled pair.

    Attributes:
        id: Name of the pair, unique in its folder; relative, with forward slashes if any.
        image: RGB image, uint8 [H, W, 3].
        label: Class ids, uint8 [H, W]; 255 where a pixel has no label.
        kind: "full" (layout and image made), "partial" (a real layout edited inside `edit_box`), "semi" (image made
            for a real layout), "pseudo" (layout predicted from an unlabelled image, image made for it) or "insert"
            (objects put into a real image and its label inside `edit_box`).
        palette_target: The class shares that were asked for, K floats that sum to 1.
        palette_achieved: The class shares among the labelled pixels of `label`, K floats that sum to 1.
        source_id: The real sample behind a partial, semi or insert row, the unlabelled image behind a pseudo row; None
            for a full one.
        edit_box: (top, left, height, width) in pixels of the part that was made again, or None.
        seed: Seed of the run that made the row.
        index: Number of the row in its run; with `seed` it fixes all of the row's randomness.
        layout_model: Content hash of the layout model, for pseudo rows of the discriminator that predicted the
            layout; None where none took part.
        image_model: Content hash of the image model, or None where none took part.
        inserted_classes: Names of the classes of the objects that were put into an insert row, or a full one under
            hardening by objects, which may lack none; None for other rows.
        source_ids: `source_id` of an insert row, then the id of the segment that gave each object its shape; None where
            `inserted_classes` is.
    """

    id: str
    image: np.ndarray
    label: np.ndarray
    kind: str
    palette_target: Sequence[float] | np.ndarray = field(repr=False)
    palette_achieved: Sequence[float] | np.ndarray = field(repr=False)
    source_id: str | None
    edit_box: tuple[int, int, int, int] | None
    seed: int
    index: int
    layout_model: str | None
    image_model: str | None
    inserted_classes: Sequence[str] | None = None
    source_ids: Sequence[str] | None = None


_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_COLUMNS = {
    "id": pa.string(),
    "image": _PICTURE,
    "label": _PICTURE,
    "kind": pa.string(),
    "palette_target": pa.list_(pa.float32()),
    "palette_achieved": pa.list_(pa.float32()),
    "source_id": pa.string(),
    "edit_box": pa.list_(pa.int32()),
    "seed": pa.int64(),
    "index": pa.int64(),
    "layout_model": pa.string(),
    "image_model": pa.string(),
}
"""The columns of schema 1."""
PLAIN = ("id", "kind", "seed", "index", "layout_model", "image_model")
"""Columns that hold a row's values as they are."""


def schema_of(table: ClassTable | None, version: int = 1) -> pa.Schema:
    """Return the columns of a schema, with class names and the ignore id in the metadata, for `datasets`.

    Args:
        table: The classes; None for the metadata of shards that name none.
        version: One of `SCHEMA_VERSIONS`.
    """
    columns = _COLUMNS | (dict.fromkeys(INSERTED, pa.list_(pa.string())) if version > 1 else {})
    # A label map has no type of its own in `datasets`; class names travel as the text that a feature may have as `id`.
    classes = {} if table is None else {"id": json.dumps({"classes": list(table.names), "ignore_id": IGNORE_ID})}
    images = {"image": {"_type": "Image"}, "label": {"mode": "L", **classes, "_type": "Image"}}
    features = {name: images.get(name) or _feature_of(kind) for name, kind in columns.items()}
    stated = json.dumps({"info": {"features": features}})
    return pa.schema(list(columns.items()), metadata={"huggingface": stated, "scenepalette_schema": str(version)})


def _feature_of(kind: pa.DataType) -> dict[str, Any]:
    """Return what `datasets` calls a type; "Sequence" is the spelling that its old and new versions both read."""
    if isinstance(kind, pa.ListType):
        return {"feature": _feature_of(kind.value_type), "_type": "Sequence"}
    return {"dtype": "float32" if kind == pa.float32() else str(kind), "_type": "Value"}


SCHEMA = schema_of(None)
"""Schema 1 with the metadata of shards that name no classes, as version 0.1.0 wrote them."""


def schema_version_of(row: Row) -> int:
    """Return the first schema that has columns for all that a row says."""
    return 1 if row.inserted_classes is None and row.source_ids is None else 2


def row_id(kind: str, collection: str, index: int) -> str:
    """Return the id of a generated row, which no row of another run has.

    Args:
        kind: The row's kind.
        collection: `collection_of` the manifest that the row comes under.
        index: The row's index.
    """
    return f"{kind}-{collection}-{index:08d}"


def collection_of(manifest: Mapping[str, Any]) -> str | None:
    """Return what the ids of generated rows have in common: the first eight digits of the manifest's fingerprint.

    Rows that a run selected have the ids of the set that they come from, whose fingerprint the selection names. None if
    there is none, as of rows that were not generated by a run.
    """
    fingerprint = origin_of(manifest["extra"]).get("fingerprint")
    if not isinstance(fingerprint, str) or not re.match(r"[0-9a-f]{8}", fingerprint):
        return None
    return fingerprint[:8]


def shard_name(index: int, count: int) -> str:
    """Return the file name of shard `index` of `count`, from which readers tell the split.

    Raises:
        ValueError: `index` is not in 0 .. count - 1, or five digits do not hold it.
    """
    if not 0 <= index < count <= 99_999:
        raise ValueError(f"Shard {index} of {count}: the index must lie in 0 .. count - 1 and count at most 99999.")
    return f"train-{index:05d}-of-{count:05d}.parquet"


def palette_of_label(label: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the share of each class among the labelled pixels, float64 [num_classes]; nan if none is labelled.

    Args:
        label: uint8 [H, W], ids below `num_classes` or 255.
        num_classes: K.
    """
    counts = np.bincount(label.reshape(-1), minlength=256)[:num_classes]
    with np.errstate(invalid="ignore"):
        return counts / counts.sum()


def row_problems(row: Row) -> list[str]:
    """Say everything that is wrong with a row, apart from what only the class table can tell."""
    problems = []
    if not is_safe_relative_path(row.id):
        problems.append(f"the id {row.id!r} is empty, absolute or leaves its folder")
    image_fits = row.image.dtype == np.uint8 and row.image.ndim == 3 and row.image.shape[2] == 3
    label_fits = row.label.dtype == np.uint8 and row.label.ndim == 2
    if not image_fits:
        problems.append(f"the image is {row.image.dtype} {list(row.image.shape)}, not uint8 [H, W, 3]")
    if not label_fits:
        problems.append(f"the label is {row.label.dtype} {list(row.label.shape)}, not uint8 [H, W]")
    if len(row.id) > MAX_ID:
        problems.append(f"the id has {len(row.id)} characters, at most {MAX_ID} are allowed: files are named after it")
    height, width = row.label.shape[:2] if label_fits else (0, 0)
    if image_fits and label_fits and row.image.shape[:2] != (height, width):
        problems.append(f"the image is {list(row.image.shape[:2])} and the label {[height, width]}; sizes must agree")
    if height * width > MAX_PIXELS:
        problems.append(f"{height} x {width} pixels are more than the {MAX_PIXELS} that readers decode")
    problems += _palette_problems(row, label_fits)
    problems += _kind_problems(row)
    problems += _inserted_problems(row)
    if row.edit_box is not None and label_fits and not _is_inside(row.edit_box, height, width):
        problems.append(f"edit_box {list(row.edit_box)} is not a (top, left, height, width) inside {[height, width]}")
    return problems


def _is_inside(box: Sequence[int], height: int, width: int) -> bool:
    return (
        len(box) == 4
        and None not in box
        and min(box) >= 0
        and min(box[2:]) >= 1
        and box[0] + box[2] <= height
        and box[1] + box[3] <= width
    )


def _kind_problems(row: Row) -> list[str]:
    problems = []
    if not is_kind(row.kind):
        problems.append(f"kind is {row.kind!r}, not a name such as {', '.join(KIND_CARDS)}")
    elif row.kind == "full" and (row.source_id is not None or row.edit_box is not None):
        problems.append("a full row has no real sample behind it: source_id and edit_box must be null")
    elif row.kind in ("partial", "semi", "pseudo", "insert") and not row.source_id:
        problems.append(f"a {row.kind} row must name the real sample behind it in source_id")
    if row.kind == "pseudo" and (row.layout_model is None or row.edit_box is not None):
        problems.append("a pseudo row must name what predicted its label in layout_model; its edit_box must be null")
    if row.kind == "semi" and (row.layout_model is not None or row.edit_box is not None):
        problems.append("the layout of a semi row is as it was found: its edit_box and layout_model must be null")
    asked, counted = (np.asarray(shares, dtype=np.float32) for shares in (row.palette_target, row.palette_achieved))
    if row.kind in ("semi", "pseudo", "insert") and not np.array_equal(asked, counted):
        problems.append(f"nothing is asked of the layout of a {row.kind} row: its palettes must be equal")
    return problems


def _inserted_problems(row: Row) -> list[str]:
    classes, sources = row.inserted_classes, row.source_ids
    if row.kind != "insert" and classes is sources is None:
        return []
    if row.kind not in ("insert", "full"):
        return [f"nothing is inserted into a {row.kind} row: {' and '.join(INSERTED)} must be null"]
    problems, real = [], row.kind == "insert"
    if real and (row.edit_box is None or row.layout_model is not None):
        problems.append("an insert row must have an edit_box, and no layout_model: its layout is real but for objects")
    if real and not classes:
        problems.append("an insert row must name the classes of its objects in inserted_classes")
    if None in [*(classes or ()), *(sources or ())]:
        problems.append(f"{' and '.join(INSERTED)} must not hold nulls")
    elif real and (not sources or _text(sources[0]) != _text(row.source_id)):
        problems.append("source_ids must begin with the row's source_id")
    elif len(sources or ()) != real + len(classes or ()) and (classes or not real):
        named = f"{'the image and ' if real else ''}{len(classes or ())} segment(s)"
        problems.append(f"source_ids must name {named}, it has {len(sources or ())} ids")
    return problems


def as_text(name: str) -> str:
    """Return a name as shards hold it: a file's name need not be text, and a column of texts holds nothing else."""
    return name.encode(errors="backslashreplace").decode()


def _text(name: str | None) -> str | None:
    return None if name is None else as_text(name)


def _palette_problems(row: Row, label_fits: bool) -> list[str]:
    problems = []
    palettes = {"palette_target": row.palette_target, "palette_achieved": row.palette_achieved}
    if len(row.palette_target) != len(row.palette_achieved):
        problems.append(
            f"palette_target has {len(row.palette_target)} classes and palette_achieved {len(row.palette_achieved)}"
        )
    for name, palette in palettes.items():
        shares = np.asarray(palette, dtype=np.float64)
        total = float(shares.sum())
        if not math.isclose(total, 1.0, abs_tol=1e-3) or (shares < 0).any():
            problems.append(f"{name} must hold shares that sum to 1; the sum is {total:.6g}")
    if problems or not label_fits:
        return problems
    num_classes = len(row.palette_achieved)
    strays = np.unique(row.label[(row.label >= num_classes) & (row.label != IGNORE_ID)])
    if strays.size:
        problems.append(
            f"the label has ids {strays.tolist()}; allowed are 0 .. {num_classes - 1} and {IGNORE_ID} for no label"
        )
    elif (row.label == IGNORE_ID).all():
        problems.append("no pixel of the label has a class")
    else:
        measured = palette_of_label(row.label, num_classes)
        distance = float(np.abs(measured - np.asarray(row.palette_achieved, dtype=np.float64)).max())
        if not distance <= PALETTE_TOLERANCE:
            problems.append(f"palette_achieved differs by {distance:.4g} from the shares counted in the label")
    return problems


def is_safe_relative_path(path: str) -> bool:
    """Tell whether a path stays inside the folder it is joined to, on any system."""
    pure = PurePosixPath(path.replace("\\", "/"))
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and ":" not in pure.parts[0]


def encode_row(row: Row, *, image_format: ImageFormat, jpeg_quality: int) -> dict[str, Any]:
    """Check a row and turn it into the values of one Parquet row; the same row always gives the same bytes.

    Raises:
        DataError: The row breaks the schema; every problem is listed.
    """
    problems = row_problems(row)
    if problems:
        raise DataError(f"Row {row.id!r} cannot be written.", problems)
    if image_format == "jpeg":
        buffer = io.BytesIO()
        # 4:4:4: halved colour would bleed over the borders that the label marks.
        Image.fromarray(np.ascontiguousarray(row.image)).save(buffer, "JPEG", quality=jpeg_quality, subsampling=0)
        image = {"bytes": buffer.getvalue(), "path": f"{row.id}.jpg"}
    else:
        image = {"bytes": png_of(row.image), "path": f"{row.id}.png"}
    values: dict[str, Any] = {
        **{name: getattr(row, name) for name in PLAIN},
        "image": image,
        # Greyscale ("L"), not palette: a palette PNG read as greyscale gives luminance in place of class ids.
        "label": {"bytes": png_of(row.label), "path": f"{row.id}.label.png"},
        "palette_target": np.asarray(row.palette_target, dtype=np.float32),
        "palette_achieved": np.asarray(row.palette_achieved, dtype=np.float32),
        "source_id": _text(row.source_id),
        "edit_box": None if row.edit_box is None else list(row.edit_box),
    }
    # In the order of the columns, in which `regenerate` names differences.
    encoded = {name: values[name] for name in _COLUMNS}
    return encoded | ({name: _texts(getattr(row, name)) for name in INSERTED} if schema_version_of(row) > 1 else {})


def _texts(names: Sequence[str] | None) -> list[str | None] | None:
    return None if names is None else [_text(name) for name in names]


def decode_image(content: bytes, where: str) -> np.ndarray:
    """Decode an image to uint8 [H, W, 3].

    Raises:
        DataError: It is damaged, no image, or not RGB; `where` names it.
    """
    return _decode(content, "RGB", ("JPEG", "PNG"), f"{where}: the image")


def decode_label(content: bytes, where: str) -> np.ndarray:
    """Decode a label map to uint8 [H, W], ids unchanged.

    Raises:
        DataError: It is damaged, no image, or not 8-bit greyscale; `where` names it.
    """
    return _decode(content, "L", ("PNG",), f"{where}: the label")


def _decode(content: bytes, mode: str, formats: tuple[str, ...], where: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content), formats=formats) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(
                    f"{where} claims {picture.height} x {picture.width} pixels, at most {MAX_PIXELS} are decoded. "
                    "Generate the shard again."
                )
            picture.load()
            if picture.mode != mode:
                raise DataError(f"{where} has mode {picture.mode}, not {mode}. Generate the shard again.")
            return np.array(picture)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        # Its own text names an address in memory.
        raise DataError(f"{where} is no whole {' or '.join(formats)} file. Generate the shard again.") from error
    except Exception as error:
        # Pillow's decoders raise errors of many types on broken files; each of them means that this one is unusable.
        raise DataError(f"{where} cannot be decoded ({error}). Generate the shard again.") from error


def decode_row(values: Mapping[str, Any], where: str) -> Row:
    """Turn the values of one Parquet row back into a `Row`.

    Args:
        values: One row as plain Python values, keyed by column.
        where: Names the file and row in messages.

    Raises:
        DataError: An image cannot be decoded or a column that must have a value is null.
    """
    missing = [
        name
        for name in ("id", "image", "label", "kind", "palette_target", "palette_achieved", "seed", "index")
        if values[name] is None
    ]
    if missing:
        raise DataError(f"{where}: null in {', '.join(missing)}. Generate the shard again.")
    box = values["edit_box"]
    as_stored: dict[str, Any] = {name: values.get(name) for name in (*PLAIN, *INSERTED)}
    return Row(
        **as_stored,
        image=decode_image(values["image"]["bytes"], where),
        label=decode_label(values["label"]["bytes"], where),
        palette_target=np.asarray(values["palette_target"], dtype=np.float32),
        palette_achieved=np.asarray(values["palette_achieved"], dtype=np.float32),
        source_id=values["source_id"],
        edit_box=None if box is None else tuple(box),
    )
