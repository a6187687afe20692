"""The loop: rounds are planned once they are known, resume where they were, and never read a test split."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.data import arrays
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.evaluation.deficits import class_deficits
from scenepalette.evaluation.miou import mean_iou
from scenepalette.evaluation.oracle import oracle_confusion
from scenepalette.generators.pairs.class_budget import divide_rows
from scenepalette.pipeline.config import RunConfig, make_config, merge
from scenepalette.pipeline.finished.regenerate import regenerate_rows
from scenepalette.pipeline.report.sections.loop_gain import SHOWN_OF_LOOP, loop_headline
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.segment import CONFUSION, TEST_CONFUSION, arm_settings
from scenepalette.pipeline.stages.studies import loop_rounds as stage
from scenepalette.pipeline.stages.studies.loop_rounds import (
    DecisionUnit,
    budget_of,
    least_gain,
    nothing_lacking,
    read_decision,
    unable,
)
from scenepalette.pipeline.units.workspace import PreparedData
from scenepalette.segmenters.stride import decoder_stride

PAIRS = 8


def _values(base: RunConfig, **changes: Any) -> dict[str, Any]:
    values = base.model_dump(mode="json")
    ours = {
        "data": {"train_scenes": 20, "test_scenes": 4},
        "generate": {"kinds": ["full", "insert"], "pairs": 4},
        "segmenters": {"arms": ["real"], "seeds": [0, 1], "architecture": "unet"},
        "loop": {"rounds": 2, "pairs": PAIRS},
    }
    return merge(merge(values, ours), changes)


class Made(NamedTuple):
    """A finished loop of two rounds, and the units that read its test split."""

    folder: Path
    config: RunConfig
    read: set[str]


@pytest.fixture(scope="module")
def made(tiny_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    config, current, read = make_config(_values(tiny_config)), [""], set[str]()
    run = Run(config, tmp_path_factory.mktemp("loop") / "run")
    with pytest.MonkeyPatch.context() as patch:
        make_one, test, open_array = Run._make_one, PreparedData.test.func, arrays.open_array

        def make_watched(self: Run, name: str) -> None:
            current[0] = name
            make_one(self, name)

        def test_watched(self: PreparedData) -> Any:
            read.add(current[0])
            return test(self)

        def open_watched(path: Path, *arguments: Any) -> Any:
            if path.name.endswith("-test.npy"):
                read.add(current[0])
            return open_array(path, *arguments)

        patch.setattr(Run, "_make_one", make_watched)
        patch.setattr(PreparedData, "test", property(test_watched))
        patch.setattr(arrays, "open_array", open_watched)
        # After one step a round gains or loses by chance: here each gives reason for the next.
        patch.setattr(stage, "least_gain", lambda smallest, detectable: -1.0)
        run.make(run.names_of("loop"))
    yield Made(run.run_dir, config, read)


def _document(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "loop/report/loop.json").read_text())


def _mious(folder: Path, units: Sequence[str], eval_ids: Sequence[int], file: str = CONFUSION) -> float:
    return float(np.mean([mean_iou(np.load(folder / unit / file), eval_ids) for unit in units]))


def test_no_round_reads_the_test_split(made: Made) -> None:
    assert {name for name in made.read if name.startswith("loop")} == {"loop/report"}
    assert not list((made.folder / "loop").rglob(TEST_CONFUSION))
    document = _document(made.folder)
    assert document["dataset"]["evaluated_on"] == "test"
    real = [f"segmenters/real/seed{seed}" for seed in (0, 1)]
    arms = {arm["name"]: arm for arm in document["arms"]}
    eval_ids = Run.open(made.folder).data.train.table.eval_ids
    assert arms["real"]["miou"]["mean"] == pytest.approx(_mious(made.folder, real, eval_ids, TEST_CONFUSION))


def test_the_first_round_asks_for_what_the_real_arm_lacks_on_validation(made: Made) -> None:
    data = Run.open(made.folder).data
    names, eval_ids = data.train.table.names, data.train.table.eval_ids
    confusions = [np.load(made.folder / f"segmenters/real/seed{seed}" / CONFUSION) for seed in (0, 1)]
    stride = decoder_stride(arm_settings(made.config.segmenters, "real"), made.config.data.size)
    assert stride is not None
    _, lacking = class_deficits(confusions, eval_ids, oracle_confusion(data.validation.labels, len(names), stride))
    budget = json.loads((made.folder / "loop/round1/budget/budget.json").read_text())
    assert budget["lacking"] == pytest.approx(dict(zip(names, lacking, strict=True)))
    counts = dict(zip(names, divide_rows(PAIRS, 0.5, lacking).tolist(), strict=True))
    assert budget["asked"]["full"] == {name: count for name, count in counts.items() if count}
    # Objects are asked of those classes alone that can be inserted.
    out = unable(made.config, "insert", data.train)
    able = np.array([0.0 if name in out else value for name, value in zip(names, lacking, strict=True)])
    assert able.any() and sum(budget["asked"]["insert"].values()) == PAIRS // 2
    assert budget["asked"]["insert"].keys() == {
        name for name, count in zip(names, divide_rows(PAIRS, 0.5, able), strict=True) if count
    }
    assert budget["left_out"]["insert"].keys() == {name for name in out if lacking[names.index(name)] > 0}


def test_rows_hold_the_class_that_they_are_asked_for(made: Made) -> None:
    run = Run.open(made.folder)
    for kind in ("full", "insert"):
        for number in (1, 2):
            name = f"loop/round{number}/pairs/{kind}"
            budget = budget_of(run, run.units[name])  # type: ignore[arg-type]
            rows = pq.read_table(sorted((made.folder / name).glob("*.parquet"))).to_pylist()
            assert len(rows) == PAIRS
            asked = {index: each for index in range(PAIRS) if (each := budget.class_of(index)) is not None}
            assert len(asked) == PAIRS // 2
            for index, each in asked.items():
                assert rows[index]["palette_target"][each] > 0
                if kind == "insert":
                    assert set(rows[index]["inserted_classes"]) == {run.data.train.table.names[each]}


def test_rounds_add_up_and_the_control_has_as_many_pairs_and_steps(made: Made) -> None:
    run = Run.open(made.folder)
    assert run.units["loop/round2/seed0"].settings["pairs"] == 4 * PAIRS
    assert set(run.units["loop/round2/seed0"].inputs) >= {
        f"loop/round{r}/pairs/{k}" for r in (1, 2) for k in ("full", "insert")
    }
    control = run.units["loop/random/seed0"]
    assert control.settings == run.units["loop/round2/seed0"].settings
    assert read_manifest(made.folder / "loop/random/pairs/full")["rows"] == 2 * PAIRS
    assert [arm["pairs"] for arm in _document(made.folder)["arms"]] == [0, 4 * PAIRS, 4 * PAIRS]
    # No two sets have the same rows.
    names = ["loop/round1/pairs/full", "loop/round2/pairs/full", "loop/random/pairs/full", "shards/full"]
    seeds = [
        read_manifest(made.folder / name)["extra"]["fingerprint"] for name in names if (made.folder / name).exists()
    ]
    assert len(set(seeds)) == len(seeds) == 3


def test_gains_are_those_of_a_round_over_the_one_before_on_validation(made: Made) -> None:
    eval_ids, document = Run.open(made.folder).data.train.table.eval_ids, _document(made.folder)
    before = [f"segmenters/real/seed{seed}" for seed in (0, 1)]
    for number, each in enumerate(document["rounds"], start=1):
        after = [f"loop/round{number}/seed{seed}" for seed in (0, 1)]
        expected = _mious(made.folder, after, eval_ids) - _mious(made.folder, before, eval_ids)
        assert each["gain"] == pytest.approx(expected, abs=1e-9)
        before = after
    page = (made.folder / "loop/report/loop.md").read_text()
    assert "The loop ended after 2 rounds, as many as loop.rounds allows" in page
    assert "against as many pairs at random palettes on test images" in page


def test_the_report_shows_the_loop_which_renews_one_that_is_there(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made.folder, folder)
    run = Run(made.config, folder)
    assert "report" not in run.names_of("loop")  # nobody asked for one
    run.make(run.names_of("report"))
    shown = json.loads((folder / "report/report.json").read_text())["loop"]
    document = _document(folder)
    assert shown == {key: document[key] for key in SHOWN_OF_LOOP}
    text = (folder / "report/report.md").read_text()
    assert "## What asking for lacking classes gains" in text and loop_headline(document) in text
    assert run.missing(run.names_of("loop")) == [] == run.missing(run.names_of("report"))

    shutil.rmtree(folder / "loop/report")
    again = Run(made.config, folder)
    assert again.names_of("loop")[-1] == "report"
    assert again.missing(again.names_of("loop")) == ["loop/report", "report"]


def test_a_second_call_makes_nothing_and_an_interrupted_one_ends_alike(made: Made, tmp_path: Path) -> None:
    run = Run(made.config, made.folder)
    assert run.missing(run.names_of("loop")) == []
    shutil.copytree(made.folder, tmp_path / "run")
    again = Run(made.config, tmp_path / "run")
    # As if killed in the second round: nothing of it is finished, its pairs are begun.
    for name in ("loop/round2", "loop/random", "loop/report"):
        shutil.rmtree(tmp_path / "run" / name)
    assert "loop/round2/budget" in again.missing(again.names_of("loop"))
    assert not any(name.startswith("loop/random") for name in again.missing(again.names_of("loop")))
    decision = tmp_path / "run/loop/round2/decision"
    names = again.names_of("loop")
    again.make(["loop/round2/pairs/full"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "least_gain", lambda smallest, detectable: -1.0)
        again.make(names)
    assert read_decision(decision) == read_decision(made.folder / "loop/round2/decision")
    first, second = _document(made.folder), _document(tmp_path / "run")
    for document in (first, second):
        del document["durations"], document["provenance"]
    assert first == second


def test_a_round_that_gains_too_little_is_the_last(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.folder, tmp_path / "run")
    for name in ("loop/round2", "loop/random", "loop/report", "loop/round1/decision"):
        shutil.rmtree(tmp_path / "run" / name)
    # No gain is that large.
    config = made.config.model_copy(update={"report": made.config.report.model_copy(update={"smallest_gain": 0.9})})
    run = Run(config, tmp_path / "run")
    run.make(run.names_of("loop"))
    assert not (tmp_path / "run/loop/round2").exists()
    document = _document(tmp_path / "run")
    assert [each["continue"] for each in document["rounds"]] == [False]
    assert [arm["pairs"] for arm in document["arms"]] == [0, 2 * PAIRS, 2 * PAIRS]
    assert "The loop ended after round 1 of at most 2" in (tmp_path / "run/loop/report/loop.md").read_text()


def test_a_round_after_which_nothing_is_lacking_is_the_last(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made.folder, tmp_path / "run")
    for name in ("loop/round2", "loop/random", "loop/report", "loop/round1/decision"):
        shutil.rmtree(tmp_path / "run" / name)
    zeros = np.zeros(len(Run.open(made.folder).data.train.table.names))
    monkeypatch.setattr(stage, "class_deficits", lambda *arguments: (zeros + 1, zeros))
    monkeypatch.setattr(stage, "least_gain", lambda *arguments: -1.0)  # whatever the round gained
    run = Run(made.config, tmp_path / "run")
    run.make(run.names_of("loop"))
    assert not (tmp_path / "run/loop/round2").exists()
    page = (tmp_path / "run/loop/report/loop.md").read_text()
    assert "The loop ended after round 1 of at most 2: on validation images nothing is lacking any more" in page


def test_more_rounds_go_on_from_those_there_are(made: Made) -> None:
    config = made.config.model_copy(update={"loop": made.config.loop.model_copy(update={"rounds": 3})})
    missing = Run(config, made.folder).missing(["loop/report"])
    assert missing[0] == "loop/round3/budget" and not any("round1" in name or "round2" in name for name in missing)


@pytest.mark.parametrize(
    ("smallest", "detectable", "expected"),
    [(0.01, 0.03, 0.03), (0.01, 0.002, 0.01), (0.01, None, 0.01), (0.0, None, 0.0)],
)
def test_the_least_gain_is_worth_it_and_can_be_seen(smallest: float, detectable: float | None, expected: float) -> None:
    assert least_gain(smallest, detectable) == expected


def test_rows_of_a_round_can_be_made_again(made: Made) -> None:
    (row,) = regenerate_rows(made.folder / "loop/round1/pairs/full", ["3"])
    assert row.index == 3 and row.differences == ()


def _problems(values: dict[str, Any], folder: Path) -> tuple[str, ...]:
    run = Run(make_config(values), folder)
    with pytest.raises(ConfigError) as caught:
        run.make(run.names_of("loop"))
    return caught.value.problems


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"loop": {"rounds": 0}}, "loop.rounds: input should be greater than or equal to 1, got 0"),
        ({"loop": {"share": 0}}, "loop.share: input should be greater than 0, got 0"),
        ({"loop": {"share": 1.5}}, "loop.share: input should be less than or equal to 1, got 1.5"),
        ({"loop": {"pairs": 1}}, "loop.pairs: input should be greater than or equal to 2, got 1"),
        ({"loop": {"kinds": ["semi"]}}, "loop.kinds.0: input should be 'full' or 'insert', got 'semi'"),
        ({"loop": {"kinds": ["full", "full"]}}, "loop.kinds: an entry comes twice"),
        ({"generate": {"kinds": ["insert"]}, "loop": {"kinds": ["full"]}}, "loop.kinds: 'full' is not among"),
    ],
)
def test_numbers_and_kinds_that_cannot_be_are_refused(
    tiny_config: RunConfig, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(_values(tiny_config, **changes))
    assert any(text.startswith(problem) for text in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"generate": {"kinds": ["semi"]}}, "generate.kinds: the loop asks pairs for classes, which these kinds take"),
        (
            {"generate": {"palette": {"road": 0.5, "sky": 0.5}}},
            "generate.palette: it is the palette of every full layout",
        ),
        ({"segmenters": {"synthetic_share": 0.01}}, "segmenters.batch_size: 2 images cannot be divided"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_made(
    tiny_config: RunConfig, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    problems = _problems(_values(tiny_config, **changes), tmp_path / "run")
    assert any(text.startswith(problem) for text in problems), problems
    assert not (tmp_path / "run").exists()


def test_classes_that_cannot_be_inserted_are_told_before_a_training(tiny_config: RunConfig, tmp_path: Path) -> None:
    values = _values(
        tiny_config, generate={"kinds": ["insert"], "insert_classes": ["road"]}, report={"rare_classes": ["x"]}
    )
    Run(make_config(values), tmp_path / "run").make(["data"])
    problems = _problems(values, tmp_path / "run")
    assert any(text.startswith("generate.insert_classes: 'road' cannot be inserted") for text in problems)
    assert any(text.startswith("report.rare_classes: unknown class 'x'") for text in problems)
    assert not (tmp_path / "run/segmenters").exists()


def test_nothing_lacking_ends_with_the_reason(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/loop")
    zeros = np.zeros(len(Run.open(made.folder).data.train.table.names))
    monkeypatch.setattr(stage, "class_deficits", lambda *arguments: (zeros + 1, zeros))
    with pytest.raises(DataError, match=r"there is nothing to ask for\. The segmenters lack nothing"):
        Run(made.config, tmp_path / "run").make(["loop/report"])
    text = nothing_lacking({"a": 0.0, "b": 0.4, "c": None}, {"full": {"b": "in no training image"}})
    assert text == "What they lack (b) cannot be generated (full: b is in no training image)."


def test_banned_and_absent_classes_cannot_be_asked_for(made: Made) -> None:
    train = Run.open(made.folder).data.train
    generate = made.config.generate.model_copy(update={"ban": ("sky",)})
    found = unable(made.config.model_copy(update={"generate": generate}), "full", train)
    absent = {name: "in no training image" for name in found if name != "sky"}
    assert found == {"sky": "banned by generate.ban", **absent}
    present = {index for label in train.labels for index in np.unique(label)}
    assert {train.table.names.index(name) for name in absent} == set(range(train.table.num_classes)) - present


def test_a_damaged_decision_is_named_with_the_remedy(made: Made, tmp_path: Path) -> None:
    (tmp_path / "decision.json").write_text("{}")
    with pytest.raises(DataError, match=r"decision\.json cannot be read .*Remove .* and rerun the same command"):
        read_decision(tmp_path)
    unit = Run.open(made.folder).units["loop/round1/decision"]
    assert isinstance(unit, DecisionUnit) and unit.replans
