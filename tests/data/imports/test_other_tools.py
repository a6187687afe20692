"""Sources that hold annotations of another form than the stated one: whose they are, and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annotated_sources import coco, imported, labelme, write_images, write_json_file
from scenepalette.common.errors import DataError

REGION = {"filename": "a.png", "size": 1, "regions": [{"shape_attributes": {}, "region_attributes": {}}]}
TOOLS: dict[str, tuple[Any, str]] = {
    "VIA": ({"a.png1": REGION}, "VIA's, which are not read"),
    "VIA, project": ({"_via_settings": {}, "_via_img_metadata": {"a.png1": REGION}}, "VIA's, which are not read"),
    "Supervisely": ({"size": {}, "objects": [{"classTitle": "car"}]}, "Supervisely's, which are not read"),
    "Label Studio": ([{"id": 1, "data": {}, "annotations": []}], "Label Studio's, which are not read"),
    "V7": ({"version": "2.0", "item": {}, "annotations": []}, "V7's, which are not read"),
    "LabelMe": (labelme([], "a.png"), "LabelMe's: use --from labelme."),
    "COCO": (coco({}, ["a.png"]), "COCO's: use --from coco."),
}


def refusal(root: Path, form: str, out: Path) -> str:
    with pytest.raises(DataError) as caught:
        imported(root, form, out)
    return " ".join(str(caught.value).split())


@pytest.mark.parametrize("form", ["coco", "labelme", "cvat", "cityscapes-json"])
@pytest.mark.parametrize("tool", TOOLS)
def test_annotations_of_another_tool_are_told(tool: str, form: str, tmp_path: Path) -> None:
    content, text = TOOLS[tool]
    if text.endswith(f"--from {form}."):
        return
    write_json_file(tmp_path / "in/labels.json", content)
    said = refusal(tmp_path / "in", form, tmp_path / "out")
    assert f"labels.json seems to be {text}" in said
    if "not read" in text:
        assert "export or convert them to COCO's JSON, and use --from coco." in said


def test_outlines_of_yolo_are_told(tmp_path: Path) -> None:
    write_images(tmp_path / "in/images", ["a.png"])
    (tmp_path / "in/labels").mkdir()
    (tmp_path / "in/labels/a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    assert "labels/a.txt seems to be YOLO's, which are not read" in refusal(tmp_path / "in", "coco", tmp_path / "out")


def test_damaged_annotations_of_the_stated_form_are_no_other_tools(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/annotations.xml").write_text('<annotations><track id="0" label="car"/></annotations>')
    said = refusal(tmp_path / "in", "cvat", tmp_path / "out")
    assert "export it as CVAT for images" in said and "seems to be" not in said


def test_where_nothing_is_known_the_forms_that_are_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.json").write_text(json.dumps({"hello": 1}))
    assert "COCO's JSON (--from coco)" in refusal(tmp_path / "in", "labelme", tmp_path / "out")
