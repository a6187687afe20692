from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data.errors import ScenepaletteError
from pipeline.contents import read_record
from pipeline.units import Unit, begin, exclusive, fingerprint_of, finish, is_finished, seconds_spent, timed

FIRST = Unit("first", 1, {"size": (2, 3)})
SECOND = Unit("second", 1, {"steps": 5}, ("first",))
UNITS = {"first": FIRST, "second": SECOND}


def test_fingerprint_follows_settings_version_and_inputs() -> None:
    original = fingerprint_of(SECOND, UNITS)
    assert original == fingerprint_of(SECOND, dict(UNITS))
    changed = [
        fingerprint_of(replace(SECOND, settings={"steps": 6}), UNITS),
        fingerprint_of(replace(SECOND, version=2), UNITS),
        fingerprint_of(SECOND, {**UNITS, "first": replace(FIRST, settings={"size": (2, 4)})}),
        fingerprint_of(SECOND, {**UNITS, "first": replace(FIRST, version=2)}),
    ]
    assert len({original, *changed}) == 5


def test_a_unit_is_finished_when_its_manifest_is_written(tmp_path: Path) -> None:
    assert not is_finished(tmp_path, FIRST, UNITS)
    begin(tmp_path, FIRST, UNITS)
    assert not is_finished(tmp_path, FIRST, UNITS)
    finish(tmp_path, FIRST, UNITS)
    assert is_finished(tmp_path, FIRST, UNITS)
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == ["manifest.json"]


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_other_settings_is_refused_and_the_difference_named(tmp_path: Path, finished: bool) -> None:
    begin(tmp_path, FIRST, UNITS)
    if finished:
        finish(tmp_path, FIRST, UNITS)
    other = replace(FIRST, settings={"size": (2, 4)})
    with pytest.raises(ScenepaletteError, match="other settings") as caught:
        is_finished(tmp_path, other, {**UNITS, "first": other})
    assert caught.value.problems == ("size: [2, 3] there, [2, 4] now",)


def test_time_adds_up_over_interruptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 10.0, 13.0])
    monkeypatch.setattr("pipeline.units.time.monotonic", lambda: next(clock))
    begin(tmp_path, FIRST, UNITS)
    with pytest.raises(KeyboardInterrupt), timed(tmp_path, FIRST):
        raise KeyboardInterrupt
    assert seconds_spent(tmp_path, "first") == 4.0
    begin(tmp_path, FIRST, UNITS)
    with timed(tmp_path, FIRST):
        pass
    finish(tmp_path, FIRST, UNITS)
    assert seconds_spent(tmp_path, "first") == 7.0
    assert seconds_spent(tmp_path, "second") == 0.0


def test_manifest_names_the_inputs(tmp_path: Path) -> None:
    begin(tmp_path, SECOND, UNITS)
    finish(tmp_path, SECOND, UNITS)
    manifest = json.loads((tmp_path / "second" / "manifest.json").read_text())
    assert manifest["unit"] == "second" and manifest["inputs"] == {"first": fingerprint_of(FIRST, UNITS)}


def test_a_held_run_directory_is_refused(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "run"),
        pytest.raises(ScenepaletteError, match=r"Another process is working in .*run\. Wait until it ends"),
        exclusive(tmp_path / "run"),
    ):
        pass


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    for path in (tmp_path / ".config.yaml.abc.tmp", tmp_path / "first" / "samples" / ".x.png.abc.tmp"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    with exclusive(tmp_path):
        assert not (tmp_path / ".config.yaml.abc.tmp").exists()
        begin(tmp_path, FIRST, UNITS)
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_first_failure_is_told_when_the_time_cannot_be_written_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path, FIRST, UNITS)

    def full(*arguments: object) -> None:
        raise ScenepaletteError("second")

    monkeypatch.setattr("pipeline.units.write_json", full)
    with pytest.raises(ScenepaletteError, match="first"), timed(tmp_path, FIRST):
        raise ScenepaletteError("first")
    with pytest.raises(ScenepaletteError, match="second"), timed(tmp_path, FIRST):
        pass


def test_absurd_numbers_in_a_record_are_explained(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(f'{{"seconds": {10**400}}}')
    with pytest.raises(ScenepaletteError, match="is damaged"):
        read_record(tmp_path / "manifest.json")
