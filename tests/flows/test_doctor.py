from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scenepalette.common.errors import ScenepaletteError
from scenepalette.flows import stages


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Key and text of what the flow makes an artifact; no server is needed."""
    artifacts: list[tuple[str, str]] = []

    def create(markdown: str, key: str, **others: Any) -> None:
        artifacts.append((key, markdown))

    monkeypatch.setattr(stages, "create_markdown_artifact", create)
    return artifacts


def test_the_page_is_an_artifact_and_the_verdict_the_result(
    tiny_recipe: Path, tmp_path: Path, published: list[tuple[str, str]]
) -> None:
    verdict = stages.doctor.fn(str(tiny_recipe), str(tmp_path / "run"), measure=False)
    assert verdict.startswith("Nothing has to be fixed")
    ((key, page),) = published
    assert key == "doctor" and verdict in page


def test_problems_fail_the_flow_with_the_page_and_leave_the_artifact(published: list[tuple[str, str]]) -> None:
    with pytest.raises(ScenepaletteError, match=r"images.step: there is no such key") as caught:
        stages.doctor.fn("demo", overrides=["images.step=3"], measure=False)
    assert "PROBLEM  configuration" in str(caught.value) and len(published) == 1
