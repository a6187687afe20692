from __future__ import annotations

import logging
import sys

import pytest

from plugins import Plugins
from scenepalette.common.errors import ConfigError
from scenepalette.common.registry import Registry


@pytest.fixture
def numbers() -> Registry[int]:
    return Registry("scenepalette.round_numbers", {"ten": 10, "largest": "sys:maxsize"}, int)


def test_built_in_entries_are_values_or_imported_when_used(numbers: Registry[int]) -> None:
    assert numbers.names() == tuple(numbers) == ("ten", "largest")
    assert (numbers.get("ten"), numbers.get("largest")) == (10, sys.maxsize)
    assert numbers.source("ten") == numbers.source("largest") == "scenepalette"
    assert "ten" in numbers and "eleven" not in numbers and None not in numbers
    assert numbers.problems() == ()


def test_a_built_in_module_is_not_imported_before_it_is_used() -> None:
    registry = Registry[int]("scenepalette.round_numbers", {"absent": "no_such_module:NUMBER"}, int)
    assert registry.names() == ("absent",)
    with pytest.raises(ModuleNotFoundError):
        registry.get("absent")


def test_a_plugin_is_an_entry_like_the_built_in_ones(numbers: Registry[int], plugins: Plugins) -> None:
    plugins.install(
        numbers,
        {"dozen": "{module}:DOZEN", "gross": "{module}:Gross.size"},
        source="""
DOZEN = 12
class Gross:
    size = 144
""",
    )
    assert numbers.names() == ("ten", "largest", "dozen", "gross")
    assert len(numbers) == 4 and "gross" in numbers
    assert (numbers.get("dozen"), numbers.get("gross")) == (12, 144)
    assert numbers.source("gross") == "stranger 1.0"
    assert numbers.problems() == ()


def test_only_the_plugin_that_is_asked_for_is_imported(numbers: Registry[int], plugins: Plugins) -> None:
    plugins.install(numbers, {"dozen": "{module}:DOZEN"}, source="DOZEN = 12", name="used")
    plugins.install(numbers, {"gross": "{module}:GROSS"}, source="GROSS = 144", name="unused")
    assert (numbers.get("ten"), numbers.get("dozen")) == (10, 12)
    assert "used_module" in sys.modules and "unused_module" not in sys.modules


def test_an_unknown_name_is_refused_with_the_known_ones(numbers: Registry[int], plugins: Plugins) -> None:
    plugins.install(numbers, {"dozen": "{module}:DOZEN"}, source="DOZEN = 12")
    with pytest.raises(ConfigError, match="There is no round number 'eleven'; known are ten, largest, dozen"):
        numbers.get("eleven")
    other = Registry[int](numbers.group, {}, int, noun="integer")
    with pytest.raises(ConfigError, match="no integer 'eleven'; known are dozen"):
        other.get("eleven")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, r"cannot be imported \(ModuleNotFoundError: No module named 'stranger_module'\)"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("DOZEN = (", "SyntaxError"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("NUMBER = 12", "AttributeError"),
        ("DOZEN = 'twelve'", "it is of type str; a builtins.int is required"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_one_line_and_nothing_else_fails(
    source: str | None, reason: str, numbers: Registry[int], plugins: Plugins, caplog: pytest.LogCaptureFixture
) -> None:
    plugins.install(numbers, {"dozen": "{module}:DOZEN"}, source=source)
    plugins.install(numbers, {"gross": "{module}:GROSS"}, source="GROSS = 144", name="sound")
    with caplog.at_level(logging.WARNING):
        assert numbers.names() == numbers.names() == ("ten", "largest", "gross")
        assert numbers.get("gross") == 144 and "dozen" not in numbers
        (line,) = numbers.problems()
    assert [record.message for record in caplog.records] == [line]
    assert line.startswith("stranger 1.0: its round number 'dozen' cannot be used: ")
    assert line.endswith(". Update or uninstall that package.") and "\n" not in line
    with pytest.raises(ConfigError, match=reason) as caught:
        numbers.get("dozen")
    assert str(caught.value) == line == numbers.refusal("dozen")
    assert numbers.refusal("gross") is numbers.refusal("ten") is numbers.refusal("eleven") is None


def test_a_plugin_with_the_name_of_another_is_left_out(
    numbers: Registry[int], plugins: Plugins, caplog: pytest.LogCaptureFixture
) -> None:
    plugins.install(numbers, {"dozen": "{module}:DOZEN"}, source="DOZEN = 13", name="second")
    plugins.install(numbers, {"dozen": "{module}:DOZEN", "ten": "{module}:DOZEN"}, source="DOZEN = 12", name="first")
    assert numbers.names() == ("ten", "largest", "dozen")
    assert (numbers.get("dozen"), numbers.get("ten"), numbers.source("dozen")) == (12, 10, "first 1.0")
    assert list(numbers.problems()) == [record.message for record in caplog.records]
    assert [line.partition(". ")[0] for line in numbers.problems()] == [
        "second 1.0: its round number 'dozen' has the same name as one of first 1.0, which is used instead",
        "first 1.0: its round number 'ten' has the same name as one of scenepalette, which is used instead",
    ]


def test_a_plugin_that_cannot_be_used_keeps_no_other_of_its_name_from_being_used(
    numbers: Registry[int], plugins: Plugins, caplog: pytest.LogCaptureFixture
) -> None:
    plugins.install(numbers, {"dozen": "{module}:ABSENT"}, name="first")
    plugins.install(numbers, {"dozen": "{module}:DOZEN"}, source="DOZEN = 12", name="second")
    plugins.install(numbers, {"dozen": "{module}:DOZEN"}, source="DOZEN = 13", name="third")
    assert (numbers.get("dozen"), numbers.source("dozen"), numbers.refusal("dozen")) == (12, "second 1.0", None)
    assert list(numbers.problems()) == [record.message for record in caplog.records]
    broken, clash = numbers.problems()
    assert broken.startswith("first 1.0: its round number 'dozen' cannot be used: first_module:ABSENT")
    assert clash.startswith("third 1.0: its round number 'dozen' has the same name as one of second 1.0")


def test_an_entry_can_be_added_for_this_process(numbers: Registry[int], plugins: Plugins) -> None:
    plugins.install(numbers, {"dozen": "{module}:DOZEN"}, source="DOZEN = 12")
    numbers.add("score", 19)
    numbers.add("score", 20)
    assert numbers.names() == ("ten", "largest", "score", "dozen")
    assert "score" in numbers and numbers["score"] == 20 and numbers.source("score") == "this process"
    with pytest.raises(ConfigError, match=r"'ten' already, of scenepalette\. Choose another name\."):
        numbers.add("ten", 11)
    with pytest.raises(ConfigError, match=r"'dozen' already, of stranger 1\.0"):
        numbers.add("dozen", 13)
    with pytest.raises(ConfigError, match=r"'half' cannot be used: it is of type float; a builtins.int is required"):
        numbers.add("half", 0.5)  # pyright: ignore[reportArgumentType]
    assert numbers.problems() == () and numbers["dozen"] == 12
    numbers.reset()
    assert "score" not in numbers
