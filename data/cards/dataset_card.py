"""The data set card (README.md) of a folder of shards, as the Hugging Face Hub and a human read it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from scenepalette.common.storage.files import write_atomically
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.licences import PRETRAINED, licence_id
from scenepalette.data.shards.kinds import SELECTION, card_of_kind
from scenepalette.data.shards.manifest import CARD_NAME, licence_of
from scenepalette.data.shards.schema import ROW_GROUP

# Identifiers that the Hub knows; any other licence is "other" with its name.
_HUB_LICENCES = frozenset({
    "apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0",
    "cc0-1.0", "mit",
})  # fmt: skip

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)

COLUMNS = (
    ("id", "string", "Name of the pair, unique in this folder; no other run gives it to a pair."),
    ("image", "struct<bytes, path>", "RGB image, JPEG or PNG bytes."),
    ("label", "struct<bytes, path>", f"Label map, 8-bit greyscale PNG of class ids; {IGNORE_ID} means no label."),
    ("kind", "string", "`full`, `partial`, `semi`, `pseudo` or `insert`; the same in every row here."),
    ("palette_target", "list<float32>", "Class shares that were asked for, in order of class id."),
    ("palette_achieved", "list<float32>", "Class shares counted in `label`, in order of class id."),
    ("source_id", "string or null", "Real sample behind a row, or the unlabelled image behind a pseudo row."),
    ("edit_box", "list<int32> or null", "Top, left, height, width in pixels of the part that was generated."),
    ("seed", "int64", "Seed of the run."),
    ("index", "int64", "Number of the row in its run; with the seed it fixes the row's randomness."),
    ("layout_model", "string or null", "Content hash of the layout model; in pseudo rows of what predicted the label."),
    ("image_model", "string or null", "Content hash of the image model."),
)
"""Columns of schema 1."""
INSERTED_COLUMNS = (
    ("inserted_classes", "list<string>", "Names of the classes of the objects that were put into the row."),
    ("source_ids", "list<string>", "`source_id`, if there is one, then the real object that gave each its shape."),
)
"""Columns that schema 2 has behind those of schema 1."""


def columns_of(manifest: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Return name, type and content of each column of a manifest's shards."""
    return COLUMNS if manifest["schema"] == 1 else (*COLUMNS, *INSERTED_COLUMNS)


def write_card(folder: Path | str, manifest: Mapping[str, Any]) -> Path:
    """Write README.md for a folder of shards.

    Args:
        folder: Where the shards are.
        manifest: What `make_manifest` returned.

    Returns:
        The path of the card.

    Raises:
        ScenepaletteError: The file cannot be written.
    """
    path = Path(folder) / CARD_NAME
    write_atomically(path, card_text(manifest, ClassTable.from_dict(manifest["class_table"])))
    return path


def card_text(manifest: Mapping[str, Any], table: ClassTable) -> str:
    """Return the text of the card for a manifest and its class table."""
    return front_matter([manifest], title_of(manifest), {"default": "train-*.parquet"}) + _body(manifest, table)


def collection_card(manifests: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of the card of a folder that holds folders of shards, with a configuration for each.

    `datasets.load_dataset(FOLDER, NAME)` then loads one of them.

    Args:
        manifests: The manifest of each folder, by its name.
    """
    everything = list(manifests.values())
    names = list(dict.fromkeys(manifest["source"]["name"] for manifest in everything))
    title = f"Synthetic pairs after {', '.join(names)}"
    rows = [
        (f"[{name}]({name}/{CARD_NAME})", str(manifest["rows"]), str(manifest["bytes"]), making_of(manifest))
        for name, manifest in manifests.items()
    ]
    first = next(iter(manifests))
    mixed = ", ".join(f'"FOLDER/{name}": 1.0' for name in manifests)
    every = '"FOLDER/*/train-*.parquet"'
    read, of_all = f"pl.read_parquet({every})", ""
    if len({manifest["schema"] for manifest in everything}) > 1:
        read = f'pl.scan_parquet({every}, missing_columns="insert", extra_columns="ignore").collect()'
        of_all = ", with the columns of the first folder"
    lineages = "\n\n".join(dict.fromkeys(map(_lineage, everything)))
    head = front_matter(everything, title, {name: f"{name}/train-*.parquet" for name in manifests})
    return f"""{head}
# {_cell(title)}

{sum(manifest["rows"] for manifest in everything)} pairs of an image and a label map for semantic segmentation. Each
folder has a card of its own, with columns, classes, models and examples for further readers.

{_table(("Folder", "Pairs", "Bytes", "How the rows were made"), rows)}

## Licence and lineage

{lineages}

## Loading

With `datasets`, one configuration per folder:

```python
from datasets import load_dataset

pairs = load_dataset("FOLDER", "{first}", split="train")
image, label = pairs[0]["image"], pairs[0]["label"]  # PIL images, modes RGB and L
```

With PyTorch, all kinds together, each with its weight:

```python
from torch.utils.data import DataLoader

from scenepalette.data.shards.training.mixed import MixedPairs

mixed = MixedPairs({{{mixed}}}, seed=0)
batch = next(iter(DataLoader(mixed, batch_size=4, sampler=mixed.sampler(epoch=0))))
```

With polars, all rows of all kinds{of_all}:

```python
import polars as pl

rows = {read}
```
"""


def front_matter(manifests: Sequence[Mapping[str, Any]], title: str, files: Mapping[str, str]) -> str:
    """Return the YAML that the Hub reads at the head of a card.

    There is no `dataset_info`: the files carry their features, and readers count the rows themselves.

    Args:
        manifests: Of the rows that the card is about.
        title: What it calls them.
        files: Which files each configuration has, by its name: "train-*.parquet".
    """
    licence = "; ".join(dict.fromkeys(map(licence_of, manifests)))
    known = licence_id(licence)
    front: dict[str, Any] = {"license": known if known in _HUB_LICENCES else "other"}
    if front["license"] == "other":
        front["license_name"] = re.sub(r"[^a-z0-9.]+", "-", licence.lower())[:64].strip("-.") or "other"
    front["pretty_name"] = title
    front["task_categories"] = ["image-segmentation"]
    front["task_ids"] = ["semantic-segmentation"]
    # Labels that no human made, of the rows or of what the models learned from.
    predicted = any(card_of_kind(item).predicted or item["source"].get("label_origins") for item in manifests)
    rows = sum(item["rows"] for item in manifests)
    front["tags"] = ["synthetic", *(["pseudo-labels"] if predicted else [])]
    front["size_categories"] = [next((name for limit, name in _SIZES if rows < limit), "100M<n<1B")]
    front["configs"] = [
        {"config_name": name, "data_files": [{"split": "train", "path": path}]} for name, path in files.items()
    ]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n"


def _body(manifest: Mapping[str, Any], table: ClassTable) -> str:
    return f"""
# {_cell(title_of(manifest))}

{manifest["rows"]} pairs of an image and a label map for semantic segmentation, in {len(manifest["shards"])} Parquet
file(s), {manifest["bytes"]} bytes. Made by scenepalette.

{columns_section(manifest)}

The columns `image` and `label` are stored uncompressed, since images are compressed already. Row groups hold
{ROW_GROUP} rows. Pages carry checksums: read with `page_checksum_verification=True` to have them checked.

{_making(manifest)}

## Palettes

A palette is the share of each class among the labelled pixels of a label map: {table.num_classes} numbers of at least 0
that sum to 1, number k for class id k. Pixels with value {IGNORE_ID} do not count. `palette_target` is what was asked
for; `palette_achieved` is counted in the label of the row. The two differ by what the layout model missed.

{classes_section(table)}

{_licence(manifest)}

## Loading

With `datasets`, which shows images and label maps as images:

```python
from datasets import load_dataset

pairs = load_dataset("FOLDER", split="train")
image, label = pairs[0]["image"], pairs[0]["label"]  # PIL images, modes RGB and L
```

The features name the classes:

```python
import json

from datasets import load_dataset

features = load_dataset("FOLDER", split="train", streaming=True).features
named = json.loads(features["label"].id)
classes, ignored = named["classes"], named["ignore_id"]
```

Some columns hold nulls, of which PyTorch makes no batches: leave them out.

```python
from datasets import load_dataset
from torch.utils.data import DataLoader

pairs = load_dataset("FOLDER", split="train").select_columns(["id", "image", "label", "palette_achieved"])
batch = next(iter(DataLoader(pairs.with_format("torch"), batch_size=4)))  # image B3HW, label B1HW, uint8
```

Readers of whole folders take this card for a table. Name the Parquet files alone, with pandas:

```python
from glob import glob

import pandas as pd

rows = pd.read_parquet(sorted(glob("FOLDER/train-*.parquet")))
```

With polars, `read_parquet` or `scan_parquet`:

```python
import polars as pl

rows = pl.read_parquet("FOLDER/train-*.parquet")
```

With pyarrow, at once or lazily:

```python
import io
from glob import glob

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

rows = pq.read_table(sorted(glob("FOLDER/train-*.parquet")), page_checksum_verification=True)
label = np.array(Image.open(io.BytesIO(rows["label"][0]["bytes"].as_py())))  # uint8 [H, W]
```

```python
import pyarrow.dataset as ds

rows = ds.dataset("FOLDER", format="parquet", exclude_invalid_files=True).to_table(columns=["id", "palette_achieved"])
```

With DuckDB:

```python
import duckdb

rows = duckdb.sql("select * exclude (image, label) from 'FOLDER/train-*.parquet'")
```

With Ray Data:

```python
import ray

rows = ray.data.read_parquet("FOLDER", file_extensions=["parquet"])
```

With PyTorch, random access in bounded memory:

```python
from torch.utils.data import DataLoader

from scenepalette.data.shards.pairs import ShardPairs

loader = DataLoader(ShardPairs("FOLDER"), batch_size=8, shuffle=True)
batch = next(iter(loader))  # image B3HW in [-1, 1], label BHW int64
```

`croissant.json` describes the folder for tools that read MLCommons Croissant.
`manifest.json` lists every file with its rows, bytes and SHA-256; `scenepalette shards verify FOLDER` checks them all.
"""


def columns_section(manifest: Mapping[str, Any]) -> str:
    """Return the section that says what the columns of a manifest's shards hold, as Markdown."""
    rows = [(f"`{name}`", kind, text) for name, kind, text in columns_of(manifest)]
    return f"## Columns\n\n{_table(('Column', 'Type', 'Content'), rows)}"


def classes_section(table: ClassTable) -> str:
    """Return the section that lists the classes of a table, as Markdown."""
    return f"""## Classes

Class table `{table.name}`, {table.num_classes} classes. Classes that are not evaluated are left out of the mean IoU.

{_table(("Id", "Name", "Colour (RGB)", "Evaluated"), _class_rows(table))}"""


def title_of(manifest: Mapping[str, Any]) -> str:
    """Return the name of the rows as a data set."""
    return f"Synthetic pairs ({manifest['kind']}) after {manifest['source']['name']}"


def making_of(manifest: Mapping[str, Any]) -> str:
    """Return how the rows of a manifest were made, as Markdown."""
    return card_of_kind(manifest).making


def selection_of(manifest: Mapping[str, Any]) -> str:
    """Return what a selected set was selected from and by what, as Markdown; nothing of a set that was made whole."""
    selection = manifest["extra"].get(SELECTION)
    if selection is None:
        return ""
    short = selection.get("short") or {}
    lacking = f" They hold less than the palettes ask for of {', '.join(map(_cell, short))}." if short else ""
    where = f" by the expression `{_cell(selection['where']).replace('`', '')}`" if selection["where"] else ""
    best = "; of these the best by hardness, trust and novelty under quotas of classes" if selection["select"] else ""
    return (
        f"These {manifest['rows']} rows are a selection of {selection['rows']}{where}{best}. The rows are copies, byte "
        f"for byte, of those under the manifest with SHA-256 `{selection['manifest']}`.{lacking}\n\n"
    )


def label_origins_of(manifest: Mapping[str, Any]) -> str:
    """Say who or what made the labels, of the rows and of the data that the models learned from."""
    parts = [f"{part}: {text}" for part, text in manifest["source"].get("label_origins", {}).items()]
    source = ["Labels of the source data set: " + "; ".join(parts) + "."] if parts else []
    return " ".join([card_of_kind(manifest).labels, *source])


def lineage_text(manifest: Mapping[str, Any]) -> str:
    """Return how the rows were made and the licence of their source, as Markdown: to go with copies of them."""
    return f"# {_cell(title_of(manifest))}\n\n{_licence(manifest)}\n\n{_making(manifest)}\n"


def _making(manifest: Mapping[str, Any]) -> str:
    code = manifest.get("code")
    return f"""## How the rows were made

{making_of(manifest)}

{selection_of(manifest)}- Config: `{manifest["config_hash"]}`, the SHA-256 of `extra.config` in `manifest.json`
{_items(manifest["models"], "Model")}
{_items({key: code.get(key) for key in ("version", "commit")}, f"Code, {code.get('name')},") if code else ""}

A row is a function of the models, `seed` and `index`."""


def _licence(manifest: Mapping[str, Any]) -> str:
    return f"## Licence and lineage\n\n{_lineage(manifest)}"


def _lineage(manifest: Mapping[str, Any]) -> str:
    source = manifest["source"]
    name, licence = _cell(source["name"]), _cell(licence_of({"source": {**source, PRETRAINED: {}}}))
    return f"""The models learned from **{name}**, whose licence is: {licence}. The rows derive
from that data; what its licence asks of derived data applies to them.
{_pretrained(source.get(PRETRAINED, {}))}
{_items({key: value for key, value in source.items() if key not in ("name", "licence")}, "Source")}"""


def _pretrained(terms: Mapping[str, str]) -> str:
    """Return what is to be said of weights from elsewhere, a paragraph with an empty line before it; or nothing."""
    if not terms:
        return ""
    stated = ", ".join(f"**{_cell(name)}** under {_cell(licence)}" for name, licence in terms.items())
    text = f"The images were made with pretrained weights, whose terms apply beside it: {stated}."
    if any("rail" in licence.lower() for licence in terms.values()):
        text += (
            " Licences of the RAIL family (CreativeML OpenRAIL-M among them) restrict what the model and what it made "
            "may be used for, as listed in their attachment A; whoever uses or passes on these rows has to keep to "
            "the list, and to pass it on."
        )
    return f"\n{text} No safety checker has looked at the images.\n"


def _class_rows(table: ClassTable) -> list[tuple[str, ...]]:
    return [
        (str(number), item.name, ", ".join(map(str, item.color)), "yes" if item.evaluated else "no")
        for number, item in enumerate(table.classes)
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Keep a text from breaking out of its table cell or paragraph; names of files that are no text are spelled out."""
    text = text.encode(errors="backslashreplace").decode()
    return " ".join(text.split()).replace("|", "\\|")


def _items(values: Mapping[str, Any], role: str) -> str:
    """Return a Markdown list."""
    return "\n".join(f"- {role} {key}: `{_cell(value)}`" for key, value in flat_items(values))


def flat_items(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested values as texts with dotted keys, without absent ones."""
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += flat_items(value, f"{prefix}{key}.")
        elif value is not None:
            found.append((prefix + key, str(value)))
    return found
