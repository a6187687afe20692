"""Stage report: evaluate the generated pairs and write what every arm gains or loses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from scenepalette.common.randomness import torch_generator
from scenepalette.data.arrays import Pairs, PairSource, images_to_uint8
from scenepalette.data.class_counts import class_counts
from scenepalette.data.labels import one_hot
from scenepalette.data.rare_classes import rare_classes
from scenepalette.data.sequences import blocks_of, evenly_spread
from scenepalette.data.shards.pairs import FirstPairs, ShardPairs
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.data.shards.schema import palette_of_label
from scenepalette.data.unlabelled import UnlabelledImages, read_unlabelled
from scenepalette.evaluation.evidence import Draws, Evidence
from scenepalette.evaluation.generated import measure
from scenepalette.evaluation.images.features import segmenter_features
from scenepalette.evaluation.miou import confusion_per_image, intersection_over_union, mean_of_defined, overlaps
from scenepalette.evaluation.native import confusion_of_images
from scenepalette.evaluation.registry import metrics_from_elsewhere
from scenepalette.generators.images.base import ImageGenerator
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.generators.palettes import palette_divergence, reached_shares
from scenepalette.pipeline.arms import ARMS, added_kind
from scenepalette.pipeline.checks.requirements import LEAST_SAMPLES
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.report.document import write_report
from scenepalette.pipeline.report.results import (
    ArmCost,
    ArmRun,
    ChangedImage,
    EvaluatedSplit,
    PairSample,
    ReportInputs,
    WorstPair,
)
from scenepalette.pipeline.report.statistics import choose
from scenepalette.pipeline.run_directory.manifests import MANIFEST, read_record
from scenepalette.pipeline.run_directory.study_results import CURVE_RESULT, LOOP_RESULT, read_result
from scenepalette.pipeline.stages.images import image_model
from scenepalette.pipeline.stages.inputs.extra_tests import EXTRA_TESTS
from scenepalette.pipeline.stages.inputs.fitted import resolution_of
from scenepalette.pipeline.stages.inputs.split_findings import read_findings
from scenepalette.pipeline.stages.pair_quality.quality import found_by_teachers
from scenepalette.pipeline.stages.palettes import load_sampler, real_palettes, stored_palettes
from scenepalette.pipeline.stages.reporting.copies import check_copies
from scenepalette.pipeline.stages.reporting.pooling import (
    PooledRun,
    identity_of,
    pooled_runs,
    pooling_notes,
    runs_of_arm,
    shared_seeds,
)
from scenepalette.pipeline.stages.segment import (
    CONFUSION,
    EVALUATION_BATCH,
    TEST_CONFUSION,
    arm_settings,
    arm_steps,
    read_confusion,
    reference_segmenter_of,
    segmenter_name,
)
from scenepalette.pipeline.stages.segment_by_command import confusion_by_command, predictions_by_command
from scenepalette.pipeline.units.borrowing import lender_of
from scenepalette.pipeline.units.records import BORROWED, fingerprint_of, seconds_spent
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace, ancestors
from scenepalette.segmenters.loading import load_segmenter
from scenepalette.training.loop import METRICS_FILE
from scenepalette.training.settings import settings_of_result

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VERSION = 3
SHOWN_PAIRS = 8
SHOWN_FAILURES = 3
GENERATOR_STAGES = ("palettes", "layouts", "images", "finetuned")
SELECTION_STAGES = ("shards", "teachers", "quality", "selected")
"""Of what an arm is made from once there are generators: rows of pairs, their teachers' scores, the choice of rows."""
NOISE_LAYOUTS = 4
NOISE_DRAWS = 4


@dataclass(frozen=True)
class ReportUnit(Unit):
    """The report on all arms."""

    @classmethod
    def of(cls, config: RunConfig, sources: Sources, units: Sequence[Unit]) -> ReportUnit:
        """Return the unit that reads all others of a run."""
        settings = {
            **config.report.identity(),
            "inception_weights": sources.file(config.report.inception_weights, "report", "inception_weights"),
            "pairs": config.generate.pairs,
            **({"candidates": config.generate.candidates} if config.generate.candidates > 1 else {}),
            "seed": config.seed,
            **metrics_from_elsewhere(),
        }
        if config.report.runs:
            settings["runs"] = sources.runs(config.report.runs, "report", "runs", identity_of)
        inputs = tuple(unit.name for unit in units)
        return cls("report", "", VERSION, settings, inputs, renewed=True, resumable=False)

    @classmethod
    def problems(cls, units: Sequence[ReportUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Say if too few pairs are asked for."""
        if config.generate.pairs >= LEAST_SAMPLES:
            return []
        return [
            f"generate.pairs: the report needs at least {LEAST_SAMPLES} pairs of each kind, got {config.generate.pairs}"
        ]

    @classmethod
    def problems_of_data(cls, units: Sequence[ReportUnit], config: RunConfig, data: PreparedData) -> list[str]:
        """Say if classes are named that there are not."""
        return rare_class_problems(config, data.train)

    def make(self, run: Workspace, folder: Path) -> None:
        """Evaluate the pairs and write the report."""
        write_report(folder, measure_run(run))


def provenance(run: Workspace) -> dict[str, Any]:
    """Return what a reader needs to assess and repeat a run."""
    segmenters = run.config.segmenters
    lenders = {
        name: {"run": lender["run"], "fingerprint": lender["fingerprint"], "weights": unit.settings[BORROWED]}
        for name, unit in run.units.items()
        if BORROWED in unit.settings
        and (path := run.run_dir / name / MANIFEST).is_file()
        and (lender := lender_of(read_record(path)))
    }
    return {
        "scenepalette": version("scenepalette"),
        "command": run.command,
        "recipe": run.config.recipe,
        "seed": run.config.seed,
        "run_dir": str(run.run_dir),
        **({"segmenters": settings_of_result(commands)} if (commands := segmenters.command.settings()).train else {}),
        "config_hash": fingerprint_of(run.units["report"], run.units),
        **({"models_from": lenders} if lenders else {}),
        **run.environment(),
    }


def measure_run(run: Workspace) -> ReportInputs:
    """Evaluate the pairs of a run, and gather everything that its report is written from."""
    config, run_dir, fabric, progress = run.config, run.run_dir, run.fabric, run.progress
    data, train = run.data, run.data.train
    seen, size = run.segmenter_data, config.segmenter_size  # at the size that segmenters work at
    reported_file = TEST_CONFUSION if data.has_test else CONFUSION
    sampler = load_sampler(run_dir / "palettes")
    unlabelled = read_unlabelled(run_dir / "unlabelled") if config.generate.predicts else None
    segmenters = config.segmenters
    pooled = pooled_runs(run)
    arms = _arm_runs(run, pooled, reported_file)
    real_folder = run_dir / reference_segmenter_of(config)
    real_segmenter = load_segmenter(real_folder, arm_settings(segmenters, "real"), train.table)
    count = config.report.evaluated_pairs
    folders = {kind: run_dir / config.generate.unit_of_pairs(kind) for kind in config.generate.kinds}
    # A folder may hold more pairs than this run's arms are trained with.
    shards = {
        kind: FirstPairs(ShardPairs(folder, size=size), config.generate.pairs) for kind, folder in folders.items()
    }
    gan_test = {
        kind: confusion_per_image(real_segmenter, FirstPairs(pairs, count), EVALUATION_BATCH, fabric, progress)
        for kind, pairs in shards.items()
    }
    palettes = {kind: stored_palettes(folder, config.generate.pairs) for kind, folder in folders.items()}
    from_scratch = [kind for kind in shards if PAIR_KINDS[kind].from_scratch]
    shown = (from_scratch or config.generate.kinds)[0]
    generated = FirstPairs(shards[shown], count)
    noise_samples = _noise_samples(
        image_model(config).load(run), data.filled_labels, train.table.num_classes, config.seed, fabric
    )
    copy_checks = check_copies(run, shards, count, real_segmenter)
    evidence = Evidence(
        FirstPairs(seen.validation, count),
        generated,
        real_segmenter,
        batch_size=EVALUATION_BATCH,
        fabric=fabric,
        draws=lambda: (Draws(np.stack(images), label) for label, images in noise_samples),
        inception_weights=config.report.inception_weights,
        given={
            "gan_test": gan_test[shown],
            # Of the whole validation split, however few generated pairs are looked at.
            "segmenter_features": [
                segmenter_features(
                    real_segmenter, pairs, EVALUATION_BATCH, fabric, progress, f"Segmenter features of {what} images"
                )
                for what, pairs in (("real", seen.validation), ("generated", generated))
            ],
            "real_palettes": real_palettes(train),
            "requested_palettes": palettes[shown][0],
            "achieved_palettes": palettes[shown][1],
            "layout_size": train.size,
            **({"memorisation": copy_checks[shown].measured} if shown in copy_checks else {}),
        },
        progress=progress,
    )
    units = {name: unit for name, unit in run.planned.run.items() if not isinstance(unit, ReportUnit)}
    # Of this run alone: a comparison of systems trains others in the same folders.
    trained = [
        unit
        for unit in units.values()
        if unit.stage in ("layouts", "images", "finetuned")
        and not read_record(run_dir / unit.name / MANIFEST).get("comes_trained")
    ]
    shown_studies = run.units["report"].inputs
    reported, train_pixels = seen.validation if seen.test is None else seen.test, class_counts(train).pixels
    treatments, controls = config.treatments(), config.controls()
    shown_arm = choose(arms, treatments, train.table.eval_ids) if treatments else None
    return ReportInputs(
        dataset={**data.summary(), **resolution_of(config)},
        table=train.table,
        arms=arms,
        gan_train={
            kind: arm for kind in shards if (arm := PAIR_KINDS[kind].arm_alone) is not None and arm in segmenters.arms
        },
        gan_test=gan_test,
        gan_test_real=read_confusion(real_folder, reported_file),
        palette_components=sampler.num_components,
        aic=sampler.aic,
        palette_kl={kind: palette_divergence(target, achieved) for kind, (target, achieved) in palettes.items()},
        palette_reached={
            kind: reached_shares(*palettes[kind]) for kind in palettes if PAIR_KINDS[kind].layout_section is not None
        },
        metrics=measure("report", evidence),
        samples={kind: _samples(folders[kind], len(pairs), train, unlabelled) for kind, pairs in shards.items()},
        real_samples=_real_samples(train),
        noise_samples=noise_samples,
        class_shares=(
            {"real": real_palettes(train).mean(axis=0), shown: palettes[shown][1].mean(axis=0)} if from_scratch else {}
        ),
        training_curves={
            unit.part: run_dir / unit.name / METRICS_FILE for unit in trained if unit.stage != "finetuned"
        },
        training_logs={unit.name: run_dir / unit.name / METRICS_FILE for unit in trained},
        durations={name: seconds_spent(run_dir, unit) for name, unit in units.items()},
        provenance={**provenance(run), **({"pooled_with": config.report.runs} if config.report.runs else {})},
        bootstrap_samples=config.report.bootstrap_samples,
        seed=config.seed,
        train_pixels=train_pixels,
        rare_ids=rare_ids_of(config, train, train_pixels),
        treatments=treatments,
        controls=controls,
        pairs=dict.fromkeys(config.generate.kinds, config.generate.pairs),
        candidates=config.generate.candidates,
        costs={arm: cost_of_arm(run, arm) for arm in segmenters.arms if added_kind(arm)},
        hourly_price=config.report.hourly_price,
        smallest_gain=config.report.smallest_gain,
        worst_pairs={
            kind: _worst_pairs(FirstPairs(pairs, count), gan_test[kind], real_segmenter, fabric)
            for kind, pairs in shards.items()
        },
        changed_images=_changed_images(run, arms, shown_arm, reported) if shown_arm else (),
        split=reported_split(run),
        validation_blocks=blocks_of(seen.validation.image_ids) if config.data.recordings else None,
        extra_tests=_extra_splits(run),
        quality=found_by_teachers(run),
        copy_checks=copy_checks,
        curve=read_result(run_dir / CURVE_RESULT, "curve") if CURVE_RESULT in shown_studies else None,
        loop=read_result(run_dir / LOOP_RESULT, "loop") if LOOP_RESULT in shown_studies else None,
        pooled_runs={str(each.run_dir): each.generator_seed for each in pooled} if len(pooled) > 1 else {},
        pooling_notes=pooling_notes(pooled),
    )


def _arm_runs(run: Workspace, pooled: Sequence[PooledRun], reported_file: str) -> list[ArmRun]:
    """Return the segmenters of all arms and seeds, of this run and of those that are pooled with it."""
    segmenters, has_test = run.config.segmenters, run.data.has_test
    return [
        ArmRun(
            name=arm,
            description=ARMS[arm].description,
            seed=seed,
            steps=arm_steps(segmenters.steps, arm),
            confusion=read_confusion(folder, reported_file),
            # A command's own log, and the batches that it makes, are not known here.
            metrics_path=None if segmenters.command.train else folder / METRICS_FILE,
            images_per_step=None if segmenters.command.train else segmenters.batch_size,
            generator_seed=None if ARMS[arm].synthetic is None else each.generator_seed,
            validation=read_confusion(folder) if has_test else None,
            extra_tests=_confusions_of_extra_tests(run, arm, folder),
            kind=added_kind(arm),
        )
        for arm in segmenters.arms
        for each in runs_of_arm(pooled, arm)
        for seed in shared_seeds(pooled)
        for folder in [each.run_dir / segmenter_name(arm, seed)]
    ]


def rare_class_problems(config: RunConfig, train: Pairs) -> list[str]:
    """Say which classes of `report.rare_classes` there are not."""
    names = train.table.names
    return [
        f"report.rare_classes: unknown class {name!r}; classes are {', '.join(names)}"
        for name in config.report.rare_classes
        if name not in names
    ]


def rare_ids_of(config: RunConfig, train: Pairs, pixels: np.ndarray) -> Sequence[int]:
    """Return the classes that the mIoU of rare classes is over: those that are named, or else the rare ones.

    Args:
        config: The configuration.
        train: The training pairs.
        pixels: int [K], their labelled pixels of each class.
    """
    names, table = config.report.rare_classes, train.table
    named = sorted(table.names.index(name) for name in names)
    return named or rare_classes(pixels / max(1, pixels.sum()), table.eval_ids)


def cost_of_arm(run: Workspace, arm: str) -> ArmCost:
    """Return the seconds that an arm with generated pairs cost beside the training on real pairs."""
    units = run.planned.run
    seeds = run.config.segmenters.seeds
    needed = ancestors(units, [segmenter_name(arm, seeds[0])])
    made_from = [unit for name, unit in units.items() if name in needed]
    made = [unit for unit in made_from if unit.stage in GENERATOR_STAGES]
    borrowed = any(
        read_record(run.run_dir / unit.name / MANIFEST).get("comes_trained") or BORROWED in unit.settings
        for unit in made
    )

    def training(name: str) -> float:
        seconds = [seconds_spent(run.run_dir, units[segmenter_name(name, seed)]) for seed in seeds]
        return sum(seconds) / len(seconds)

    return ArmCost(
        generators=float("nan") if borrowed else sum(seconds_spent(run.run_dir, unit) for unit in made),
        pairs=sum(seconds_spent(run.run_dir, unit) for unit in made_from if unit.stage in SELECTION_STAGES),
        training=max(0.0, training(arm) - training("real")),
    )


def _predict(segmenter: nn.Module, pairs: PairSource, rows: Sequence[int], fabric: Fabric) -> np.ndarray:
    """Return the predictions of a segmenter, uint8 [rows, H, W]."""
    images, _ = pairs.batch(list(rows))
    segmenter.to(fabric.device).eval()
    with torch.inference_mode(), fabric.autocast():
        logits = segmenter(images.to(fabric.device).contiguous(memory_format=torch.channels_last))
    return logits.argmax(dim=1).to(torch.uint8).cpu().numpy()


def _worst_pairs(pairs: FirstPairs, confusion: np.ndarray, segmenter: nn.Module, fabric: Fabric) -> list[WorstPair]:
    """Return the generated pairs whose images agree least with their layouts, by the reference segmenter."""
    labelled = confusion.sum(axis=(1, 2))
    agreement = np.trace(confusion, axis1=1, axis2=2) / np.maximum(1, labelled)
    rows = [int(row) for row in np.argsort(agreement, kind="stable") if labelled[row] > 0][:SHOWN_FAILURES]
    if not rows:
        return []
    images, labels = pairs.batch(rows)
    predicted, label_maps = _predict(segmenter, pairs, rows, fabric), labels.numpy().astype(np.uint8)
    shown = zip(images_to_uint8(images), label_maps, predicted, agreement[rows].tolist(), rows, strict=True)
    return [WorstPair(*each) for each in shown]


def _changed_images(run: Workspace, arms: Sequence[ArmRun], arm: str, reported: Pairs) -> list[ChangedImage]:
    """Return the reported images on which an arm gains most against real, then those on which it loses most."""
    eval_ids = reported.table.eval_ids

    def of_images(name: str) -> np.ndarray:
        counts = np.stack([overlaps(np.asarray(run.confusion), eval_ids) for run in arms if run.name == name])
        return mean_of_defined(mean_of_defined(intersection_over_union(counts)[..., list(eval_ids)]), axis=0)

    difference = of_images(arm) - of_images("real")
    order = [int(row) for row in np.argsort(-difference, kind="stable") if not np.isnan(difference[row])]
    rows = [row for row in order[:SHOWN_FAILURES] if difference[row] > 0]
    rows += [row for row in order[::-1][:SHOWN_FAILURES] if difference[row] < 0]
    if not rows:
        return []
    seed = run.config.segmenters.seeds[0]
    shown = _shown_rows(reported, rows)
    real, other = (_predictions_of_arm(run, name, seed, reported, shown) for name in ("real", arm))
    return [
        ChangedImage(
            np.asarray(reported.images[row]),
            np.asarray(reported.labels[row]),
            real[place],
            other[place],
            float(difference[image]),
            reported.ids[row],
        )
        for place, (image, row) in enumerate(zip(rows, shown, strict=True))
    ]


def _shown_rows(pairs: Pairs, images: Sequence[int]) -> list[int]:
    """Return a row of each image: itself, or of an image that is cut into tiles the one in the middle."""
    if pairs.native is None:
        return list(images)
    return [int(rows[len(rows) // 2]) for image in images for rows in [np.flatnonzero(pairs.native.images == image)]]


def _predictions_of_arm(run: Workspace, arm: str, seed: int, pairs: Pairs, rows: Sequence[int]) -> np.ndarray:
    """Return what an arm's segmenter predicts for some images, uint8 [rows, H, W]."""
    folder = run.run_dir / segmenter_name(arm, seed)
    if (commands := run.config.segmenters.command.settings()).train:
        return predictions_by_command(folder, commands, pairs, rows)
    segmenter = load_segmenter(folder, arm_settings(run.config.segmenters, arm), pairs.table)
    return _predict(segmenter, pairs, rows, run.fabric)


def reported_split(run: Workspace) -> EvaluatedSplit:
    """Return the split that is reported: test where there is one, else validation."""
    data, recordings = run.segmenter_data, run.config.data.recordings
    if data.test is None:
        return EvaluatedSplit("validation", None, data.validation.image_ids, recordings)
    found = read_findings(run.run_dir / "data")
    return EvaluatedSplit("test", found["origin"], data.test.image_ids, recordings, found["warnings"])


def _extra_splits(run: Workspace) -> dict[str, EvaluatedSplit]:
    recordings, splits = run.config.data.recordings, {}
    for name, pairs in run.segmenter_data.extra_tests.items():
        found = read_findings(run.run_dir / EXTRA_TESTS / name)
        splits[name] = EvaluatedSplit(name, found["origin"], pairs.image_ids, recordings, found["warnings"])
    return splits


def _confusions_of_extra_tests(run: Workspace, arm: str, folder: Path) -> dict[str, np.ndarray]:
    """Evaluate a finished segmenter on every extra test set: further sets need no further training."""
    tests = run.segmenter_data.extra_tests
    if not tests:
        return {}
    if (commands := run.config.segmenters.command.settings()).train:
        return {name: confusion_by_command(folder, commands, pairs) for name, pairs in tests.items()}
    segmenter = load_segmenter(folder, arm_settings(run.config.segmenters, arm), run.data.train.table)
    return {
        name: confusion_of_images(segmenter, pairs, EVALUATION_BATCH, run.fabric, run.progress)
        for name, pairs in tests.items()
    }


def _samples(folder: Path, count: int, train: Pairs, unlabelled: UnlabelledImages | None) -> list[PairSample]:
    samples = []
    for row in itertools.islice(iterate_rows(folder), min(count, SHOWN_PAIRS)):
        source_image, source_label = None, None
        if PAIR_KINDS[row.kind].predicts:
            assert unlabelled is not None and row.source_id is not None
            source_image = np.asarray(unlabelled.images[unlabelled.ids.index(row.source_id)])
        elif row.source_id is not None:
            source = train.ids.index(row.source_id)
            source_image, source_label = np.asarray(train.images[source]), np.asarray(train.labels[source])
        samples.append(
            PairSample(
                image=row.image,
                label=row.label,
                palette_target=np.asarray(row.palette_target),
                palette_achieved=np.asarray(row.palette_achieved),
                source_image=source_image,
                source_label=source_label,
                edit_box=row.edit_box,
            )
        )
    return samples


def _real_samples(train: Pairs) -> list[PairSample]:
    chosen = evenly_spread(len(train), SHOWN_PAIRS)
    drawn = [(np.asarray(train.images[index]), np.asarray(train.labels[index])) for index in chosen]
    palettes = [palette_of_label(label, train.table.num_classes) for _, label in drawn]
    return [PairSample(*pair, palette, palette) for pair, palette in zip(drawn, palettes, strict=True)]


@torch.inference_mode()
def _noise_samples(
    generator: ImageGenerator, filled_labels: np.ndarray, num_classes: int, seed: int, fabric: Fabric
) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Return layouts, each with images of it under different noise."""
    samples = []
    for index in evenly_spread(len(filled_labels), NOISE_LAYOUTS):
        label = np.asarray(filled_labels[index])
        repeated = torch.from_numpy(label.astype(np.int64)).expand(NOISE_DRAWS, -1, -1).to(fabric.device)
        random = [torch_generator(seed, "report noise", index, draw) for draw in range(NOISE_DRAWS)]
        noise = generator.sample_noise(None, repeated, random)
        with fabric.autocast():
            generated = generator(one_hot(repeated, num_classes), noise)
        samples.append((label, list(images_to_uint8(generated.float().cpu()))))
    return samples
