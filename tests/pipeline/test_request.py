"""What a command line asks for: where the run is kept, and the command that asks for the same."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated

import pytest
import yaml
from pydantic import Field, TypeAdapter, ValidationError

from scenepalette.common.errors import ConfigError
from scenepalette.pipeline.request import OUT_PATTERN, Request, assignment, resolve_out

DUE = datetime(2026, 1, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))
GOOD = {
    "runs/x": "runs/x",
    "runs/{date}": "runs/2026-01-01",
    "{date}": "2026-01-01",
    "runs/{date}/{time}/{date}": "runs/2026-01-01/2330/2026-01-01",
    " a b": " a b",
}
WRONG = {
    "runs/{data}": "{data} is no placeholder",
    "{Date}/{TIME}": "{Date}, {TIME} is no placeholder",
    "runs/{date": "{date is no placeholder",
    "runs/date}": "} is no placeholder",
    "runs/{}": "{} is no placeholder",
    "{{date}}": "{, } is no placeholder",
    "": "is empty",
    "  ": "is empty",
    "\n": "is empty",
    "a\0b": "is empty",
}


@pytest.mark.parametrize(("out", "expected"), GOOD.items())
def test_date_and_time_are_those_of_the_start_in_utc(out: str, expected: str) -> None:
    assert resolve_out(out, DUE) == Path(expected)
    request = Request("demo", out=out, when=DUE)
    assert request.run_dir == Path(expected) and request.is_dated is ("{" in out)
    assert shlex.split(request.command())[-1] == expected


@pytest.mark.parametrize(("out", "words"), WRONG.items())
def test_a_name_that_says_nothing_is_refused_with_the_placeholders_that_there_are(out: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        Request("demo", out=out)
    if "{" in out or "}" in out:
        assert "{date} and {time}" in str(caught.value)


def test_a_name_that_is_no_text_is_refused_before_weights_cannot_be_read_from_it() -> None:
    with pytest.raises(ConfigError, match=r"'runs/\\udcff', which is not UTF-8; name another folder"):
        Request("demo", out="runs/\udcff")


def test_the_schemas_pattern_takes_what_is_resolved_and_nothing_else() -> None:
    pydantic = TypeAdapter(Annotated[str, Field(pattern=OUT_PATTERN)])
    for out in GOOD:
        assert re.search(OUT_PATTERN, out) and pydantic.validate_python(out) == out
    for out in WRONG:
        assert not re.search(OUT_PATTERN, out), out
        with pytest.raises(ValidationError):
            pydantic.validate_python(out)


def test_a_request_has_one_run_directory_however_late_it_is_asked() -> None:
    before = datetime.now(UTC)
    request = Request("demo", out="x/{date}-{time}")
    assert before <= request.when <= datetime.now(UTC)
    assert request.run_dir == resolve_out("x/{date}-{time}", request.when)
    assert replace(request, when=DUE).run_dir == Path("x/2026-01-01-2330")


@pytest.mark.parametrize(
    "value", ["runs/a b", "2026", "null", "a: b", "[x", "caf\u00e9", 5, None, ["full"], {}, {"x": 1.5}]
)
def test_an_assignment_is_read_back_as_it_was(value: object) -> None:
    key, _, text = assignment("models_from", value).partition("=")
    assert key == "models_from" and yaml.safe_load(text) == value
