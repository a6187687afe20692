"""Runs whose arms a command trains."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.pipeline.config import make_config
from scenepalette.pipeline.run import Run, units_of
from scenepalette.pipeline.stages.segment import read_confusion
from scenepalette.pipeline.units.records import fingerprint_of

SCRIPT = '''
"""Predicts the class that has most pixels in its training labels."""
import collections, pathlib, sys
from PIL import Image
if sys.argv[1] == "train":
    counts = collections.Counter()
    for label in pathlib.Path(sys.argv[2], "labels").iterdir():
        counts.update(Image.open(label).tobytes())
    del counts[255]
    pathlib.Path(sys.argv[3], "class").write_text(str(counts.most_common(1)[0][0]))
else:
    images, out, model = map(pathlib.Path, sys.argv[2:])
    for image in images.iterdir():
        Image.new("L", Image.open(image).size, int((model / "class").read_text())).save(out / image.name)
'''


@pytest.fixture
def values(tiny_values: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    script = tmp_path / "trainer.py"
    script.write_text(SCRIPT)
    python = shlex.join([sys.executable, str(script)])
    command = {
        "train": f"{python} train {{pairs}} {{model}} {{steps}} {{seed}}",
        "predict": f"{python} predict {{images}} {{out}} {{model}}",
    }
    segmenters = {**tiny_values["segmenters"], "arms": ["real", "semi"], "command": command}
    data = {**tiny_values["data"], "test_scenes": 2}
    return {
        **tiny_values,
        "data": data,
        "generate": {**tiny_values["generate"], "kinds": ["semi"]},
        "segmenters": segmenters,
    }


@pytest.mark.slow
def test_the_report_speaks_of_what_the_command_trained(values: dict[str, Any], tmp_path: Path) -> None:
    run = Run(make_config(values), tmp_path / "run")
    run.make(run.names_of("report"))
    report = json.loads((tmp_path / "run/report/report.json").read_text())
    assert [arm["name"] for arm in report["arms"]] == ["real", "semi"]
    assert report["provenance"]["segmenters"]["train"] == values["segmenters"]["command"]["train"]
    assert report["arms"][0]["images_per_step"] is None
    # Of equally many pairs with the same labels, both have the same class, and every prediction is that class.
    folder = tmp_path / "run/segmenters/real/seed0"
    most = int((folder / "model/class").read_text())
    confusion = read_confusion(folder)
    assert confusion.sum() == confusion[:, :, most].sum() > 0
    labels = run.data.validation.labels
    np.testing.assert_array_equal(
        confusion.sum(axis=(0, 2)), np.bincount(labels[labels != 255], minlength=confusion.shape[1])
    )
    assert len(read_confusion(folder, "test-confusion.npy")) == 2
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"model/class", "trained.json", "validation-confusion.npy"} <= manifest["files"].keys()
    # GAN-test and features need a network, which is this package's own.
    assert (tmp_path / "run/segmenters/reference/seed0/weights.safetensors").is_file()


def test_texts_and_scripts_identify_the_arms_and_nothing_else(values: dict[str, Any], tmp_path: Path) -> None:
    def fingerprints() -> dict[str, str]:
        units = units_of(make_config(values))
        return {name: fingerprint_of(units[name], units) for name in units}

    before = fingerprints()
    values["segmenters"]["command"]["timeout"] = 5
    given = dict(values["segmenters"])
    values["segmenters"]["learning_rate"] = 0.005  # which no command is told
    arms = {"segmenters/real/seed0", "segmenters/semi/seed0"}
    assert {name: before[name] for name in arms} == {name: fingerprints()[name] for name in arms}
    values["segmenters"] = given
    (tmp_path / "trainer.py").write_text(SCRIPT + "# trained otherwise\n")
    changed = {name for name, fingerprint in fingerprints().items() if fingerprint != before[name]}
    assert changed == {*arms, "report"}
    # The reference segmenter is what the arm real is without commands, in another folder.
    unit = units_of(make_config(values))["segmenters/reference/seed0"]
    del values["segmenters"]["command"]
    own = units_of(make_config(values))["segmenters/real/seed0"]
    assert (unit.settings, unit.inputs, unit.version) == (own.settings, own.inputs, own.version)


def test_a_model_that_is_trained_waits_for_a_corrected_prediction(values: dict[str, Any], tmp_path: Path) -> None:
    def write(predict: str) -> Run:
        (tmp_path / "predict.py").write_text(predict)
        return Run(make_config(values), tmp_path / "run")

    trained = tmp_path / "trained.txt"
    (tmp_path / "train.py").write_text(
        f"import sys\nopen({str(trained)!r}, 'a').write('once ')\nopen(sys.argv[1] + '/class', 'w').write('2')\n"
    )
    python = shlex.quote(sys.executable)
    values["segmenters"]["command"] = {
        "train": f"{python} {shlex.quote(str(tmp_path / 'train.py'))} {{model}} {{pairs}} {{steps}} {{seed}}",
        "predict": f"{python} {shlex.quote(str(tmp_path / 'predict.py'))} predict {{images}} {{out}} {{model}}",
    }
    name = "segmenters/real/seed0"
    with pytest.raises(ScenepaletteError, match="no model of that name"):
        write("raise SystemExit('no model of that name')").make([name])
    run = write(SCRIPT)
    before = fingerprint_of(run.units[name], run.units)
    run.make([name])
    assert trained.read_text() == "once "
    manifest = json.loads((tmp_path / "run" / name / "manifest.json").read_text())
    assert manifest["fingerprint"] == before
    assert read_confusion(tmp_path / "run" / name)[:, :, 2].sum() > 0

    # Once it is finished, or where the trainer differs, the result is another one.
    with pytest.raises(ScenepaletteError, match="made with other settings"):
        write(SCRIPT + "# predicts otherwise").make([name])
    (tmp_path / "run" / name / "manifest.json").rename(tmp_path / "run" / name / "unfinished.json")
    (tmp_path / "train.py").write_text("pass")
    with pytest.raises(ScenepaletteError, match=r"file .*train\.py"):
        Run(make_config(values), tmp_path / "run").make([name])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": ["real", "copy-paste", "semi"]}, "segmenters.arms: copy-paste mix, adapt or augment"),
        ({"command": {"train": "t {pairs} {model} {steps} {seed}"}}, "segmenters.command.predict: it is empty"),
        ({"size": [32, 48]}, "segmenters.evaluation: native, but what a command predicts"),
        ({"command": {"predict": "p {images} {out} {model}"}}, "segmenters.command.train: it is empty"),
    ],
)
def test_a_configuration_that_a_command_cannot_train_is_refused(
    values: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config({**values, "segmenters": {**values["segmenters"], **changes}})
    (problem,) = caught.value.problems
    assert words in problem


@pytest.mark.parametrize("stage", ["curve", "loop"])
def test_studies_that_train_networks_refuse_commands(values: dict[str, Any], stage: str, tmp_path: Path) -> None:
    values["generate"]["kinds"] = ["semi", "full"]
    values["segmenters"]["arms"] = ["real", "semi", "real+syn"]
    run = Run(make_config(values), tmp_path / "run")
    with pytest.raises(ScenepaletteError) as caught:
        run.make(run.names_of(stage))
    assert any(
        f"segmenters.command: the {stage} trains this package's networks" in text for text in caught.value.problems
    )
    assert not (tmp_path / "run/data").exists()
