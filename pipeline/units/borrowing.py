"""Trained generators of another run in place of trainings (`models_from`): recognised by hash, copied, recorded."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.storage.files import open_atomically, read_json
from scenepalette.data.classes import ClassTable
from scenepalette.data.licences import PRETRAINED
from scenepalette.pipeline.run_directory.manifests import (
    MANIFEST,
    check_contents,
    content_hash,
    identity_in,
    read_record,
)
from scenepalette.pipeline.units.records import BORROWED, as_json
from scenepalette.pipeline.units.workspace import Unit, Workspace
from scenepalette.training.checkpoint import read_metadata

BORROWING_VERSION = 1
_OTHER_CLASSES = "it was trained on other classes than this data set has; leave models_from out, or use such a data set"
# What a fine-tuning's settings hold beside its own numbers.
NOT_OF_FINETUNING = ("seed", "vgg_weights", "perceptual_features", "perceptual_encoder", "perceptual_encoder_weights")


@dataclass(frozen=True, kw_only=True)
class BorrowedUnit(Unit):
    """A unit whose result is taken from another run: nothing but its weights identifies it."""

    lender: Path

    @classmethod
    def of(cls, unit: Unit, lender: Path, weights: Mapping[str, str]) -> BorrowedUnit:
        """Return a unit as one that is borrowed; `weights` are the SHA-256 of its weights, by file."""
        settings = {BORROWED: dict(weights)}
        return cls(unit.stage, unit.part, BORROWING_VERSION, settings, ("data",), unit.files, lender=lender)

    def make(self, run: Workspace, folder: Path) -> None:
        """Copy the result, with the checkpoints from which a fine-tuning starts; raises as `borrow` does."""
        borrow(self.lender, self.name, folder, run.data.train.table.fingerprint, self.settings[BORROWED])

    def record(self) -> dict[str, Any]:
        """Return where the unit was trained, and how."""
        record = read_record(self.lender / self.name / MANIFEST)
        before, identity = record.get("lender", {}), identity_in(record)
        data = read_json(self.lender / "data" / "train.json")
        return {
            "lender": {
                "run": str(self.lender),
                "fingerprint": before.get("fingerprint", identity.get("fingerprint")),
                "settings": before.get("settings", identity.get("settings")),
                # The terms of what the weights were learned from.
                "licence": before.get("licence", data.get("licence") if isinstance(data, dict) else None),
            },
            **({PRETRAINED: record[PRETRAINED]} if PRETRAINED in record else {}),
        }


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


def lends(lender: Path, unit: Unit) -> bool:
    """Tell whether a run's finished unit can serve as that of another run.

    Trainings of layouts and images are taken as they are; a fine-tuning is one of several that could be wanted.
    """
    if unit.stage != "finetuned":
        return True
    record = read_record(lender / unit.name / MANIFEST)
    settings = record.get("lender", identity_in(record)).get("settings", {})
    trained, wanted = (
        {key: value for key, value in values.items() if key not in NOT_OF_FINETUNING}
        for values in (settings, as_json(unit.settings))
    )
    return trained == wanted


def lending_problems(lender: Path, units: Collection[str], table: ClassTable | None) -> list[str]:
    """Say what keeps a run from lending units of layouts or images, one text each.

    `table` is None as long as the classes that generators have to be of are not known.
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
            texts = error.problems or [error.summary]
            problems += [f"models_from: {unit}: {text}; restore it, or train it there" for text in texts]
            continue
        if table is not None and not _is_of(lender / unit, table.fingerprint):
            problems.append(f"models_from: {unit}: {_OTHER_CLASSES}")
    return problems


def _is_of(folder: Path, classes: str) -> bool:
    """Tell whether all weights of a unit are of a class table."""
    paths = folder.glob("*.safetensors")
    return all(
        read_metadata(path).get("class_table", classes) == classes for path in paths if "checkpoint" not in path.name
    )


def borrow(lender: Path, unit: str, folder: Path, classes: str, weights: Mapping[str, str]) -> None:
    """Copy the results of a finished unit of another run, with the checkpoints from which a fine-tuning starts.

    Args:
        lender: The run directory that has the unit.
        unit: Its name.
        folder: Where to write.
        classes: Fingerprint of the class table that the generators have to be of.
        weights: SHA-256 of the weights that are meant, by file.

    Raises:
        ScenepaletteError: The unit is damaged, of other classes, trained again meanwhile, or cannot be copied.
    """
    check_contents(lender / unit)
    if weights_of(lender, unit) != weights:
        raise ScenepaletteError(f"{lender / unit} was trained again while it was borrowed. Rerun the same command.")
    names = [*read_record(lender / unit / MANIFEST).get("files", {})]
    names += [path.name for path in sorted((lender / unit).glob("checkpoint-*.safetensors"))]
    if not _is_of(lender / unit, classes):
        raise ConfigError(f"models_from: {lender / unit}: {_OTHER_CLASSES}.")
    for name in names:
        target = folder / name
        if not target.is_file() or content_hash(target) != content_hash(lender / unit / name):
            with open(lender / unit / name, "rb") as source, open_atomically(target) as file:
                shutil.copyfileobj(source, file)


def lender_of(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what the record of a borrowed unit says of where it was trained, or None for a unit trained here."""
    return record.get("lender") if BORROWED in identity_in(record).get("settings", {}) else None
