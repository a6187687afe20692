"""Writes a first recipe for a data set: looks at it, measures this machine, and chooses what fits into the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.storage.untrusted import short
from scenepalette.common.wording import counted
from scenepalette.data.datasets import DATASETS, TEST
from scenepalette.data.files.finding import unpack_first
from scenepalette.data.fitting.dataset import fit_dataset
from scenepalette.pipeline.checks.requirements import REFUSED, amount_problems
from scenepalette.pipeline.config import RunConfig, make_config, merge, with_following_lists, with_overrides
from scenepalette.pipeline.doctor.data_checks import STRETCHED, STRONGLY_STRETCHED
from scenepalette.pipeline.doctor.machine.timing import Measured, measure
from scenepalette.pipeline.doctor.oracle import check_oracle
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.stages.inputs.opened_splits import hold_out, notes_of, open_splits, origin_of_test
from scenepalette.pipeline.starting.budget import CPU, RESERVE, Base, Choice, Search, base_of_machine
from scenepalette.pipeline.starting.recognise import recognise
from scenepalette.pipeline.starting.sizes import sizes_for, stretch
from scenepalette.pipeline.starting.survey import Survey, absent_from, holdout_of, rare_at, survey
from scenepalette.pipeline.starting.text import recipe_text
from scenepalette.pipeline.units.records import show_seconds

LONGEST = 60 * 24 * 60.0
LEAST_LARGER, MUCH_SMALLER = 1.25, 4.0
"""How many times as large as `data.size` images have to be for a larger size of segmenters, and for tiles."""
MANY_ODD = 0.25
"""Share of strongly stretched images from which cropping is proposed."""


@dataclass(frozen=True)
class Proposal:
    """A first recipe.

    Attributes:
        text: It as commented YAML.
        notes: What was found and decided, a line each.
    """

    text: str
    notes: tuple[str, ...]


def propose(
    root: Path,
    minutes: float,
    *,
    name: str | None = None,
    changes: Sequence[str] = (),
    progress: Progress = NO_PROGRESS,
    timed: Callable[..., Measured] = measure,
) -> Proposal:
    """Look at a data set and this machine, and write a recipe that takes some minutes.

    Args:
        root: The data set's folder.
        minutes: What a run may take, above 0.
        name: The data set's name in `DATASETS`; by default it is told from its folders.
        changes: `data.key=value` that say how it is read, as every verb takes them; `data.size` fixes the size.
        progress: Watches what is read and measured.
        timed: Measures some steps of a configuration.

    Returns:
        The recipe, which the doctor accepts as far as it can be known without it.

    Raises:
        ConfigError: There is no such folder, the time is too short for anything, or a change cannot be used.
        DataError: Anything that is wrong with the data set, all at once.
    """
    data = _data_section(root, name, changes, minutes)
    base = base_of_machine()
    given = data.pop("size", None)
    config = _checked(base, {"data": {**data, **({"size": given} if given is not None else {})}})
    splits = open_splits(config.data, config.data_seed, progress)
    if few := amount_problems(len(splits["train"]), len(splits["val"])):
        raise DataError(REFUSED, few)
    has_test = origin_of_test(config.data) != "held out" or "holdout" in data
    if not has_test and (holdout := holdout_of(splits["train"].ids, config.data.recordings)):
        data["holdout"] = holdout
        splits = hold_out(splits, config.data.model_copy(update={"holdout": holdout}), config.data_seed)
    train = splits["train"]
    seen = survey(train, progress)
    samples = sum(map(len, splits.values()))
    search = Search(base, data, train, samples * seen.seconds, samples, progress, timed)
    choice = search.choose([config.data.size] if given is not None else sizes_for(seen.size, seen.ratio), minutes)
    size: tuple[int, int] = tuple(choice.values["data"]["size"])
    odd = seen.stretched(size, STRONGLY_STRETCHED)
    fits = "fit" in data
    if not fits and odd > MANY_ODD * len(seen.sizes):
        data["fit"] = "crop"
    values: dict[str, Any] = {"recipe": base.recipe, **merge({"data": data}, choice.values)}
    values["segmenters"]["evaluation"] = "native"
    final = _checked(base, values)
    reported = splits.get(TEST, splits["val"])
    oracle = check_oracle(final, reported, progress)
    fitted = train if final.data.fit == "tile" else fit_dataset(train, final.data.fit, final.data.size)
    rare = rare_at(fitted, seen.indices, final.data.size, progress)
    worked_at = None if final.data.fit == "tile" else final.data.size
    absent = absent_from(fitted, seen.indices, worked_at, progress) if rare else []
    if absent:
        values["segmenters"]["class_weights"] = "none"
    notes = notes_of(splits.values())
    counts = ", ".join(f"{len(dataset)} {split}" for split, dataset in splits.items())
    comments = {
        "recipe": [
            f"What is not said here is as in the recipe {base.recipe}"
            + (
                ", whose networks two CPU cores can train; those of camvid are larger, for a GPU."
                if base == CPU
                else ", whose networks are for a GPU; those of camvid-cpu are smaller. Its widths, batch sizes and "
                "steps are guesses: nobody has measured them on a GPU yet."
            )
        ],
        "data.name": [
            *([] if name is not None else ["Told from the folders; --data NAME says another."]),
            *(f"Read so: {note}" for note in notes),
        ],
        "data.holdout": [
            "There is no test split, so this part of the training images is tested on and not learned from; 0 for none."
        ],
        "data.size": _about_size(final, seen, choice, fixed=given is not None),
        "data.fit": [
            f"{odd} of {len(seen.sizes)} images {'has' if odd == 1 else 'have'} another aspect ratio: the middle alone "
            "is learned from and evaluated. "
            "tile cuts them into tiles instead, which loses nothing; stretch takes them as wholes."
        ]
        if not fits
        else [],
        "segmenters.evaluation": [
            "By labels in the size of their files, as a model in use is judged.",
            *_about_segmenter_size(final.data.size, seen),
        ],
        "layouts": ["Steps in all; the lists per level of the growing network follow from them and from data.size."],
        "images.steps": [
            f"All steps and pairs are {choice.part:.2g} times those of {base.recipe}, as the time allows."
        ],
        "generate.kinds": [
            "full: whole new layouts; partial: real ones edited in part (its generator costs a training)."
        ]
        if "partial" in final.generate.kinds
        else ["full: whole new layouts. With more time add partial, and the arm real+partial."],
        "segmenters.arms": [
            "real alone, what costs no generator (copy-paste, real-long), and what adds generated pairs (real+syn)."
        ],
        "segmenters.seeds": [
            "Differences of one or two points lie within what another seed changes."
            if len(final.segmenters.seeds) > 1
            else "One seed proves nothing: with more time use [0, 1, 2]."
        ],
        "segmenters.architecture": [
            f"{oracle.summary}" if oracle is not None else "A decoder at a quarter of the size finds small things.",
            *(f"Hardly to be found at this size: {line}" for line in (oracle.details if oracle is not None else ())),
        ],
        "segmenters.class_weights": [
            *(
                [
                    f"Too rare to learn, in {len(seen.indices)} training images that were counted; add images of them, "
                    "use a larger size, or set evaluated to false in the class file:",
                    *(f"- {line}" for line in rare),
                ]
                if rare
                else ["No evaluated class is too rare to learn."]
            ),
            "root-median-frequency has no weight for a class without a training pixel; it can be used once each has "
            f"some: none in {len(train)} training images of {short(', '.join(absent), 200)}."
            if absent
            else "none takes all pixels as equal.",
        ],
        "segmenters.encoder": [
            "Begins with random weights; with encoder_weights: imagenet, or a file, where licence and network allow it."
        ],
    }
    takes = f"about {show_seconds(choice.seconds / (1 - RESERVE))} on this machine, as busy as it is now"
    head = [
        f"A first recipe for {short(str(root))}, by `scenepalette init`: {counts} images, "
        f"{train.table.num_classes} classes. It takes {takes} (--minutes {minutes:g})."
    ]
    foot = [
        "Saved as mine.yaml, first what is wrong, then everything:",
        "  scenepalette doctor mine.yaml",
        "  scenepalette run mine.yaml --out runs/mine",
    ]
    shown = {key: values[key] for key in ("recipe", "data", "layouts", "images", "generate", "segmenters", "report")}
    shown["segmenters"] = _ordered(
        shown["segmenters"], ("architecture", "encoder", "class_weights", "steps", "arms", "seeds", "evaluation")
    )
    shown["data"] = _ordered(shown["data"], ("name", "root", "size", *(["fit"] if "fit" in shown["data"] else [])))
    worked = "{}x{}".format(*final.data.size)
    told = [
        f"{counts} images of data.name={final.data.name}, {train.table.num_classes} classes",
        *notes,
        f"size {worked}, {', '.join(final.segmenters.arms)}, {counted(len(final.segmenters.seeds), 'seed')}: {takes}",
    ]
    return Proposal(recipe_text(head, shown, comments, foot), tuple(told))


def _data_section(root: Path, name: str | None, changes: Sequence[str], minutes: float) -> dict[str, Any]:
    """Return what is known of the section `data` before anything is read, with `size` only if it is given."""
    problems = []
    if not 0 < minutes <= LONGEST:
        problems.append(f"--minutes: got {minutes:g}; use more than 0, and at most {LONGEST:g} (60 days)")
    others = [change for change in changes if not change.strip().startswith("data.")]
    if others:
        problems.append(
            f"--set: {short(others[0])} does not say how data is read; change it in the recipe that is written"
        )
    try:
        path = root.expanduser().absolute()
        is_folder = path.is_dir()
        str(path).encode()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"The folder {short(repr(str(root)))} cannot be used: {error}.") from error
    if not is_folder:
        hint = unpack_first(path) or "; give that of a labelled data set"
        problems.append(f"DIR: there is no folder {short(repr(str(root)))}{hint}")
    if name is not None and (name not in DATASETS or DATASETS.get(name).drawn):
        read = ", ".join(each for each in DATASETS if not DATASETS.get(each).drawn)
        problems.append(f"--data: got {short(repr(name))}; data sets that are read from a folder are {read}")
    if problems:
        raise ConfigError("No recipe can be written.", problems)
    section = with_overrides({}, changes).get("data", {})
    if conflicting := {"name", "root"} & section.keys():
        raise ConfigError(f"--set data.{min(conflicting)}: DIR and --data NAME say it; leave it out.")
    return {"name": name or recognise(path), "root": str(path), **section}


def _checked(base: Base, values: dict[str, Any]) -> RunConfig:
    return make_config(with_following_lists(merge(RECIPES[base.recipe](), values), values))


def _about_size(config: RunConfig, seen: Survey, choice: Choice, *, fixed: bool) -> list[str]:
    size = config.data.size
    lines = ["Height and width; the images are {} x {}.".format(*seen.size)]
    if config.generator_size != size:
        lines.append("Generators work at {}x{}, the nearest size that doubling reaches.".format(*config.generator_size))
    if config.data.fit == "stretch" and (factor := stretch(size, seen.ratio)) > STRETCHED:
        lines.append(f"They are stretched by {100 * (factor - 1):.0f} %, as sides are multiples that networks reach.")
    if config.data.fit == "stretch" and (odd := seen.stretched(size, STRONGLY_STRETCHED)):
        lines.append(
            f"{odd} of {len(seen.sizes)} have another aspect ratio and are stretched by more than "
            f"{100 * (STRONGLY_STRETCHED - 1):.0f} %; fit: crop or tile does not stretch them."
        )
    if not fixed and choice.larger is not None:
        lines.append(
            "The largest that the time allows; the next is [{}, {}]. Lists per level follow by themselves.".format(
                *choice.larger
            )
        )
    return [*lines, *_about_tiles(size, seen)] if config.data.fit == "stretch" else lines


def _about_segmenter_size(size: tuple[int, int], seen: Survey) -> list[str]:
    """Propose a size at which segmenters see more than generators, up to twice as large each way."""
    factor = min(2.0, *(native / side for native, side in zip(seen.size, size, strict=True)))
    larger = round(factor * size[0]), round(factor * size[1])
    if factor < LEAST_LARGER:
        return []
    return [
        "Segmenters can work at a larger size than generators; one of their steps then takes about "
        f"{larger[0] * larger[1] / (size[0] * size[1]):.1f} times as long:",
        f"size: [{larger[0]}, {larger[1]}]",
    ]


def _about_tiles(size: tuple[int, int], seen: Survey) -> list[str]:
    """Propose tiles of images of which little is left at a size."""
    if min(native / side for native, side in zip(seen.size, size, strict=True)) < MUCH_SMALLER:
        return []
    return [
        "Little of what is small is left of such images. Tiles of them are seen twice as large each way, as about 4 "
        "times as many samples; every pixel is still evaluated:",
        "fit: tile",
        f"tile_height: {seen.size[0] // 2}",
    ]


def _ordered(section: dict[str, Any], first: Sequence[str]) -> dict[str, Any]:
    return {key: section[key] for key in (*first, *section) if key in section}
