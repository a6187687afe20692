from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scenepalette.common.errors import ScenepaletteError
from scenepalette.pipeline.run_directory.manifests import read_record
from scenepalette.pipeline.run_directory.ownership import exclusive
from scenepalette.pipeline.units.records import (
    begin,
    fingerprint_of,
    finish,
    is_finished,
    reasons_of,
    seconds_spent,
    state_of,
    timed,
    work_folder,
)
from scenepalette.pipeline.units.workspace import Unit, Workspace


class Idle(Unit):
    """A unit whose files the test writes."""

    def make(self, run: Workspace, folder: Path) -> None:
        raise AssertionError("it is never made")


FIRST = Idle("first", "", 1, {"size": (2, 3)})
SECOND = Idle("second", "", 1, {"steps": 5}, ("first",))
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


OTHER = replace(FIRST, settings={"size": (2, 4)})
OTHERS = {**UNITS, "first": OTHER}


def test_a_result_of_other_settings_is_recognised_and_the_difference_named(tmp_path: Path) -> None:
    begin(tmp_path, FIRST, UNITS)
    finish(tmp_path, FIRST, UNITS)
    state = state_of(tmp_path, OTHER, OTHERS)
    assert state.status == "other" and reasons_of(state, OTHER, OTHERS) == ["size: [2, 3] there, [2, 4] now"]
    newer = replace(FIRST, version=2)
    assert reasons_of(state_of(tmp_path, newer, UNITS), newer, UNITS) == [
        "it was made by version 1 of this stage, which now has 2"
    ]


def test_a_result_of_other_inputs_names_the_input(tmp_path: Path) -> None:
    begin(tmp_path, SECOND, UNITS)
    finish(tmp_path, SECOND, UNITS)
    assert reasons_of(state_of(tmp_path, SECOND, OTHERS), SECOND, OTHERS) == ["made from first"]
    elsewhere = replace(SECOND, inputs=("third",))
    units = {**UNITS, "third": replace(FIRST, stage="third")}
    assert reasons_of(state_of(tmp_path, elsewhere, units), elsewhere, units) == [
        "first was an input",
        "third is an input now",
    ]


@pytest.mark.parametrize(
    ("leftovers", "status"),
    [
        ([], "missing"),
        (["metrics.jsonl"], "missing"),
        (["samples/step-000001.png"], "missing"),
        ([".weights.safetensors.0a1b2c3d.scenepalette-tmp"], "missing"),
        (["checkpoint-00000002.safetensors"], "other"),
        (["checkpoints/checkpoint-00000002.safetensors"], "other"),
        ([".finished/train-00000-of-00003.parquet.json"], "other"),
    ],
)
def test_only_partial_results_bind_an_unfinished_unit_to_its_settings(
    tmp_path: Path, leftovers: list[str], status: str
) -> None:
    begin(tmp_path, FIRST, UNITS)
    for name in leftovers:
        (tmp_path / "first" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "first" / name).write_text("half")
    assert state_of(tmp_path, OTHER, OTHERS).status == status
    assert state_of(tmp_path, FIRST, UNITS).status == "missing"
    # What is never resumed never binds.
    assert state_of(tmp_path, replace(OTHER, resumable=False), OTHERS).status == "missing"


def test_files_of_somebody_else_in_a_units_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    assert state_of(tmp_path, FIRST, UNITS).status == "missing"
    (tmp_path / "first" / "thesis.tex").write_text("mine")
    with pytest.raises(ScenepaletteError, match=r"was not made by this run.*thesis\.tex"):
        begin(tmp_path, FIRST, UNITS)
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["thesis.tex"]


def test_a_lost_record_of_an_own_unit_is_mended(tmp_path: Path) -> None:
    begin(tmp_path, FIRST, UNITS)
    (tmp_path / "first" / "checkpoint-00000002.safetensors").write_text("half")
    (tmp_path / "first" / "unfinished.json").unlink()
    assert state_of(tmp_path, FIRST, UNITS).status == "missing"
    assert state_of(tmp_path, OTHER, OTHERS).status == "other"


def test_the_manifest_lists_the_units_own_files_alone(tmp_path: Path) -> None:
    unit = replace(FIRST, files=("*.npy",))
    begin(tmp_path, unit, UNITS)
    for name in ("images.npy", "notes.txt"):
        (tmp_path / "first" / name).write_text(name)
    finish(tmp_path, unit, UNITS)
    assert list(read_record(tmp_path / "first" / "manifest.json")["files"]) == ["images.npy"]


def test_a_renewed_unit_takes_the_place_of_its_earlier_result_when_it_is_finished(tmp_path: Path) -> None:
    unit = replace(FIRST, renewed=True, resumable=False)
    later = replace(unit, settings={"size": (2, 4)})
    folder = tmp_path / "first"
    for made, units, names in ((unit, UNITS, ("page.html", "figures/old.png")), (later, OTHERS, ("page.html",))):
        begin(tmp_path, made, units)
        for name in names:
            path = work_folder(tmp_path, made) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(made.settings))
        if made is later:
            assert (folder / "page.html").read_text() == str(unit.settings)  # until it is finished
            (folder / "figures" / "mine.png").write_text("of the user")
        finish(tmp_path, made, units)
    assert (folder / "page.html").read_text() == str(later.settings)
    assert sorted(path.name for path in folder.rglob("*.png")) == ["mine.png"]
    assert is_finished(tmp_path, later, {**UNITS, "first": later})


@pytest.mark.parametrize(("before", "now", "outgrown"), [(4, 6, True), (6, 4, False), (4, 4, False)])
def test_what_fewer_pairs_went_into_is_set_aside(tmp_path: Path, before: int, now: int, outgrown: bool) -> None:
    earlier, later = (replace(SECOND, settings={"steps": 5, "pairs": pairs}) for pairs in (before, now))
    begin(tmp_path, earlier, UNITS)
    (tmp_path / "second" / "weights.safetensors").write_text("trained")
    finish(tmp_path, earlier, UNITS)
    state = state_of(tmp_path, later, UNITS)
    assert (state.outgrown, state.status) == (
        outgrown,
        {4: "other", 6: "missing"}[now] if before != now else "finished",
    )
    other = replace(later, settings={"steps": 6, "pairs": now})
    assert state_of(tmp_path, other, UNITS).status == "other"
    if outgrown:
        begin(tmp_path, later, UNITS)
        assert [path.read_text() for path in tmp_path.glob("set-aside/*/second/weights.safetensors")] == ["trained"]
        assert not (tmp_path / "second" / "weights.safetensors").exists()


def test_time_adds_up_over_interruptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 10.0, 13.0])
    monkeypatch.setattr("scenepalette.pipeline.units.records.time.monotonic", lambda: next(clock))
    begin(tmp_path, FIRST, UNITS)
    with pytest.raises(KeyboardInterrupt), timed(tmp_path, FIRST):
        raise KeyboardInterrupt
    assert seconds_spent(tmp_path, FIRST) == 4.0
    begin(tmp_path, FIRST, UNITS)
    with timed(tmp_path, FIRST):
        pass
    finish(tmp_path, FIRST, UNITS)
    assert seconds_spent(tmp_path, FIRST) == 7.0
    assert seconds_spent(tmp_path, SECOND) == 0.0


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
    mine = [tmp_path / ".config.yaml.abc.tmp", tmp_path / "first" / ".notes.tmp"]
    with exclusive(tmp_path):
        begin(tmp_path, FIRST, UNITS)
    half = [
        tmp_path / ".config.yaml.0a1b2c3d.scenepalette-tmp",
        tmp_path / "shards/.README.md.0a1b2c3d.scenepalette-tmp",
        tmp_path / "first/samples/.x.png.0a1b2c3d.scenepalette-tmp",
    ]
    for path in (*mine, *half):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    with exclusive(tmp_path):
        begin(tmp_path, FIRST, UNITS)
    assert not any(path.exists() for path in half) and all(path.exists() for path in mine)


def test_the_first_failure_is_told_when_the_time_cannot_be_written_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path, FIRST, UNITS)

    def full(*arguments: object) -> None:
        raise ScenepaletteError("second")

    monkeypatch.setattr("scenepalette.pipeline.units.records.write_json", full)
    with pytest.raises(ScenepaletteError, match="first"), timed(tmp_path, FIRST):
        raise ScenepaletteError("first")
    with pytest.raises(ScenepaletteError, match="second"), timed(tmp_path, FIRST):
        pass


def test_absurd_numbers_in_a_record_are_explained(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(f'{{"seconds": {10**400}}}')
    with pytest.raises(ScenepaletteError, match="is damaged"):
        read_record(tmp_path / "manifest.json")
