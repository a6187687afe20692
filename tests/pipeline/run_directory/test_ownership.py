"""What a run directory does to the files of others, to settings that change, and to work that is finished."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.data.shards.checking import verify_shards
from scenepalette.data.shards.manifest import read_manifest
from scenepalette.data.shards.reading import iterate_rows
from scenepalette.pipeline.config import RunConfig, load_config
from scenepalette.pipeline.finished.regenerate import regenerate_rows
from scenepalette.pipeline.finished.scene_editor import Editor, write_edit
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.ownership import check_ownership, exclusive, write_document
from scenepalette.pipeline.stages.generate import make_shard
from scenepalette.pipeline.stages.inputs.data import read_data
from scenepalette.pipeline.stages.shard_files import adopt_shards, plans_for
from scenepalette.pipeline.units.borrowing import borrow
from scenepalette.pipeline.units.reset import plan_reset, reset


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder, but for what is set aside."""
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path): sha256_of_file(folder / path) for path in paths if path.parts[0] != "set-aside"}


def changed(config: RunConfig, **sections: dict[str, Any]) -> RunConfig:
    """A configuration with other values in some sections."""
    values = {name: getattr(config, name).model_copy(update=update) for name, update in sections.items()}
    return config.model_copy(update=values)


def make(config: RunConfig, run_dir: Path, stage: str = "report") -> Run:
    run = Run(config, run_dir)
    run.make(run.names_of(stage))
    return run


FOREIGN = {
    "a project": {"config.yaml": "mine: true", "data/images-train.npy": "mine", "report/report.html": "mine"},
    "one file": {"notes.txt": "mine"},
    "hidden files": {".secret.tmp": "mine", ".config.yaml.abc.tmp": "mine"},
    "a git repository": {".git/HEAD": "ref: refs/heads/main"},
    "manifests of another program": {"data/manifest.json": '{"fingerprint": "x"}', ".lock": ""},
    "a folder of shards": {"train-00000-of-00001.parquet": "PAR1", "manifest.json": "{}"},
    "a saved recipe": {"config.yaml": "recipe: demo\ndata: {}\nlayouts: {}\nimages: {}\ngenerate: {}\nsegmenters: {}"},
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("stage", ["data", "report"])
def test_a_folder_of_something_else_is_refused_and_left_as_it_is(
    kind: str, stage: str, tiny_config: RunConfig, tmp_path: Path
) -> None:
    for name, text in FOREIGN[kind].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(ScenepaletteError, match=r"is no run directory .* and not empty: it holds"):
        make(tiny_config, tmp_path, stage)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("names", [[], ["lost+found"], [".DS_Store"], [".config.yaml.0a1b2c3d.scenepalette-tmp"]])
def test_an_empty_folder_becomes_a_run_directory(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).mkdir() if name == "lost+found" else (tmp_path / name).touch()
    check_ownership(tmp_path)
    with exclusive(tmp_path):
        assert (tmp_path / "scenepalette-run.json").is_file()
    check_ownership(tmp_path)


def test_a_run_of_the_first_version_is_named(finished_run: Path, tiny_config: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    (folder / "data").mkdir(parents=True)
    shutil.copy(finished_run / "config.yaml", folder)
    for mark in (".lock", "data/manifest.json", "data/unfinished.json"):
        (folder / mark).touch()
        before = contents(folder)
        with pytest.raises(ScenepaletteError, match=r"was made by scenepalette 0\.1\.0.*another --out folder"):
            make(tiny_config, folder)
        for use in (lambda: Editor(folder), lambda: plan_reset(folder, ["data"])):
            with pytest.raises(ScenepaletteError, match=r"was made by scenepalette 0\.1\.0.*Use version 0\.1\.0"):
                use()
        assert contents(folder) == before
        (folder / mark).unlink()


@pytest.mark.slow
def test_a_users_files_in_a_run_directory_stay(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, tmp_path: Path
) -> None:
    run_dir = copy_of_run("report", "images", "shards", "segmenters")
    mine = [
        "notes.txt",
        ".x.tmp",
        "images/oasis-notes.md",
        "layouts/semantic-palette/plots.ipynb",
        "palettes/.y.abc.tmp",
    ]
    for name in mine:
        (run_dir / name).parent.mkdir(exist_ok=True)
        (run_dir / name).write_text("mine")
    make(tiny_config, run_dir)
    for name in mine:
        assert (run_dir / name).read_text() == "mine"
        (run_dir / name).unlink()
    # Nor are they part of any result.
    run = Run(tiny_config, run_dir)
    for name in run.planned.run:
        run.check_inputs(name)


def test_a_document_that_a_user_changed_is_kept(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        write_document(tmp_path, "config.yaml", "seed: 0\n")
        write_document(tmp_path, "config.yaml", "seed: 1\n")
        assert not (tmp_path / "set-aside").exists()
        (tmp_path / "config.yaml").write_text("seed: 2  # mine\n")
        write_document(tmp_path, "config.yaml", "seed: 3\n")
        write_document(tmp_path, "config.yaml", "seed: 3\n")
    assert (tmp_path / "config.yaml").read_text() == "seed: 3\n"
    assert [path.read_text() for path in tmp_path.glob("set-aside/*/config.yaml")] == ["seed: 2  # mine\n"]


def test_all_that_no_longer_fits_is_told_at_once(copy_of_run: Callable[..., Path], tiny_config: RunConfig) -> None:
    run_dir = copy_of_run()
    before = contents(run_dir)
    images = tiny_config.images.model_copy(update={"steps": 4})
    config = changed(tiny_config, segmenters={"learning_rate": 0.5}).model_copy(update={"images": images})
    with pytest.raises(ScenepaletteError) as caught:
        make(config, run_dir)
    told = [problem.partition(" (")[0] for problem in caught.value.problems]
    assert told == [
        "images/oasis",
        *(f"shards/{kind}" for kind in ("full", "partial", "semi")),
        *(f"segmenters/{arm}/seed0" for arm in tiny_config.segmenters.arms),
    ]
    problems = dict(zip(told, caught.value.problems, strict=True))
    assert problems["images/oasis"].endswith(" s): steps: 3 there, 4 now")
    assert problems["shards/full"].endswith(" s): made from images/oasis")
    assert "learning_rate: 0.02 there, 0.5 now" in problems["segmenters/real/seed0"]
    assert f"scenepalette reset {run_dir} images/oasis segmenters/real/seed0" in caught.value.summary
    assert contents(run_dir) == before


def test_only_what_was_asked_for_and_what_it_needs_has_to_fit(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run("images")
    # Shards of earlier images are downstream of what is asked for.
    images = tiny_config.images.model_copy(update={"steps": 4})
    make(tiny_config.model_copy(update={"images": images}), run_dir, "images")
    assert read_manifest(run_dir / "shards/full")["rows"] == 10


@pytest.mark.slow
def test_reset_sets_units_aside_with_what_was_made_from_them(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, results_of: Callable[[Path], dict[str, Any]]
) -> None:
    run_dir = copy_of_run()
    before, files = results_of(run_dir), contents(run_dir)
    planned = plan_reset(run_dir, ["shards/full", "segmenters/semi/"])
    names = [unit.name for unit in planned]
    assert sorted(names) == sorted(
        ["report", "segmenters/real+syn-advent/seed0", "segmenters/semi/seed0", "segmenters/syn/seed0", "shards/full"]
    )
    assert names.index("report") < names.index("segmenters/syn/seed0") < names.index("shards/full")
    assert {unit.name: unit.because for unit in planned}["segmenters/syn/seed0"] == "shards/full"
    assert contents(run_dir) == files  # said first, done later
    target = reset(run_dir, planned)
    assert target.parent == run_dir / "set-aside"
    for name in names:
        assert not (run_dir / name).exists()
        assert contents(target / name) == {
            str(Path(file).relative_to(name)): value for file, value in files.items() if file.startswith(f"{name}/")
        }
    assert make(tiny_config, run_dir).missing(["report"]) == []
    assert results_of(run_dir)["report"] == before["report"]


def test_units_that_there_are_not_are_told_before_anything_is_set_aside(copy_of_run: Callable[..., Path]) -> None:
    run_dir = copy_of_run()
    before = contents(run_dir)
    with pytest.raises(ConfigError, match="Its units are data, images/oasis") as caught:
        plan_reset(run_dir, ["images", "image", "shards/ful"])
    assert caught.value.problems == ("'image': there is no such unit", "'shards/ful': there is no such unit")
    assert contents(run_dir) == before


@pytest.mark.parametrize("pairs", [11, 23])
def test_more_pairs_come_after_those_that_are_there(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, pairs: int
) -> None:
    run_dir = copy_of_run()
    before = contents(run_dir)
    rows = {row.id: row.image.tobytes() for row in iterate_rows(run_dir / "shards/full")}
    more = changed(tiny_config, generate={"pairs": pairs})
    make(more, run_dir, "shards")
    after = contents(run_dir)
    kept = [name for name in before if name.endswith((".parquet", ".safetensors", ".npy", ".jsonl"))]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    for kind in ("full", "partial", "semi"):
        folder = run_dir / "shards" / kind
        assert verify_shards(folder) == []
        manifest = read_manifest(folder)
        assert manifest["rows"] == pairs
        assert sorted(path.name for path in folder.glob("*.parquet")) == [shard["name"] for shard in manifest["shards"]]
    later = list(iterate_rows(run_dir / "shards/full"))
    assert [row.index for row in later] == list(range(pairs))
    assert {row.id: row.image.tobytes() for row in later[:10]} == rows
    # The first command finds its own pairs in the larger set, and its report still is the one of these.
    times = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.name == "manifest.json"}
    make(tiny_config, run_dir)
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.slow
def test_arms_of_more_pairs_are_trained_anew_and_the_others_kept(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run()
    before = contents(run_dir)
    make(changed(tiny_config, generate={"pairs": 12}), run_dir)
    after = contents(run_dir)
    real, syn = (f"segmenters/{arm}/seed0/weights.safetensors" for arm in ("real", "syn"))
    assert after[real] == before[real] and after[syn] != before[syn]
    aside = next((run_dir / "set-aside").glob(f"*/{syn}"))
    assert sha256_of_file(aside) == before[syn]
    with pytest.raises(ScenepaletteError, match="reset"):
        make(tiny_config, run_dir)  # fewer pairs than the arms were trained with


def test_an_interrupted_extension_leaves_a_readable_set_and_is_resumed(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run()
    folder = run_dir / "shards/full"
    before = {path.name: sha256_of_file(path) for path in folder.glob("*.parquet")}
    more = changed(tiny_config, generate={"pairs": 30})
    run = Run(more, run_dir)
    with exclusive(run_dir):
        run.begin("shards/full")
        plan = run.pairs("shards/full").plans(run)[0]
        make_shard(folder, plan, run.pair_maker("shards/full"), more.generate, run.progress)
    assert (plan.name, plan.first) == ("train-00003-of-00008.parquet", 10)
    assert verify_shards(folder) == [] and read_manifest(folder)["rows"] == 10
    # Another number of pairs takes over what is written.
    more = changed(tiny_config, generate={"pairs": 19})
    run = make(more, run_dir, "shards")
    assert verify_shards(folder) == [] and read_manifest(folder)["rows"] == 19
    assert {name: sha256_of_file(folder / name) for name in before} == before
    assert [row.index for row in iterate_rows(folder)] == list(range(19))
    assert not (folder / ".scenepalette-new").exists()


def test_shards_of_an_interrupted_call_fit_another_number_of_pairs(
    finished_run: Path, tiny_config: RunConfig, tmp_path: Path
) -> None:
    run, folder = Run(tiny_config, finished_run), tmp_path
    maker = run.pair_maker("shards/full")
    for index in (0, 2):
        make_shard(folder, plans_for(folder, tiny_config.generate)[index], maker, tiny_config.generate, run.progress)
    staging = folder / ".scenepalette-new"
    first = sha256_of_file(staging / "train-00000-of-00003.parquet")
    more = tiny_config.generate.model_copy(update={"pairs": 17})
    adopt_shards(folder, more)
    # The third held two rows and would hold four now; nothing else was asked for.
    assert [path.name for path in staging.glob("*.parquet")] == ["train-00000-of-00005.parquet"]
    assert sha256_of_file(staging / "train-00000-of-00005.parquet") == first
    assert [(plan.name, plan.rows) for plan in plans_for(folder, more)][-1] == ("train-00004-of-00005.parquet", 1)


@pytest.mark.slow
def test_arms_and_seeds_come_and_go_and_the_report_follows(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run()
    before = contents(run_dir)
    arms = ("real", "semi", "real-flip")
    make(changed(tiny_config, segmenters={"arms": arms, "seeds": (0, 1)}, report={"bootstrap_samples": 150}), run_dir)
    document = json.loads((run_dir / "report/report.json").read_text())
    assert [(arm["name"], arm["seeds"]) for arm in document["arms"]] == [(arm, [0, 1]) for arm in arms]
    after = contents(run_dir)
    kept = [name for name in before if name.endswith((".safetensors", ".parquet"))]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    make(tiny_config, run_dir)
    document = json.loads((run_dir / "report/report.json").read_text())
    assert [arm["name"] for arm in document["arms"]] == list(tiny_config.segmenters.arms)


def test_a_finished_run_moves_and_is_used_where_its_data_set_is_not(
    finished_run: Path, tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Path(shutil.copytree(finished_run, tmp_path / "elsewhere" / "run"))
    monkeypatch.chdir(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in moved.rglob("*") if path.name == "manifest.json"}
    for path in (moved, Path("elsewhere/run"), Path(os.path.relpath(moved))):
        make(tiny_config, path)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert len(Editor(moved).resample("0", draws=2)) == 2


@pytest.fixture
def lender(finished_run: Path, tmp_path: Path) -> Path:
    """A run directory that lends its models; moved afterwards."""
    return Path(shutil.copytree(finished_run, tmp_path / "lender"))


def borrowing(recipe: Path, lender: Path, *changes: str) -> RunConfig:
    return load_config(str(recipe), [f"models_from={lender}", "generate.pairs=6", "seed=5", *changes])


def test_models_of_another_run_serve(lender: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run_dir, config = tmp_path / "borrower", borrowing(tiny_recipe, lender)
    run = make(config, run_dir)
    for unit in ("layouts/semantic-palette", "layouts/semantic-palette-partial", "images/oasis"):
        for file in ("weights.safetensors", "metrics.jsonl"):
            assert sha256_of_file(run_dir / unit / file) == sha256_of_file(lender / unit / file)
    document = json.loads((run_dir / "report/report.json").read_text())
    borrowed = document["provenance"]["models_from"]["images/oasis"]
    assert borrowed["run"] == str(lender)
    assert borrowed["weights"]["weights.safetensors"] == sha256_of_file(lender / "images/oasis/weights.safetensors")
    manifest = read_manifest(run_dir / "shards/full")
    assert manifest["models"] == read_manifest(lender / "shards/full")["models"]
    assert set(manifest["extra"]["borrowed"]) == {"layouts/semantic-palette", "images/oasis"}
    ids = {row.id for row in iterate_rows(run_dir / "shards/full")}
    assert not ids & {row.id for row in iterate_rows(lender / "shards/full")}
    # Once borrowed, the other run is not needed any more.
    shutil.rmtree(lender)
    assert Run(load_config(str(run_dir / "config.yaml")), run_dir).missing(run.names_of("report")) == []
    assert Editor(run_dir).resample("0", draws=2)


def test_a_run_that_cannot_lend_is_refused_before_anything_is_made(
    lender: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "borrower"
    weights = lender / "images/oasis/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (lender / "layouts/semantic-palette/manifest.json").unlink()
    with pytest.raises(ConfigError) as caught:
        make(borrowing(tiny_recipe, lender), run_dir, "shards")
    assert not run_dir.exists()
    told = "\n".join(caught.value.problems)
    assert "models_from: layouts/semantic-palette is not finished in" in told
    assert "models_from: images/oasis: weights.safetensors: it has" in told
    with pytest.raises(ScenepaletteError, match="no run"):
        load_config(str(tiny_recipe), [f"models_from={tmp_path / 'nothing'}"])
    (tmp_path / "project").mkdir()
    with pytest.raises(ScenepaletteError, match="holds no run"):
        load_config(str(tiny_recipe), [f"models_from={tmp_path / 'project'}"])


@pytest.mark.parametrize("change", ["images.steps=9", "layouts.full.noise_features=5", "data.size=[64, 96]"])
def test_settings_of_borrowed_models_cannot_be_others(lender: Path, tiny_recipe: Path, change: str) -> None:
    with pytest.raises(ConfigError, match="models_from"):
        borrowing(tiny_recipe, lender, change)


def test_models_of_other_classes_are_refused(
    finished_run: Path, lender: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    config = borrowing(tiny_recipe, lender)
    run_dir = tmp_path / "borrower"
    make(config, run_dir, "data")
    for split in ("train", "val"):
        path = run_dir / "data" / f"{split}.json"
        content = json.loads(path.read_text())
        text = json.dumps(content).replace('"road"', '"street"')
        path.write_text(text)
    # Found as soon as the classes are known, before palettes are fitted to them.
    with pytest.raises(ConfigError) as caught:
        make(config, run_dir, "shards")
    assert any("images/oasis: it was trained on other classes" in text for text in caught.value.problems)
    assert not (run_dir / "palettes").exists()


def test_the_stored_configuration_repeats_the_run(finished_run: Path, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(finished_run, tmp_path / "run"))
    config = load_config(str(run_dir / "config.yaml"))
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["models_from"] is None
    assert Run(config, run_dir).missing(["report"]) == []


@pytest.fixture(scope="session")
def data_set(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in a plain folder: the street scenes of the finished run as files; tests must not change it."""
    root = tmp_path_factory.mktemp("data-set") / "streets"
    data = read_data(finished_run / "data")
    for pairs, split in ((data.train, "train"), (data.validation, "val")):
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True)
        for index, name in enumerate(pairs.ids):
            Image.fromarray(np.asarray(pairs.images[index])).save(root / split / "images" / f"{name}.png")
            Image.fromarray(np.asarray(pairs.labels[index])).save(root / split / "labels" / f"{name}.png")
    lines = [f"{each.name},{','.join(map(str, each.color))},true" for each in pairs.table.classes]
    (root / "classes.csv").write_text("\n".join(["name,red,green,blue,evaluated", *lines]))
    return root


def on_folder(recipe: Path, root: object, *changes: str) -> RunConfig:
    return load_config(str(recipe), ["data.name=folder", f"data.root={root}", *changes])


def test_where_the_data_set_lies_does_not_identify_it(
    data_set: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    root = Path(shutil.copytree(data_set, tmp_path / "a" / "set"))
    make(on_folder(tiny_recipe, root), run_dir, "palettes")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(root)
    before = contents(run_dir / "palettes") | contents(run_dir / "data")

    def use(place: object) -> None:
        config = on_folder(tiny_recipe, place)
        assert config.data.root is not None and config.data.root.is_absolute()
        run = make(config, run_dir, "palettes")
        assert run.missing(["palettes"]) == []
        assert contents(run_dir / "palettes") | contents(run_dir / "data") == before

    for place in (root, "a/set", "./a/../a/set", tmp_path / "link", shutil.copytree(root, tmp_path / "copy")):
        use(place)
    shutil.rmtree(root)
    use(tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy")
    for place in (root, "anywhere"):  # nothing reads it any more
        use(place)
    run = Run.open(run_dir)
    assert run.missing(["palettes"]) == []


def alter_image(root: Path) -> None:
    path = next((root / "train/images").iterdir())
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


def exchange_labels(root: Path) -> None:
    first, second = sorted((root / "train/labels").iterdir())[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def remove_pair(root: Path) -> None:
    for part in ("images", "labels"):
        sorted((root / "val" / part).iterdir())[0].unlink()


def rename_class(root: Path) -> None:
    path = root / "classes.csv"
    path.write_text(path.read_text().replace("road", "street"))


@pytest.mark.parametrize("change", [alter_image, exchange_labels, remove_pair, rename_class])
def test_another_data_set_is_no_copy(
    change: Callable[[Path], None], data_set: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    make(on_folder(tiny_recipe, data_set), run_dir, "palettes")
    other = Path(shutil.copytree(data_set, tmp_path / "other"))
    change(other)
    with pytest.raises(ScenepaletteError, match="made with other settings or inputs") as caught:
        make(on_folder(tiny_recipe, other), run_dir, "palettes")
    told = dict(problem.split(" (", 1) for problem in caught.value.problems)
    assert told["data"].endswith("its files are not those that were read") and told["palettes"].endswith(
        "made from data"
    )
    make(on_folder(tiny_recipe, data_set), run_dir, "palettes")


FIRST_ATTEMPTS = {
    "a misspelt root": ["data.name=folder", "data.root={root}s"],
    "a root of another layout": ["data.name=camvid", "data.root={root}"],
    "a damaged data set": ["data.name=folder", "data.root={damaged}"],
    "a misspelt encoder": ["data.name=folder", "data.root={root}", "segmenters.encoder=resnet81"],
    "weights that are not there": [
        "data.name=folder",
        "data.root={root}",
        "images.system=gaugan",
        "images.vgg_weights=x",
    ],
    "a class that there is not": ["data.name=folder", "data.root={root}", "generate.ban=[boat]"],
}


@pytest.mark.parametrize("attempt", FIRST_ATTEMPTS)
def test_an_attempt_that_made_nothing_does_not_bind_the_next(
    attempt: str, data_set: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(data_set, tmp_path / "damaged"))
    next((damaged / "train/images").iterdir()).write_bytes(b"no image")
    run_dir = tmp_path / "run"
    with pytest.raises(ScenepaletteError):
        changes = [change.format(root=data_set, damaged=damaged) for change in FIRST_ATTEMPTS[attempt]]
        make(load_config(str(tiny_recipe), changes), run_dir)
    make(on_folder(tiny_recipe, data_set), run_dir, "palettes")


def test_an_interrupted_training_of_other_settings_says_what_it_cost(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run("images", "shards", "segmenters", "report")

    class Stop:
        def start(self, description: str, total: int, done: int = 0) -> None:
            self.done = 0

        def advance(self, count: int = 1, **values: float) -> None:
            self.done += count
            if self.done == 3:
                raise KeyboardInterrupt

        def finish(self) -> None:
            pass

    with pytest.raises(KeyboardInterrupt):
        Run(tiny_config, run_dir, Stop()).make(["images/oasis"])  # type: ignore[arg-type]
    other = tiny_config.images.model_copy(update={"batch_size": 4})
    with pytest.raises(ScenepaletteError) as caught:
        make(tiny_config.model_copy(update={"images": other}), run_dir, "images")
    (problem,) = caught.value.problems
    assert problem.startswith("images/oasis (unfinished, checkpoint-00000002.safetensors")
    assert problem.endswith("batch_size: 2 there, 4 now")
    reset(run_dir, plan_reset(run_dir, ["images/oasis"]))
    make(tiny_config.model_copy(update={"images": other}), run_dir, "images")


def test_an_unused_source_that_is_missing_does_not_let_finished_work_be_overwritten(
    copy_of_run: Callable[..., Path], tiny_recipe: Path, data_set: Path
) -> None:
    run_dir = copy_of_run()
    before = contents(run_dir)
    pseudo = ["generate.kinds=[full, partial, semi, pseudo]", f"data.unlabelled={data_set / 'val/images'}"]
    for change, stage in (
        ("images.steps=4", "images"),
        ("palettes.max_components=1", "palettes"),
        ("seed=3", "report"),
    ):
        with pytest.raises(ScenepaletteError, match="scenepalette reset"):
            make(load_config(str(tiny_recipe), [*pseudo, change]), run_dir, stage)
        assert {name: contents(run_dir)[name] for name in before} == before
    run = Run(load_config(str(tiny_recipe), ["images.steps=4"]), run_dir)
    with exclusive(run_dir), pytest.raises(ScenepaletteError, match="stays as it is"):
        run.make_one("images/oasis")


def test_a_lender_that_changes_leaves_its_borrowers_alone(lender: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run_dir, changes = tmp_path / "borrower", ["generate.kinds=[semi]", "segmenters.arms=[real, semi]"]
    make(borrowing(tiny_recipe, lender, *changes), run_dir)
    reset(lender, plan_reset(lender, ["images/oasis"]))
    make(load_config(str(tiny_recipe), ["images.steps=5"]), lender, "images")
    kept = contents(run_dir / "images")
    assert Run.open(run_dir).missing(["report"]) == []
    assert Editor(run_dir).resample("0", draws=2)
    for config in (
        borrowing(tiny_recipe, lender, *changes, "segmenters.seeds=[0, 1]"),
        load_config(str(run_dir / "config.yaml"), ["segmenters.seeds=[0, 1]"]),
    ):
        make(config, run_dir)
        assert contents(run_dir / "images") == kept


def test_a_lender_that_is_trained_anew_meanwhile_is_told(lender: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run = make(borrowing(tiny_recipe, lender), tmp_path / "borrower", "data")
    assert "images/oasis" in run.missing(["images/oasis"])
    planned = run.units["images/oasis"]
    reset(lender, plan_reset(lender, ["images/oasis"]))
    make(load_config(str(tiny_recipe), ["images.steps=5"]), lender, "images")
    with pytest.raises(ScenepaletteError, match="trained again while it was borrowed"):
        borrow(lender, "images/oasis", tmp_path / "folder", "", planned.settings["borrowed"])


def test_the_lenders_numbers_take_the_place_of_the_recipes(lender: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(tiny_recipe.read_text())
    values["images"]["systems"]["oasis"] = {"hidden_channels": 7, "label_mix_weight": 1.0}
    values["models_from"] = str(lender)
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(values))
    assert load_config(str(path)).images == load_config(str(lender / "config.yaml")).images


def test_a_run_does_not_lend_to_itself(lender: Path, tiny_recipe: Path) -> None:
    before = contents(lender)
    with pytest.raises(ScenepaletteError, match="this run directory itself"):
        make(borrowing(tiny_recipe, lender), lender, "images")
    assert contents(lender) == before


@pytest.mark.parametrize("point", ["between shard and receipt", "between rename and receipt", "before the manifest"])
def test_a_kill_between_two_files_of_an_extension_is_mended(
    point: str, copy_of_run: Callable[..., Path], tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copy_of_run()
    folder = run_dir / "shards/full"
    before = {path.name: sha256_of_file(path) for path in folder.glob("*.parquet")}

    class Killed(BaseException):
        pass

    def kill(*arguments: object, **others: object) -> None:
        raise Killed

    def interrupted(pairs: int, *names: str) -> None:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            for name in names:
                patch.setattr(f"scenepalette.pipeline.stages.{name}", kill)
            Run(changed(tiny_config, generate={"pairs": pairs}), run_dir).make(["shards/full"])

    if point == "between shard and receipt":
        interrupted(14, "generate.write_json")
    elif point == "between rename and receipt":
        interrupted(30, "generate.finish_shards")
        interrupted(14, "shard_files.write_json")
    else:
        interrupted(14, "shard_files.write_manifest")
    for pairs in (10, 19):
        Run(changed(tiny_config, generate={"pairs": pairs}), run_dir).make(["shards/full"])
        assert verify_shards(folder) == []
        assert {name: sha256_of_file(folder / name) for name in before} == before
    assert [row.index for row in iterate_rows(folder)][:19] == list(range(19))


def test_pages_and_cards_that_a_user_changed_are_kept(copy_of_run: Callable[..., Path], tiny_config: RunConfig) -> None:
    run_dir = copy_of_run()
    for name in ("shards/full/README.md", "report/report.md", "shards/README.md"):
        path = run_dir / name
        path.write_text(path.read_text() + "\nmine\n")
    make(changed(tiny_config, generate={"pairs": 12}), run_dir)
    for name in ("shards/full/README.md", "report/report.md", "shards/README.md"):
        assert "\nmine\n" not in (run_dir / name).read_text()
        assert any("\nmine\n" in path.read_text() for path in run_dir.glob(f"set-aside/*/{name}")), name


def test_the_card_above_all_kinds_follows_them(copy_of_run: Callable[..., Path], tiny_config: RunConfig) -> None:
    run_dir = copy_of_run()
    card = run_dir / "shards/README.md"
    assert "config_name: full" in card.read_text() and "config_name: semi" in card.read_text()
    (run_dir / "shards/mine").mkdir()
    (run_dir / "shards/mine/manifest.json").write_text("{}")
    reset(run_dir, plan_reset(run_dir, ["shards/full"]))
    assert "config_name: full" not in card.read_text() and "config_name: semi" in card.read_text()
    card.unlink()
    make(tiny_config, run_dir, "shards")
    assert "config_name: full" in card.read_text() and "mine" not in card.read_text()
    reset(run_dir, plan_reset(run_dir, ["shards"]))
    assert not card.exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"{}", b'{"units": 3, "documents": {}, "sources": {}}', b"\xff"]
)
def test_a_damaged_mark_is_read_from_the_folders(
    content: bytes | None, copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run()
    times = {path: path.stat().st_mtime_ns for path in run_dir.rglob("manifest.json")}
    mark = run_dir / "scenepalette-run.json"
    mark.write_bytes(content) if content is not None else mark.unlink()
    assert {unit.name for unit in plan_reset(run_dir, ["images/oasis"])} >= {"images/oasis", "shards/full", "report"}
    make(tiny_config, run_dir)
    assert {path: path.stat().st_mtime_ns for path in times} == times and not (run_dir / "set-aside").exists()
    values = json.loads(mark.read_text())
    mark.write_text(json.dumps(values | {"format": values["format"] + 1}))
    with pytest.raises(ScenepaletteError, match="does not know"):
        make(tiny_config, run_dir)


@pytest.mark.slow
def test_weights_that_were_absent_are_used_once_they_are_there(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig, tmp_path: Path
) -> None:
    run_dir, weights = copy_of_run(), tmp_path / "inception.pth"
    config = changed(tiny_config, report={"inception_weights": weights})

    def stored() -> str:
        return json.loads((run_dir / "report/manifest.json").read_text())["settings"]["inception_weights"]

    for content in (b"first", None, b"first", b"second"):
        weights.write_bytes(content) if content is not None else weights.unlink()
        samples = 100 + len(content or b"")
        make(changed(config, report={"inception_weights": weights, "bootstrap_samples": samples}), run_dir)
        assert stored() == ("absent" if content is None else sha256_of_file(weights))


def test_edits_are_not_written_over_results(copy_of_run: Callable[..., Path], tmp_path: Path) -> None:
    run_dir = copy_of_run()
    before = contents(run_dir)
    for name in ("report/figures/arms.png", "images/oasis/new.png"):
        with pytest.raises(ScenepaletteError, match="holds results of a run"):
            write_edit("resample", run_dir, run_dir / name, {"draws": 2})
    assert contents(run_dir) == before
    for picture in (run_dir / "edits/resample.png", tmp_path / "resample.png"):
        write_edit("resample", run_dir, picture, {"draws": 2})
        assert picture.is_file()


def test_a_path_that_is_no_text_is_named_and_not_called_damage(
    copy_of_run: Callable[..., Path], tmp_path: Path
) -> None:
    run_dir = copy_of_run()
    moved = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9"))
    run_dir.rename(moved)
    for use in (lambda: Editor(moved), lambda: list(regenerate_rows(moved / "shards/full", ["0"]))):
        with pytest.raises(ScenepaletteError, match=r"no UTF-8.*nothing in it is damaged"):
            use()


def test_what_would_stop_an_extension_is_told_before_it(
    copy_of_run: Callable[..., Path], tiny_config: RunConfig
) -> None:
    run_dir = copy_of_run()
    folder = run_dir / "shards/full"
    stray = folder / "train-99999-of-99999.parquet"
    shutil.copy(folder / "train-00000-of-00003.parquet", stray)
    more = changed(tiny_config, generate={"pairs": 14})
    with pytest.raises(ScenepaletteError, match="Move them elsewhere"):
        make(more, run_dir, "shards")
    stray.unlink()
    shard = folder / "train-00001-of-00003.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(ScenepaletteError, match="shards regenerate"):
        make(more, run_dir, "shards")
    assert not (folder / ".scenepalette-new").exists() and len(list(folder.glob("*.parquet"))) == 3
    shard.write_bytes(content)
    make(more, run_dir, "shards")
    assert verify_shards(folder) == []


def test_a_missing_data_set_does_not_replace_the_known_one(
    data_set: Path, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    make(on_folder(tiny_recipe, data_set), run_dir, "data")
    make(on_folder(tiny_recipe, "/gone/forever"), run_dir, "data")
    assert f"there is no /gone/forever; this run uses what it read from {data_set}" in capsys.readouterr().err
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["data"]["root"] == str(data_set)


def test_the_same_command_serves_when_the_lender_is_gone(lender: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "borrower"
    make(borrowing(tiny_recipe, lender), run_dir, "images")
    lender.rename(tmp_path / "moved")
    changes = (f"models_from={lender}", "generate.pairs=6", "seed=5")
    config = load_config(str(tiny_recipe), changes, run_dir)
    assert Run(config, run_dir).missing(["images/oasis"]) == []
