"""Stage segmenters: train one segmenter per arm and seed, and evaluate it on the real validation and test splits."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from torch import nn

from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.progress import Progress
from scenepalette.common.storage.files import write_atomically
from scenepalette.common.storage.untrusted import short
from scenepalette.data.arrays import Pairs, open_array
from scenepalette.data.class_counts import class_counts
from scenepalette.data.classes import ClassTable
from scenepalette.data.sequences import evenly_spread
from scenepalette.data.shards.pairs import ChosenPairs, FirstPairs, ShardPairs
from scenepalette.evaluation.miou import confusion_per_image, mean_iou
from scenepalette.evaluation.native import confusion_of_images
from scenepalette.evaluation.pair_quality.trust import TrustSettings
from scenepalette.pipeline.arms import ARMS
from scenepalette.pipeline.config import RunConfig, SegmentersConfig
from scenepalette.pipeline.sections import settings_from
from scenepalette.pipeline.trusted import STAGE as QUALITY
from scenepalette.pipeline.trusted import TEACHERS_UNIT, TakenPairs, labels_of_teachers, trusted_pairs
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace
from scenepalette.segmenters.loading import WEIGHTS_FILE, build_segmenter, load_segmenter
from scenepalette.segmenters.model import DEFAULT_ARCHITECTURE, is_fetched, weights_file
from scenepalette.segmenters.registry import BUILT_IN
from scenepalette.segmenters.schedule import division_problems
from scenepalette.segmenters.settings import SegmenterSettings
from scenepalette.segmenters.train import size_problems, train_segmenter
from scenepalette.training.arms import Arm
from scenepalette.training.loop import METRICS_FILE
from scenepalette.training.settings import fields_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VERSION = 2
STAGE = "segmenters"
REFERENCE = "reference"
"""Takes the place of an arm in the name of the reference segmenter, where commands train the arms."""
CONFUSION = "validation-confusion.npy"
TEST_CONFUSION = "test-confusion.npy"
FILES = (WEIGHTS_FILE, METRICS_FILE, CONFUSION, TEST_CONFUSION)
EVALUATION_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class SegmenterUnit(Unit):
    """The training of a segmenter, and its predictions on the real validation and test splits.

    Attributes:
        arm: Name of the arm.
        seed: Seed of the training.
        pairs: The generated pairs that it takes; None if it takes none.
        steps: Optimizer steps.
    """

    trains: ClassVar[bool] = True

    arm: str
    seed: int
    pairs: TakenPairs | None
    steps: int

    @classmethod
    def of(
        cls,
        config: RunConfig,
        sources: Sources,
        part: str,
        arm: str,
        seed: int,
        pairs: TakenPairs | None,
        *,
        steps: int | None = None,
        stage: str = STAGE,
    ) -> SegmenterUnit:
        """Return the unit of a name within a stage; `steps`, by default the configuration's, are those arms share."""
        # What an arm has no use for does not identify it: another share of generated pairs leaves `real` as it is.
        excluded = {"arms", "seeds", "command", "checkpoint_every", "validation_images", "parallel"}
        # Size and evaluation: the data of segmenters stands for them.
        excluded |= {"size", "evaluation", *_unused_settings(ARMS[arm])}
        settings = config.segmenters.model_dump(mode="json", exclude=excluded)
        if settings["architecture"] == DEFAULT_ARCHITECTURE:
            del settings["architecture"]  # the only one there was, and not named
        if not settings.get("prior_correction"):
            settings.pop("prior_correction", None)  # there was none
        if file := weights_file(config.segmenters.encoder_weights):
            settings["encoder_weights"] = sources.file(file, f"{stage}/{part}", "encoder_weights")
        steps = arm_steps(steps or config.segmenters.steps, arm)
        settings |= {"steps": steps, **({"pairs": pairs.count} if pairs else {}), "arm": arm, "seed": seed}
        inputs = (*config.data_of_segmenters, *([pairs.unit] if pairs else []), *_judged_inputs(ARMS[arm], pairs))
        return cls(stage, part, VERSION, settings, inputs, FILES, arm=arm, seed=seed, pairs=pairs, steps=steps)

    @classmethod
    def of_arms(cls, config: RunConfig, sources: Sources) -> list[SegmenterUnit]:
        """Return the units of all arms and seeds of a configuration."""
        return [
            cls.of(
                config,
                sources,
                part_of_arm(arm, seed),
                arm,
                seed,
                taken_pairs(config, kind) if (kind := ARMS[arm].synthetic) else None,
            )
            for arm in config.segmenters.arms
            for seed in config.segmenters.seeds
        ]

    @classmethod
    def problems(cls, units: Sequence[SegmenterUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Return what is wrong with the segmenters, and with pre-trained weights, which are loaded once."""
        problems = [
            f"{size_field(config)}: {text}"
            for arm in dict.fromkeys(unit.arm for unit in units)
            for text in size_problems(arm_settings(config.segmenters, arm), config.segmenter_size)
        ]
        undivided: dict[str, dict[str, None]] = {}
        for unit in units:
            if ARMS[unit.arm].real != "none" and ARMS[unit.arm].synthetic is not None:
                settings = replace(arm_settings(config.segmenters, unit.arm), steps=unit.steps)
                for text in division_problems(settings):
                    undivided.setdefault(text, {})[unit.arm] = None
        problems += [f"{text} (arms: {', '.join(arms)})" for text, arms in undivided.items()]
        settings = settings_from(config.segmenters, SegmenterSettings)
        fetched = settings.encoder_weights is not None or is_fetched(settings.encoder)
        if fetch and fetched and settings.architecture in BUILT_IN:
            problems += _weights_problems(settings, ClassTable.unnamed(2))
        return problems

    @classmethod
    def problems_of_data(cls, units: Sequence[SegmenterUnit], config: RunConfig, data: PreparedData) -> list[str]:
        """Return what is wrong with the classes that settings name, or that they need pixels of.

        The networks of other packages are tried here, as they may depend on the names of classes.
        """
        settings, table = config.segmenters, data.train.table
        numbers = settings_from(settings, SegmenterSettings)
        problems = list[str]()
        if settings.architecture not in BUILT_IN:
            texts = size_problems(numbers, config.segmenter_size, table)
            problems += [f"{size_field(config)}: {text}" for text in texts]
            if not problems and weights_file(settings.encoder_weights) is not None:
                problems += _weights_problems(numbers, table)
        problems += [
            f"segmenters.rare_classes: unknown class {short(repr(name))}; classes are {', '.join(table.names)}"
            for name in settings.rare_classes
            if name not in table.names
        ]
        rare = [name for name in settings.rare_classes if name in table.names]
        weighted = [table.names[index] for index in table.eval_ids] if settings.class_weights != "none" else []
        if rare or weighted:
            pixels = dict(zip(table.names, class_counts(data.train).pixels, strict=True))
            problems += [
                f"segmenters.{field}: {name!r} has no pixel in the training images; add some that show it, or {remedy}"
                for field, names, remedy in (
                    ("rare_classes", rare, "leave it out"),
                    ("class_weights", weighted, "use none, or leave the class out of the data set's"),
                )
                for name in names
                if not pixels[name]
            ]
        return problems

    def make(self, run: Workspace, folder: Path) -> None:
        """Train the segmenter and evaluate it."""
        data = run.segmenter_data
        model = train_arm(
            folder,
            self.arm,
            run.config.segmenters.model_copy(update={"steps": self.steps}),
            train=self.real_pairs(run),
            validation=data.validation,
            synthetic=self.generated_pairs(run),
            seed=self.seed,
            fabric=run.fabric,
            progress=run.progress,
            tensorboard=run.config.compute.writes_tensorboard,
        )
        if data.test is not None:
            found = confusion_of_images(model, data.test, EVALUATION_BATCH, run.fabric, run.progress)
            write_confusion(folder / TEST_CONFUSION, found)

    def real_pairs(self, run: Workspace) -> Pairs | ChosenPairs:
        """Return the real training pairs, with the labels that the arm gives them."""
        train = run.segmenter_data.train
        if ARMS[self.arm].teacher_labels:
            train = replace(train, labels=labels_of_teachers(run.run_dir / TEACHERS_UNIT, train))
        return train

    def generated_pairs(self, run: Workspace) -> ChosenPairs | None:
        """Return the generated pairs that the arm takes, if any, with labels as far as it trusts them."""
        if self.pairs is None:
            return None
        arm, size = ARMS[self.arm], run.config.segmenter_size
        if arm.trust == "none":
            return FirstPairs(ShardPairs(run.run_dir / self.pairs.unit, size=size), self.pairs.count)
        settings = settings_from(run.config.segmenters, TrustSettings)
        return trusted_pairs(run.run_dir, self.pairs, settings, arm.trust, size=size)


def _weights_problems(settings: SegmenterSettings, table: ClassTable) -> list[str]:
    """Return what keeps pre-trained weights from being loaded."""
    try:
        build_segmenter(settings, table, settings.encoder_weights)
    except ScenepaletteError as error:
        own_file = weights_file(settings.encoder_weights) or not error.problems
        return [*([error.summary] if own_file else []), *error.problems]
    return []


def size_field(config: RunConfig) -> str:
    """Return the field of the configuration that says at which size segmenters work."""
    return "data.size" if config.segmenters.size is None else "segmenters.size"


def part_of_arm(arm: str, seed: int) -> str:
    """Return which unit of the stage that of an arm and seed is."""
    return f"{arm}/seed{seed}"


def segmenter_name(arm: str, seed: int) -> str:
    """Return the name of the unit of an arm and seed."""
    return f"{STAGE}/{part_of_arm(arm, seed)}"


def taken_pairs(config: RunConfig, kind: str) -> TakenPairs:
    """Return the pairs of a kind that the configuration's arms take."""
    return TakenPairs(config.generate.unit_of_pairs(kind), config.generate.pairs, f"{QUALITY}/{kind}")


def arm_steps(steps: int, arm: str) -> int:
    """Return the optimizer steps of an arm, given those that the arms share."""
    return max(1, round(steps * ARMS[arm].steps_factor))


def _unused_settings(arm: Arm) -> list[str]:
    """Return the settings that have no effect on an arm."""
    used = {"none": set[str](), "mask": {"trust_factor", "trust_floor"}, "relabel": set(fields_of(TrustSettings))}
    unused = sorted(fields_of(TrustSettings).keys() - used[arm.trust])
    if arm.real == "none" or arm.synthetic is None:
        unused += ["schedule", "synthetic_share", "synthetic_fade", "synthetic_weight"]
    if arm.real != "labelled":
        unused.append("statistics_images")
    if arm.mixing == "none":
        unused.append("mixing_probability")
    if arm.mixing != "copy-paste":
        unused.append("rare_classes")
    if arm.real != "labelled" or (arm.synthetic is None and arm.mixing != "copy-paste"):
        unused.append("prior_correction")
    return unused


def _judged_inputs(arm: Arm, pairs: TakenPairs | None) -> list[str]:
    """Return the units of what teachers found that an arm reads; `pairs` are its generated pairs."""
    if arm.trust != "none" and pairs is not None:
        assert pairs.scores is not None
        return [TEACHERS_UNIT, pairs.scores]
    return [TEACHERS_UNIT] if arm.teacher_labels else []


def reference_segmenter_of(config: RunConfig) -> str:
    """Return the unit of the segmenter trained on real pairs whose features and predictions measure generated ones.

    It is the arm `real`, unless commands train the arms: of what they train, there are no features.
    """
    return segmenter_name(REFERENCE if config.segmenters.command.train else "real", config.segmenters.seeds[0])


def load_reference_segmenter(run: Workspace) -> nn.Module:
    """Return the finished segmenter of `reference_segmenter_of`."""
    settings = arm_settings(run.config.segmenters, "real")
    return load_segmenter(run.run_dir / reference_segmenter_of(run.config), settings, run.data.train.table)


def arm_settings(config: SegmentersConfig, arm: str) -> SegmenterSettings:
    """Return the numbers of an arm's training: the shared ones and what the arm names itself."""
    choice, defaults = ARMS[arm], fields_of(SegmenterSettings)
    return replace(
        settings_from(config, SegmenterSettings),
        **{name: defaults[name].default for name in _unused_settings(choice) if name in defaults},
        mixing=choice.mixing,
        augmentation=choice.augmentation or config.augmentation,
        adaptation=choice.adaptation,
        # Arms without labels on real images have no choice.
        adapted_domain=config.adapted_domain if choice.real == "labelled" else None,
    )


def train_arm(
    folder: Path,
    arm: str,
    config: SegmentersConfig,
    *,
    train: Pairs | ChosenPairs,
    validation: Pairs,
    synthetic: ChosenPairs | None,
    seed: int,
    fabric: Fabric,
    progress: Progress,
    tensorboard: bool = False,
) -> nn.Module:
    """Train an arm's segmenter and write its confusion matrix for each validation image.

    Args:
        folder: Output folder.
        arm: Name of the arm.
        config: Settings that all arms share.
        train: Real training pairs.
        validation: Real validation pairs; they choose nothing, the last weights are evaluated. mIoU on some of them
            is logged late in the training, so that one can see whether more steps would help.
        synthetic: Generated pairs, if the arm has any.
        seed: Seed of the training.
        fabric: Device and precision.
        progress: Watches the steps.
        tensorboard: Whether numbers are also written for TensorBoard.

    Returns:
        The trained segmenter.
    """
    choice = ARMS[arm]
    model = train_segmenter(
        folder,
        arm_settings(config, arm),
        real=train if choice.real != "none" else None,
        synthetic=synthetic,
        supervise_real=choice.real != "unlabelled",
        table=train.table,
        seed=seed,
        fabric=fabric,
        validate=_validation(validation, config.validation_images, fabric),
        progress=progress,
        tensorboard=tensorboard,
    )
    write_confusion(folder / CONFUSION, confusion_of_images(model, validation, EVALUATION_BATCH, fabric, progress))
    return model


def write_confusion(path: Path, confusion: np.ndarray) -> None:
    """Write what `read_confusion` reads, atomically."""
    buffer = io.BytesIO()
    np.save(buffer, confusion, allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def _validation(pairs: Pairs, count: int, fabric: Fabric) -> Callable[[nn.Module], float] | None:
    """Return what measures mIoU on some pairs, spread evenly over all, by resized labels; None for no pairs."""
    if not count:
        return None
    some = ChosenPairs(pairs, evenly_spread(len(pairs), count))

    def validate(network: nn.Module) -> float:
        return mean_iou(confusion_per_image(network, some, EVALUATION_BATCH, fabric), pairs.table.eval_ids)

    return validate


def read_confusion(folder: Path, file: str = CONFUSION) -> np.ndarray:
    """Return confusion matrices [N, K, K] of a segmenter, memory-mapped: all arms' need not fit at once.

    Args:
        folder: The segmenter's folder.
        file: `CONFUSION` for those of the validation split, `TEST_CONFUSION` for those of the test split.

    Raises:
        DataError: The file is missing or damaged.
    """
    path = folder / file
    try:
        confusion = open_array(path)
        if confusion.ndim != 3 or confusion.shape[1] != confusion.shape[2] or confusion.dtype.kind not in "iu":
            raise ValueError(f"{confusion.dtype} {confusion.shape}, not integers [N, K, K]")
    except (DataError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error}). Remove it and the manifest.json beside it, and rerun the same command."
        ) from error
    return confusion
