from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import ScenepaletteError
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.data.decoding.class_files import read_class_file, table_of_class_file
from scenepalette.segmenters.command import (
    TrainerSettings,
    files_of,
    place_problems,
    predict_by_command,
    train_by_command,
    trainer_problems,
)

HEAD = "import pathlib, sys; from PIL import Image; images, out, model = map(pathlib.Path, sys.argv[1:]); "
GOOD = "[Image.new('L', (48, 32), 1).save(out / f.name) for f in images.iterdir()]; "
TRAIN = """
import pathlib, shutil, sys
pairs, model, steps, seed, arm = sys.argv[1:]
pathlib.Path(model, "calls").open("a").write("x")
if pathlib.Path(model, "calls").stat().st_size == 1:
    sys.exit("no memory")
shutil.copytree(pairs, pathlib.Path(model, "seen"))
pathlib.Path(model, "numbers").write_text(" ".join([steps, seed, arm]))
"""


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., TrainerSettings]:
    def make(train: str = TRAIN, predict: str = HEAD + GOOD) -> TrainerSettings:
        scripts = {"train": train, "predict": predict}
        for name, code in scripts.items():
            (tmp_path / f"{name}.py").write_text(code)
        python = shlex.quote(sys.executable)
        return TrainerSettings(
            f"{python} {shlex.quote(str(tmp_path / 'train.py'))} {{pairs}} {{model}} {{steps}} {{seed}} {{arm}}",
            f"{python} {shlex.quote(str(tmp_path / 'predict.py'))} {{images}} {{out}} {{model}}",
            timeout=120,
        )

    return make


def test_a_trainer_gets_all_pairs_and_where_they_come_from(
    trainer: Callable[..., TrainerSettings], make_pairs: Callable[..., Pairs], tmp_path: Path, table: ClassTable
) -> None:
    real, generated, folder = make_pairs(3), make_pairs(2, seed=1), tmp_path / "unit"

    def train() -> None:
        train_by_command(
            folder, trainer(), real=real, synthetic=generated, table=table, steps=70, seed=4, arm="real+syn"
        )

    with pytest.raises(ScenepaletteError, match="exit status 1") as caught:
        train()
    assert caught.value.problems == ("no memory",) and (folder / "pairs/images").is_dir()
    train()  # finds in its folder what the first call left there
    train()  # and is not run again once it has ended
    assert (folder / "model/calls").read_text() == "xx" and not (folder / "pairs").exists()
    assert (folder / "model/numbers").read_text() == "70 4 real+syn"
    seen = folder / "model/seen"
    read = table_of_class_file(seen / "classes.csv", read_class_file(seen / "classes.csv"))
    assert read.classes == table.classes
    with (seen / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["origin"], row["id"]) for row in rows] == [
        *(("real", name) for name in real.ids),
        *(("generated", name) for name in generated.ids),
    ]
    for row, (pairs, index) in zip(
        rows, [(real, 0), (real, 1), (real, 2), (generated, 0), (generated, 1)], strict=True
    ):
        np.testing.assert_array_equal(np.asarray(Image.open(seen / "images" / row["name"])), pairs.images[index])
        np.testing.assert_array_equal(np.asarray(Image.open(seen / "labels" / row["name"])), pairs.labels[index])


def test_a_trainer_that_leaves_nothing_is_refused(
    trainer: Callable[..., TrainerSettings], make_pairs: Callable[..., Pairs], tmp_path: Path, table: ClassTable
) -> None:
    with pytest.raises(ScenepaletteError, match="left no file in"):
        train_by_command(
            tmp_path / "unit",
            trainer(train="pass"),
            real=make_pairs(2),
            synthetic=None,
            table=table,
            steps=1,
            seed=0,
            arm="real",
        )


def test_predictions_are_label_maps_in_the_order_of_the_pairs(
    trainer: Callable[..., TrainerSettings], make_pairs: Callable[..., Pairs], tmp_path: Path, table: ClassTable
) -> None:
    # Ids by the red channel: another for each image.
    code = HEAD + (
        "[Image.open(f).getchannel(0).point(lambda v: v // 128).save(out / f.name) for f in images.iterdir()]"
    )
    pairs = make_pairs(3)
    predicted = predict_by_command(tmp_path, trainer(predict=code), pairs, table)
    np.testing.assert_array_equal(predicted, pairs.images[..., 0] // 128)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (GOOD + "(out / '00001.png').unlink()", "00001.png: it is not there"),
        (GOOD + "(out / 'log.txt').write_text('')", "log.txt: it was not asked for"),
        (GOOD + "Image.new('L', (32, 48)).save(out / '00000.png')", "00000.png: it has 48 x 32 pixels"),
        (GOOD + "Image.new('RGB', (48, 32)).save(out / '00000.png')", "00000.png: it is PNG of mode RGB"),
        (GOOD + "Image.new('L', (48, 32), 3).save(out / '00000.png')", "00000.png: it holds 3; every pixel needs"),
        (GOOD + "(out / '00000.png').write_bytes(b'x')", "00000.png: it is damaged, cut off or not an image"),
    ],
    ids=["left out", "extra", "size", "colours", "no class", "garbage"],
)
@pytest.mark.damaged
def test_predictions_that_are_not_as_required_are_listed(
    trainer: Callable[..., TrainerSettings],
    make_pairs: Callable[..., Pairs],
    tmp_path: Path,
    table: ClassTable,
    code: str,
    problem: str,
) -> None:
    with pytest.raises(ScenepaletteError, match="cannot be used; a label map of the same name") as caught:
        predict_by_command(tmp_path, trainer(predict=HEAD + code), make_pairs(2), table)
    (text,) = caught.value.problems
    assert problem in text


def test_what_is_wrong_with_the_texts_is_said(trainer: Callable[..., TrainerSettings]) -> None:
    assert trainer_problems(TrainerSettings()) == [] == trainer_problems(trainer())
    (lacking,) = trainer_problems(TrainerSettings(train="t {pairs} {model} {steps} {seed}"))
    assert lacking.startswith("predict: it is empty")
    (problem,) = trainer_problems(TrainerSettings("t {pairs} {model}", "p {images} {out} {model}"))
    assert problem.startswith("train: ") and "lacks {steps} and {seed}" in problem
    (program,) = place_problems(TrainerSettings("no-such {pairs}", f"{shlex.quote(sys.executable)} {{images}}"))
    assert program.startswith("train: there is no program no-such")
    assert {"a.py", "b.py"} <= files_of(TrainerSettings("python a.py", "python b.py")).keys()
