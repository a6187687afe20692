"""The flow `edit`: what it writes and publishes, and what it refuses."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError

from scenepalette.common.errors import ConfigError
from scenepalette.flows import artifacts
from scenepalette.flows.stages import edit
from scenepalette.pipeline.finished.scene_editor import write_edit


@pytest.mark.usefixtures("server")
def test_the_flow_writes_what_the_command_writes_and_publishes_it(finished_run: Path, tmp_path: Path) -> None:
    options = {"sample": "1", "draws": 3, "class_name": None}
    picture = tmp_path / "flow.png"
    assert edit("resample", str(finished_run), str(picture), options) == str(picture)
    write_edit("resample", finished_run, tmp_path / "command.png", options)
    assert picture.read_bytes() == (tmp_path / "command.png").read_bytes()
    with get_client(sync_client=True) as client:
        published = {artifact.key: str(artifact.data) for artifact in client.read_artifacts()}
    (content,) = re.findall(r"!\[edit resample of [^\]]*\]\(data:image/png;base64,([^)]*)\)", published["edit"])
    assert base64.b64decode(content) == picture.read_bytes()
    assert str(picture) in published["edit-file"]


@pytest.mark.usefixtures("server")
def test_the_flow_refuses_what_it_cannot_do(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterTypeError):
        edit("paint", str(finished_run), str(tmp_path / "x.png"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="draws"):
        edit("resample", str(finished_run), str(tmp_path / "x.png"), {"draws": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("ending", "shown"), [(".png", True), (".gif", False)])
def test_a_large_strip_is_shrunk_and_a_large_animation_linked(
    ending: str, shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: dict[str, str] = {}
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda text, key, **_: published.update({key: text}))
    monkeypatch.setattr(artifacts, "create_link_artifact", lambda link, key, **_: published.update({key: link}))
    monkeypatch.setattr(artifacts, "FIGURES_BYTES", 400_000)
    path = tmp_path / f"large{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (700, 1000, 3)).astype(np.uint8)).save(path)
    artifacts.publish_image(path, "a title")
    assert published["edit-file"] == path.as_uri()
    if shown:
        (content,) = re.findall(r"!\[a title\]\(data:image/png;base64,([^)]*)\)", published["edit"])
        assert len(content) <= 400_000 and Image.open(io.BytesIO(base64.b64decode(content))).width < 1000
    else:
        assert published["edit"] == "*large.gif: on the worker's disk*"


def test_parameters_make_a_form_with_explanations() -> None:
    assert edit.name == "edit"
    properties = edit.parameters.model_dump()["properties"]
    assert properties.keys() == {"what", "run_dir", "picture", "options"}
    assert all(field.get("description") for field in properties.values())
