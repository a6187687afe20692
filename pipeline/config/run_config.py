"""The configuration of a run: read from a recipe or a file, and checked as a whole before anything starts."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_origin

import yaml
from pydantic import ValidationError, ValidationInfo, model_validator

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.storage.files import write_atomically
from scenepalette.common.storage.untrusted import YAML_BYTES, parse_yaml, read_text, short
from scenepalette.common.urls import is_url
from scenepalette.generators.nn.grids import base_grid, reached_size
from scenepalette.pipeline.config.agreement import disagreements
from scenepalette.pipeline.config.generation import LEVEL_LISTS, STEP_LISTS
from scenepalette.pipeline.config.run_sections import RunSections
from scenepalette.pipeline.config.values import merge, problems_of, with_overrides
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.run_directory.ownership import CONFIG, check_holds_run
from scenepalette.pipeline.sections import Section

Values = dict[str, Any]
# What a run that lends its generators decides for the borrower: the networks that its weights fit.
_LENT_SECTIONS = ("layouts", "images", "finetune")


class RunConfig(RunSections):
    """Everything that a run is made from."""

    @model_validator(mode="after")
    def _follow_totals(self) -> Self:
        try:
            _, doublings = base_grid(self.generator_size)
        except ConfigError:  # which is reported with all that is wrong
            return self
        full, partial = (section.with_lists(doublings + 1) for section in (self.layouts.full, self.layouts.partial))
        return self.model_copy(update={"layouts": self.layouts.model_copy(update={"full": full, "partial": partial})})

    @model_validator(mode="after")
    def _check_together(self, info: ValidationInfo) -> Self:
        if problems := disagreements(self, written=bool(info.context)):
            raise ValueError("\n".join(problems))
        return self


KeyKind = Literal["section", "dictionary", "value"]


@functools.cache
def keys() -> dict[KeyKind, list[str]]:
    """Return the dotted keys of the configuration: sections, dictionaries whose keys are open, and other values."""
    found: dict[KeyKind, list[str]] = {"section": [], "dictionary": [], "value": []}

    def visit(section: type[Section], prefix: str) -> None:
        for name, field in section.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, Section):
                found["section"].append(prefix + name)
                visit(kind, f"{prefix}{name}.")
            else:
                found["dictionary" if get_origin(kind) is dict else "value"].append(prefix + name)

    visit(RunConfig, "")
    return found


def load_config(
    recipe_or_yaml: str, assignments: Sequence[str] = (), run_dir: Path | None = None, *, written: bool = False
) -> RunConfig:
    """Resolve what a command line gives into a checked configuration.

    Args:
        recipe_or_yaml: Name of a recipe, or a YAML file: a whole configuration, or a `recipe:` with changes to it.
        assignments: `section.key=value` changes.
        run_dir: Where the run is kept: what it has borrowed serves also when the lender is gone.
        written: Whether it is the file of a run directory, checked when it was written.

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
    return make_config(with_following_lists(resolved, given), written=written)


def make_config(values: Mapping[str, Any], *, written: bool = False) -> RunConfig:
    """Check nested values as a whole; `written` as of `load_config`.

    Raises:
        ConfigError: All problems, each with its field.
    """
    try:
        return RunConfig.model_validate(values, context=written)
    except ValidationError as error:
        raise ConfigError(
            "The configuration cannot be run.",
            problems_of(error, known=[key for kind in keys().values() for key in kind]),
        ) from error


def config_text(config: RunConfig) -> str:
    """Return the resolved configuration as YAML; a file of it can be given in place of a recipe."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def write_config(path: Path, config: RunConfig) -> None:
    """Write the resolved configuration as YAML, atomically."""
    write_atomically(path, config_text(config))


def config_of_pairs(config: RunConfig) -> dict[str, Any]:
    """Return the settings that decide generated pairs, as JSON values, for those who get the pairs alone.

    Paths are left out: they belong to one machine.
    """
    usual = {name for name in ("fit", "tile_height") if name not in config.data.identity()}
    return config.model_dump(
        mode="json",
        include={"recipe", "seed", "data", "palettes", "layouts", "images", "finetune", "generate"},
        exclude={
            "data": {"root", "class_file", "unlabelled"} | usual,
            "images": {"vgg_weights", "perceptual_encoder_weights"},
        },
    )


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
    lent = _lent_sections(lender)
    if lent is None and run_dir is not None:
        lent = _borrowed_sections(run_dir, lender)
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
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):  # no file can have such a name
        exists, is_folder = False, False
    if is_folder:
        raise ConfigError(
            f"{name} is a folder, where the name of a recipe or a YAML file is needed. Of a run directory, give "
            f"{path / CONFIG}, and --out {path} to resume it."
        )
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
    # A run's own config.yaml means what it says: the recipe would add to it what a change had taken out.
    if changes.keys() >= RunConfig.model_fields.keys():
        return changes
    recipe = changes.get("recipe")
    if isinstance(recipe, str) and recipe in RECIPES:
        return with_following_lists(merge(RECIPES[recipe](), changes), changes)
    # With every section no recipe is needed, and one of another version may be named.
    if recipe is not None and not RunConfig.model_fields.keys() - {"models_from"} <= changes.keys():
        raise ConfigError(
            f"{path} says recipe: {short(repr(recipe))}, which there is not, and leaves sections to it. Recipes are "
            f"{', '.join(RECIPES)}."
        )
    return changes


def _lent_sections(lender: Path) -> dict[str, Any] | None:
    """Return the sections of a run's configuration that its trained generators need, or None if it is not there.

    Raises:
        ScenepaletteError: The folder is no run directory of this version, or its configuration cannot be read.
    """
    if not lender.exists():
        return None
    check_holds_run(lender)
    try:
        config = yaml.safe_load((lender / CONFIG).read_text(encoding="utf-8"))
        return {**{key: config[key] for key in _LENT_SECTIONS}, "data": {"size": config["data"]["size"]}}
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ScenepaletteError(
            f"{lender / CONFIG} cannot be read ({error}). Restore it, or correct models_from."
        ) from error


def _borrowed_sections(run_dir: Path, lender: Path) -> dict[str, Any] | None:
    """Return the sections that a run took from a lender when it borrowed from it, or None if it has not.

    Raises:
        ScenepaletteError: The run's configuration cannot be read.
    """
    try:
        stored = yaml.safe_load((run_dir / CONFIG).read_text(encoding="utf-8")).get("models_from")
    except (OSError, UnicodeError, yaml.YAMLError, AttributeError):
        return None
    return _lent_sections(run_dir) if stored == str(lender) else None
