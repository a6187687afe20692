"""Any configuration file and any --set is either a configuration or an error in words, in bounded time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import fuzzing
from scenepalette.common.errors import ScenepaletteError
from scenepalette.pipeline.config import RunConfig, load_config
from scenepalette.pipeline.recipes import RECIPES

FUZZ = settings(fuzzing.FUZZ, max_examples=60)


def paths_of(values: dict[str, Any], before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    return [
        path
        for key, value in values.items()
        for path in [(*before, key), *(paths_of(value, (*before, key)) if isinstance(value, dict) else [])]
    ]


FIELDS = [
    *sorted({".".join(path) for path in paths_of(RECIPES["demo"]())}),
    "data.root",
    "data.unlabelled",
    "data.class_file",
    "images.vgg_weights",
    "images.perceptual_encoder_weights",
    "models_from",
    "generate.palette",
    "generate.noise_scheme",
    "finetune.kinds",
    "compare.rows",
    "segmenters.encoder",
    "segmenters.encoder_weights",
]
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 2**31, 2**63, 10**30, 1e308])
TEXTS = st.text(max_size=12) | st.sampled_from(["", "~", "~x/y", "tu-", "tu-x", "tu-a/b", "vgg11"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | NUMBERS
    | st.text(max_size=12)
    | st.sampled_from(["", "~", "~x/y", "tu-", "tu-x", "tu-a/b"])
    | st.dates()
    | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6) | NUMBERS, inner, max_size=3),
    max_leaves=6,
)


def loaded_or_refused(recipe: str, changes: list[str]) -> None:
    try:
        config = load_config(recipe, changes)
    except ScenepaletteError as error:
        str(error).encode()
        assert len(str(error)) < 20_000
    else:
        assert isinstance(config, RunConfig)


@FUZZ
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3))
def test_any_value_in_any_field_of_a_file(tmp_path: Path, changes: dict[str, Any]) -> None:
    content: dict[str, Any] = {"recipe": "demo"}
    for field, value in changes.items():
        *sections, key = field.split(".")
        target = content
        for section in sections:
            target = target.setdefault(section, {}) if isinstance(target, dict) else {}
        if isinstance(target, dict):
            target[key] = value
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    loaded_or_refused(str(tmp_path / "x.yaml"), [])


@FUZZ
@given(st.binary(max_size=300))
def test_any_bytes_as_a_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    loaded_or_refused(str(tmp_path / "x.yaml"), [])


@FUZZ
@given(st.lists(st.tuples(st.sampled_from(FIELDS) | st.text(max_size=8), st.text(max_size=20)), max_size=3))
def test_any_assignment(changes: list[tuple[str, str]]) -> None:
    loaded_or_refused("demo", [f"{field}={text}" for field, text in changes])


@FUZZ
@given(st.text(max_size=300))
def test_any_name_of_a_recipe(name: str) -> None:
    loaded_or_refused(name, [])
