"""Teachers: what they are trained on, what they judge, and what is refused before their training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.files import write_json
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.data.splits.folds import folds_of
from scenepalette.evaluation.pair_quality.quality import ROWS_FILE, QualityFile
from scenepalette.evaluation.pair_quality.trust import TrustSettings
from scenepalette.pipeline.config import RunConfig, make_config
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.pair_quality import teachers as stage
from scenepalette.pipeline.stages.pair_quality.quality import overlaps_of_folds, sources_of
from scenepalette.pipeline.stages.pair_quality.teachers import fold_problems
from scenepalette.pipeline.stages.reporting.report import cost_of_arm
from scenepalette.pipeline.trusted import (
    TEACHERS_FILE,
    TEACHERS_UNIT,
    TakenPairs,
    labels_of_teachers,
    read_teachers,
    trusted_pairs,
)
from scenepalette.pipeline.units.records import seconds_spent

TABLE = ClassTable.unnamed(3)


def _labels(*images: tuple[int, ...]) -> np.ndarray:
    return np.stack([np.resize(np.array(classes, np.uint8), (2, 3)) for classes in images])


def test_folds_that_are_too_small_are_refused_with_the_remedy() -> None:
    ids = [f"a_{frame}" for frame in range(5)]
    (problem,) = fold_problems(ids, _labels(*([(0,)] * 5)), TABLE, 3)
    assert problem.startswith("teachers.folds: 3 folds of 5 training images leave one with 1, at least 2 are needed")
    assert fold_problems(ids, _labels(*([(0,)] * 5)), TABLE, 2) == []


def test_a_class_that_a_teacher_never_sees_is_named_with_a_number_of_folds_that_works() -> None:
    # Class 2 is in the first three of six frames: two folds put it into one, three folds into two.
    ids, labels = [f"a_{frame}" for frame in range(6)], _labels(*([(0, 2)] * 3), *([(0,)] * 3))
    (problem,) = fold_problems(ids, labels, TABLE, 2)
    assert "a class occurs in a single one, whose teacher never sees it: class 2 (fold 0); set it to 3" in problem
    assert fold_problems(ids, labels, TABLE, 3) == []


def test_of_a_class_in_a_single_image_no_number_of_folds_helps() -> None:
    ids = [f"a_{frame}" for frame in range(6)]
    (problem,) = fold_problems(ids, _labels((1,), *([(0,)] * 5)), TABLE, 2)
    assert problem.endswith("class 1 (fold 0); add images, or leave out the arms that need teachers")


def test_a_teacher_that_never_finds_a_class_is_warned_of_and_the_class_is_blind(tmp_path: Path) -> None:
    document = {
        "mean_loss": {"a": 0.5, "b": 2.0, "c": None},
        "iou": [{"a": 0.8, "b": 0.0, "c": None}, {"a": 0.7, "b": 0.1, "c": None}],
    }
    write_json(tmp_path / TEACHERS_FILE, document)
    teachers = read_teachers(tmp_path, ("a", "b", "c"))
    assert teachers.blind.tolist() == [False, True, True]
    np.testing.assert_array_equal(teachers.class_means, [0.5, 2.0, np.nan])
    (warning,) = teachers.warnings
    assert warning.startswith("teacher 0 never finds b in the images that it did not see (IoU 0).")


def test_a_class_that_a_fold_does_not_show_is_not_one_that_its_teacher_never_finds() -> None:
    # Class 1 is in the labels of the second fold alone; the first teacher predicts it on four pixels.
    folds = np.array([[[6, 4], [0, 0]], [[6, 1], [1, 2]]])
    np.testing.assert_array_equal(overlaps_of_folds(folds), [[0.6, np.nan], [0.75, 0.5]])


def _config(values: dict[str, Any], *arms: str, **teachers: Any) -> RunConfig:
    values["segmenters"]["arms"] = ["real", *arms]
    return make_config({**values, "teachers": teachers})


def test_teachers_are_planned_only_where_something_needs_them(tiny_values: dict[str, Any], tmp_path: Path) -> None:
    def planned(config: RunConfig) -> set[str]:
        return {name for name in Run(config, tmp_path).units if name.startswith(("teachers", "quality"))}

    assert planned(_config(tiny_values, "syn", "semi")) == set()
    folds = {"teachers/fold0", "teachers/fold1", "quality/real"}
    assert planned(_config(tiny_values, "relabelled")) == folds
    assert planned(_config(tiny_values, "semi-trusted", folds=3)) == {*folds, "teachers/fold2", "quality/semi"}
    assert planned(_config(tiny_values, kinds=["full"])) == {*folds, "quality/full"}


def test_thresholds_identify_the_arms_that_they_have_an_effect_on(tiny_values: dict[str, Any], tmp_path: Path) -> None:
    def settings(**thresholds: float) -> dict[str, Any]:
        tiny_values["segmenters"] |= thresholds
        config = _config(tiny_values, "semi", "semi-trusted", "real+syn-relabelled")
        return {name: unit.settings for name, unit in Run(config, tmp_path).units.items()}

    before = settings()
    changed = {name for name, found in settings(relabel_confidence=0.9).items() if found != before[name]}
    assert changed == {"segmenters/real+syn-relabelled/seed0"}
    before = settings()
    changed = {name for name, found in settings(trust_factor=2.0).items() if found != before[name]}
    assert changed == {"segmenters/semi-trusted/seed0", "segmenters/real+syn-relabelled/seed0"}


def test_settings_that_cannot_be_used_are_refused_together(tiny_values: dict[str, Any]) -> None:
    tiny_values["segmenters"] |= {"trust_factor": 0, "trust_floor": 2}
    with pytest.raises(ConfigError) as caught:
        _config(tiny_values, folds=1)
    text = "\n".join(caught.value.problems)
    assert all(field in text for field in ("segmenters.trust_factor", "segmenters.trust_floor", "teachers.folds"))


def test_an_architecture_and_kinds_of_teachers_that_are_not_there_are_refused(tiny_values: dict[str, Any]) -> None:
    tiny_values["generate"]["kinds"] = ["semi"]
    with pytest.raises(ConfigError) as caught:
        _config(tiny_values, architecture="nonet", kinds=["full"])
    text = "\n".join(caught.value.problems)
    assert "teachers.architecture: got 'nonet'" in text
    assert "teachers.kinds: 'full' is not among generate.kinds" in text


@pytest.fixture(scope="module")
def judged_run(
    tiny_config: RunConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RunConfig, dict[int, list[str]]]:
    """A run with teachers and trusted arms, and the ids that each teacher was trained on."""
    values = tiny_config.model_dump(mode="json")
    values["data"]["train_scenes"] = 24
    values["generate"] |= {"kinds": ["full", "semi"], "pairs": 6}
    config = _config(values, "relabelled", "semi-trusted", "real+syn-relabelled", folds=3)
    folder, trained_on = tmp_path_factory.mktemp("judged") / "run", dict[int, list[str]]()
    train = stage.train_segmenter

    def watched(path: Path, *given: Any, real: Any, **others: Any) -> Any:
        trained_on[int(path.name.removeprefix("fold"))] = real.ids
        return train(path, *given, real=real, **others)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(stage, "train_segmenter", watched)
        run = Run(config, folder)
        run.make(run.names_of("segmenters"))
    return folder, config, trained_on


def test_no_teacher_judges_what_it_was_trained_on(judged_run: tuple[Path, RunConfig, dict[int, list[str]]]) -> None:
    folder, _, trained_on = judged_run
    train = Run.open(folder).data.train
    assert sorted(trained_on) == [0, 1, 2]
    assert all(len(ids) < len(train) for ids in trained_on.values())
    judges = QualityFile(folder / "quality" / "semi" / ROWS_FILE).column("judges")
    sources = sources_of(folder / "shards" / "semi")
    for numbers, names in zip(judges, sources, strict=True):
        assert len(numbers) == len(names) == 1
        assert names[0] not in trained_on[numbers[0]]
    # A real image is labelled by the teacher that did not see it.
    for name, fold in zip(train.ids, folds_of(train.ids, 3), strict=True):
        assert name not in trained_on[fold]
    assert QualityFile(folder / "quality" / "full" / ROWS_FILE).column("judges") == [[0, 1, 2]] * 6


def test_labels_of_teachers_have_the_ignored_pixels_of_the_real_ones(
    judged_run: tuple[Path, RunConfig, dict[int, list[str]]],
) -> None:
    folder, _, _ = judged_run
    train: Pairs = Run.open(folder).data.train
    labels = labels_of_teachers(folder / TEACHERS_UNIT, train)
    np.testing.assert_array_equal(labels == IGNORE_ID, np.asarray(train.labels) == IGNORE_ID)
    assert labels[labels != IGNORE_ID].max() < train.table.num_classes


def test_trusted_labels_are_those_of_the_shards_or_none(
    judged_run: tuple[Path, RunConfig, dict[int, list[str]]],
) -> None:
    folder, _, _ = judged_run
    own = ShardPairs(folder / "shards" / "semi").batch(range(6))[1]
    trusted = trusted_pairs(folder, TakenPairs("shards/semi", 6, "quality/semi"), TrustSettings(), "mask").batch(
        range(6)
    )[1]
    kept = trusted != IGNORE_ID
    assert (trusted[kept] == own[kept]).all()
    share = kept.sum() / (own != IGNORE_ID).sum()
    assert 0.3 <= share < 1.0


def test_an_arm_that_trusts_teachers_costs_them_as_well(
    judged_run: tuple[Path, RunConfig, dict[int, list[str]]],
) -> None:
    folder, _, _ = judged_run
    run = Run.open(folder)

    def spent(*names: str) -> float:
        return sum(seconds_spent(folder, run.planned.run[name]) for name in names)

    judging = spent(*(f"teachers/fold{fold}" for fold in range(3)), TEACHERS_UNIT, "quality/semi")
    assert judging > 0
    assert cost_of_arm(run, "semi-trusted").pairs == pytest.approx(spent("shards/semi") + judging)


def test_more_pairs_are_scored_once_they_are_made(
    judged_run: tuple[Path, RunConfig, dict[int, list[str]]], tmp_path: Path
) -> None:
    folder, config, _ = judged_run
    shutil.copytree(folder, tmp_path / "run")
    before = QualityFile(folder / "quality" / "semi" / ROWS_FILE)
    larger = config.model_copy(update={"generate": config.generate.model_copy(update={"pairs": 9})})
    run = Run(larger, tmp_path / "run")
    assert [name for name in run.missing(["quality/semi"]) if name.startswith("quality")] == ["quality/semi"]
    run.make(["quality/semi"])
    after = QualityFile(tmp_path / "run" / "quality" / "semi" / ROWS_FILE)
    assert len(after) == 9
    assert after.column("id")[:6] == before.column("id")
    assert run.missing(["quality/semi"]) == []
