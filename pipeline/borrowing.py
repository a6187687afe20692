"""Trained generators of another run in place of trainings (`models_from`): recognised by hash, copied, recorded."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from data.errors import ConfigError, ScenepaletteError
from data.files import open_atomically
from pipeline.contents import MANIFEST, check_contents, content_hash, identity_in, read_record
from pipeline.run_directory import CONFIG, MARK, check_holds_run
from training.checkpoint import read_metadata

# What the lender's configuration decides for the borrower: the networks that its weights fit.
SECTIONS = ("layouts", "images", "finetune")
STAGES = ("layouts", "images", "finetuned")
BORROWED = "borrowed"


def sections_of(lender: Path) -> dict[str, Any] | None:
    """Return the sections of a run's configuration that its trained generators need, or None if it is not there.

    Raises:
        ScenepaletteError: The folder is no run directory of this version, or its configuration cannot be read.
    """
    if not lender.exists():
        return None
    check_holds_run(lender)
    if not (lender / MARK).is_file():
        raise ScenepaletteError(f"{lender} is no run directory ({MARK} is missing). Correct models_from.")
    try:
        config = yaml.safe_load((lender / CONFIG).read_text(encoding="utf-8"))
        return {**{key: config[key] for key in SECTIONS}, "data": {"size": config["data"]["size"]}}
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ScenepaletteError(
            f"{lender / CONFIG} cannot be read ({error}). Restore it, or correct models_from."
        ) from error


def weights_of(lender: Path, unit: str) -> dict[str, str] | None:
    """Return the SHA-256 of the weights of a finished unit of a run by file name, or None if it is not finished there.

    Raises:
        ScenepaletteError: The unit's manifest is damaged.
    """
    path = lender / unit / MANIFEST
    if not path.is_file():
        return None
    files = read_record(path).get("files", {})
    return {name: entry["sha256"] for name, entry in sorted(files.items()) if name.endswith(".safetensors")}


def lending_problems(lender: Path, units: Collection[str]) -> list[str]:
    """Say what keeps a run from lending units of layouts or images, one text each.

    Args:
        lender: The run directory.
        units: Units that are to be borrowed.
    """
    if not lender.is_dir():
        return [f"models_from: there is no folder {lender}"]
    problems = []
    for unit in units:
        if weights_of(lender, unit) is None:
            problems.append(
                f"models_from: {unit} is not finished in {lender}; train it there, or leave models_from out"
            )
            continue
        try:
            check_contents(lender / unit)
        except ScenepaletteError as error:
            problems += [f"models_from: {unit}: {text}" for text in error.problems or [error.summary]]
    return problems


def borrow(lender: Path, unit: str, folder: Path, classes: str) -> None:
    """Copy the results of a finished unit of another run, with the checkpoints from which a fine-tuning starts.

    Args:
        lender: The run directory that has the unit.
        unit: Its name.
        folder: Where to write.
        classes: Fingerprint of the class table that the generators have to be of.

    Raises:
        ScenepaletteError: The unit is damaged, of other classes, or cannot be copied.
    """
    check_contents(lender / unit)
    names = [*read_record(lender / unit / MANIFEST).get("files", {})]
    names += [path.name for path in sorted((lender / unit).glob("checkpoint-*.safetensors"))]
    for name in names:
        if name.endswith(".safetensors") and read_metadata(lender / unit / name).get("class_table", classes) != classes:
            raise ConfigError(
                f"The generators of {lender} were trained on other classes than this data set has. Leave models_from "
                "out, or use a data set with the same class table."
            )
    for name in names:
        target = folder / name
        if not target.is_file() or content_hash(target) != content_hash(lender / unit / name):
            with open(lender / unit / name, "rb") as source, open_atomically(target) as file:
                shutil.copyfileobj(source, file)


def lender_of(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what the record of a borrowed unit says of where it was trained, or None for a unit trained here."""
    return record.get("lender") if BORROWED in identity_in(record).get("settings", {}) else None
