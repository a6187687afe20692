"""Stage generate: write pairs of one kind to Parquet shards, one shard at a time or many beside each other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from scenepalette.common.processors import worker_count
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.storage.files import sha256_of_file, write_json
from scenepalette.data.licences import PRETRAINED
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.schema import Row
from scenepalette.data.shards.writing import ShardInfo, write_shard
from scenepalette.data.unlabelled import UnlabelledImages, read_unlabelled
from scenepalette.evaluation.images.features import OWN_FEATURES
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
from scenepalette.pipeline.run_directory.manifests import MANIFEST, check_contents, read_record
from scenepalette.pipeline.run_directory.ownership import keep_changed, write_shards_card
from scenepalette.pipeline.stages.finetune import FinetunedUnit
from scenepalette.pipeline.stages.images import ImageModel, ImagesUnit, image_model
from scenepalette.pipeline.stages.layouts import LayoutModel, LayoutsUnit, layout_model
from scenepalette.pipeline.stages.palettes import SAMPLER, load_sampler
from scenepalette.pipeline.stages.shard_files import (
    ShardPlan,
    adopt_shards,
    check_strays,
    finish_shards,
    is_written,
    place_of,
    plans_for,
    receipt_of,
    shards_of,
)
from scenepalette.pipeline.units.borrowing import BorrowedUnit, lender_of
from scenepalette.pipeline.units.records import fingerprint_of
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace
from scenepalette.training.checkpoint import read_metadata
from scenepalette.training.device.speed import speed_of

VERSION = 4
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

    There is nothing to keep to where no layout is made or no palette asked for, and objects are added to whole layouts
    alone. The comparison of systems measures how well these keep to palettes by themselves, as their papers do.
    """
    hardening = config.generate.hardening
    asked = models.layout is not None and LAYOUT_SYSTEMS[models.layout.system].conditional
    if not asked or stage == "comparison" or (hardening == "objects" and not models.kind.from_scratch):
        return "argmax"
    return hardening


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
        if hardening == "objects":
            settings["insert_classes"] = list(generation.insert_classes)
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
        inserts = any("insert_classes" in unit.models.kind.settings for unit in units)
        adds = any(unit.hardening == "objects" for unit in units)
        # Without rare classes there is nothing to add, which is no problem unless some are named.
        if not (inserts or (adds and config.generate.insert_classes)):
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
        config, models, data = run.config, self.models, run.data
        layout_weights, image_weights = models.layout_weights(run.run_dir), models.image_weights(run.run_dir)
        return PairMaker(
            kind=models.kind,
            seed=config.seed,
            train=data.train,
            filled_labels=data.filled_labels,
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

    Returns:
        Under "perceptual_features" the description of the network that it learned from, unless that was trained on the
        real pairs; under "pretrained" the terms of the weights that it is built on, by name. Nothing if there are none.
    """
    metadata = read_metadata(image_weights)
    network, found = metadata.get(PERCEPTUAL), dict[str, Any]()
    if network is not None and network not in OWN_FEATURES:
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


def make_shard(
    folder: Path, plan: ShardPlan, maker: PairMaker, config: GenerateConfig, progress: Progress
) -> ShardInfo:
    """Generate and write one shard, unless it is there; its bytes depend on (seed, kind, rows) and the models alone."""
    written = is_written(folder, plan)
    if written is None:
        written = write_rows(place_of(folder, plan.name), plan, maker, config, progress)
        write_json(receipt_of(folder, plan.name), asdict(written))
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
