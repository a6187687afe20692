"""Which units a configuration has, each after those that it reads."""

from __future__ import annotations

from collections.abc import Iterable

from scenepalette.common.errors import ScenepaletteError
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.stages.data import DataUnit, ExtraTestUnit, UnlabelledUnit
from scenepalette.pipeline.stages.finetune import FinetunedUnit
from scenepalette.pipeline.stages.generate import PairModels, PairsUnit
from scenepalette.pipeline.stages.images import ImagesUnit
from scenepalette.pipeline.stages.layouts import LayoutsUnit
from scenepalette.pipeline.stages.palettes import PalettesUnit
from scenepalette.pipeline.stages.quality import quality_units
from scenepalette.pipeline.stages.report import ReportUnit
from scenepalette.pipeline.stages.segment import SegmenterUnit, reference_segmenter_of
from scenepalette.pipeline.stages.segment_by_command import CommandSegmenterUnit
from scenepalette.pipeline.stages.segmenter_data import SegmenterDataUnit
from scenepalette.pipeline.stages.studies.compare import comparison_units, row_models
from scenepalette.pipeline.stages.studies.curve import curve_units
from scenepalette.pipeline.stages.studies.loop import read_decision, units_of_control, units_of_round
from scenepalette.pipeline.stages.studies.loop_report import LoopReportUnit
from scenepalette.pipeline.stages.teachers import TeacherUnit, needs_teachers
from scenepalette.pipeline.units.borrowing import BorrowedUnit
from scenepalette.pipeline.units.records import is_finished
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import Unit


def units_of(config: RunConfig, sources: Sources | None = None) -> dict[str, Unit]:
    """Return all units of a run by name, each after those that it reads.

    Args:
        config: The configuration.
        sources: Identities of what is read from outside; without them, what would be read for the first time.
    """
    sources = sources or Sources()
    predicted = any(PAIR_KINDS[kind].predicts for kind in config.generate.kinds)
    pairs = PairsUnit.of_kinds(config)
    units: list[Unit] = [
        DataUnit.of(config, sources),
        *ExtraTestUnit.of_names(config, sources),
        *SegmenterDataUnit.of_config(config),
        *([UnlabelledUnit.of(config, sources)] if predicted else []),
        PalettesUnit.of(config),
        *_model_units(config, sources, [unit.models for unit in pairs]),
        *pairs,
        *(TeacherUnit.of_folds(config, sources) if needs_teachers(config) else []),
        *quality_units(config),
        *(CommandSegmenterUnit if config.segmenters.command.train else SegmenterUnit).of_arms(config, sources),
    ]
    return _in_order([*units, ReportUnit.of(config, sources, units)])


def comparison_units_of(config: RunConfig, sources: Sources | None = None) -> dict[str, Unit]:
    """Return the units of the comparison of systems, by name, each after those that it reads.

    Models that a run has as well are the same units, made once for both.

    Args:
        config: The configuration.
        sources: As for `units_of`.
    """
    sources = sources or Sources()
    shared = units_of(config, sources)
    models = [row_models(config, name) for name in config.compare.rows]
    units = [
        shared[name]
        for name in shared
        if name in (*config.data_of_segmenters, "palettes", reference_segmenter_of(config))
    ]
    units += _model_units(config, sources, models)
    return _in_order([*units, *comparison_units(config, sources)])


def curve_units_of(config: RunConfig, sources: Sources | None = None) -> dict[str, Unit]:
    """Return what the curve of labels and doses needs beside the units of `units_of`, each after those that it reads.

    Args:
        config: The configuration.
        sources: As for `units_of`.
    """
    return {unit.name: unit for unit in curve_units(config, sources or Sources())}


def loop_units_of(config: RunConfig, sources: Sources | None = None) -> dict[str, Unit]:
    """Return the units of the loop, by name, each after those that it reads.

    There are as many rounds as finished ones gave reason for, and one more; after the last round come the control and
    the page. Pairs and segmenters of the run that the loop needs are the same units.

    Args:
        config: The configuration.
        sources: As for `units_of`.
    """
    sources = sources or Sources()
    shared = units_of(config, sources)
    rounds = list[Unit]()
    for number in range(1, config.loop.rounds + 1):
        rounds += units_of_round(config, sources, number)
        decided = _decision(sources, rounds[-1], shared | {unit.name: unit for unit in rounds})
        if decided is None or not decided:
            break
    number = rounds[-1].settings["round"]
    ended = decided is False or (decided is True and number == config.loop.rounds)
    control = units_of_control(config, sources, number) if ended else []
    units = [*rounds, *control, LoopReportUnit.of(config, number, [*rounds, *control], ended=ended)]
    needed, names = dict[str, Unit](), [name for unit in units for name in unit.inputs]
    while names:
        name = names.pop()
        if name in shared and name not in needed:
            needed[name] = shared[name]
            names += shared[name].inputs
    return _in_order([*(unit for name, unit in shared.items() if name in needed), *units])


def _decision(sources: Sources, unit: Unit, units: dict[str, Unit]) -> bool | None:
    """Return whether a round gave reason for another; None until that is known."""
    if sources.run_dir is None:
        return None
    try:
        if not is_finished(sources.run_dir, unit, units):
            return None
        return read_decision(sources.run_dir / unit.name)["continue"]
    except ScenepaletteError:
        return None  # told when the unit's state is asked for, or its result is read


def _model_units(config: RunConfig, sources: Sources, models: Iterable[PairModels]) -> list[Unit]:
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


def _in_order(units: list[Unit]) -> dict[str, Unit]:
    """Return units by name, each moved behind those that it reads and otherwise as given."""
    by_name = {unit.name: unit for unit in units}
    ordered: dict[str, Unit] = {}

    def place(unit: Unit) -> None:
        if unit.name not in ordered:
            for name in unit.inputs:
                place(by_name[name])
            ordered[unit.name] = unit

    for unit in units:
        place(unit)
    return ordered
