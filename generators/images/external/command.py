"""The image system `command`: a program of the user's paints a folder of label maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Gt
from typing_extensions import Doc

from scenepalette.common.commands import command_problems, named_files, program_problem, run_command
from scenepalette.common.png import png_of
from scenepalette.common.storage.files import temporary_folder
from scenepalette.data.classes import ClassTable
from scenepalette.data.exports.exchange import CLASS_CSV, class_csv, contents_of, names_of
from scenepalette.generators.images.base import ImageSettings, ImageSystem
from scenepalette.generators.images.external.exchange import PaintedElsewhere, decoded_images
from scenepalette.training.settings import IDLE

REQUIRED = ("labels", "out")
OFFERED = (*REQUIRED, "seed", "classes", "seeds")
SEED_FILE = "seeds.csv"


@dataclass(frozen=True)
class CommandSettings(ImageSettings):
    """What runs, and for how long at most."""

    command: Annotated[
        str,
        Doc(
            "Of the system command: the program that paints a folder of labels, with {labels}, {out} and, if wanted, "
            "{seed}, {seeds}, {classes}."
        ),
    ] = ""
    timeout: Annotated[float, IDLE, Gt(0), Doc("Seconds that it may take for a batch.")] = 3600.0


class CommandGenerator(PaintedElsewhere):
    """Runs the command once for each batch."""

    def __init__(self, table: ClassTable, size: tuple[int, int], settings: CommandSettings) -> None:
        """Paint by a command at a height and width."""
        super().__init__(table, size)
        self.command, self.timeout = settings.command, settings.timeout

    def paint(self, labels: np.ndarray, seeds: list[int]) -> np.ndarray:
        """Run the command on a temporary folder of the labels."""
        names = names_of(len(labels))
        with temporary_folder("images") as folder:
            (folder / "labels").mkdir()
            (folder / "out").mkdir()
            for name, label in zip(names, labels, strict=True):
                (folder / "labels" / f"{name}.png").write_bytes(png_of(label))
            (folder / CLASS_CSV).write_bytes(class_csv(self.table))
            lines = [f"{name}.png,{seed}\n" for name, seed in zip(names, seeds, strict=True)]
            (folder / SEED_FILE).write_text("".join(["name,seed\n", *lines]), encoding="utf-8")
            values = {
                "labels": folder / "labels",
                "out": folder / "out",
                "seed": str(seeds[0]),
                "classes": folder / CLASS_CSV,
                "seeds": folder / SEED_FILE,
            }
            run_command(self.command, values, timeout=self.timeout, logs=folder, name="images.command")
            return decoded_images(contents_of(folder / "out"), names, self.size, "images.command")


def settings_problems(settings: CommandSettings) -> list[str]:
    """Return what is wrong with the command as a text."""
    if not settings.command.strip():
        return ['command: it is missing; give, for example, images.command="python paint.py {labels} {out} {seed}"']
    found = command_problems(settings.command, required=REQUIRED, offered=OFFERED)
    return [f"command: {text}" for text in found]


def place_problems(settings: CommandSettings) -> list[str]:
    """Return why the command, which has no problems as a text, cannot be run on this machine."""
    problem = program_problem(settings.command)
    return [] if problem is None else [f"command: {problem}"]


def files_of(settings: CommandSettings) -> Mapping[str, Path]:
    """Return what may be files among the command's words."""
    return named_files(settings.command)


COMMAND = ImageSystem(
    name="command",
    paper="a program of your own, given as images.command",
    settings=CommandSettings,
    build_generator=CommandGenerator,
    build_objective=None,
    settings_problems=settings_problems,
    place_problems=place_problems,
    named_files=files_of,
)
