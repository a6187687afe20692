"""Sections of the configuration as forms: what they show, what they refuse, and what they mean."""

from __future__ import annotations

import itertools
import json
import shlex
from typing import Annotated, Any

import pytest
from jsonschema import Draft202012Validator
from prefect import flow
from prefect.exceptions import ParameterTypeError
from prefect.utilities.schema_tools.validation import validate
from pydantic import ValidationError

from scenepalette.flows.augment import augment
from scenepalette.flows.forms import Changes, ChangesTo, assignments, changes_to, override_texts
from scenepalette.flows.stages import request_of
from scenepalette.pipeline.config import DataConfig, GenerateConfig, ImagesConfig, LayoutsConfig, RunConfig, load_config
from scenepalette.pipeline.recipes import RECIPES
from scenepalette.pipeline.request import Request
from scenepalette.pipeline.sections import Section

SECTIONS = [
    field.annotation
    for name, field in RunConfig.model_fields.items()
    if name not in ("recipe", "seed", "models_from", "compare")
]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_form_has_the_sections_fields_none_of_them_required_or_filled_in(section: type[Section]) -> None:
    schema = changes_to(section).model_json_schema()
    assert schema["properties"].keys() == section.model_fields.keys() and "required" not in schema
    expected = section.model_json_schema()["properties"]
    for name, field in schema["properties"].items():
        # A section in a section is described where it is defined.
        described = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
        assert described["description"] and "default" not in field
        assert {"type": "null"} not in field.get("anyOf", [])
        for limit in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "enum", "pattern", "minItems"):
            if limit in expected[name]:
                assert field[limit] == expected[name][limit]


def test_values_out_of_range_are_refused_with_their_field() -> None:
    with pytest.raises(ValidationError) as caught:
        changes_to(GenerateConfig).model_validate({"pairs": 0, "kinds": ["whole"], "pairz": 1})
    assert {entry["loc"] for entry in caught.value.errors()} == {("pairs",), ("kinds", 0), ("pairz",)}


def test_what_is_left_out_stays_as_the_recipe_has_it() -> None:
    changes = {
        "seed": 7,
        "data": None,
        "generate": changes_to(GenerateConfig)(pairs=5, kinds=("full",), minimum={"car": 0.1}, noise_scheme=None),
        "images": changes_to(ImagesConfig)(systems={"oasis": {"width": 8}}),
        "layouts": changes_to(LayoutsConfig).model_validate({"full": {"learning_rate": 1e-5}}),
        "segmenters": None,
    }
    texts = assignments(changes)
    config = load_config("demo", [*texts, "segmenters.arms=[real]"])
    recipe = load_config("demo")
    assert config.generate == recipe.generate.model_copy(
        update={"pairs": 5, "kinds": ("full",), "minimum": {"car": 0.1}}
    )
    systems = recipe.images.systems
    assert config.images.systems == {**systems, "oasis": {**systems["oasis"], "width": 8}}
    full = recipe.layouts.full.model_copy(update={"learning_rate": 1e-5})
    assert config.layouts == recipe.layouts.model_copy(update={"full": full})
    assert config.seed == 7 and config.data == recipe.data


def test_changes_are_a_command_line() -> None:
    changes = changes_to(GenerateConfig)(pairs=5, ban=("traffic light", "yes"))
    texts = assignments({"generate": changes})
    assert texts == ["generate.pairs=5", "generate.ban=[traffic light, 'yes']"]
    parts = shlex.split(Request("demo", tuple(texts)).command())
    assert parts == ["scenepalette", "run", "demo", "--set", texts[0], "--set", texts[1], "--out", "runs/demo"]
    assert load_config("demo", texts).generate.ban == ("traffic light", "yes")


def test_class_names_with_dots_are_one_key() -> None:
    changes = changes_to(GenerateConfig)(minimum={"st. car": 0.1, "road": 0.2})
    assert load_config("demo", assignments({"generate": changes})).generate.minimum == {"st. car": 0.1, "road": 0.2}


def test_overrides_come_after_forms() -> None:
    given: dict[str, Any] = {"generate": {"pairs": 5}, "overrides": ["generate.pairs=6"]}
    values = augment.validate_parameters(given)
    request = request_of("demo", None, values["overrides"], {"generate": values["generate"]})
    assert load_config(request.recipe, request.overrides).generate.pairs == 6


SAME: list[tuple[dict[str, Any], list[str]]] = [
    ({"generate.pairs": 5000}, ["generate.pairs=5000"]),
    (
        {"generate.pairs": 5000, "generate": {"kinds": ["full"]}, "seed": 3},
        ["generate.pairs=5000", "generate.kinds=[full]", "seed=3"],
    ),
    (
        {"layouts": {"full.learning_rate": 0.5, "partial": {"learning_rate": 0.25}}},
        ["layouts.full.learning_rate=0.5", "layouts.partial.learning_rate=0.25"],
    ),
    ({"images.systems.oasis.width": 8}, ["images.systems.oasis.width=8"]),
    ({"images": {"systems": {"oasis": {"width": 8}}}}, ["images.systems.oasis.width=8"]),
    ({"generate": {"minimum": {"st. car": 0.1}}}, ["generate.minimum={st. car: 0.1}"]),
    (
        {"generate.minimum": {}, "compute.threads": None, "seed": 9},
        ["generate.minimum={}", "compute.threads=null", "seed=9"],
    ),
    ({"generate": {}, "layouts": {"full": {}}}, []),
    ({"generate.ban": ["traffic light", "yes"]}, ["generate.ban=[traffic light, 'yes']"]),
]
UNKNOWN: list[Any] = [
    {"generate.pairz": 5},
    {"generate": {"pairz": 5}},
    {"genrate": {"pairs": 5}},
    {"genrate.pairs": 5},
    {"seed.x": 5},
    {"layouts": {"full": {"stepz": 5}}},
    {"layouts": {"full.stepz": 5}},
    {"layouts.ful.learning_rate": 5},
    {"generate.pairs.x": 5},
    {"": 5},
    ["generate.pairz=5"],
    ["genrate.pairs=5"],
    ["layouts.full.stepz=5"],
    ["seed=1", "sed=1"],
    ["generate.pairs"],
    ["=5"],
]


@pytest.mark.parametrize(("overrides", "texts"), SAME)
def test_overrides_are_a_mapping_or_a_list(overrides: dict[str, Any], texts: list[str]) -> None:
    assert override_texts(overrides) == texts == override_texts(texts)
    schema = augment.parameters.model_dump()
    for given in (overrides, texts):
        validate({"overrides": given}, schema, raise_on_error=True)
        assert augment.validate_parameters({"overrides": given})["overrides"] == given
    arms = ["segmenters.arms=[real]"]  # which need no kind of pairs
    values = load_config("demo", arms).model_dump(mode="json")
    config = load_config("demo", [*arms, *texts])
    assert config.model_dump(mode="json") != values or not texts


@pytest.mark.parametrize("overrides", UNKNOWN, ids=str)
def test_an_unknown_key_is_refused_when_a_run_is_submitted_and_again_when_it_begins(overrides: Any) -> None:
    schema = augment.parameters.model_dump()
    with pytest.raises(Exception, match=r"'overrides.*(does not match|not one of)"):
        validate({"overrides": overrides}, schema, raise_on_error=True)
    with pytest.raises(ParameterTypeError, match=r"there is no such key|write it as section\.key=value"):
        augment.validate_parameters({"overrides": overrides})


def test_every_key_that_a_configuration_has_can_be_overridden() -> None:
    def leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
        return [
            key
            for name, value in values.items()
            for key in (leaves(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [prefix + name])
        ]

    every = leaves(load_config("demo").model_dump(mode="json"))
    assert len(every) > 100
    schema = augment.parameters.model_dump()
    for given in (dict.fromkeys(every, 1), [f"{key}=1" for key in every], load_config("demo").model_dump(mode="json")):
        validate({"overrides": given}, schema, raise_on_error=True)
        augment.validate_parameters({"overrides": given})


def test_a_refusal_shows_the_keys_of_the_section_that_was_meant() -> None:
    with pytest.raises(Exception, match=r"'generate\.pairz' does not match .*pairs\|kinds") as caught:
        validate({"overrides": {"generate.pairz": 5}}, augment.parameters.model_dump(), raise_on_error=True)
    assert "learning_rate" not in str(caught.value)
    with pytest.raises(ParameterTypeError, match=r"generate\.pairz.*is generate\.pairs meant.*sections are data"):
        augment.validate_parameters({"overrides": {"generate.pairz": 5, "xyz": 1}})


def test_an_unknown_recipe_is_refused_when_a_run_is_submitted_with_the_names_of_those_there_are() -> None:
    schema = augment.parameters.model_dump()
    for recipe in (*RECIPES, "mine.yaml", "/data/recipes/mine.yml"):
        validate({"recipe": recipe}, schema, raise_on_error=True)
        augment.validate_parameters({"recipe": recipe})
    for recipe in ("demmo", "", "demo2", "camvid-gpu", "mine.json", "yaml"):
        with pytest.raises(Exception, match=r"'recipe'.*does not match.*demo\|camvid-cpu\|camvid\|cityscapes"):
            validate({"recipe": recipe}, schema, raise_on_error=True)
        with pytest.raises(ParameterTypeError, match="recipe"):
            augment.validate_parameters({"recipe": recipe})


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"data": {"size": [2, 2]}}, r"'data\.size\[0\]'.*2 is less than the minimum of 6"),
    ({"data": {"fit": "pad"}}, r"'data\.fit'"),
    ({"segmenters": {"size": [96, 8]}}, r"'segmenters\.size"),
    ({"data": {"size": [96]}}, r"'data\.size'.*too short"),
    ({"data": {"root": ""}}, r"'data\.root'"),
    ({"generate": {"kinds": []}}, r"'generate\.kinds'"),
    ({"generate": {"kinds": ["whole"]}}, r"'whole' is not one of.*'full'"),
    ({"segmenters": {"arms": []}}, r"'segmenters\.arms'"),
    ({"segmenters": {"arms": ["fake"]}}, r"'fake' is not one of.*'real\+syn'"),
    ({"segmenters": {"seeds": []}}, r"'segmenters\.seeds'"),
    ({"segmenters": {"encoder": "resnett18"}}, r"'resnett18' does not match.*resnet18\|"),
    ({"segmenters": {"encoder": "vgg12"}}, r"'vgg12' does not match"),
    ({"images": {"system": "oasiss"}}, r"'oasiss' is not one of.*'gaugan'"),
    ({"images": {"systems": {"oasiss": {"width": 8}}}}, r"'oasiss' is not one of"),
    ({"layouts": {"full": {"system": "semantic-palette-partial"}}}, r"is not one of.*'sb-gan'"),
    ({"layouts": {"partial": {"system": "sb-gan"}}}, r"is not one of.*'semantic-palette-partial'"),
]


@pytest.mark.parametrize(("parameters", "message"), IMPOSSIBLE)
def test_a_server_refuses_impossible_settings_by_the_schema_alone(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        validate(parameters, augment.parameters.model_dump(), raise_on_error=True)


def test_a_server_takes_whatever_recipes_and_users_may_set() -> None:
    schema = augment.parameters.model_dump()
    for recipe in RECIPES.values():
        values = json.loads(json.dumps({key: value for key, value in recipe().items() if key != "recipe"}))
        validate({"recipe": "demo", **values}, schema, raise_on_error=True)
    for encoder in ("resnet50", "mit_b0", "tu-convnext_tiny", "tu-hf-hub:me/mine"):
        validate({"segmenters": {"encoder": encoder}}, schema, raise_on_error=True)
    for field in ("size", "root", "unlabelled"):
        validate({"data": {field: None}}, schema, raise_on_error=True)


def test_the_schema_has_all_sizes_but_those_below_a_base_grid() -> None:
    size = Draft202012Validator(changes_to(DataConfig).model_json_schema()["properties"]["size"])
    for height, width in itertools.product((1, 5, 6, 45, 1080, 8192, 8193), repeat=2):
        assert size.is_valid([height, width]) == (6 <= height <= 8192 and 6 <= width <= 8192), (height, width)


@flow
def small(generate: Annotated[Changes | None, ChangesTo(GenerateConfig)] = None) -> None:
    """A flow with one form."""


def test_a_server_refuses_wrong_values_when_a_run_is_submitted() -> None:
    schema = small.parameters.model_dump()
    validate({"generate": {"pairs": 3}}, schema)
    validate({"generate": None}, schema)
    with pytest.raises(Exception, match="less than the minimum"):
        validate({"generate": {"pairs": 0}}, schema, raise_on_error=True)
    with pytest.raises(ParameterTypeError, match=r"generate\.pairs"):
        small.validate_parameters({"generate": {"pairs": 0}})
