"""Damaged data sets and configurations: every one is refused in words by readers, loading and doctor alike."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from labelled_folders import png_file
from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.data.datasets import open_dataset
from scenepalette.pipeline.checks.preflight import settings_problems
from scenepalette.pipeline.config import RunConfig, load_config
from scenepalette.pipeline.doctor.examine import examine
from scenepalette.pipeline.doctor.page import to_html, to_markdown, to_text
from scenepalette.pipeline.request import Request
from scenepalette.pipeline.run import units_of

HEIGHT, WIDTH = 16, 24
CLASSES = "name,red,green,blue\nroad,128,64,128\ncar,0,0,142\nsky,70,130,180\n"
IMAGE, LABEL = "train/images/a.png", "train/labels/a.png"


def image(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def label(top: int = 3, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """Ids 0 to top - 1 in turns."""
    return Image.fromarray((np.arange(height * width) % top).astype(np.uint8).reshape(height, width))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    for split, names in {"train": "abc", "val": "de"}.items():
        for folder in ("images", "labels"):
            (root / split / folder).mkdir(parents=True)
        for name in names:
            image(ord(name)).save(root / split / "images" / f"{name}.png")
            label().save(root / split / "labels" / f"{name}.png")
    (root / "classes.csv").write_text(CLASSES)
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "root"))


Damage = Callable[[Path], object]


def cut(name: str, kept: float) -> Damage:
    def damage(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * kept)])

    return damage


def flip(name: str, place: float) -> Damage:
    """Flip a bit of the pixels, which have a checksum."""

    def damage(root: Path) -> None:
        content = bytearray((root / name).read_bytes())
        first = content.index(b"IDAT") + 4
        content[first + int((len(content) - 20 - first) * place)] ^= 4
        (root / name).write_bytes(content)

    return damage


def content(name: str, text: bytes | str) -> Damage:
    return lambda root: (root / name).write_bytes(text.encode() if isinstance(text, str) else text)


def saved(name: str, picture: Image.Image, kind: str = "PNG", **options: object) -> Damage:
    return lambda root: picture.save(root / name, kind, **options)


def removed(name: str) -> Damage:
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def moved(name: str, other: str) -> Damage:
    return lambda root: (root / name).rename(root / other)


def linked(name: str, target: str) -> Damage:
    def damage(root: Path) -> None:
        (root / name).unlink()
        (root / name).symlink_to(target)

    return damage


def pipe(root: Path) -> None:
    (root / IMAGE).unlink()
    os.mkfifo(root / IMAGE)


def folder(root: Path) -> None:
    (root / LABEL).unlink()
    (root / LABEL).mkdir()


def bomb(name: str) -> Damage:
    return content(name, png_file((60_000, 60_000), 8, [bytes(999_999)]))


def jpeg(seed: int = 0, quality: int = 95) -> bytes:
    buffer = io.BytesIO()
    image(seed, 64, 64).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


WIDE = np.full((HEIGHT, WIDTH), 700, np.uint16)
COLOURED = Image.fromarray(np.array([[128, 64, 128], [0, 0, 142]], np.uint8)[np.arange(HEIGHT * WIDTH) % 2].reshape(
    HEIGHT, WIDTH, 3))  # fmt: skip

DATA: dict[str, tuple[Damage, str]] = {
    **{f"image cut at {kept}": (cut(IMAGE, kept), "files") for kept in (0.0, 0.01, 0.3, 0.9, 0.995)},
    **{f"label cut at {kept}": (cut(LABEL, kept), "files") for kept in (0.0, 0.1, 0.5, 0.9)},
    **{f"image bit at {place}": (flip(IMAGE, place), "files") for place in (0.05, 0.3, 0.6, 0.95)},
    **{f"label bit at {place}": (flip(LABEL, place), "files") for place in (0.1, 0.5, 0.9)},
    "validation image cut": (cut("val/images/d.png", 0.5), "files"),
    "image is text": (content(IMAGE, "no image"), "files"),
    "image is a web page": (content(IMAGE, "<!doctype html><title>404</title>"), "files"),
    "image is a pointer file": (
        content(IMAGE, "version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "image format",
    ),
    "image is a HEIC": (content(IMAGE, b"\0\0\0\x18ftypheic" + bytes(40)), "image format"),
    "image is zeros": (content(IMAGE, bytes(4000)), "files"),
    "image is an EPS": (saved(IMAGE, image(), "EPS"), "image format"),
    "label is a Photoshop file": (content(LABEL, b"8BPS" + bytes(40)), "image format"),
    "image of 16 bits": (saved(IMAGE, Image.fromarray(WIDE)), "image format"),
    "image too large": (bomb(IMAGE), "files"),
    "label too large": (bomb(LABEL), "files"),
    "image is a pipe": (pipe, "files"),
    "image is a device": (linked(IMAGE, "/dev/zero"), "files"),
    "image links to itself": (linked(IMAGE, "a.png"), "files"),
    "image links nowhere": (linked(IMAGE, "gone.png"), "files"),
    "label is a folder": (folder, "files"),
    "image JPEG cut": (
        lambda root: [removed(IMAGE)(root), content("train/images/a.jpg", jpeg()[:900])(root)], "files"),
    "image without label": (removed(LABEL), "pairing"),
    "label without image": (removed(IMAGE), "pairing"),
    "label of another name": (moved(LABEL, "train/labels/z.png"), "pairing"),
    "two images for a label": (content("train/images/a.jpg", jpeg()), "pairing"),
    "no images": (lambda root: [removed(f"train/images/{name}.png")(root) for name in "abc"], "pairing"),
    "an empty split": (
        lambda root: [removed(f"val/{part}/{name}.png")(root) for name in "de" for part in ("images", "labels")],
        "pairing"),
    "label narrower": (saved(LABEL, label(width=WIDTH - 1)), "sizes"),
    "label turned": (saved(LABEL, label(height=WIDTH, width=HEIGHT)), "sizes"),
    "label doubled": (saved(LABEL, label(height=2 * HEIGHT, width=2 * WIDTH)), "sizes"),
    "label of one pixel": (saved(LABEL, label(height=1, width=1)), "sizes"),
    "image and label swapped": (lambda root: [moved(IMAGE, "x")(root), moved(LABEL, IMAGE)(root),
                                              moved("x", LABEL)(root)], "label files"),
    "label in colours of no class": (saved(LABEL, COLOURED.point(lambda value: value ^ 5)), "label files"),
    "labels wholly ignored": (
        lambda root: [saved(f"train/labels/{n}.png", label().point(lambda value: 255))(root) for n in "abc"],
        "label values"),
    "label as JPEG": (saved(LABEL, label(), "JPEG"), "label files"),
    "label of 2 bits": (saved(LABEL, label().convert("P").quantize(3), bits=2), ""),
    "label of a class too many": (saved(LABEL, label(4)), "label values"),
    "label counted from 1": (saved(LABEL, label().point(lambda value: value + 1)), "label values"),
    "label times 100": (saved(LABEL, label().point(lambda value: value * 100)), "reading of labels"),
    "label of 16 bits beyond 255": (saved(LABEL, Image.fromarray(WIDE)), "label values"),
    "label is a photograph in grey": (saved(LABEL, image().convert("L")), "label values"),
    "no class file": (removed("classes.csv"), "data set"),
    "two class files": (content("classes.yaml", "[]"), "data set"),
    "class file empty": (content("classes.csv", ""), "data set"),
    "class file cut": (content("classes.csv", CLASSES[:40]), "data set"),
    "class file no text": (content("classes.csv", b"\xff\xfe\x00"), "data set"),
    "class file of one class": (content("classes.csv", "name,red,green,blue\nroad,1,1,1\n"), "data set"),
    "class file of a class twice": (content("classes.csv", CLASSES + "car,1,1,1\n"), "data set"),
    "class file of the wrong columns": (content("classes.csv", CLASSES.replace("red", "rot")), "data set"),
    "class file of wrong colours": (content("classes.csv", CLASSES.replace("142", "many")), "data set"),
    "class file too large": (content("classes.csv", CLASSES + "x,1,1,1\n" * 10**5), "data set"),
    "class file links out": (linked("classes.csv", "/etc/passwd"), "data set"),
    "no training folder": (removed("train"), "data set"),
    "no label folder": (removed("val/labels"), "data set"),
    "labels is a file": (lambda root: [removed("val/labels")(root), content("val/labels", "")(root)], "data set"),
}  # fmt: skip
# Indices of a palette are ids, whatever its colours and bits: not damage.
del DATA["label of 2 bits"]


def request(root: Path, *changes: str) -> Request:
    values = {"recipe": "demo", "data": {"name": "folder", "root": str(root), "size": [32, 48]}}
    path = root.parent / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return Request(str(path), changes, root.parent / "run")


@pytest.fixture(scope="module")
def config_of_whole(whole: Path) -> RunConfig:
    """Checked once: building its networks takes longer than everything else here."""
    asked = request(whole)
    return load_config(asked.recipe, asked.overrides)


@pytest.mark.damaged
@pytest.mark.parametrize("case", DATA)
def test_damaged_data_is_refused_by_the_reader_and_named_by_the_doctor(
    case: str, root: Path, config_of_whole: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, expected = DATA[case]
    damage(root)
    data = config_of_whole.data.model_copy(update={"root": root})
    config = config_of_whole.model_copy(update={"data": data})
    monkeypatch.setattr("scenepalette.pipeline.doctor.examine.load_config", lambda *_: config)
    with pytest.raises(ScenepaletteError):
        for split in ("train", "val"):
            open_dataset("folder", split, root)  # type: ignore[arg-type]
    diagnosis = examine(request(root), measured=False)
    assert diagnosis.failed() and not (root.parent / "run").exists()
    assert expected in {check.name for check in diagnosis.of("problem")}, to_text(diagnosis)
    for page in (to_text(diagnosis), to_markdown(diagnosis), to_html(diagnosis)):
        assert "Traceback" not in page and page.encode()


def test_the_data_set_of_these_cases_is_in_order_without_damage(root: Path) -> None:
    diagnosis = examine(request(root), measured=False)
    assert not diagnosis.failed(), to_text(diagnosis)
    assert diagnosis.failed(strict=True)  # three samples are few


def test_two_hints_of_the_doctor_reach_the_page(root: Path) -> None:
    for name in "abc":
        COLOURED.point(lambda value: value ^ 5).save(root / "train/labels" / f"{name}.png")
    label().point(lambda value: value * 100).save(root / "val/labels/d.png")
    text = " ".join(to_text(examine(request(root), measured=False)).split())
    assert "different colours, of no known class table" in text
    assert "multiplied by 100" in text


TINY = "recipe: demo\ndata: {size: [32, 48]}\n"
CONFIGS: dict[str, bytes] = {
    name: text if isinstance(text, bytes) else text.encode()
    for name, text in {
        "empty": "",
        "a number": "7",
        "a list": "[1, 2]",
        "no YAML": "data: [",
        "tabs": "data:\n\tname: streets",
        "no text": b"\xff\xfe\x00\x01",
        "a zero": "recipe: demo\0",
        "cut": TINY[:-5],
        "key twice": TINY + "seed: 1\nseed: 2\n",
        "unknown section": TINY + "model: 1\n",
        "unknown key": TINY + "images: {step: 5}\n",
        "unknown recipe": "recipe: demi\n",
        "recipe is a list": "recipe: [demo]\n",
        "keys are numbers": TINY + "5: 1\n",
        "keys are dates": TINY + "2020-01-01: 1\n",
        "section is a text": "recipe: demo\ndata: streets\n",
        "section is nothing": "recipe: demo\nimages:\n",
        "text for a number": TINY + "seed: many\n",
        "negative": TINY + "seed: -1\n",
        "NaN": TINY + "finetune: {layout_weight: .nan}\n",
        "infinite": TINY + "segmenters: {learning_rate: .inf}\n",
        "infinite in a system": TINY + "images: {systems: {oasis: {generator_learning_rate: .inf}}}\n",
        "size of 0": "recipe: demo\ndata: {size: [0, 48]}\n",
        "size beyond bounds": "recipe: demo\ndata: {size: [3000000000, 4000000000]}\n",
        "size not reached": "recipe: demo\ndata: {size: [32, 1024]}\n",
        "sizes of three": "recipe: demo\ndata: {size: [32, 48, 3]}\n",
        "scenes beyond bounds": "recipe: demo\ndata: {size: [32, 48], train_scenes: 9999999999}\n",
        "shards beyond bounds": TINY + "generate: {pairs: 100000000000000000000, rows_per_shard: 1}\n",
        "widths beyond bounds": TINY + "images: {systems: {oasis: {width: 100000000000000000000}}}\n",
        "laughs": TINY + "x0: &x0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
            f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 9)),
        "deep": "recipe: " + "[" * 10_000,
        "an alias of itself": "&a {recipe: *a}",
        "code": "!!python/object/apply:os.abort []",
        "too large": TINY + "#" * 300_000,
        "a date that is none": TINY + "seed: 2020-13-45\n",
        "no root": "recipe: demo\ndata: {name: folder, size: [32, 48]}\n",
        "a root that is none": "recipe: demo\ndata: {name: folder, size: [32, 48], root: /no/such/folder}\n",
        "a root of 5000 characters": f"recipe: demo\ndata: {{name: folder, size: [32, 48], root: {'x' * 5000}}}\n",
        "an unknown data set": "recipe: demo\ndata: {name: kitti}\n",
        "an unknown arm": TINY + "segmenters: {arms: [real, unreal]}\n",
    }.items()
}  # fmt: skip


@pytest.mark.damaged
@pytest.mark.parametrize("case", CONFIGS)
def test_a_damaged_configuration_is_refused_before_a_run_and_by_the_doctor(case: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(CONFIGS[case])
    with pytest.raises(ConfigError) as caught:
        config = load_config(str(path))
        raise ConfigError("It cannot be run.", settings_problems(config, units_of(config).values()))
    str(caught.value).encode()
    diagnosis = examine(Request(str(path)), measured=False)
    (check,) = diagnosis.checks
    assert (check.name, check.status, check.details) == ("configuration", "problem", caught.value.problems)


def test_at_least_70_damaged_inputs_are_tried() -> None:
    assert len(DATA) + len(CONFIGS) >= 70
