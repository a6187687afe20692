"""Two reports side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.storage.files import sealed, sha256_of_file
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.inspection.comparing import compare_runs
from scenepalette.pipeline.run import Run


def rewrite(run_dir: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the document of a report as if it had been written like this."""
    path = run_dir / "report/report.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    manifest = json.loads((run_dir / "report/manifest.json").read_text())
    manifest["files"]["report.json"] = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    (run_dir / "report/manifest.json").write_text(json.dumps(sealed(manifest)))


@pytest.mark.slow
def test_settings_scores_and_gains_stand_side_by_side(
    finished_run: Path, copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    """A run with more pairs and without an arm: the arms that saw them differ, the others do not."""
    other = copy_of_run()
    changes = {
        "generate": tiny_config.generate.model_copy(update={"pairs": 13}),
        "segmenters": tiny_config.segmenters.model_copy(update={"arms": ("real", "syn", "semi")}),
    }
    run = Run(tiny_config.model_copy(update=changes), other)
    run.make(run.names_of("report"))
    found = compare_runs(finished_run, other)
    assert found.warnings == () and found.data == {"train": True, "val": True}
    settings = {setting.name: setting for setting in found.settings}
    assert (settings["pairs"].a, settings["pairs"].b) == (10, 13)
    assert {"segmenters/syn/seed0", "segmenters/semi/seed0", "report"} <= set(settings["pairs"].units)
    assert "segmenters/real/seed0" not in settings["pairs"].units
    arms = {arm["name"]: arm for arm in found.arms}
    assert list(arms) == ["real", "real+syn-advent", "real+partial", "syn", "semi"]
    assert arms["real+partial"]["b"] is None and arms["real+partial"]["difference"] is None
    for index, run_dir in enumerate((finished_run, other)):
        for arm in json.loads((run_dir / "report/report.json").read_text())["arms"]:
            assert arms[arm["name"]]["ab"[index]] == arm
    expected = arms["semi"]["b"]["miou"]["mean"] - arms["semi"]["a"]["miou"]["mean"]
    assert arms["semi"]["difference"] == expected and arms["real"]["difference"] == 0.0
    assert json.loads(json.dumps(found.to_dict()))["comparable"] is True


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda document: document["dataset"].update(name="camvid"), "The data set is streets in A and camvid in B."),
        (lambda document: document["dataset"].update(size=[64, 96]), "The image size is [32, 48] in A and [64, 96]"),
        (lambda document: document["dataset"]["classes"].pop(), "The classes differ: A has 14, B has 13."),
        (lambda document: document["dataset"]["eval_classes"].pop(), "Other classes count in the mIoU."),
        (lambda document: document["dataset"]["split"].update(name="test"), "A reports on validation images"),
        (lambda document: document["arms"][1].update(seeds=[3]), "trained with other seeds: real+syn-advent."),
        (lambda document: [arm.update(name=f"{arm['name']}x") for arm in document["arms"]], "No arm is in both"),
    ],
)
def test_what_cannot_be_compared_is_said(
    change: Callable[[dict[str, Any]], object], expected: str, finished_run: Path, copy_of_run: Callable[..., Path]
) -> None:
    other = copy_of_run()
    rewrite(other, change)
    (warning,) = compare_runs(finished_run, other).warnings
    assert expected in warning


def test_other_pairs_code_and_units_made_again_are_said(finished_run: Path, copy_of_run: Callable[..., Path]) -> None:
    other = copy_of_run()
    for name, key, value in (("data", "files", {}), ("segmenters/syn/seed0", "version", 99)):
        path = other / name / "manifest.json"
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps(sealed({**manifest, key: value})))
    path = other / "palettes/manifest.json"
    path.write_text(json.dumps(sealed({**json.loads(path.read_text()), "fingerprint": "0" * 64})))
    found = compare_runs(finished_run, other)
    assert found.data == {"train": False, "val": False}
    text = " ".join(found.warnings)
    assert "The validation images that scores are measured on differ. The real training pairs differ." in text
    assert "The stage segmenters was made by version 2 of its code in A, 99 in B." in text
    assert f"The report of {other} is older than its palettes: make the report again." in text


def test_a_damaged_report_is_refused(finished_run: Path, copy_of_run: Callable[..., Path]) -> None:
    other = copy_of_run()
    (other / "report/report.json").write_text("{}")
    with pytest.raises(ScenepaletteError, match="cannot be compared") as caught:
        compare_runs(finished_run, other)
    assert "report is damaged" in caught.value.problems[0] and "report.json" in caught.value.problems[0]
