"""The shards of one kind of pairs on disk: planned, recorded as they are written, finished with card and manifest."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.storage.files import read_json, sha256_of_file, sha256_of_json, write_json, writing_explained
from scenepalette.data.arrays import Pairs
from scenepalette.data.cards.croissant import write_croissant
from scenepalette.data.cards.dataset_card import write_card
from scenepalette.data.shards.kinds import described
from scenepalette.data.shards.manifest import make_manifest, read_manifest, stray_problems, write_manifest
from scenepalette.data.shards.schema import shard_name
from scenepalette.data.shards.writing import ShardInfo
from scenepalette.data.unlabelled import UnlabelledImages
from scenepalette.generators.pairs.base import PairKind
from scenepalette.pipeline.config import GenerateConfig
from scenepalette.pipeline.run_directory.manifests import MANIFEST, STAGING

RECEIPTS = ".finished"


@dataclass(frozen=True)
class ShardPlan:
    """One shard to write: its file name and its rows."""

    name: str
    first: int
    rows: int


def plan_shards(pairs: int, rows_per_shard: int, present: Sequence[tuple[str, int]] = ()) -> list[ShardPlan]:
    """Return the shards that hold all rows of a kind; no name depends on who writes them.

    Args:
        pairs: Rows that are wanted.
        rows_per_shard: Rows of each new shard but the last.
        present: Names and rows of shards that are there; new ones come after them, and hold what is missing.
    """
    rows = [count for _, count in present]
    while sum(rows) < pairs:
        rows.append(min(rows_per_shard, pairs - sum(rows)))
    names = [name for name, _ in present] + [shard_name(i, len(rows)) for i in range(len(present), len(rows))]
    firsts = [0, *itertools.accumulate(rows)]
    return [ShardPlan(name, first, count) for name, first, count in zip(names, firsts, rows, strict=False)]


def shards_of(folder: Path) -> list[tuple[str, int]]:
    """Return names and rows of the shards that a folder's manifest lists, in order; none if it has no manifest."""
    if not (folder / MANIFEST).is_file():
        return []
    return [(shard["name"], shard["rows"]) for shard in read_manifest(folder)["shards"]]


def plans_for(folder: Path, config: GenerateConfig) -> list[ShardPlan]:
    """Return the shards of a folder that is made, or extended, to hold `config.pairs` rows.

    They do not depend on what an interrupted call has written; `adopt_shards` keeps what fits.
    """
    return plan_shards(config.pairs, config.rows_per_shard, shards_of(folder))


def check_strays(folder: Path) -> None:
    """Check that a set that is extended has no Parquet files beside its own.

    Raises:
        DataError: It has; readers of whole folders would take them for shards.
    """
    own = {info.name for info in _receipts(folder).values()}
    if problems := stray_problems(folder, read_manifest(folder), own):
        raise DataError(f"{folder} holds Parquet files of somebody else. Move them elsewhere.", problems)


def adopt_shards(folder: Path, config: GenerateConfig) -> None:
    """Let what an interrupted call has written fit the plan: shards get the plan's names, others are removed.

    Call it before shards are made, while no one else writes into the folder.
    """
    listed, plans = len(shards_of(folder)), plans_for(folder, config)
    with writing_explained(folder):
        for index, info in sorted(_receipts(folder).items()):
            place, plan = place_of(folder, info.name), plans[index] if index < len(plans) else None
            if index < listed or (plan is not None and info.name == plan.name and info.rows == plan.rows):
                continue
            if plan is not None and info.rows == plan.rows and _is_there(folder, info):
                os.replace(place, place.with_name(plan.name))
                write_json(receipt_of(folder, plan.name), asdict(replace(info, name=plan.name)))
            else:
                place.unlink(missing_ok=True)
            receipt_of(folder, info.name).unlink()
        # Written, but not recorded before the call was killed.
        planned = {plan.name for plan in plans}
        for path in (folder / STAGING).glob("*.parquet"):
            if path.name not in planned:
                path.unlink()


def receipt_of(folder: Path, name: str) -> Path:
    """Return where it is recorded that a shard was written."""
    return folder / RECEIPTS / f"{name}.json"


def _receipts(folder: Path) -> dict[int, ShardInfo]:
    """Return what was recorded of written shards, by their index; damaged records are left out."""
    found = {}
    for path in sorted((folder / RECEIPTS).glob("train-*.parquet.json")):
        with contextlib.suppress(ScenepaletteError, TypeError, ValueError):
            info = ShardInfo(**read_json(path))
            if info.name == path.name.removesuffix(".json"):
                found[int(info.name.split("-")[1])] = info
    return found


def place_of(folder: Path, name: str) -> Path:
    """Return where a shard that no manifest lists yet lies, or is to be written: out of sight until all are there."""
    shown = folder / name
    return shown if shown.exists() else folder / STAGING / name


def _is_there(folder: Path, info: ShardInfo) -> bool:
    path = place_of(folder, info.name)
    return path.is_file() and path.stat().st_size == info.bytes


def is_written(folder: Path, plan: ShardPlan) -> ShardInfo | None:
    """Return the receipt of a shard that is on disk as it was written, or None.

    The size is compared here; the content is hashed before the manifest is written.
    """
    receipt = receipt_of(folder, plan.name)
    if not receipt.exists():
        return None
    try:
        info = ShardInfo(**read_json(receipt))
    except (ScenepaletteError, TypeError) as error:
        print(f"Making {plan.name} again, because {receipt} is damaged: {error}", file=sys.stderr, flush=True)
        return None
    return info if info.rows == plan.rows and _is_there(folder, info) else None


def finish_shards(
    folder: Path,
    kind: PairKind,
    config: GenerateConfig,
    *,
    train: Pairs,
    unlabelled: UnlabelledImages | None,
    models: Mapping[str, str],
    remake: Callable[[ShardPlan], ShardInfo],
    identity: Mapping[str, Any],
    features: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Check all new shards against their receipts and write the card, the Croissant file and, last, the manifest.

    Args:
        folder: Folder of the kind's shards.
        kind: Kind of the pairs.
        config: Settings of the generation.
        train: Real training pairs, with class table and licence.
        unlabelled: Images behind pseudo pairs.
        models: Content hashes of the models that took part, by role.
        remake: Makes a shard again that was damaged between writing and finishing.
        identity: Fields by which the run recognises the folder, and "config": the settings that decided the rows.
        features: Result of `features_beside`.

    Returns:
        The manifest.
    """
    present = read_manifest(folder)["shards"] if (folder / MANIFEST).is_file() else []
    infos = [ShardInfo(**shard) for shard in present]
    for plan in plans_for(folder, config)[len(present) :]:
        info = is_written(folder, plan)
        if info is None or sha256_of_file(place_of(folder, plan.name)) != info.sha256:
            receipt_of(folder, plan.name).unlink(missing_ok=True)
            info = remake(plan)
        infos.append(info)
    images = {}
    if unlabelled is not None:
        images = {
            "images": f"{len(unlabelled)} unlabelled images of the folder {unlabelled.name}, under their own terms"
        }
    manifest = make_manifest(
        infos,
        kind=kind.name,
        table=train.table,
        config_hash=sha256_of_json(identity["config"]),
        models=models,
        source={
            "name": train.name,
            "licence": train.licence,
            "split": "train",
            "label_origins": dict(train.label_origins),
            **images,
            **(features or {}),
        },
        extra={**identity, **described(kind.name, kind.card)},
    )
    with writing_explained(folder):
        for info in infos[len(present) :]:
            os.replace(place_of(folder, info.name), folder / info.name)
        shutil.rmtree(folder / STAGING, ignore_errors=True)
    write_card(folder, manifest)
    write_croissant(folder, manifest)
    write_manifest(folder, manifest)
    return manifest
