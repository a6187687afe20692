"""A folder for the Hugging Face Hub: Parquet files that `datasets` loads, a card, and the names of the classes."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scenepalette.common.errors import DataError
from scenepalette.common.storage.files import open_atomically, sha256_of_file, write_atomically
from scenepalette.data.cards.dataset_card import classes_section, columns_section, front_matter, lineage_text, title_of
from scenepalette.data.exports.verified_shards import ExportedRow, VerifiedShards
from scenepalette.data.shards.manifest import CARD_NAME
from scenepalette.data.shards.schema import shard_name

CLASS_NAMES = "id2label.json"


def write_huggingface(out: Path, shards: VerifiedShards, rows: Iterator[ExportedRow]) -> list[dict[str, Any]]:
    """Write OUT/data/train-00000-of-00003.parquet and so on, OUT/README.md and OUT/id2label.json.

    The Parquet files are the shards, byte for byte, renumbered: those of a set that grew have names of two numbers
    of shards.

    Returns:
        Name, rows, bytes and SHA-256 of each file.

    Raises:
        DataError: A shard was altered while it was copied.
    """
    deque(rows, maxlen=0)  # each is checked
    manifest, parts = shards.manifest, []
    for number, shard in enumerate(manifest["shards"]):
        name = f"data/{shard_name(number, len(manifest['shards']))}"
        with (shards.folder / shard["name"]).open("rb") as source, open_atomically(out / name) as file:
            shutil.copyfileobj(source, file)
        if sha256_of_file(out / name) != shard["sha256"]:
            raise DataError(f"{shards.folder / shard['name']} was altered while it was copied. Rerun the same command.")
        parts.append({**{key: shard[key] for key in ("rows", "bytes", "sha256")}, "name": name})
    names = {str(class_id): name for class_id, name in enumerate(shards.table.names)}
    write_atomically(out / CLASS_NAMES, json.dumps(names, indent=2, ensure_ascii=False) + "\n")
    write_atomically(out / CARD_NAME, _card(shards))
    return parts


def _card(shards: VerifiedShards) -> str:
    manifest = shards.manifest
    head = front_matter([manifest], title_of(manifest), {"default": "data/train-*.parquet"})
    return f"""{head}
{lineage_text(manifest)}
{columns_section(manifest)}

{classes_section(shards.table)}

`{CLASS_NAMES}` maps ids to names, as `transformers` takes them for `id2label`.

## Loading

```python
from datasets import load_dataset

pairs = load_dataset("FOLDER", split="train")  # or ORGANISATION/NAME, once it is on the Hub
image, label = pairs[0]["image"], pairs[0]["label"]  # PIL images, modes RGB and L; 255 is no label
```
"""
