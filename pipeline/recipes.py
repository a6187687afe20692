"""Recipes: functions that return a complete configuration; each says its command and what to expect of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.storage.untrusted import YAML_BYTES, parse_yaml, read_text, short
from scenepalette.common.urls import is_url
from scenepalette.generators.nn.grids import base_grid, reached_size
from scenepalette.pipeline.config import LEVEL_LISTS, STEP_LISTS, RunConfig, make_config, merge, with_overrides
from scenepalette.pipeline.units.borrowing import borrowed_sections_of, sections_of

Values = dict[str, Any]


def small_systems(width: int, average_decay: float) -> Values:
    """Return numbers of the image systems beside OASIS that two cores can train.

    Args:
        width: Of the generators.
        average_decay: Of the averaged generators of those systems that sample from one.
    """
    patch = {"width": width, "discriminator_width": 16}
    spade = {**patch, "hidden_channels": 24, "generator_learning_rate": 4e-4, "discriminator_learning_rate": 1e-3}
    crn = {"width": 2, "generator_learning_rate": 2e-3, "average_decay": average_decay}
    return {
        "gaugan": spade,
        "spade+": {**spade, "average_decay": average_decay},
        "pix2pixhd": {
            **patch,
            "width": width * 3 // 2,
            "generator_learning_rate": 1e-3,
            "discriminator_learning_rate": 6e-4,
        },
        "crn": crn,
        # The rarity mask leaves roads a twentieth of the weight of signs: it needs more steps than there are here.
        "crn-imle": {
            **crn,
            "encoder_channels": 16,
            "round_size": 40,
            "candidates": 5,
            "round_steps": 60,
            "rebalance_loss": False,
        },
        "sean": {**spade, "style_channels": 16, "encoder_width": 8, "bank_images": 128},
    }


def demo() -> Values:
    """`scenepalette run demo --out runs/demo`: the whole product on embedded scenes, minutes on two cores."""
    layout = {
        "noise_features": 64,
        "max_width": 96,
        "base_width": 384,
        "hidden_channels": 32,
        "average_decay": 0.99,
        "penalty_share": 0.5,
        "checkpoint_every": 100,
    }
    return {
        "recipe": "demo",
        "data": {"name": "streets", "size": (64, 96), "train_scenes": 1600, "val_scenes": 100},
        "layouts": {"full": {**layout, "steps": 700}, "partial": {**layout, "steps": 400}},
        "images": {
            "steps": 300,
            "batch_size": 4,
            "checkpoint_every": 100,
            # Nothing is downloaded, and no run depends on what lies in torchvision's folder.
            "perceptual_features": "segmenter",
            "systems": {
                "oasis": {
                    "width": 16,
                    "noise_channels": 32,
                    "hidden_channels": 32,
                    "discriminator_width": 32,
                    "generator_learning_rate": 4e-4,
                    "discriminator_learning_rate": 1e-3,
                    "average_decay": 0.99,
                    "upsampling": "bilinear",
                    "perceptual_weight": 5.0,
                },
                **small_systems(width=8, average_decay=0.99),
            },
        },
        # Exact shares draw rare classes as outlines after so few steps: their shapes are not learned yet.
        "generate": {"pairs": 300, "kinds": ("full", "semi"), "hardening": "argmax", "rows_per_shard": 100},
        # Chosen by the validation score of the arm real alone.
        "segmenters": {
            "arms": ("real", "copy-paste", "semi", "real+syn"),
            "steps": 800,
            "batch_size": 16,
            "architecture": "fpn",
            "encoder": "tu-resnet10t",
            "decoder_channels": 64,
            "optimizer": "adamw",
            "learning_rate": 3e-3,
            "weight_decay": 0.01,
            "class_weights": "root-median-frequency",
            "checkpoint_every": 100,
        },
        "report": {"evaluated_pairs": 200},
    }


def camvid_cpu() -> Values:
    """`scenepalette run camvid-cpu --set data.root=CAMVID --out runs/camvid-cpu`: about an hour on two cores."""
    layout = {
        "noise_features": 128,
        "max_width": 128,
        "base_width": 1024,
        "hidden_channels": 32,
        "average_decay": 0.995,
        "checkpoint_every": 100,
    }
    return {
        "recipe": "camvid-cpu",
        "data": {"name": "camvid", "size": (96, 128)},
        "layouts": {
            "full": {
                **layout,
                "fade_steps": (0, 60, 100, 120, 150, 120),
                "stable_steps": (100, 100, 120, 150, 200, 220),
                "batch_sizes": (64, 64, 32, 24, 12, 8),
            },
            "partial": {
                **layout,
                "fade_steps": (0, 30, 50, 60, 80, 80),
                "stable_steps": (60, 60, 60, 80, 100, 120),
                "batch_sizes": (64, 64, 32, 24, 12, 8),
            },
        },
        # The discriminator sees each image too rarely here to learn it by heart, so its input is not augmented.
        "images": {
            "steps": 3400,
            "batch_size": 4,
            "checkpoint_every": 200,
            "systems": {
                "oasis": {
                    "width": 12,
                    "noise_channels": 64,
                    "hidden_channels": 32,
                    "discriminator_width": 32,
                    "generator_learning_rate": 4e-4,
                    "discriminator_learning_rate": 1e-3,
                    "average_decay": 0.995,
                },
                **small_systems(width=10, average_decay=0.995),
            },
        },
        "generate": {"pairs": 1200, "rows_per_shard": 400},
        "segmenters": {"steps": 400, "batch_size": 8, "learning_rate": 0.02, "checkpoint_every": 120},
        "report": {"evaluated_pairs": 400},
    }


def camvid() -> Values:
    """`scenepalette run camvid --set data.root=CAMVID --out runs/camvid`: 192x256, hours on one GPU."""
    layout = {
        "fade_steps": (0, 1000, 1000, 1500, 2000, 3000, 4000),
        "stable_steps": (1000, 1000, 1000, 1500, 2000, 3000, 6000),
        "batch_sizes": (256, 256, 128, 64, 32, 16, 8),
        "average_decay": 0.999,
        "checkpoint_every": 1000,
    }
    return {
        "recipe": "camvid",
        "data": {"name": "camvid", "size": (192, 256)},
        "layouts": {"full": layout, "partial": {**layout, "base_width": 4096, "max_width": 256}},
        "images": {
            "steps": 30000,
            "batch_size": 16,
            "augment": True,
            "checkpoint_every": 1000,
            "systems": {"oasis": {"average_decay": 0.9995}},
        },
        "generate": {"pairs": 4000, "batch_size": 32},
        "segmenters": {
            "seeds": (0, 1, 2),
            "steps": 3000,
            "batch_size": 16,
            "encoder": "resnet50",
            "checkpoint_every": 1000,
        },
    }


def cityscapes() -> Values:
    """`scenepalette run cityscapes --set data.root=CITYSCAPES --out runs/cityscapes`: the papers' settings, days.

    Semantic Palette, appendix F: epochs 600 down to 150 at batch sizes 1024 down to 8 from 4x8 to 128x256 over 2,975
    layouts; OASIS, appendix C.3: 200 epochs at batch size 20; segmenters for 300 epochs at batch size 16. Epochs are
    given here as optimizer steps, half of each level's for fading in.
    """
    epochs = (600, 510, 420, 330, 240, 150)
    batch_sizes = (1024, 512, 256, 64, 16, 8)
    steps = tuple(round(e * 2975 / b) for e, b in zip(epochs, batch_sizes, strict=True))
    layout = {
        "fade_steps": (0, *(s // 2 for s in steps[1:])),
        "stable_steps": (steps[0], *(s - s // 2 for s in steps[1:])),
        "batch_sizes": batch_sizes,
        "checkpoint_every": 2000,
    }
    return {
        "recipe": "cityscapes",
        "data": {"name": "cityscapes", "size": (128, 256)},
        "layouts": {"full": layout, "partial": layout},
        "images": {"steps": 200 * 2975 // 20, "batch_size": 20, "checkpoint_every": 2000},
        "generate": {"pairs": 2975, "batch_size": 32},
        "segmenters": {
            "seeds": (0, 1, 2),
            "steps": 300 * 2975 // 16,
            "batch_size": 16,
            # As in the papers, but for the images that an arm with generated pairs sees beyond the others.
            "synthetic_fade": 0.0,
            "synthetic_weight": 1.0,
            "statistics_images": 0,
            "warmup": 0.0,
            "encoder": "resnet50",
            "checkpoint_every": 5000,
        },
    }


RECIPES: dict[str, Callable[[], Values]] = {
    "demo": demo,
    "camvid-cpu": camvid_cpu,
    "camvid": camvid,
    "cityscapes": cityscapes,
}


def load_config(recipe_or_yaml: str, assignments: Sequence[str] = (), run_dir: Path | None = None) -> RunConfig:
    """Resolve what a command line gives into a checked configuration.

    Args:
        recipe_or_yaml: Name of a recipe, or a YAML file: a whole configuration, or a `recipe:` with changes to it.
        assignments: `section.key=value` changes.
        run_dir: Where the run is kept: what it has borrowed serves also when the lender is gone.

    Raises:
        ConfigError: The recipe or file is unknown, or the configuration cannot be run; all problems at once.
    """
    values = RECIPES[recipe_or_yaml]() if recipe_or_yaml in RECIPES else _read_yaml(recipe_or_yaml)
    resolved = with_overrides(values, assignments)
    lender = resolved.get("models_from")
    # A run's own config.yaml holds what the lender decided when its models were borrowed.
    decided = lender == values.get("models_from") and values.keys() >= RunConfig.model_fields.keys()
    if isinstance(lender, str) and lender and not is_url(lender) and not decided:
        return _with_borrowed_sections(Path(lender).expanduser().absolute(), values, assignments, run_dir)
    given = with_overrides({}, assignments)
    return make_config(with_following_lists(resolved, given))


def with_following_lists(values: Values, given: Values) -> Values:
    """Return changed values without the lists per level that a change has put out of date; their total remains.

    Lists that are not among the changes are out of date if a total is, or if `data.size` is and has another number of
    levels than they have entries. What is malformed stays, to be refused with everything else.

    Args:
        values: Values with the changes.
        given: The changes alone, nested.
    """
    levels = _levels_of(_at(values, "data").get("size")) if "size" in _at(given, "data") else None
    sections = {}
    for name, section in _at(values, "layouts").items():
        if not isinstance(section, dict):
            continue
        said = _at(_at(given, "layouts"), name)
        total = said.get("steps")
        stale = {
            key: entries
            for key in LEVEL_LISTS
            if isinstance(entries := section.get(key), list | tuple)
            and key not in said
            and (total is not None or (levels is not None and len(entries) != levels))
        }
        counts = [count for key in STEP_LISTS if key in stale for count in stale[key]]
        if total is None and counts:
            # One that is given by hand goes with none that follows.
            if not {*STEP_LISTS} <= stale.keys() or not all(isinstance(count, int) for count in counts):
                continue
            total = sum(counts)
        kept = {key: value for key, value in section.items() if key not in stale}
        sections[name] = kept if total is None else {**kept, "steps": total}
    return {**values, "layouts": {**_at(values, "layouts"), **sections}} if sections else values


def _at(values: Values, key: str) -> Values:
    """Return a section of nested values; an empty one where there is none."""
    section = values.get(key)
    return section if isinstance(section, dict) else {}


def _levels_of(size: Any) -> int | None:
    """Return the levels of networks of a size, or None if it is none that they have."""
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        return None
    try:
        return base_grid(reached_size((size[0], size[1])))[1] + 1
    except ConfigError:
        return None


def _with_borrowed_sections(
    lender: Path, values: Values, assignments: Sequence[str], run_dir: Path | None
) -> RunConfig:
    """Return a configuration whose generators, and the size that they work at, are those of the run that lends them.

    Raises:
        ConfigError: The run is not there, or another set-up is asked for; all problems at once.
    """
    lent = sections_of(lender)
    if lent is None and run_dir is not None:
        lent = borrowed_sections_of(run_dir, lender)
    if lent is None:
        raise ConfigError(
            f"models_from: there is no run in {lender}. Correct it, or give the config.yaml of a run that borrowed "
            "from it in place of a recipe."
        )
    size = lent.pop("data")["size"]
    values = merge({**values, **lent}, {"data": {"size": size}})
    wanted = with_overrides(values, assignments)
    problems = [
        f"{name}: --set asks for other values than the models were trained with; leave it out"
        for name in ("layouts", "images")
        if wanted[name] != values[name]
    ]
    if wanted["data"].get("size") != size:
        problems.append(f"data.size: got {wanted['data'].get('size')}, the models are for {size}")
    if problems:
        raise ConfigError(f"models_from: {lender} cannot lend its models to this configuration.", problems)
    return make_config(wanted)


def _read_yaml(name: str) -> Values:
    path = Path(name)
    try:
        exists = path.exists()
    except (OSError, ValueError):  # no file can have such a name
        exists = False
    if not exists:
        raise ConfigError(
            f"There is no recipe and no YAML file named {short(repr(name))}. Recipes are {', '.join(RECIPES)}; a file "
            "is given by its path."
        )
    try:
        changes = parse_yaml(read_text(path, YAML_BYTES))
    except (DataError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(changes, dict):
        raise ConfigError(f"{path} must hold sections such as data: and images:, got {type(changes).__name__}.")
    keys = [short(repr(key)) for key in changes if not isinstance(key, str)]
    if keys:
        raise ConfigError(f"{path} has keys that are no names: {', '.join(keys)}. Keys are sections such as data.")
    recipe = changes.get("recipe")
    if isinstance(recipe, str) and recipe in RECIPES:
        return with_following_lists(merge(RECIPES[recipe](), changes), changes)
    # A run's config.yaml has every section, so that no recipe is needed, and may name one of another version.
    if recipe is not None and not RunConfig.model_fields.keys() - {"models_from"} <= changes.keys():
        raise ConfigError(
            f"{path} says recipe: {short(repr(recipe))}, which there is not, and leaves sections to it. Recipes are "
            f"{', '.join(RECIPES)}."
        )
    return changes
