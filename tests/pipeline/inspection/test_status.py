"""How far runs are said to be."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.progress import NO_PROGRESS
from scenepalette.pipeline.config import RunConfig, config_text
from scenepalette.pipeline.inspection.status import UnitStatus, status_of
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.activity import read_activity, told
from scenepalette.pipeline.run_directory.manifests import UNFINISHED
from scenepalette.pipeline.run_directory.ownership import exclusive
from scenepalette.pipeline.run_directory.study_results import CURVE_RESULT
from scenepalette.pipeline.units.records import seconds_spent


def by_name(run_dir: Path) -> dict[str, UnitStatus]:
    return {unit.name: unit for unit in status_of(run_dir).units}


def contents(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_finished_run_is_finished_and_not_touched(finished_run: Path) -> None:
    before = contents(finished_run)
    found = status_of(finished_run)
    run = Run.open(finished_run)
    assert [unit.name for unit in found.units] == list(run.planned.run)
    assert {unit.state for unit in found.units} == {"finished"} and found.activity is None
    for unit in found.units:
        assert unit.seconds == seconds_spent(finished_run, run.units[unit.name])
    assert contents(finished_run) == before


def test_what_takes_long_to_import_is_not_imported(finished_run: Path) -> None:
    code = "import sys, pathlib; from scenepalette.pipeline.inspection.status import status_of; "
    code += "print(status_of(pathlib.Path(sys.argv[1])).count('finished'), *sys.modules)"
    command = [sys.executable, "-c", code, str(finished_run)]
    count, *loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(count) > 5 and "torch" in loaded
    slow = {"lightning_fabric", "torchvision", "timm", "segmentation_models_pytorch", "torchmetrics", "torch_fidelity"}
    assert (slow | {"sklearn", "torch._dynamo", "matplotlib", "scipy.optimize"}).isdisjoint(loaded)


def test_a_run_of_a_segmenter_that_is_gone_is_refused_by_its_name(copy_of_run: Callable[..., Path]) -> None:
    run_dir = copy_of_run()
    config = run_dir / "config.yaml"
    config.write_text(config.read_text().replace("architecture: deeplabv3", "architecture: gone"))
    with pytest.raises(ScenepaletteError, match=r"segmenters\.architecture: got 'gone'; segmenters are"):
        status_of(run_dir)


def test_each_state_is_told(copy_of_run: Callable[..., Path], tiny_config: RunConfig) -> None:
    run_dir = copy_of_run("segmenters/semi", "report")
    images = run_dir / "images/oasis"
    (images / "manifest.json").unlink()
    run = Run(tiny_config, run_dir)
    with exclusive(run_dir):
        run.begin("images/oasis")
    (run_dir / "palettes/manifest.json").write_text("{")
    changes = {"segmenters": tiny_config.segmenters.model_copy(update={"steps": 3, "arms": ("real", "syn", "semi")})}
    (run_dir / "config.yaml").write_text(config_text(tiny_config.model_copy(update=changes)))
    found = by_name(run_dir)
    states = {name: unit.state for name, unit in found.items()}
    assert states["data"] == "finished" and states["palettes"] == "damaged" and states["images/oasis"] == "begun"
    assert states["segmenters/semi/seed0"] == states["report"] == "missing"
    assert states["segmenters/real/seed0"] == "outdated"
    assert "steps: 2 there, 3 now" in found["segmenters/real/seed0"].detail
    assert states["segmenters/real+partial/seed0"] == "unused"
    assert "palettes/manifest.json is damaged" in found["palettes"].detail


def test_a_set_to_be_extended_says_how_many_pairs_there_are(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run()
    more = tiny_config.model_copy(update={"generate": tiny_config.generate.model_copy(update={"pairs": 14})})
    (run_dir / "config.yaml").write_text(config_text(more))
    found = by_name(run_dir)
    assert (found["shards/full"].state, found["shards/full"].detail) == ("begun", "10 of 14 pairs")
    assert found["segmenters/syn/seed0"].state == "outdated" and found["segmenters/real/seed0"].state == "finished"


def test_what_is_being_made_is_told_with_its_process(copy_of_run: Callable[..., Path]) -> None:
    run_dir = copy_of_run("report")
    with told(run_dir, "report", NO_PROGRESS) as progress:
        progress.start("evaluate", 10, 4)
        found = status_of(run_dir)
        activity = read_activity(run_dir)
        assert activity is not None and found.activity == activity
        content = json.loads(json.dumps(found.to_dict()))
    assert found.count("running") == 1 and found.units[-1].state == "running"
    assert content["running"] | {"seconds": 0, "silent_seconds": 0} == {
        "unit": "report", "process": activity.process, "host": activity.host, "alive": True, "seconds": 0,
        "silent_seconds": 0, "work": "evaluate", "done": 4, "total": 10, "seconds_left": None,
    }  # fmt: skip
    assert content["finished"] == content["of"] - 1 == len(found.units) - 1


def test_units_made_at_once_are_told_with_their_processes(copy_of_run: Callable[..., Path]) -> None:
    run_dir = copy_of_run("images", "report")
    with told(run_dir, "2 units", NO_PROGRESS), told(run_dir, "images/oasis", NO_PROGRESS, beside=True) as progress:
        progress.start("train images", 10, 4)
        found = status_of(run_dir)
    assert [unit.name for unit in found.units if unit.state == "running"] == ["images/oasis"]
    running = found.to_dict()["running"]
    assert running["unit"] == "2 units" and [each["unit"] for each in running["beside"]] == ["images/oasis"]
    assert running["beside"][0]["done"] == 4
    assert status_of(run_dir).beside == ()


def test_a_unit_is_told_while_a_run_makes_it(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its progress is that of the run, and the run has its own progress back afterwards."""
    run_dir, seen = copy_of_run("report"), list[str]()
    run = Run(tiny_config, run_dir)
    unit = type(run.units["report"])

    def make(self: object, run: Run, folder: Path) -> None:
        run.progress.start("measure", 3)
        activity = read_activity(run_dir)
        assert activity is not None
        seen.append(f"{activity.unit}: {activity.work}")
        raise ScenepaletteError("enough")

    monkeypatch.setattr(unit, "make", make)
    own = run.progress
    with pytest.raises(ScenepaletteError, match="enough"):
        run.make(["report"])
    assert seen == ["report: measure"] and run.progress is own and read_activity(run_dir) is None


def test_a_curve_is_looked_at_once_it_was_begun(copy_of_run: Callable[..., Path], tiny_config: RunConfig) -> None:
    run_dir = copy_of_run()
    run = Run(tiny_config, run_dir)
    name = next(name for name in run.planned.curve if name.startswith("curve/"))
    assert not any(unit.name.startswith("curve/") for unit in status_of(run_dir).units)
    with exclusive(run_dir):
        run.begin(name)
    found = by_name(run_dir)
    assert found[name].state == "begun" and "curve/result" in found
    assert dataclasses.asdict(found["curve/result"])["state"] == "missing"


def test_a_damaged_record_of_an_unfinished_curve_is_told_of_the_curve_alone(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run()
    run = Run(tiny_config, run_dir)
    with exclusive(run_dir):
        run.begin(CURVE_RESULT)
    (run_dir / CURVE_RESULT / UNFINISHED).write_text("{")
    run = Run(tiny_config, run_dir)
    assert run.missing(run.names_of("report")) == []
    found = by_name(run_dir)
    assert found[CURVE_RESULT].state == "damaged" and UNFINISHED in found[CURVE_RESULT].detail
    assert {unit.state for name, unit in found.items() if not name.startswith("curve/")} == {"finished"}


def test_trackers_need_not_be_installed_where_a_run_is_looked_at(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run()
    compute = tiny_config.compute.model_copy(update={"tracking": ("mlflow", "wandb")})
    (run_dir / "config.yaml").write_text(config_text(tiny_config.model_copy(update={"compute": compute})))
    monkeypatch.setattr("scenepalette.pipeline.config.compute.find_spec", lambda name: None)
    assert {unit.state for unit in status_of(run_dir).units} == {"finished"}


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenepaletteError, match="holds no run"):
        status_of(tmp_path)
    with pytest.raises(ScenepaletteError, match="There is no folder"):
        status_of(tmp_path / "gone")
