"""The commands `scenepalette edit ...`: images of edited scenes from the models of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scenepalette.common.errors import ConfigError

if TYPE_CHECKING:
    from scenepalette.pipeline.finished.scene_editor import Edit

edit_app = typer.Typer(
    no_args_is_help=True,
    help="Edit scenes with the models of a run, and write strips (.png) or animations (.gif, .webp).",
)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run, for example runs/demo.")]
ImageOption = Annotated[
    Path, typer.Option("--picture", metavar="FILE", help="What to write: .png for a strip, .gif or .webp to move.")
]
SampleOption = Annotated[str, typer.Option("--sample", metavar="ID", help="Sample, by its id or its number from 0.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Chooses the noise.")]
FramesOption = Annotated[int, typer.Option("--frames", min=2, max=200, help="Number of frames.")]
ClassOption = Annotated[str | None, typer.Option("--class", metavar="NAME", help="Only where the layout shows this.")]
BoxOption = Annotated[
    str | None,
    typer.Option("--box", metavar="T,L,H,W", help="Only inside this box: top, left, height, width in pixels."),
]


def read_box(text: str | None) -> tuple[int, int, int, int] | None:
    """Read top, left, height and width.

    Raises:
        ConfigError: The text is not four whole numbers.
    """
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"--box is {text!r}; write top, left, height and width in pixels, for example 0,24,64,48.")
    top, left, height, width = (int(part) for part in parts)
    return top, left, height, width


def read_changes(texts: list[str]) -> dict[str, float]:
    """Read factors on shares of classes.

    Raises:
        ConfigError: All texts that are not NAME=FACTOR, or name a class again.
    """
    changes: dict[str, float] = {}
    problems = []
    for text in texts:
        name, equals, factor = text.partition("=")
        name = name.strip()
        if name in changes:
            problems.append(f"{text!r}: {name} is changed twice")
        try:
            changes[name] = float(factor)
        except ValueError:
            equals = ""
        if not equals or not name:
            problems.append(f"{text!r}: write it as class=factor, for example pedestrian=2")
    if problems:
        raise ConfigError("Some --change options cannot be read.", problems)
    return changes


@edit_app.command()
def palettes(
    run_dir: RunArgument,
    picture: ImageOption,
    first: Annotated[str, typer.Option("--from", metavar="ID", help="Training sample whose palette begins.")] = "0",
    second: Annotated[str, typer.Option("--to", metavar="ID", help="Training sample whose palette ends.")] = "1",
    frames: FramesOption = 8,
    seed: SeedOption = 0,
) -> None:
    """Draw the scenes between the class shares of two training samples.

    For example:

        scenepalette edit palettes runs/demo --from 3 --to 40 --picture palettes.gif
    """
    _write("palettes", run_dir, picture, first=first, second=second, frames=frames, seed=seed)


@edit_app.command()
def noise(
    run_dir: RunArgument,
    picture: ImageOption,
    sample: SampleOption = "0",
    frames: FramesOption = 8,
    class_name: ClassOption = None,
    box: BoxOption = None,
    seed: SeedOption = 0,
) -> None:
    """Draw one layout under noise between two draws, everywhere or in a class or box alone.

    For example:

        scenepalette edit noise runs/demo --sample 5 --class road --picture road.webp
    """
    region = {"class_name": class_name, "box": read_box(box)}
    _write("noise", run_dir, picture, sample=sample, frames=frames, seed=seed, **region)


@edit_app.command()
def resample(
    run_dir: RunArgument,
    picture: ImageOption,
    sample: SampleOption = "0",
    draws: Annotated[int, typer.Option("--draws", min=2, max=200, help="Number of images.")] = 6,
    class_name: ClassOption = None,
    box: BoxOption = None,
    seed: SeedOption = 0,
) -> None:
    """Draw one layout several times with new noise, everywhere or in a class or box alone.

    For example:

        scenepalette edit resample runs/demo --sample 5 --class sky --picture skies.png
    """
    region = {"class_name": class_name, "box": read_box(box)}
    _write("resample", run_dir, picture, sample=sample, draws=draws, seed=seed, **region)


@edit_app.command()
def partial(
    run_dir: RunArgument,
    picture: ImageOption,
    change: Annotated[
        list[str] | None,
        typer.Option("--change", metavar="CLASS=FACTOR", help="Factor on a class's share. May be given many times."),
    ] = None,
    sample: SampleOption = "0",
    box: BoxOption = None,
    variants: Annotated[int, typer.Option("--variants", min=1, max=100, help="Number of different edits.")] = 4,
    seed: SeedOption = 0,
) -> None:
    """Generate a part of a real scene again with changed shares of classes; the strip begins with the real pair.

    Without --box the middle half is generated again. For example, twice as many pedestrians and less road:

        scenepalette edit partial runs/demo --sample 25 --change pedestrian=2 --change road=0.7 --picture edit.png
    """
    changes = read_changes(change or [])
    _write("partial", run_dir, picture, sample=sample, changes=changes, variants=variants, seed=seed, box=read_box(box))


@edit_app.command()
def autoencode(
    run_dir: RunArgument,
    picture: ImageOption,
    sample: SampleOption = "0",
    draws: Annotated[int, typer.Option("--draws", min=2, max=200, help="Number of images.")] = 4,
    seed: SeedOption = 0,
) -> None:
    """Predict the layout of a validation image and generate its image again; the strip begins with the real pair.

    For example:

        scenepalette edit autoencode runs/demo --sample 5 --picture again.png
    """
    _write("autoencode", run_dir, picture, sample=sample, draws=draws, seed=seed)


def _write(what: Edit, run_dir: Path, picture: Path, **options: Any) -> None:
    from scenepalette.pipeline.finished.scene_editor import write_edit

    write_edit(what, run_dir, picture, options)
    typer.echo(f"image: {picture}")
