"""Stage generate: write pairs of one kind to Parquet shards, one shard at a time or many beside each other."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.processors import worker_count
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.storage.files import read_json, sha256_of_file, sha256_of_json, write_json, writing_explained
from scenepalette.data.arrays import Pairs
from scenepalette.data.cards.croissant import write_croissant
from scenepalette.data.cards.dataset_card import write_card
from scenepalette.data.licences import PRETRAINED
from scenepalette.data.shards.kinds import described
from scenepalette.data.shards.manifest import make_manifest, read_manifest, stray_problems, write_manifest
from scenepalette.data.shards.schema import Row, shard_name
from scenepalette.data.shards.writing import ShardInfo, write_shard
from scenepalette.data.unlabelled import UnlabelledImages, read_unlabelled
from scenepalette.evaluation.images.features import CHOSEN_SEGMENTER, SegmenterFeatures
from scenepalette.generators.images import loading as image_loading
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.generators.layouts import loading as layout_loading
from scenepalette.generators.layouts.hardening import Hardening
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.pairs.base import PairKind, PairMaker
from scenepalette.generators.pairs.batches import made_ahead
from scenepalette.generators.pairs.composite import usual_feather
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.generators.pairs.segment_bank import bank_problems
from scenepalette.pipeline.config import GenerateConfig, RunConfig, config_of_pairs
from scenepalette.pipeline.report.comparison import PERCEPTUAL
from scenepalette.pipeline.run_directory.manifests import MANIFEST, STAGING, check_contents, read_record
from scenepalette.pipeline.run_directory.ownership import keep_changed, write_shards_card
from scenepalette.pipeline.stages.finetune import FinetunedUnit
from scenepalette.pipeline.stages.images import ImageModel, ImagesUnit, image_model
from scenepalette.pipeline.stages.layouts import LayoutModel, LayoutsUnit, layout_model
from scenepalette.pipeline.stages.palettes import SAMPLER, load_sampler
from scenepalette.pipeline.units.borrowing import BorrowedUnit, lender_of
from scenepalette.pipeline.units.records import fingerprint_of
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace
from scenepalette.training.checkpoint import read_metadata
from scenepalette.training.device.speed import speed_of

VERSION = 4
RECEIPTS = ".finished"
ROWS_AHEAD = 64
"""Rows that a GPU may have made before they are encoded."""
MOST_ENCODERS = 16
"""Threads that encode beside a GPU."""
# Named in what identifies pairs only where they take part in them.
_OF_COMPOSITES = {"composite", "feather", *(name for kind in PAIR_KINDS.values() for name in kind.settings)}


@dataclass(frozen=True)
class PairModels:
    """The models that make pairs of one kind.

    Attributes:
        kind: Kind of pairs.
        layout: Makes or edits layouts; None where the layouts are real or predicted.
        image: Makes images.
        finetuning: Name of the end-to-end fine-tuning of both within its stage, or None.
    """

    kind: PairKind
    layout: LayoutModel | None
    image: ImageModel
    finetuning: str | None = None

    @property
    def finetuned(self) -> str | None:
        """Folder of the end-to-end fine-tuning."""
        return f"finetuned/{self.finetuning}" if self.finetuning is not None else None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Units that the pairs are made from, beside the data and the palettes."""
        if self.finetuned is not None:
            return (self.finetuned,)
        return (*([self.layout.unit] if self.layout else []), self.image.unit)

    @property
    def units(self) -> tuple[str, ...]:
        """Units in which the models are trained."""
        trained = (*([self.layout.unit] if self.layout else []), self.image.unit)
        return (*trained, self.finetuned) if self.finetuned else trained

    def layout_weights(self, run_dir: Path) -> Path | None:
        """Return the weights of what makes or predicts the layouts; None where they are real."""
        if self.kind.predicts:
            return self.image.discriminator_weights(run_dir)
        if self.layout is None:
            return None
        if self.finetuned:
            return run_dir / self.finetuned / layout_loading.FINE_TUNED_WEIGHTS
        return run_dir / self.layout.unit / layout_loading.WEIGHTS

    def image_weights(self, run_dir: Path) -> Path:
        """Return the weights of the image generator."""
        if self.finetuned:
            return run_dir / self.finetuned / image_loading.FINE_TUNED_WEIGHTS
        return run_dir / self.image.unit / image_loading.WEIGHTS

    def weights(self, run_dir: Path) -> dict[str, Path]:
        """Return the weights that take part, by their role in the columns of shards."""
        layout, image = self.layout_weights(run_dir), self.image_weights(run_dir)
        return {**({"layout_model": layout} if layout is not None else {}), "image_model": image}


def pair_models(config: RunConfig, kind: str) -> PairModels:
    """Return what makes a kind of pairs, by its name."""
    pairs = PAIR_KINDS[kind]
    return PairModels(
        pairs,
        layout_model(config, pairs.layout_section) if pairs.layout_section else None,
        image_model(config),
        kind if kind in config.finetune.kinds else None,
    )


def model_units(config: RunConfig, sources: Sources, models: Iterable[PairModels]) -> list[Unit]:
    """Return the units of the models that pairs are made with, each once: layouts, images, and both fine-tuned."""
    layouts: dict[str, Unit] = {}
    images: dict[str, Unit] = {}
    finetuned: dict[str, Unit] = {}
    for made_by in models:
        layout, image, part = made_by.layout, made_by.image, made_by.finetuning
        images[image.unit] = ImagesUnit.of(config, sources, image)
        if layout is not None:
            layouts[layout.unit] = LayoutsUnit.of(config, layout)
            if part is not None:
                finetuned[part] = FinetunedUnit.of(config, sources, part, layout, image)
    units = [*layouts.values(), *images.values(), *finetuned.values()]
    lender = config.models_from
    if lender is None:
        return units
    weights = {unit.name: sources.borrowed(lender, unit) for unit in units}
    return [BorrowedUnit.of(unit, lender, lent) if (lent := weights[unit.name]) else unit for unit in units]


def hardening_of(config: RunConfig, models: PairModels, stage: str) -> Hardening:
    """Return how layouts of these models become class ids.

    There is nothing to keep to where no layout is made or no palette asked for. The comparison of systems measures how
    well these keep to palettes by themselves, as their papers do.
    """
    asked = models.layout is not None and LAYOUT_SYSTEMS[models.layout.system].conditional
    return config.generate.hardening if asked and stage != "comparison" else "argmax"


@dataclass(frozen=True, kw_only=True)
class PairsUnit(Unit):
    """Shards of generated pairs; more can be added to them.

    Attributes:
        models: What makes them.
        noise_scheme: How the images' noise is drawn; None for the image system's usual way.
        hardening: How class ids follow from generated soft layouts.
    """

    shared: ClassVar[bool] = True

    models: PairModels
    noise_scheme: NoiseScheme | None
    hardening: Hardening

    @classmethod
    def of(
        cls,
        config: RunConfig,
        part: str,
        models: PairModels,
        rows: int,
        noise_scheme: NoiseScheme | None,
        *,
        stage: str = "shards",
    ) -> PairsUnit:
        """Return the unit of a name within a stage."""
        generation = config.generate.of_kind(models.kind)
        settings = generation.model_dump(
            mode="json", exclude={"kinds", "pairs", "candidates", "hardening", *_OF_COMPOSITES}
        )
        settings |= {"seed": config.seed}
        hardening = hardening_of(config, models, stage)
        if hardening != "argmax":  # which was there first and is not named
            settings["hardening"] = hardening
        if generation.keep_real_pixels(models.kind):
            feather = generation.feather or usual_feather(config.generator_size)
            own = generation.model_dump(mode="json", include=set(models.kind.settings))
            settings |= {"feather": feather, **own}
        if models.kind.edits_layouts:
            editing = config.layouts.partial
            # What is added has no crop; the usual replacement was there first and is not named.
            settings |= {"crop_mode": editing.crop_mode, **({"edits": "add"} if editing.edits == "add" else {})}
        inputs = ("data", *(["unlabelled"] if models.kind.predicts else []), "palettes", *models.inputs)
        return cls(
            stage,
            part,
            VERSION,
            settings,
            inputs,
            rows=rows,
            models=models,
            noise_scheme=noise_scheme,
            hardening=hardening,
        )

    @classmethod
    def of_kinds(cls, config: RunConfig) -> list[PairsUnit]:
        """Return the units of all kinds of a configuration."""
        generation = config.generate
        return [
            cls.of(config, kind, pair_models(config, kind), generation.rows, generation.noise_scheme)
            for kind in generation.kinds
        ]

    @property
    def label(self) -> str:
        """What progress calls the pairs."""
        return self.part if self.stage == "shards" else self.name

    @classmethod
    def problems_of_data(cls, units: Sequence[PairsUnit], config: RunConfig, data: PreparedData) -> list[str]:
        """Say which objects cannot be inserted."""
        if not any("insert_classes" in unit.models.kind.settings for unit in units):
            return []
        return [f"generate.{text}" for text in bank_problems(data.train, config.generate.insert_classes)]

    def generation(self, config: RunConfig) -> GenerateConfig:
        """Return the settings by which the pairs are made."""
        return config.generate.of_kind(self.models.kind).model_copy(update={"pairs": self.rows})

    def plans(self, run: Workspace) -> list[ShardPlan]:
        """Return the shards that are lacking, or were written since the manifest; the unit has to be begun."""
        folder = run.run_dir / self.name
        return plans_for(folder, self.generation(run.config))[len(shards_of(folder)) :]

    def begin(self, run: Workspace) -> None:
        """Check what a set that is extended has, and let what an interrupted call has written fit the plan."""
        folder = run.run_dir / self.name
        if (folder / MANIFEST).is_file():
            # Before hours of work, not after it.
            check_contents(folder)
            check_strays(folder)
        adopt_shards(folder, self.generation(run.config))

    def make(self, run: Workspace, folder: Path) -> None:
        """Write this process's part of the shards."""
        maker, generation = self.pair_maker(run), self.generation(run.config)
        plans = self.plans(run)[run.ranks.part]
        run.progress.start(f"generate {self.label}", sum(plan.rows for plan in plans))
        for plan in plans:
            make_shard(folder, plan, maker, generation, run.progress)
        run.progress.finish()

    def pair_maker(self, run: Workspace) -> PairMaker:
        """Return what makes the pairs from finished models.

        Raises:
            ScenepaletteError: Files that they are made from are damaged.
        """
        run.check_inputs(self.name)
        config, models = run.config, self.models
        train, _, filled_labels = run.data
        layout_weights, image_weights = models.layout_weights(run.run_dir), models.image_weights(run.run_dir)
        return PairMaker(
            kind=models.kind,
            seed=config.seed,
            train=train,
            filled_labels=filled_labels,
            sampler=load_sampler(run.run_dir / "palettes"),
            image_generator=models.image.load(run, image_weights),
            image_model=sha256_of_file(image_weights),
            layout_generator=models.layout.load(run, layout_weights) if models.layout is not None else None,
            layout_model=sha256_of_file(layout_weights) if layout_weights is not None else None,
            fabric=run.fabric,
            noise_scheme=self.noise_scheme,
            controls=config.generate.controls(),
            crop_mode=config.layouts.partial.crop_mode,
            edits=config.layouts.partial.edits,
            **config.generate.for_composites(),
            hardening=self.hardening,
            unlabelled=self._unlabelled(run),
            labeller=models.image.labeller(run) if models.kind.predicts else None,
            collection=fingerprint_of(self, run.units)[:8],
            fills_memory=config.compute.fill_memory,
        )

    def _unlabelled(self, run: Workspace) -> UnlabelledImages | None:
        return read_unlabelled(run.run_dir / "unlabelled") if self.models.kind.predicts else None

    def manifest_writer(self, run: Workspace) -> Callable[[dict[str, Any]], None]:
        """Return what checks all shards and writes their card and manifest; no network is loaded for it."""
        return partial(self._write_manifest, run)

    def _write_manifest(self, run: Workspace, identity: Mapping[str, Any]) -> None:
        folder, generation = run.run_dir / self.name, self.generation(run.config)
        if (folder / MANIFEST).is_file() and read_manifest(folder)["rows"] >= generation.pairs:
            # Killed between the manifest and the end of its bookkeeping: nothing was added since it was written.
            write_shards_card(run.run_dir)
            return
        records = {other: read_record(run.run_dir / other / MANIFEST) for other in self.inputs}
        borrowed = {other: record["lender"]["fingerprint"] for other, record in records.items() if lender_of(record)}
        origin = {
            "config": config_of_pairs(run.config),
            "files": {
                f"{other}/{file}": entry["sha256"]
                for other, record in records.items()
                for file, entry in record.get("files", {}).items()
                if Path(file).suffix == ".npy" or file == SAMPLER
            },
            # Trained in another run: the fingerprints that these units have there.
            **({"borrowed": borrowed} if borrowed else {}),
            "environment": run.environment(),
            **({"earlier": earlier} if (earlier := _earlier_parts(folder)) else {}),
        }
        if (folder / MANIFEST).is_file():
            documents = read_manifest(folder)["documents"]
            keep_changed(run.run_dir, {f"{self.name}/{file}": sha256 for file, sha256 in documents.items()})
        finish_shards(
            folder,
            self.models.kind,
            generation,
            train=run.data.train,
            unlabelled=self._unlabelled(run),
            models={role: sha256_of_file(path) for role, path in self.models.weights(run.run_dir).items()},
            remake=lambda plan: make_shard(folder, plan, self.pair_maker(run), generation, NO_PROGRESS),
            identity={**identity, **origin},
            features=features_beside(self.models.image_weights(run.run_dir)),
        )
        write_shards_card(run.run_dir)


def features_beside(image_weights: Path) -> dict[str, Any]:
    """Return what the source of pairs is to say of networks from elsewhere that their image generator owes to.

    Args:
        image_weights: Weights of the image generator.

    Returns:
        Under "perceptual_features" the description of the network that it learned from, unless that was trained on the
        real pairs; under "pretrained" the terms of the weights that it is built on, by name. Nothing if there are none.
    """
    metadata = read_metadata(image_weights)
    network, found = metadata.get(PERCEPTUAL), dict[str, Any]()
    if network not in (None, SegmenterFeatures.description, CHOSEN_SEGMENTER):
        found[PERCEPTUAL] = f"{network}, under the terms of these weights"
    if PRETRAINED in metadata:
        found[PRETRAINED] = metadata[PRETRAINED]
    return found


def _earlier_parts(folder: Path) -> list[dict[str, Any]]:
    """Return with what the rows of a set that is extended were made: their number, environment and code, in order."""
    if not (folder / MANIFEST).is_file():
        return []
    manifest = read_manifest(folder)
    extra = manifest["extra"]
    earlier = [*extra.get("earlier", [])]
    rows = manifest["rows"] - sum(part["rows"] for part in earlier)
    part = {"rows": rows, "environment": extra.get("environment"), "code": manifest["code"]}
    return [*earlier, part] if rows else earlier


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
                write_json(_receipt(folder, plan.name), asdict(replace(info, name=plan.name)))
            else:
                place.unlink(missing_ok=True)
            _receipt(folder, info.name).unlink()
        # Written, but not recorded before the call was killed.
        planned = {plan.name for plan in plans}
        for path in (folder / STAGING).glob("*.parquet"):
            if path.name not in planned:
                path.unlink()


def _receipt(folder: Path, name: str) -> Path:
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
    receipt = _receipt(folder, plan.name)
    if not receipt.exists():
        return None
    try:
        info = ShardInfo(**read_json(receipt))
    except (ScenepaletteError, TypeError) as error:
        print(f"Making {plan.name} again, because {receipt} is damaged: {error}", file=sys.stderr, flush=True)
        return None
    return info if info.rows == plan.rows and _is_there(folder, info) else None


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
        written = write_rows(place_of(folder, plan.name), plan, maker, config, progress)
        write_json(_receipt(folder, plan.name), asdict(written))
    else:
        progress.advance(plan.rows)
    return written


def write_rows(
    path: Path,
    plan: ShardPlan,
    maker: PairMaker,
    config: GenerateConfig,
    progress: Progress,
    *,
    expected_sha256: str | None = None,
) -> ShardInfo:
    """Generate the rows of one shard and write them; `expected_sha256` as in `write_shard`."""
    beside = speed_of(maker.fabric).beside
    made = maker.rows(plan.first, plan.rows, config.batch_size)

    def counted() -> Generator[Row, None, None]:
        with contextlib.closing(made_ahead(made, ROWS_AHEAD) if beside else made) as rows:
            for row in rows:
                yield row
                progress.advance()

    with contextlib.closing(counted()) as rows:
        return write_shard(
            path,
            rows,
            table=maker.train.table,
            image_format=config.image_format,
            jpeg_quality=config.jpeg_quality,
            encoders=worker_count(MOST_ENCODERS) if beside else 1,
            expected_sha256=expected_sha256,
        )


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
            _receipt(folder, plan.name).unlink(missing_ok=True)
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
