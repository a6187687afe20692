"""What keeps the sections of a configuration from going together: a text for each problem, with its field."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scenepalette.common.errors import ConfigError
from scenepalette.common.registry import PACKAGE
from scenepalette.common.storage.untrusted import short
from scenepalette.data.classes import ClassTable
from scenepalette.data.datasets import DATASETS
from scenepalette.data.sample import FolderOptions
from scenepalette.data.streets.dataset import SMALLEST_SIDE as SMALLEST_STREETS_SIDE
from scenepalette.generators.images.base import ImageSystem
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS, settings_problems
from scenepalette.generators.nn.grids import base_grid
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.pipeline.arms import ARMS, added_kind
from scenepalette.pipeline.comparisons import ROWS
from scenepalette.pipeline.config.data import LABEL_FIELDS
from scenepalette.pipeline.config.field_types import LARGEST_SHARDS, MOST_STRETCHED_PARTS, layout_names
from scenepalette.pipeline.config.generation import EXTERNAL_KEYS, LEVEL_LISTS, LayoutConfig
from scenepalette.pipeline.config.run_sections import RunSections
from scenepalette.segmenters.command import trainer_problems
from scenepalette.segmenters.registry import segmenter_problems


def disagreements(config: RunSections, *, written: bool = False) -> list[str]:
    """Return all that keeps the sections from going together.

    With `written`, for what a run directory holds, encoders are not looked up again, which takes seconds.
    """
    return [
        *_data_problems(config),
        *_fit_problems(config),
        *_predicted_problems(config),
        *_layout_problems(config),
        *_image_problems(config),
        *_arm_problems(config),
        *_trainer_problems(config),
        *_tracking_problems(config),
        *_primary_problems(config),
        *_segmenter_problems(config, config.segmenters.architecture, written),
        *_composite_problems(config),
        *_teacher_problems(config, written),
        *_shard_problems(config),
        *_comparison_problems(config),
        *_curve_problems(config),
        *_list_entry_problems(config),
    ]


def _fit_problems(config: RunSections) -> list[str]:
    """Return what is wrong with how images get to the sizes that are worked at."""
    data, problems = config.data, list[str]()
    if data.fit != "stretch" and DATASETS.get(data.name).drawn:
        problems.append(f"data.fit: {data.name} are drawn at data.size, got {data.fit}; leave it out")
    if data.tile_height is not None and data.fit != "tile":
        problems.append(
            f"data.tile_height: got {data.tile_height} with data.fit={data.fit}, which cuts no tiles; leave it "
            "out, or set data.fit to tile"
        )
    (height, width), (rows, columns) = data.size, config.segmenter_size
    stretch = max(height * columns / (width * rows), width * rows / (height * columns))
    if data.fit != "stretch" and stretch > MOST_STRETCHED_PARTS:
        problems.append(
            f"segmenters.size: {rows}x{columns} stretches parts of the aspect ratio of data.size "
            f"{height}x{width} by {100 * (stretch - 1):.0f} %; with data.fit={data.fit} at most "
            f"{100 * (MOST_STRETCHED_PARTS - 1):.0f} % is possible. Choose the same aspect ratio for both"
        )
    if data.fit == "tile" and config.segmenters.evaluation == "resized":
        problems.append(
            "segmenters.evaluation: tiles are put together in the size of their image, got resized; use native, or "
            "leave it out"
        )
    return problems


def _data_problems(config: RunSections) -> list[str]:
    data, entry, problems = config.data, DATASETS.get(config.data.name), []
    given = [name for name in LABEL_FIELDS if getattr(data, name) != type(data).model_fields[name].default]
    if given and not entry.takes_label_settings:
        named = " and ".join(f"data.{name}" for name in given)
        problems.append(f"{named}: {data.name} has no label images that this applies to; leave it out")
    if entry.drawn and data.root:
        problems.append(f"data.root: {data.name} are drawn and have no folder; leave it out")
    if data.name == "streets" and min(data.size) < SMALLEST_STREETS_SIDE:
        problems.append(
            f"data.size: streets need at least {SMALLEST_STREETS_SIDE} pixels each way, got "
            f"{data.size[0]}x{data.size[1]}"
        )
    if data.test_scenes and not entry.drawn:
        problems.append(f"data.test_scenes: {data.name} is read, not drawn; leave it out, or use data.holdout")
    if data.test_scenes == 1:
        problems.append("data.test_scenes: one image is no test split; give 2 or more, or 0 for none")
    if data.test_scenes and data.holdout:
        problems.append(
            f"data.holdout: {data.test_scenes} test scenes are drawn already (data.test_scenes), got "
            f"{data.holdout:g}; leave one of both out"
        )
    problems += [
        f"report.extra_test.{name}: this is the name of a split of the data set; choose another"
        for name in config.report.extra_test
        if name in ("train", "val", "validation", "test")
    ]
    if not entry.drawn and data.root is None:
        problems.append(f"data.root: {data.name} needs its folder; add --set data.root=FOLDER")
    if data.folder_options() != FolderOptions() and not entry.takes_options:
        problems.append(
            "data.label_folder, label_suffix, orientation, val_share and val_seed are for data.name=folder; the "
            f"layout of {data.name} is fixed, leave them out"
        )
    if data.class_file is not None and not entry.takes_class_file:
        problems.append(f"data.class_file: the classes of {data.name} are fixed; leave it out, or use data.name=folder")
    return problems


def _predicted_problems(config: RunSections) -> list[str]:
    """Return what keeps pairs from being made whose labels are predicted."""
    problems = []
    name = config.images.system
    system = IMAGE_SYSTEMS.get(name) if name in IMAGE_SYSTEMS else None
    for kind in config.generate.kinds:
        if not PAIR_KINDS[kind].predicts:
            continue
        if config.data.unlabelled is None:
            problems.append(f"data.unlabelled: {kind} pairs need images; add --set data.unlabelled=FOLDER")
        if system is not None and system.predict_labels is None:
            fitting = [name for name, other in IMAGE_SYSTEMS.items() if other.predict_labels is not None]
            problems.append(
                f"generate.kinds: {kind} pairs need a discriminator that labels pixels, which {system.name} has "
                f"not; image systems that have one are {', '.join(fitting)}"
            )
    return problems


def _layout_problems(config: RunSections) -> list[str]:
    try:
        _, doublings = base_grid(config.generator_size)
    except ConfigError as error:
        return [f"data.size: {error}"]
    problems = []
    for name, layout in (("full", config.layouts.full), ("partial", config.layouts.partial)):
        problems += _list_problems(config, name, layout, doublings + 1)
        for field in LEVEL_LISTS:
            values = getattr(layout, field)
            least = 2 if field == "batch_sizes" else 0
            if any(value < least for value in values):
                problems.append(f"layouts.{name}.{field}: every entry must be at least {least}, got {values}")
        if layout.stable_steps and sum(layout.fade_steps) + sum(layout.stable_steps) < 1:
            problems.append(f"layouts.{name}.stable_steps: the training has no steps")
        fitting = layout_names(name == "partial")
        if layout.system in fitting:
            problems += [f"layouts.{name}.{text}" for text in settings_problems(layout.system, layout.settings())]
        else:
            what = "edit layouts" if name == "partial" else "make whole layouts"
            known = f"got {layout.system!r}; systems that {what} are {', '.join(fitting)}"
            problems.append(f"layouts.{name}.system: {LAYOUT_SYSTEMS.refusal(layout.system) or known}")
    return problems


def _list_problems(config: RunSections, name: str, layout: LayoutConfig, levels: int) -> list[str]:
    """Return what is wrong with the numbers of entries of a layout generator's lists, and with its total."""
    if not (layout.fade_steps or layout.stable_steps):
        if layout.steps is None:
            return [f"layouts.{name}.steps: it has no steps; give their number, and the lists per level follow"]
        if layout.steps < levels:
            return [
                f"layouts.{name}.steps: got {layout.steps}, but data.size {config.data.size} has {levels} levels; "
                "give one step a level or more"
            ]
    return [
        f"layouts.{name}.{field}: {len(values)} entries, but data.size {config.data.size} has {levels} levels; give "
        f"one entry a level, or layouts.{name}.steps in place of the lists"
        for field in LEVEL_LISTS
        # Of a total, what follows from other lists that are wrong is not there yet.
        if len(values := getattr(layout, field)) != levels and (values or layout.steps is None)
    ]


def _image_problems(config: RunSections) -> list[str]:
    names, known = list(config.images.systems), f"image systems are {', '.join(IMAGE_SYSTEMS)}"
    problems = [
        f"images.systems.{name}: {IMAGE_SYSTEMS.refusal(name) or f'there is no such image system; {known}'}"
        for name in names
        if name not in IMAGE_SYSTEMS
    ]
    if (name := config.images.system) not in IMAGE_SYSTEMS:
        return [*problems, f"images.system: {IMAGE_SYSTEMS.refusal(name) or f'got {name!r}; {known}'}"]
    row_names = config.compare.rows
    for name, key in EXTERNAL_KEYS.items():
        if getattr(config.images, key) and name != config.images.system and f"real-layouts-{name}" not in row_names:
            problems.append(
                f"images.{key}: nothing uses it, as images.system is {config.images.system}; add images.system={name}"
            )
    for name in {config.images.system: None} | dict.fromkeys(names):
        if name in IMAGE_SYSTEMS:
            try:
                config.images.settings(name)
            except ConfigError as error:
                problems += [f"images.systems.{name}.{text}" for text in error.problems]
    if problems:
        return problems
    system = IMAGE_SYSTEMS[config.images.system]
    if system.settings_problems is not None:
        problems += [f"images.{text}" for text in system.settings_problems(config.images.settings())]
    if (problem := system.augmentation_problem(config.images.settings())) is not None:
        problems.append(f"images.{problem}")
    return [*problems, *_image_generator_problems(config, system)]


def _image_generator_problems(config: RunSections, system: ImageSystem) -> list[str]:
    """Return what keeps the generator of an image system from being built, or from taking noise as configured.

    Those of other packages may depend on the names of classes, which only the data tells.
    """
    if IMAGE_SYSTEMS.source(system.name) != PACKAGE:
        return []
    try:
        size = config.generator_size
    except ConfigError:
        return []  # the size is reported with the layouts
    try:
        with torch.device("meta"):
            generator = system.build_generator(ClassTable.unnamed(2), size, config.images.settings())
    except ConfigError as error:
        text = f"data.size: {error}"
        return [] if text in _layout_problems(config) else [text]
    except (RuntimeError, OverflowError, MemoryError, TypeError) as error:
        # torch's ways of saying that no tensor has so many numbers.
        return [f"images: no network can be built of these numbers ({short(str(error))})"]
    schemes: dict[str, NoiseScheme | None] = {
        "images.noise_scheme": config.images.noise_scheme,
        "generate.noise_scheme": config.generate.noise_scheme,
    }
    problems = []
    for field, scheme in schemes.items():
        try:
            generator.choose_scheme(scheme)
        except ConfigError as error:
            problems.append(f"{field}: {error}")
    return problems


def _composite_problems(config: RunSections) -> list[str]:
    """Return what keeps parts of real images from being painted."""
    kept = [name for name in config.generate.kinds if config.generate.keep_real_pixels(PAIR_KINDS[name])]
    try:
        size = config.generator_size
    except ConfigError:  # which is reported with the layouts
        size = config.data.size
    problems, feather, side = [], config.generate.feather, min(size)
    if kept and feather is not None and 2 * feather >= side:
        problems.append(
            f"generate.feather: {feather} pixels on either side of a box leave nothing real of an image of "
            f"{size[0]} x {size[1]} pixels; use less than {side / 2:g}"
        )
    if "partial" in kept and config.layouts.partial.edits == "add":
        problems.append(
            "generate.composite: box needs an edited box, and layouts.partial.edits=add has none; use none, or "
            "layouts.partial.edits=replace"
        )
    if repeated := {name for name in config.generate.insert_classes if config.generate.insert_classes.count(name) > 1}:
        problems.append(f"generate.insert_classes: {', '.join(sorted(map(short, repeated)))} comes twice")
    return problems


def _shard_problems(config: RunSections) -> list[str]:
    shards = -(-config.generate.rows // config.generate.rows_per_shard)
    if shards <= LARGEST_SHARDS:
        return []
    return [
        f"generate.rows_per_shard: {short(repr(config.generate.rows))} pairs would make {short(repr(shards))} "
        f"shards of each kind, at most {LARGEST_SHARDS} are named; raise it"
    ]


def _comparison_problems(config: RunSections) -> list[str]:
    known = ", ".join(ROWS)
    problems = [
        f"compare.rows: {ROWS.refusal(name) or f'unknown row {name!r}; rows are {known}'}"
        for name in config.compare.rows
        if name not in ROWS
    ]
    for kind in config.finetune.kinds:
        layouts = getattr(config.layouts, PAIR_KINDS[kind].layout_section or "full").system
        trained = [
            name
            for name in (layouts, config.images.system)
            if (name in LAYOUT_SYSTEMS and LAYOUT_SYSTEMS[name].losses is None)
            or (name in IMAGE_SYSTEMS and IMAGE_SYSTEMS[name].build_objective is None)
        ]
        problems += [f"finetune.kinds: {name} comes trained and has no losses; leave {kind!r} out" for name in trained]
        if config.images.system in IMAGE_SYSTEMS and not IMAGE_SYSTEMS[config.images.system].end_to_end:
            problems.append(
                f"finetune.kinds: {config.images.system} cannot be trained together with layouts; leave {kind!r} out"
            )
    return problems


def _list_entry_problems(config: RunSections) -> list[str]:
    """Return which kinds of pairs are asked for and not made, and which lists name an entry twice."""
    made, primary, curve = config.generate.kinds, config.report.primary, config.curve
    asked = {name: getattr(config, name).kinds for name in ("finetune", "loop", "teachers")}
    lists = {
        "segmenters.arms": config.segmenters.arms,
        "segmenters.seeds": config.segmenters.seeds,
        "generate.kinds": made,
        "compare.rows": config.compare.rows,
        "loop.kinds": config.loop.kinds,
        "report.primary.treatment": primary.treatment,
        "report.primary.control": primary.control,
        # As folders are named after them.
        **{f"curve.{name}": [f"{each:g}" for each in getattr(curve, name)] for name in ("labels", "doses", "seeds")},
    }
    return [
        *(
            f"{name}.kinds: {kind!r} is not among generate.kinds; add it there, or leave it out here"
            for name, kinds in asked.items()
            for kind in kinds
            if kind not in made
        ),
        *(f"{field}: an entry comes twice" for field, values in lists.items() if len(set(values)) != len(values)),
    ]


def _arm_problems(config: RunSections) -> list[str]:
    arms, made, known = config.segmenters.arms, config.generate.kinds, ", ".join(ARMS)
    problems = [
        f"segmenters.arms: {ARMS.refusal(name) or f'unknown arm {name!r}; arms are {known}'}"
        for name in arms
        if name not in ARMS
    ]
    if not made:
        problems.append("generate.kinds: there is none; name at least one kind of pairs to make")
    if "real" not in arms:
        problems.append("segmenters.arms: the arm 'real' is missing; every other arm is set against it")
    problems += [
        f"generate.kinds: the arm {name!r} needs {ARMS[name].synthetic} pairs"
        for name in arms
        if name in ARMS and ARMS[name].synthetic not in (None, *made)
    ]
    return problems


def _tracking_problems(config: RunSections) -> list[str]:
    if not config.compute.tracking:
        return []
    asked = {"segmenters.parallel": config.segmenters.parallel, "compute.parallel": config.compute.parallel}
    return [
        f"{field}: {count}, but compute.tracking follows no trainings in processes of their own; set it to 1, or leave "
        "compute.tracking out"
        for field, count in asked.items()
        if count is not None and count > 1
    ]


def _trainer_problems(config: RunSections) -> list[str]:
    """Return what keeps commands from training the arms; they decide themselves how a batch is made."""
    commands = config.segmenters.command.settings()
    problems = [f"segmenters.command.{text}" for text in trainer_problems(commands)]
    if not commands.train:
        return problems
    unable = [
        name
        for name in config.segmenters.arms
        if name in ARMS
        and (ARMS[name].adaptation != "none" or ARMS[name].mixing != "none" or ARMS[name].augmentation is not None)
    ]
    if unable:
        able = ", ".join(name for name in config.segmenters.arms if name not in unable)
        problems.append(
            f"segmenters.arms: {', '.join(unable)} mix, adapt or augment within a training, which a command is not "
            f"told to; leave them out: segmenters.arms=[{able}]"
        )
    if config.evaluates_natively:
        problems.append(
            "segmenters.evaluation: native, but what a command predicts is compared with labels in the size of the "
            "images that it is given; set segmenters.evaluation to resized"
        )
    if config.data.fit == "tile":
        problems.append(
            "data.fit: tile, but the tiles of an image that a command predicts are not put together; set it to "
            "stretch or crop"
        )
    return problems


def _primary_problems(config: RunSections) -> list[str]:
    arms = config.segmenters.arms
    problems = []
    for side, names in (("treatment", config.report.primary.treatment), ("control", config.report.primary.control)):
        field = f"report.primary.{side}"
        for name in names:
            if name not in arms:
                problems.append(f"{field}: {name!r} is not among segmenters.arms; add it there, or leave it out here")
            elif name in ARMS and (added_kind(name) is None) == (side == "treatment"):
                problems.append(
                    f"{field}: {name!r} adds no generated pairs to real labels; name an arm that does"
                    if side == "treatment"
                    else f"{field}: {name!r} adds generated pairs; name an arm of real pairs alone"
                )
            elif side == "control" and name in ARMS and ARMS[name].real != "labelled":
                problems.append(f"{field}: {name!r} has no real labels; name an arm of real pairs alone")
    return problems


def _curve_problems(config: RunSections) -> list[str]:
    arm = config.curve.arm
    if arm is not None and arm not in config.segmenters.arms:
        return [f"curve.arm: {arm!r} is not among segmenters.arms; add it there, or leave it out here"]
    if arm is not None and arm in ARMS and added_kind(arm) is None:
        return [f"curve.arm: {arm!r} adds no generated pairs to real labels; name an arm that does"]
    return []


def _segmenter_problems(config: RunSections, architecture: str, written: bool) -> Sequence[str]:
    encoder, weights = config.segmenters.encoder, config.segmenters.encoder_weights
    return segmenter_problems(architecture, encoder, weights, look_up=not written)


def _teacher_problems(config: RunSections, written: bool) -> list[str]:
    own = config.teachers.architecture
    problems = _segmenter_problems(config, own, written) if own else []
    shared = _segmenter_problems(config, config.segmenters.architecture, written)
    return [text.replace("segmenters.arch", "teachers.arch") for text in problems if text not in shared]
