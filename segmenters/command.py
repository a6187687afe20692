"""Segmenters that commands of the user's train and have predict: folders of images and label maps in and out."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Gt
from PIL import Image
from typing_extensions import Doc

from scenepalette.common.commands import command_problems, named_files, program_problem, run_command
from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.png import png_of
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.storage.files import temporary_folder, write_json
from scenepalette.data.arrays import PairSource, images_to_uint8
from scenepalette.data.classes import ClassTable
from scenepalette.data.decoding.image_opening import bits_of, open_image_content
from scenepalette.data.exports.exchange import CLASS_CSV, check_size, class_csv, contents_of, names_of, read_given
from scenepalette.training.settings import IDLE

TRAIN_REQUIRED = ("pairs", "model", "steps", "seed")
TRAIN_OFFERED = (*TRAIN_REQUIRED, "classes", "arm")
PREDICT_REQUIRED = ("images", "out", "model")
PREDICT_OFFERED = (*PREDICT_REQUIRED, "classes")
MODEL = "model"
"""Folder that a training fills, within that of its unit."""
TRAINED = "trained.json"
PAIRS = "pairs"
PAIR_LIST = "pairs.csv"
_AT_ONCE = 32
_MODES = ("L", "P")


@dataclass(frozen=True)
class TrainerSettings:
    """What trains the segmenters of all arms in place of the networks of this package."""

    train: Annotated[
        str, Doc("Command that trains a segmenter on a folder: with {pairs}, {model}, {steps} and {seed}.")
    ] = ""
    predict: Annotated[str, Doc("Command that predicts a folder of images: with {images}, {out} and {model}.")] = ""
    timeout: Annotated[float, IDLE, Gt(0), Doc("Seconds that a training, or the prediction of a split, may take.")] = (
        7 * 86400.0
    )


def trainer_problems(settings: TrainerSettings) -> list[str]:
    """Return what is wrong with the commands as texts, each beginning with its field; empty if none is given."""
    if not (settings.train or settings.predict):
        return []
    commands = {"train": (TRAIN_REQUIRED, TRAIN_OFFERED), "predict": (PREDICT_REQUIRED, PREDICT_OFFERED)}
    return [
        f"{field}: {text}"
        for field, (required, offered) in commands.items()
        for text in command_problems(getattr(settings, field), required=required, offered=offered)
    ]


def place_problems(settings: TrainerSettings) -> list[str]:
    """Return why the commands, which have no problems as texts, cannot be run on this machine."""
    found = {field: program_problem(getattr(settings, field)) for field in ("train", "predict")}
    return [f"{field}: {text}" for field, text in found.items() if text is not None]


def files_of(settings: TrainerSettings) -> Mapping[str, Path]:
    """Return what may be files among the words of both commands."""
    return named_files(settings.train) | named_files(settings.predict)


def train_by_command(
    folder: Path,
    settings: TrainerSettings,
    *,
    real: PairSource | None,
    synthetic: PairSource | None,
    table: ClassTable,
    steps: int,
    seed: int,
    arm: str,
    progress: Progress = NO_PROGRESS,
) -> None:
    """Have a segmenter trained; nothing is done if an earlier call has ended with one.

    The exported pairs are removed once it is trained; of a training that failed they stay, to try the command on.

    Args:
        folder: Receives `model/`, which the command fills, what it prints, and, last, `trained.json`.
        settings: The commands, without problems.
        real: Real pairs, or None.
        synthetic: Generated pairs, or None.
        table: Classes of all pairs.
        steps: Optimizer steps that the command is asked for.
        seed: Seed of the training.
        arm: Name of the arm.
        progress: Counts exported pairs.

    Raises:
        ScenepaletteError: The command fails, or leaves no model.
    """
    if (folder / TRAINED).is_file():
        return
    # Absolute, as a command may change its folder.
    pairs, model = (folder / PAIRS).absolute(), (folder / MODEL).absolute()
    shutil.rmtree(pairs, ignore_errors=True)
    model.mkdir(parents=True, exist_ok=True)
    _export(pairs, {"real": real, "generated": synthetic}, table, progress)
    values = {"pairs": pairs, "model": model, "steps": str(steps), "seed": str(seed), "arm": arm}
    values["classes"] = pairs / CLASS_CSV
    progress.start(f"segmenters.command.train for {arm}", 1)
    run_command(settings.train, values, timeout=settings.timeout, logs=folder, name="segmenters.command.train")
    progress.advance()
    progress.finish()
    if not any(path.is_file() for path in model.rglob("*")):
        raise ScenepaletteError(
            f"segmenters.command.train ended with exit status 0 and left no file in {model}. Have it write its model "
            "into {model}, and rerun the same command."
        )
    write_json(folder / TRAINED, {"steps": steps, "seed": seed})
    shutil.rmtree(pairs, ignore_errors=True)


def _export(folder: Path, domains: Mapping[str, PairSource | None], table: ClassTable, progress: Progress) -> None:
    """Write images/, labels/, classes.csv and pairs.csv, which says where each pair comes from."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / CLASS_CSV).write_bytes(class_csv(table))
    with (folder / PAIR_LIST).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["name", "origin", "id"])
        for origin, pairs in domains.items():
            if pairs is None:
                continue
            ids = list(pairs.ids)
            progress.start(f"exporting {origin} pairs", len(pairs))
            for number, (image, label) in enumerate(_each(pairs)):
                name = f"{origin}-{number:06d}.png"
                Image.fromarray(image).save(folder / "images" / name, compress_level=1)
                (folder / "labels" / name).write_bytes(png_of(label))
                rows.writerow([name, origin, ids[number]])
                progress.advance()
            progress.finish()


def _each(pairs: PairSource) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield image uint8 [H, W, 3] and label uint8 [H, W] of each pair."""
    for first in range(0, len(pairs), _AT_ONCE):
        images, labels = pairs.batch(range(first, min(first + _AT_ONCE, len(pairs))))
        yield from zip(images_to_uint8(images), labels.numpy().astype(np.uint8), strict=True)


def predict_by_command(model: Path, settings: TrainerSettings, pairs: PairSource, table: ClassTable) -> np.ndarray:
    """Have a trained segmenter label the images of pairs.

    Args:
        model: Folder that the training filled.
        settings: The commands, without problems.
        pairs: Pairs of which only the images are used.
        table: The classes.

    Returns:
        uint8 [N, H, W], class ids.

    Raises:
        ScenepaletteError: The command fails, or its predictions are not there, no label maps, or of another size.
    """
    names = names_of(len(pairs))
    with temporary_folder("predict") as folder:
        (folder / "images").mkdir()
        (folder / "out").mkdir()
        (folder / CLASS_CSV).write_bytes(class_csv(table))
        for name, (image, _) in zip(names, _each(pairs), strict=True):
            Image.fromarray(image).save(folder / "images" / f"{name}.png", compress_level=1)
        values = {
            "images": folder / "images",
            "out": folder / "out",
            "model": model.absolute(),
            "classes": folder / CLASS_CSV,
        }
        run_command(settings.predict, values, timeout=settings.timeout, logs=folder, name="segmenters.command.predict")
        return _labels(contents_of(folder / "out"), names, pairs.size, table)


def _labels(contents: Mapping[str, bytes], names: list[str], size: tuple[int, int], table: ClassTable) -> np.ndarray:
    def read(content: bytes) -> np.ndarray:
        with open_image_content(content) as image:
            bits = bits_of(image, content)
            # Of greys of fewer bits, Pillow multiplies the values.
            if image.format != "PNG" or image.mode not in _MODES or (image.mode == "L" and bits in (2, 4)):
                found = f"{image.format} of mode {image.mode}, {bits} bits"
                raise DataError(f"it is {found}; give a PNG of 8-bit class ids")
            check_size(image, size, "image")
            values = np.array(image)
        if (largest := int(values.max())) >= len(table):
            raise DataError(f"it holds {largest}; every pixel needs a class id, 0 to {len(table) - 1}")
        return values

    refusal = (
        "The predictions of segmenters.command.predict cannot be used; a label map of the same name and size is "
        "required for each image, and nothing else. Correct it, and rerun the same command; trained models stay."
    )
    return read_given(contents, names, read, refusal, (".png",))
