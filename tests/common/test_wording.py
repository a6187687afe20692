from __future__ import annotations

import pytest

from scenepalette.common.wording import counted


@pytest.mark.parametrize(("count", "text"), [(0, "0 labels"), (1, "1 label"), (2, "2 labels")])
def test_a_noun_is_in_the_plural_unless_there_is_one(count: int, text: str) -> None:
    assert counted(count, "label") == text


@pytest.mark.parametrize(("count", "text"), [(1, "1 label has"), (3, "3 labels have")])
def test_the_verb_agrees_with_the_noun(count: int, text: str) -> None:
    assert counted(count, "label has", "labels have") == text
