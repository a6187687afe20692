"""Each tracker, read back by its own tools: MLflow on a folder, Weights & Biases offline, TensorBoard's files."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scenepalette.training.image_grid import tile_images
from scenepalette.training.loop import MetricsLog
from scenepalette.training.tracking import following
from scenepalette.training.tracking.base import TrackerName, UnitRun
from scenepalette.training.tracking.following import followed


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_given_up", set())


def unit_in(run_dir: Path, name: str, **changes: Any) -> UnitRun:
    folder = run_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    settings = {f"setting.{number}": str(number) for number in range(150)} | {"long": "x" * 9000}
    tags = {"recipe": "demo"}
    return UnitRun(**{
        "name": name, "stage": name.split("/")[0], "folder": folder, "parent": run_dir.name, "settings": settings,
        "tags": tags,
        "parent_settings": {"seed": "7", "data.root": "s3://***@bucket"}, **changes,
    })  # fmt: skip


def make_run(run_dir: Path, tracker: TrackerName) -> None:
    """A training that is interrupted and resumed, and a report."""
    unit = unit_in(run_dir, "images/oasis")
    log = MetricsLog(unit.folder / "metrics.jsonl", 0, tensorboard=tracker == "tensorboard")
    with pytest.raises(KeyboardInterrupt), followed(unit, [tracker], run_dir):
        log.write(20, loss=0.5, **{"miou/real+syn": 0.25})
        tile_images(unit.folder / "samples/step-000020.png", [np.full((4, 4, 3), 9, dtype=np.uint8)])
        raise KeyboardInterrupt
    with followed(unit_in(run_dir, "images/oasis", is_new=False), [tracker], run_dir):
        log.write(40, loss=0.125)
    log.close()
    report = unit_in(run_dir, "report")
    with followed(report, [tracker], run_dir, lambda folder: {"miou/real+syn": 0.75}):
        (report.folder / "figures").mkdir()
        (report.folder / "report.html").write_text("<p>the report</p>")
        (report.folder / "figures/a.png").write_bytes(b"png")


def test_mlflow_has_a_run_per_unit_under_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "streets")
    from mlflow.tracking import MlflowClient

    make_run(tmp_path / "demo", "mlflow")
    assert "Warning" not in capsys.readouterr().err
    client = MlflowClient()
    experiment = client.get_experiment_by_name("streets")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {"demo", "images/oasis", "report"}
    parent, unit = runs["demo"], runs["images/oasis"]
    for name in ("images/oasis", "report"):
        tags = runs[name].data.tags
        assert tags["mlflow.parentRunId"] == parent.info.run_id and (tags["unit"], tags["recipe"]) == (name, "demo")
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert parent.data.params == {"seed": "7", "data.root": "s3://***@bucket"}
    assert len(unit.data.params) == 151 and unit.data.params["setting.149"] == "149"
    history = client.get_metric_history(unit.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(20, 0.5), (40, 0.125)]
    assert unit.data.metrics["miou/real_syn"] == 0.25 and parent.data.metrics["miou/real_syn"] == 0.75
    assert [file.path for file in client.list_artifacts(unit.info.run_id, "samples")] == ["samples/step-000020.png"]
    page = client.download_artifacts(parent.info.run_id, "report/report.html", str(tmp_path))
    assert Path(page).read_text() == "<p>the report</p>"
    assert [file.path for file in client.list_artifacts(parent.info.run_id, "report/figures")] == [
        "report/figures/a.png"
    ]


def test_an_mlflow_store_that_lost_the_run_gets_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    for store in ("first", "second"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / store).as_uri())
        unit = unit_in(tmp_path / "demo", "data", is_new=store == "first")
        with followed(unit, ["mlflow"], tmp_path / "demo"):
            pass
        experiment = MlflowClient().get_experiment_by_name("scenepalette")
        assert experiment is not None
        assert len(MlflowClient().search_runs([experiment.experiment_id])) == 2


def test_an_mlflow_server_that_is_down_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    make_run(tmp_path / "demo", "mlflow")
    errors = capsys.readouterr().err
    assert errors.count("Warning: mlflow gets no further data from this run") == 1 and "***@127.0.0.1" in errors
    assert "secret" not in errors and "secret" not in (tmp_path / "demo/.scenepalette-tracking.json").read_text()


OFFLINE = """
import sys
from pathlib import Path
import pytest
sys.path.insert(0, sys.argv[2])
from test_trackers import make_run
make_run(Path(sys.argv[1]) / "demo", "wandb")
"""


def records_of(folder: Path) -> list[Any]:
    """Return the records of an offline run, in order: after 7 bytes of a head, a file in the form of LevelDB's logs."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("*.wandb")
    content, place, found, pieces = path.read_bytes(), 7, [], b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left  # no head of a piece fits into the rest of the block
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        pieces += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            record = wandb_internal_pb2.Record()  # pyright: ignore (its stub has no names)
            record.ParseFromString(pieces)
            found.append(record)
            pieces = b""
    return found


def test_wandb_offline_has_a_run_per_unit_in_one_group(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    variables = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_PROJECT": "streets"}
    command = [sys.executable, "-c", OFFLINE, str(tmp_path), str(Path(__file__).parent)]
    found = subprocess.run(
        command, env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Warning: wandb" not in found.stderr
    runs, losses, artifacts = dict[str, Any](), list[float](), list[str]()
    for folder in sorted((tmp_path / "wandb").glob("offline-run-*")):
        for record in records_of(folder):
            if record.WhichOneof("record_type") == "run":
                runs[record.run.display_name] = record.run
            elif record.WhichOneof("record_type") == "history":
                losses += [
                    float(item.value_json)
                    for item in record.history.item
                    if (item.key or ".".join(item.nested_key)) == "loss"
                ]
            elif record.WhichOneof("record_type") == "artifact":
                artifacts.append(record.artifact.type)
    assert runs.keys() == {"demo", "images/oasis", "report"} and {run.project for run in runs.values()} == {"streets"}
    assert len({run.run_group for run in runs.values()}) == 1
    assert {name: run.job_type for name, run in runs.items()} == {
        "demo": "run", "images/oasis": "images", "report": "report",
    }  # fmt: skip
    assert losses == [0.5, 0.125] and "report" in artifacts
    settings = {item.key: item.value_json for item in runs["demo"].config.update}
    assert settings["seed"] == '"7"'


def test_wandb_without_a_login_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with followed(unit_in(tmp_path / "demo", "data"), ["wandb"], tmp_path / "demo"):
        pass
    errors = capsys.readouterr().err
    assert errors.count("Warning: wandb") == 1 and "run `wandb login`, or set WANDB_MODE=offline" in errors


def test_tensorboard_gets_settings_and_sheets_beside_the_curves(tmp_path: Path) -> None:
    make_run(tmp_path / "demo", "tensorboard")
    events = EventAccumulator(str(tmp_path / "demo/images/oasis/tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(20, 0.5), (40, 0.125)]
    assert [event.step for event in events.Images("samples")] == [20]
    assert "settings/text_summary" in events.Tags()["tensors"]
    assert not (tmp_path / "demo/report/tensorboard").exists()
