"""The MLCommons Croissant file of a folder of shards: what data set catalogues and their tools read.

Format: http://mlcommons.org/croissant/1.0. Where the rows come from is said in the terms of PROV-O
(http://www.w3.org/ns/prov#), as Croissant 1.1 does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenepalette.common.storage.files import write_json
from scenepalette.data.cards.dataset_card import columns_of, flat_items, label_origins_of, making_of, title_of
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.shards.manifest import CROISSANT_NAME, licence_of

_PARQUET = "application/x-parquet"  # as Croissant and its reader spell it; the registered name is another
_DATA_TYPES = {"struct": "sc:ImageObject", "float32": "sc:Float", "int32": "sc:Integer", "int64": "sc:Integer"}
"""Croissant's names of types, by a word of those that cards write; all others are texts."""
_TERMS = (
    "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format includes isLiveDataset "
    "jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source "
    "subField transform"
)

# The context that the format prescribes, and PROV-O's namespace.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in _TERMS.split()},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}


def write_croissant(folder: Path | str, manifest: Mapping[str, Any]) -> Path:
    """Write croissant.json for a folder of shards; arguments, result and errors are those of `write_card`."""
    path = Path(folder) / CROISSANT_NAME
    write_json(path, croissant_document(manifest, ClassTable.from_dict(manifest["class_table"])))
    return path


def croissant_document(manifest: Mapping[str, Any], table: ClassTable) -> dict[str, Any]:
    """Return the Croissant description of a manifest and its class table as JSON values.

    One FileObject per shard carries its SHA-256, a FileSet holds them together. Record set "pairs" has the columns of
    the shards, record set "classes" the class table.
    """
    source = manifest["source"]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": title_of(manifest),
        "description": f"{manifest['rows']} pairs of an image and a label map for semantic segmentation, made by "
        f"{manifest['code']['name']} after {source['name']}. {_plain(making_of(manifest))}",
        "version": f"{manifest['schema']}.0.0",
        "license": licence_of(manifest),
        "keywords": ["synthetic", "semantic segmentation", manifest["kind"]],
        "isLiveDataset": False,
        "distribution": [*map(_file_object, manifest["shards"]), _FILE_SET],
        "recordSet": [_pairs(manifest), _classes(table)],
        "rai:dataCollection": _plain(making_of(manifest)),
        "rai:dataAnnotationProtocol": label_origins_of(manifest),
        "rai:dataLimitations": "Synthetic images show what their models learned from the source data set, with its "
        "gaps and biases; what its licence asks of derived data applies to them.",
        "prov:wasDerivedFrom": {
            "@type": "prov:Entity",
            "name": source["name"],
            "license": source["licence"],
            "description": _items({key: value for key, value in source.items() if key not in ("name", "licence")}),
        },
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "description": f"config hash: {manifest['config_hash']}",
            "prov:used": [
                {"@type": "prov:Entity", "name": role, "sha256": content}
                for role, content in sorted(flat_items(manifest["models"]))
            ],
            "prov:wasAssociatedWith": {
                "@type": "prov:SoftwareAgent",
                "name": manifest["code"]["name"],
                **{
                    name: manifest["code"][key]
                    for name, key in (("version", "version"), ("identifier", "commit"))
                    if manifest["code"][key] is not None
                },
            },
        },
    }


# Without "containedIn" a FileSet's files lie beside the Croissant file.
_FILE_SET = {
    "@type": "cr:FileSet",
    "@id": "shards",
    "description": "All Parquet files of the data set.",
    "encodingFormat": _PARQUET,
    "includes": "train-*.parquet",
}


def _file_object(shard: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": shard["name"],
        "name": shard["name"],
        "description": f"{shard['rows']} pairs.",
        "contentUrl": shard["name"],
        "contentSize": f"{shard['bytes']} B",
        "encodingFormat": _PARQUET,
        "sha256": shard["sha256"],
    }


def _pairs(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "pairs",
        "description": "One record per pair of an image and a label map.",
        "key": {"@id": "pairs/id"},
        "field": [_column(*column) for column in columns_of(manifest)],
    }


def _column(name: str, kind: str, description: str) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": "shards"}, "extract": {"column": name}}
    data_type = next((found for word, found in _DATA_TYPES.items() if word in kind), "sc:Text")
    if data_type == "sc:ImageObject":
        source["transform"] = {"jsonPath": "bytes"}
    return {
        "@type": "cr:Field",
        "@id": f"pairs/{name}",
        "description": _plain(description),
        "dataType": data_type,
        **({"repeated": True} if kind.startswith("list") else {}),
        "source": source,
    }


def _classes(table: ClassTable) -> dict[str, Any]:
    columns = {
        "id": ("sc:Integer", f"Value of the class in a label map; {IGNORE_ID} there means no label."),
        "name": ("sc:Text", "Name of the class."),
        "color": ("sc:Text", "Red, green and blue, 0 to 255, in images of label maps."),
        "evaluated": ("sc:Boolean", "Whether the class counts in the mean IoU."),
    }
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "description": f"Class table {table.name}: what the ids in a label map mean.",
        "key": {"@id": "classes/id"},
        "field": [
            {"@type": "cr:Field", "@id": f"classes/{name}", "description": text, "dataType": kind}
            for name, (kind, text) in columns.items()
        ],
        "data": [
            {
                "classes/id": number,
                "classes/name": item.name,
                "classes/color": ", ".join(map(str, item.color)),
                "classes/evaluated": item.evaluated,
            }
            for number, item in enumerate(table.classes)
        ],
    }


def _items(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{key}: {value}" for key, value in flat_items(values))


def _plain(text: str) -> str:
    """Return a text of the card without its Markdown."""
    return text.replace("`", "")
