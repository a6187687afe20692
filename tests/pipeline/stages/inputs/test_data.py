"""Stage data: label files that do not hold class ids, and what identifies a data set."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.common.progress import NO_PROGRESS
from scenepalette.data.unlabelled import content_of_written
from scenepalette.pipeline.config import DataConfig, RunConfig, make_config, merge
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.stages.inputs.data import (
    DataUnit,
    content_of_arrays,
    content_of_source,
    prepare_data,
    read_data,
)
from scenepalette.pipeline.stages.inputs.extra_tests import prepare_extra_test
from scenepalette.pipeline.stages.inputs.opened_splits import open_extra_test
from scenepalette.pipeline.stages.inputs.split_findings import read_findings
from scenepalette.pipeline.stages.inputs.unlabelled_images import content_of_unlabelled_source, prepare_unlabelled
from scenepalette.pipeline.units.sources import Sources
from scenepalette.pipeline.units.workspace import PreparedData


def test_label_values_become_class_ids_and_ignored_pixels_are_filled(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 1, 150], [0, 1, 9, 150]], dtype=np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    for folder, part in [("training", "train"), ("validation", "val")]:
        for kind in ("images", "annotations"):
            (tmp_path / "ade" / kind / folder).mkdir(parents=True)
        for name in (f"ADE_{part}_00000001", f"ADE_{part}_00000002"):
            Image.fromarray(np.full((4, 8, 3), 90, np.uint8)).save(tmp_path / f"ade/images/{folder}/{name}.jpg")
            Image.fromarray(stored).save(tmp_path / f"ade/annotations/{folder}/{name}.png")
    config = DataConfig(name="ade20k", root=tmp_path / "ade", size=(2, 4))
    prepare_data(tmp_path / "out", config, 0, NO_PROGRESS)
    data = read_data(tmp_path / "out")
    expected = [[255, 0, 0, 149], [255, 0, 8, 149]]
    assert data.train.labels[0].tolist() == data.validation.labels[0].tolist() == expected
    assert data.filled_labels.dtype == np.uint8
    assert data.filled_labels.tolist() == [[[0, 0, 0, 149], [0, 0, 8, 149]]] * 2


CLASSES = "name,red,green,blue,evaluated\nroad,128,64,128,true\ncar,0,0,142,true\nsky,70,130,180,true\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder data set of three and three pairs; their training images serve as images without labels."""
    random, root = np.random.default_rng(0), tmp_path / "set"
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for name in ("a", "b", "c"):
            image, label = random.integers(0, 256, (4, 6, 3), np.uint8), random.integers(0, 3, (4, 6), np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"{name}.png")
            Image.fromarray(label).save(root / split / "labels" / f"{name}.png")
    (root / "classes.csv").write_text(CLASSES)
    return root


def folder(root: Path, **changes: object) -> DataConfig:
    return DataConfig.model_validate(
        {"name": "folder", "root": root, "unlabelled": root / "train/images", "size": (2, 3), **changes}
    )


def written(config: DataConfig, out: Path) -> tuple[str, str]:
    """Return the contents that are kept with what was prepared."""
    prepare_data(out / "data", config, 0, NO_PROGRESS)
    prepare_unlabelled(out / "unlabelled", config, NO_PROGRESS)
    return content_of_arrays(out / "data"), content_of_written(out / "unlabelled")


def source(config: DataConfig) -> tuple[str, str]:
    """Return the contents of what would be prepared now."""
    return content_of_source(config, 0, NO_PROGRESS), content_of_unlabelled_source(config)


def spelt_relative(root: Path) -> Path:
    return Path(os.path.relpath(root))


def through_a_link(root: Path) -> Path:
    link = root.with_name("link")
    link.symlink_to(root)
    return link


def roundabout(root: Path) -> Path:
    return root / "train" / ".."


def copied(root: Path) -> Path:
    return Path(shutil.copytree(root, root.with_name("elsewhere") / "other name", copy_function=shutil.copyfile))


def touched(root: Path) -> Path:
    os.utime(root / "train/images/a.png", (0, 0))
    return root


def with_other_files(root: Path) -> Path:
    (root / "README.txt").write_text("mine")
    return root


def with_the_same_classes_spelt_otherwise(root: Path) -> Path:
    (root / "classes.csv").write_text(CLASSES.replace(",true", "").replace(",evaluated", ""))
    return root


@pytest.mark.parametrize(
    "place",
    [
        spelt_relative,
        through_a_link,
        roundabout,
        copied,
        touched,
        with_other_files,
        with_the_same_classes_spelt_otherwise,
    ],
)
def test_a_data_set_is_the_same_wherever_it_lies(root: Path, tmp_path: Path, place: Callable[[Path], Path]) -> None:
    before = written(folder(root), tmp_path / "before")
    assert source(folder(root)) == before
    other = folder(place(root))
    assert source(other) == before
    assert written(other, tmp_path / "after") == before


def with_an_image_altered(root: Path) -> None:
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(root / "train/images/a.png")


def with_a_label_altered(root: Path) -> None:
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(root / "val/labels/b.png")


def with_a_pair_renamed(root: Path) -> None:
    for kind in ("images", "labels"):
        (root / "train" / kind / "a.png").rename(root / "train" / kind / "c.png")


def with_a_pair_removed(root: Path) -> None:
    for kind in ("images", "labels"):
        (root / "train" / kind / "b.png").unlink()


def with_a_pair_moved_to_the_other_split(root: Path) -> None:
    for kind in ("images", "labels"):
        (root / "train" / kind / "b.png").rename(root / "val" / kind / "c.png")


def with_labels_exchanged(root: Path) -> None:
    labels = root / "train/labels"
    (labels / "a.png").rename(labels / "kept")
    (labels / "b.png").rename(labels / "a.png")
    (labels / "kept").rename(labels / "b.png")


def with_a_class_renamed(root: Path) -> None:
    (root / "classes.csv").write_text(CLASSES.replace("car", "lorry"))


def with_classes_exchanged(root: Path) -> None:
    first, road, car, sky = CLASSES.splitlines()
    (root / "classes.csv").write_text("\n".join([first, car, road, sky]))


def with_a_class_not_evaluated(root: Path) -> None:
    (root / "classes.csv").write_text(CLASSES.replace("142,true", "142,false"))


def with_other_terms(root: Path) -> None:
    names = ("road", "car", "sky")
    colours = [(128, 64, 128), (0, 0, 142), (70, 130, 180)]
    rows = [
        f"- {{name: {name}, red: {red}, green: {green}, blue: {blue}}}"
        for name, (red, green, blue) in zip(names, colours, strict=True)
    ]
    (root / "classes.yaml").write_text("\n".join(["licence: mine alone", "classes:", *rows]))
    (root / "classes.csv").unlink()


@pytest.mark.parametrize(
    "change",
    [
        with_an_image_altered,
        with_a_label_altered,
        with_a_pair_renamed,
        with_a_pair_removed,
        with_a_pair_moved_to_the_other_split,
        with_labels_exchanged,
        with_a_class_renamed,
        with_classes_exchanged,
        with_a_class_not_evaluated,
        with_other_terms,
    ],
)
def test_another_content_is_another_data_set(root: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    before, _ = written(folder(root), tmp_path / "before")
    change(root)
    after, _ = source(folder(root))
    assert after != before
    assert written(folder(root), tmp_path / "after")[0] == after


def test_a_class_file_elsewhere_counts_by_its_content(root: Path, tmp_path: Path) -> None:
    before, _ = source(folder(root))
    (root / "classes.csv").rename(tmp_path / "mine.csv")
    assert source(folder(root, class_file=tmp_path / "mine.csv"))[0] == before
    (tmp_path / "mine.csv").write_text(CLASSES.replace("car", "lorry"))
    assert source(folder(root, class_file=tmp_path / "mine.csv"))[0] != before


@pytest.mark.parametrize("change", [with_an_image_altered, with_a_pair_renamed, with_a_pair_removed])
def test_other_images_are_other_unlabelled_images(root: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    _, before = written(folder(root), tmp_path / "before")
    change(root)
    _, after = source(folder(root))
    assert after != before


def test_drawn_scenes_are_identified_by_what_they_are_drawn_from(tmp_path: Path) -> None:
    def streets(**changes: object) -> DataConfig:
        return DataConfig.model_validate({"train_scenes": 8, "val_scenes": 2, "size": (16, 24), **changes})

    prepare_data(tmp_path, streets(), 1, NO_PROGRESS)
    drawn = content_of_arrays(tmp_path)
    assert content_of_source(streets(), 1, NO_PROGRESS) == drawn
    others = [({}, 2), ({"train_scenes": 9}, 1), ({"val_scenes": 3}, 1), ({"size": (24, 24)}, 1)]
    assert drawn not in [content_of_source(streets(**changes), seed, NO_PROGRESS) for changes, seed in others]


def recorded(tmp_path: Path, **splits: list[str]) -> Path:
    """A folder data set of the named samples, each of its own noise; every label shows all classes."""
    root = tmp_path / "recorded"
    for split, names in splits.items():
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for name in names:
            random = np.random.default_rng(sum(map(ord, split + name)) * 1000 + int(name.split("_")[1]))
            image, label = random.integers(0, 256, (4, 6, 3), np.uint8), random.integers(0, 3, (4, 6), np.uint8)
            label[0, :3], label[2, ::2] = [0, 1, 2], [0, 1, 2]
            Image.fromarray(image).save(root / split / "images" / f"{name}.png")
            Image.fromarray(label).save(root / split / "labels" / f"{name}.png")
    (root / "classes.csv").write_text(CLASSES)
    return root


def frames(name: str, count: int) -> list[str]:
    return [f"{name}_{number:03d}" for number in range(count)]


def prepared(config: DataConfig, out: Path) -> PreparedData:
    prepare_data(out, config, 0, NO_PROGRESS)
    return read_data(out)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    return recorded(tmp_path, train=[*frames("a", 20), *frames("b", 40), *frames("c", 5)], val=frames("d", 4))


def test_a_held_out_part_is_gone_from_all_that_training_reads(recordings: Path, tmp_path: Path) -> None:
    whole = prepared(folder(recordings), tmp_path / "whole")
    assert whole.test is None and not whole.has_test and len(whole.train) == 65
    data = prepared(folder(recordings, holdout=0.25, holdout_gap=2), tmp_path / "part")
    assert data.test is not None and data.has_test
    assert data.test.ids == [*frames("a", 20)[7:12], *frames("b", 40)[15:25]]
    left_out = {*frames("a", 20)[5:14], *frames("b", 40)[13:27]}
    assert data.train.ids == [name for name in whole.train.ids if name not in left_out]
    assert len(data.filled_labels) == len(data.train) == 65 - 9 - 14
    for pairs in (data.train, data.test):
        places = [whole.train.ids.index(name) for name in pairs.ids]
        assert np.array_equal(pairs.images, whole.train.images[places])
        assert np.array_equal(pairs.labels, whole.train.labels[places])
    assert data.validation.ids == whole.validation.ids
    assert read_findings(tmp_path / "part")["origin"] == "held out"


def test_what_is_held_out_identifies_the_data(recordings: Path, tmp_path: Path) -> None:
    config = folder(recordings, holdout=0.25, holdout_gap=2)
    prepare_data(tmp_path / "part", config, 0, NO_PROGRESS)
    content = content_of_arrays(tmp_path / "part")
    assert content_of_source(config, 0, NO_PROGRESS) == content
    others = [folder(recordings), folder(recordings, holdout=0.3, holdout_gap=2), folder(recordings, holdout=0.25)]
    assert content not in [content_of_source(other, 0, NO_PROGRESS) for other in others]


def test_without_a_test_split_nothing_of_it_is_in_identity_or_folder(recordings: Path, tmp_path: Path) -> None:
    config = folder(recordings)
    assert config.identity().keys() == {"name", "size", "train_scenes", "val_scenes"}
    assert {"holdout", "holdout_gap"} <= folder(recordings, holdout=0.2).identity().keys()
    assert "test_scenes" in DataConfig(test_scenes=4).identity()
    prepare_data(tmp_path / "out", folder(recordings, holdout=0.25, holdout_gap=2), 0, NO_PROGRESS)
    assert prepared(config, tmp_path / "out").test is None  # of an unfinished folder with other settings
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "filled-labels-train.npy",
        "images-train.npy",
        "images-val.npy",
        "labels-train.npy",
        "labels-val.npy",
        "train.json",
        "val.json",
    ]


def test_a_part_of_training_is_the_beginning_of_every_recording_and_leaves_other_splits_whole(
    recordings: Path, tmp_path: Path
) -> None:
    held = {"holdout": 0.25, "holdout_gap": 2}
    whole, part = (
        prepared(folder(recordings, **held, **more), tmp_path / name)
        for name, more in (("whole", {}), ("part", {"train_part": 0.5}))
    )
    assert len(whole.train) == 42 and len(part.train) == len(part.filled_labels) == 21
    for name, count in (("a", 11), ("b", 26), ("c", 5)):
        frames_of, taken = ([each for each in data.train.ids if each[0] == name] for data in (whole, part))
        assert taken == frames_of[: len(taken)] and abs(len(taken) - count / 2) <= 1
    assert part.test is not None and whole.test is not None and part.test.ids == whole.test.ids
    assert part.validation.ids == whole.validation.ids
    # What identifies it: the same again from the source, and another one for another part or seed.
    config, content = folder(recordings, **held, train_part=0.5), content_of_arrays(tmp_path / "part")
    assert content_of_source(config, 0, NO_PROGRESS) == content
    assert content_of_source(folder(recordings, **held, train_part=0.4), 0, NO_PROGRESS) != content
    assert config.identity()["train_part"] == 0.5 and "train_part" not in folder(recordings, **held).identity()


def test_a_published_test_split_goes_before_a_held_out_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = recorded(tmp_path, train=frames("a", 40), val=frames("d", 4), test=frames("t", 12))
    data = prepared(folder(root, holdout=0.25), tmp_path / "out")
    assert data.test is not None and data.test.ids == frames("t", 12) and len(data.train) == 40
    assert read_findings(tmp_path / "out")["origin"] == "published"
    assert "data.holdout has no effect" in capsys.readouterr().err


def test_drawn_test_scenes_are_others_than_those_of_training(tmp_path: Path) -> None:
    config = DataConfig(train_scenes=8, val_scenes=2, test_scenes=3, size=(16, 24))
    data = prepared(config, tmp_path / "out")
    assert data.test is not None and data.test.ids == ["test-00000", "test-00001", "test-00002"]
    assert not any(np.array_equal(test, train) for test in data.test.images for train in data.train.images)
    held = prepared(DataConfig(train_scenes=12, val_scenes=2, holdout=0.25, size=(16, 24)), tmp_path / "held")
    assert held.test is not None and (len(held.train), len(held.test)) == (9, 3)


def test_a_test_split_that_is_worth_nothing_is_refused_before_it_is_used(tmp_path: Path) -> None:
    root = recorded(tmp_path, train=frames("a", 40), val=frames("d", 4), test=frames("t", 12))
    for kind in ("images", "labels"):
        shutil.copy(root / f"train/{kind}/a_003.png", root / f"test/{kind}/t_005.png")
    with pytest.raises(DataError, match="The test split cannot be used") as caught:
        prepare_data(tmp_path / "out", folder(root), 0, NO_PROGRESS)
    (problem,) = caught.value.problems
    assert "t_005 is a_003" in problem and "Remove them from one of both" in problem
    with pytest.raises(DataError) as caught:  # 10 of 40 frames are one block
        prepare_data(
            tmp_path / "out",
            folder(recorded(tmp_path / "x", train=frames("a", 40), val=["d_0"]), holdout=0.25),
            0,
            NO_PROGRESS,
        )
    assert "1 block of consecutive frames" in caught.value.problems[0]


def test_a_class_that_only_training_shows_is_kept_with_the_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = recorded(tmp_path, train=frames("a", 30), val=frames("d", 4), test=frames("t", 12))
    for path in (root / "test/labels").iterdir():
        Image.fromarray(np.minimum(np.asarray(Image.open(path)), 1)).save(path)
    prepare_data(tmp_path / "out", folder(root), 0, NO_PROGRESS)
    (warning,) = read_findings(tmp_path / "out")["warnings"]
    assert "no test label shows sky" in warning
    shown = capsys.readouterr()
    assert f"Warning: {warning}" in shown.err and "Warning" not in shown.out  # where results go


def test_an_extra_test_set_must_have_the_classes_of_the_data_and_none_of_its_images(tmp_path: Path) -> None:
    config = folder(recorded(tmp_path, train=frames("a", 30), val=frames("d", 4)))
    train = prepared(config, tmp_path / "out").train
    night = recorded(tmp_path / "night", val=frames("n", 12))
    prepare_extra_test(tmp_path / "extra", "night", config, night, train, NO_PROGRESS)
    assert read_data(tmp_path / "out", {"night": tmp_path / "extra"}).extra_tests["night"].ids == frames("n", 12)
    (night / "classes.csv").unlink()  # then the classes are the data set's own
    prepare_extra_test(tmp_path / "extra", "night", config, night, train, NO_PROGRESS)
    for kind in ("images", "labels"):
        shutil.copy(config.root / f"train/{kind}/a_003.png", night / f"val/{kind}/n_005.png")  # type: ignore[operator]
    with pytest.raises(DataError) as caught:
        prepare_extra_test(tmp_path / "extra", "night", config, night, train, NO_PROGRESS)
    assert caught.value.problems[0].startswith("report.extra_test.night: 1 test image is also in training")
    (night / "classes.csv").write_text(CLASSES.replace("car", "lorry"))
    with pytest.raises(DataError, match=r"report\.extra_test\.night: its 3 classes .* class 1 is 'lorry', 'car' is"):
        prepare_extra_test(tmp_path / "extra", "night", config, night, train, NO_PROGRESS)


def test_an_extra_test_set_without_a_split_val_is_its_split_test_or_read_whole(tmp_path: Path) -> None:
    config = folder(recorded(tmp_path, train=frames("a", 30), val=frames("d", 4)))

    def ids(root: Path) -> list[str]:
        return sorted(sample.id for sample in open_extra_test(config, root))

    tested = recorded(tmp_path / "tested", test=frames("n", 12))
    assert ids(tested) == frames("n", 12)
    for kind in ("images", "labels"):
        (tested / "test" / kind).rename(tested / kind)
    (tested / "test").rmdir()
    assert ids(tested) == frames("n", 12)
    (tested / "classes.csv").unlink()  # then it is laid out as the data set is
    assert ids(tested) == frames("n", 12)


def test_drawn_scenes_take_extra_test_sets_of_the_layout_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"has no class file.*laid out as data\.name=folder"):
        open_extra_test(DataConfig(), tmp_path / "empty")


def test_the_data_have_a_seed_of_their_own(tiny_config: RunConfig, tmp_path: Path) -> None:
    """Other generators on the same data: `seed` changes, `data.seed` does not, and the unit is the one that was."""

    def unit(changes: dict[str, Any]) -> DataUnit:
        return DataUnit.of(make_config(merge(tiny_config.model_dump(), changes)), Sources())

    first = unit({})
    assert first.settings["seed"] == 0 and "content" not in first.settings
    assert unit({"seed": 5}).settings["seed"] == 5
    assert unit({"seed": 5, "data": {"seed": 0}}).settings == first.settings
    assert unit({"data": {"seed": 5}}).settings == unit({"seed": 5}).settings
    with pytest.raises(ConfigError) as caught:
        unit({"data": {"seed": -1}})
    assert any(text.startswith("data.seed") for text in caught.value.problems)
    for name, seed in (("a", 0), ("b", 5)):
        changes = {"seed": seed, "data": {"seed": 0}}
        config = make_config(merge(tiny_config.model_dump(), changes))
        run = Run(config, tmp_path / name)
        run.make(["data"])
    assert content_of_arrays(tmp_path / "a" / "data") == content_of_arrays(tmp_path / "b" / "data")
