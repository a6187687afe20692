"""Stage generate: write pairs of one kind to Parquet shards, one shard at a time or many beside each other."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from data.cards import write_card
from data.croissant import write_croissant
from data.errors import ScenepaletteError
from data.files import read_json, sha256_of_file, sha256_of_json, write_json
from data.shards.manifest import make_manifest, write_manifest
from data.shards.schema import Row, shard_name
from data.shards.writing import ShardInfo, write_shard
from generators.production import PairMaker
from pipeline.config import GenerateConfig
from training.loop import NO_PROGRESS, Progress

VERSION = 3
RECEIPTS = ".finished"


@dataclass(frozen=True)
class ShardPlan:
    """One shard to write: its file name and its rows."""

    name: str
    first: int
    rows: int


def plan_shards(config: GenerateConfig) -> list[ShardPlan]:
    """Return the shards that hold all rows of a kind, as even as possible; no name depends on who writes them."""
    count = -(-config.pairs // config.rows_per_shard)
    ends = [config.pairs * (i + 1) // count for i in range(count)]
    starts = [0, *ends[:-1]]
    return [ShardPlan(shard_name(i, count), a, b - a) for i, (a, b) in enumerate(zip(starts, ends, strict=True))]


def is_written(folder: Path, plan: ShardPlan) -> ShardInfo | None:
    """Return the receipt of a shard that is on disk as it was written, or None.

    The size is compared here; the content is hashed before the manifest is written.
    """
    receipt = folder / RECEIPTS / f"{plan.name}.json"
    if not receipt.exists():
        return None
    try:
        info = ShardInfo(**read_json(receipt))
    except (ScenepaletteError, TypeError) as error:
        print(f"Making {plan.name} again, because {receipt} is damaged: {error}", file=sys.stderr, flush=True)
        return None
    shard = folder / plan.name
    whole = shard.exists() and shard.stat().st_size == info.bytes and info.rows == plan.rows
    return info if whole else None


def make_shard(
    folder: Path, plan: ShardPlan, maker: PairMaker, config: GenerateConfig, progress: Progress
) -> ShardInfo:
    """Generate and write one shard, unless it is there; its bytes depend on (seed, kind, rows) and the models alone.

    Args:
        folder: Folder of the kind's shards.
        plan: The shard.
        maker: Makes the rows.
        config: Batch size and image format.
        progress: Watches the pairs.
    """
    written = is_written(folder, plan)
    if written is None:

        def counted() -> Generator[Row, None, None]:
            for row in maker.rows(plan.first, plan.rows, config.batch_size):
                yield row
                progress.advance()

        with contextlib.closing(counted()) as rows:
            written = write_shard(
                folder / plan.name,
                rows,
                table=maker.train.table,
                image_format=config.image_format,
                jpeg_quality=config.jpeg_quality,
                encoders=1,
            )
        write_json(folder / RECEIPTS / f"{plan.name}.json", written.to_dict())
    else:
        progress.advance(plan.rows)
    return written


def finish_shards(folder: Path, maker: PairMaker, config: GenerateConfig, identity: dict[str, object]) -> None:
    """Check all shards against their receipts and write the card, the Croissant file and, last, the manifest.

    Args:
        folder: Folder of the kind's shards.
        maker: What made the rows.
        config: Settings of the generation.
        identity: Fields by which the run recognises the folder, and "config": the settings that decided the rows.
    """
    infos = []
    for plan in plan_shards(config):
        info = is_written(folder, plan)
        if info is None or sha256_of_file(folder / plan.name) != info.sha256:
            # Damaged between writing and finishing: made again rather than recorded.
            (folder / RECEIPTS / f"{plan.name}.json").unlink(missing_ok=True)
            info = make_shard(folder, plan, maker, config, NO_PROGRESS)
        infos.append(info)
    images = {}
    if maker.unlabelled is not None:
        count, name = len(maker.unlabelled), maker.unlabelled.name
        images = {"images": f"{count} unlabelled images of the folder {name}, under their own terms"}
    manifest = make_manifest(
        infos,
        kind=maker.kind,
        table=maker.train.table,
        config_hash=sha256_of_json(identity["config"]),
        models={
            role: value
            for role, value in (("layout_model", maker.layout_model), ("image_model", maker.image_model))
            if value is not None
        },
        source={
            "name": maker.train.name,
            "licence": maker.train.licence,
            "split": "train",
            "label_origins": dict(maker.train.label_origins),
            **images,
        },
        extra=identity,
    )
    write_card(folder, manifest)
    write_croissant(folder, manifest)
    write_manifest(folder, manifest)
