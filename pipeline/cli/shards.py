"""The commands `scenepalette shards ...`: look at, check, repair and pass on folders of finished shards."""

from __future__ import annotations

import io
import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scenepalette.common.errors import ConfigError, DataError
from scenepalette.pipeline.cli.options import folder_or_url, given_path
from scenepalette.pipeline.cli.terminal.streams import FAILED
from scenepalette.pipeline.cli.terminal.tables import print_table

if TYPE_CHECKING:
    from scenepalette.data.shards.checking import Problem
    from scenepalette.data.shards.schema import Row

SHOWN_IDS = 5
SHOWN_SHARDS = 20

shards_app = typer.Typer(no_args_is_help=True, help="Look at, check, repair and export folders of finished shards.")

_ONE_KIND = "Folder of one kind of shards, for example runs/demo/shards/full"
FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help=f"{_ONE_KIND}.", parser=given_path)]
# Any, as a command line has no arguments of two types: a path, or a URL as a text.
PlaceArgument = Annotated[
    Any, typer.Argument(metavar="FOLDER", help=f"{_ONE_KIND}, or the URL of one.", parser=folder_or_url)
]


@shards_app.callback()
def _printable() -> None:
    """Let paths be printed that are no text in the terminal's encoding, as the bytes that they are."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")


@shards_app.command()
def verify(
    folder: PlaceArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    mend: Annotated[
        bool, typer.Option("--mend", help="Write a changed card (README.md) or Croissant file again from the manifest.")
    ] = False,
) -> None:
    """Check every file, row, image and palette against the manifest and the schema.

    All problems are listed, each with file, row and id, and then what repairs them; the exit status is 1 if there is
    one. A changed card or Croissant file is a warning: the rows do not depend on it. For example:

        scenepalette shards verify runs/demo/shards/full

        scenepalette shards verify runs/demo/shards/full --json

        scenepalette shards verify runs/demo/shards/full --mend
    """
    from scenepalette.data.cards.documents import mend_documents
    from scenepalette.data.shards.checking import find_problems, find_warnings
    from scenepalette.data.shards.manifest import absence_of

    if mend and not isinstance(folder, Path):
        raise ConfigError(f"--mend writes into the folder, which {folder} is not. Mend the folder that was pushed.")
    named, folder = folder, _on_this_machine(folder)
    absent = absence_of(folder)
    if absent and not as_json:
        raise DataError(absent)
    repaired = mend_documents(folder) if mend and not absent else []
    warnings, problems = find_warnings(folder), find_problems(folder)
    if as_json:
        count = _print_json(folder, problems, warnings)
    else:
        for text in repaired:
            typer.echo(f"Repaired: {text}")
        count = _print_problems(named, folder, problems, warnings)
    if count:
        raise typer.Exit(FAILED)


# Problems are told as they are found: however many there are, they are not held.
def _print_json(folder: Path, problems: Iterable[Problem], warnings: Sequence[str]) -> int:
    typer.echo(f'{{"folder": {json.dumps(str(folder))}, "problems": [', nl=False)
    count = 0
    for problem in problems:
        typer.echo(("," if count else "") + "\n" + json.dumps(asdict(problem)), nl=False)
        count += 1
    typer.echo(f'], "count": {count}, "warnings": {json.dumps(warnings)}, "ok": {json.dumps(count == 0)}}}')
    return count


def _print_problems(named: Path | str, folder: Path, problems: Iterable[Problem], warnings: Sequence[str]) -> int:
    for text in warnings:
        typer.echo(f"Warning: {text}", err=True)
    if warnings:
        command = f"scenepalette shards verify {shlex.quote(str(folder))} --mend"
        typer.echo(f"The rows do not depend on it. To write it again from the manifest: {command}", err=True)
    count, files = 0, set[str | None]()
    for problem in problems:
        typer.echo(f"  - {problem}", err=True)
        count += 1
        files.add(problem.file)
    if count:
        typer.echo(f"Error: {folder} has {count} problem(s).\n{_remedy(folder, files)}", err=True)
    else:
        from scenepalette.data.shards.manifest import read_manifest

        manifest = read_manifest(folder)
        typer.echo(
            f"{named}: {manifest['rows']} pairs in {len(manifest['shards'])} shard(s), all as they were written."
        )
    return count


@shards_app.command()
def show(
    folder: PlaceArgument,
    row: Annotated[str | None, typer.Option("--id", metavar="ID", help="Show this pair alone.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="PNG", help="Write images and label maps into this image.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Pairs in the image.")] = 16,
) -> None:
    """Say what a folder of shards holds, and draw some of its pairs.

    For example:

        scenepalette shards show runs/demo/shards/full --picture full.png

        scenepalette shards show runs/demo/shards/full --id full-1a2b3c4d-00000003
    """
    from scenepalette.data.shards.manifest import read_manifest, table_of_manifest
    from scenepalette.data.shards.places import ShardPlace

    manifest = read_manifest(ShardPlace(folder).folder)
    table = table_of_manifest(manifest)
    if row is None:
        _show_folder(folder, manifest, table.names)
    else:
        _show_row(folder, row, table.names)
    if picture is not None:
        import numpy as np

        from scenepalette.common.png import png_of
        from scenepalette.common.storage.files import write_atomically
        from scenepalette.data.shards.reading import contact_sheet, read_row

        if row is None:
            pixels = np.asarray(contact_sheet(folder, count))
        else:
            pair = read_row(folder, row)
            pixels = np.concatenate([pair.image, table.colorize(pair.label)])
        write_atomically(picture, png_of(pixels))
        typer.echo(f"image: {picture}")


@shards_app.command()
def regenerate(
    folder: FolderArgument,
    row: Annotated[
        list[str] | None, typer.Option("--row", metavar="ID_OR_INDEX", help="Row to make. May be given many times.")
    ] = None,
    shard: Annotated[
        list[str] | None,
        typer.Option("--shard", metavar="NAME", help="Damaged shard to repair in place. May be given many times."),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="RUN_DIR", help="The run that made the folder.", show_default="the one it lies in"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="OUT", help="Write image and label of each row into this folder.")
    ] = None,
) -> None:
    """Make rows again with the models that made them, and compare; or repair damaged shards.

    The run directory must be as it was: the same settings, code versions and weights. The exit status is 1 if a stored
    row differs. For example:

        scenepalette shards regenerate runs/demo/shards/full --row 3 --row 7 --out again

        scenepalette shards regenerate runs/demo/shards/full --shard train-00000-of-00003.parquet
    """
    if not row and not shard:
        raise ConfigError("Nothing to make again. Name rows with --row, or damaged shards with --shard.")
    if out is not None and not row:
        raise ConfigError("--out takes the images of rows; name them with --row, or leave it out.")
    from scenepalette.pipeline.cli.terminal.progress import shown_progress
    from scenepalette.pipeline.finished.regenerate import (
        LAST_BITS,
        MORE_THAN_LAST_BITS,
        regenerate_rows,
        regenerate_shards,
    )

    if shard:
        with shown_progress() as progress:
            repaired = regenerate_shards(folder, shard, run_dir, progress)
        for name in dict.fromkeys(shard):
            typer.echo(f"{name}: {'made again, as the manifest says' if name in repaired else 'as it was written'}")
    explanations: dict[str, list[str]] = {LAST_BITS: [], MORE_THAN_LAST_BITS: []}
    for made in regenerate_rows(folder, row, run_dir, out) if row else ():
        typer.echo(f"{made.id} ({made.shard}): {'differs' if made.differences else 'equal, byte for byte'}")
        for text in made.differences:
            typer.echo(f"  - {text}")
        if made.differences:
            explanations[LAST_BITS if made.slight else MORE_THAN_LAST_BITS].append(made.id)
        if made.files:
            typer.echo(f"  {', '.join(map(str, made.files))}")
    for text, ids in explanations.items():
        if ids:
            typer.echo(f"{', '.join(ids)}: {text}")
    if any(explanations.values()):
        raise typer.Exit(FAILED)


@shards_app.command()
def export(
    folder: PlaceArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="FORMAT", help="images, coco, webdataset, mmseg, fiftyone, yolo-seg or huggingface."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="OUT", help="Where to write; a folder of its own.", parser=given_path)
    ],
    rows_per_tar: Annotated[
        int | None, typer.Option("--rows-per-tar", min=1, help="Pairs per tar, for webdataset.", show_default="1000")
    ] = None,
) -> None:
    """Write pairs in the form of other tools: image folders, COCO, WebDataset, MMSegmentation, FiftyOne, YOLO, the Hub.

    An image folder can be read back with data.name=folder. OUT never holds half an export: after an interruption,
    rerun the same command.
    For example:

        scenepalette shards export runs/demo/shards/full --to coco --out exports/coco
    """
    from scenepalette.data.exports.exporting import export_shards
    from scenepalette.pipeline.cli.terminal.progress import shown_progress

    folder = _on_this_machine(folder)
    with shown_progress() as progress:
        export_shards(folder, to, out, rows_per_tar=rows_per_tar, progress=progress)
    typer.echo(f"Done: {out}")


@shards_app.command("filter")
def filter_command(
    folder: PlaceArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where to write; a folder of its own.", parser=given_path)],
    where: Annotated[
        str | None, typer.Option("--where", metavar="EXPRESSION", help="A DuckDB expression; rows of which it is true.")
    ] = None,
    select: Annotated[
        int | None,
        typer.Option("--select", min=1, metavar="N", help="Of these the best N, every class at its asked share."),
    ] = None,
    quality: Annotated[
        Path | None,
        typer.Option("--quality", metavar="FILE", help="Scores of the rows.", show_default="those of the run"),
    ] = None,
    at_least: Annotated[
        int | None, typer.Option("--at-least", min=1, help="Fewer rows are refused.", show_default="N, or 16")
    ] = None,
) -> None:
    """Write some of the pairs as a set of their own, chosen by their columns and by what teachers think of them.

    Columns are those of the shards but image and label, and the scores that a run keeps in quality/KIND/ of kinds in
    teachers.kinds or of trusted arms. The exit status is 1 if too few rows are left. For example:

        scenepalette shards filter runs/demo/shards/full good --where "trusted > 0.6 and not copy"

        scenepalette shards filter runs/demo/shards/full best --select 200
    """
    from scenepalette.pipeline.cli.terminal.progress import shown_progress
    from scenepalette.pipeline.finished.filtering import filter_shards

    folder = _on_this_machine(folder)
    with shown_progress() as progress:
        found = filter_shards(
            folder, out, where=where, select=select, quality=quality, at_least=at_least, progress=progress
        )
    for name, (share, asked) in found.short.items():
        typer.echo(f"{name}: {100 * share:.2f} % of the pixels, asked for {100 * asked:.2f} %", err=True)
    typer.echo(f"Done: {found.rows} of {found.of} pairs in {out}")


def _on_this_machine(folder: Path | str) -> Path:
    """Return a folder of shards; that of a URL is copied first."""
    if isinstance(folder, Path):
        return folder
    from scenepalette.data.shards.places import local_shards
    from scenepalette.pipeline.cli.terminal.progress import shown_progress

    with shown_progress() as progress:
        return local_shards(folder, progress)


def _remedy(folder: Path, files: set[str | None]) -> str:
    """Say what repairs a folder; `files` names the shards with problems, but for those that are no files at all."""
    from scenepalette.data.shards.manifest import GIVE_ONE_KIND, read_manifest, stray_problems
    from scenepalette.pipeline.finished.regenerate import is_whole, run_around

    try:
        manifest = read_manifest(folder)
    except DataError:
        if not any(folder.glob("*.parquet")):
            return f"There are no shards in it. {GIVE_ONE_KIND}"
        return (
            "Without its manifest no shard can be made again: copy manifest.json or the whole folder again, or ask "
            "whoever made it."
        )
    changed = [
        shard["name"]
        for shard in manifest["shards"]
        if (shard["name"] in files or not (folder / shard["name"]).is_file())
        and not is_whole(folder / shard["name"], shard["sha256"])
    ]
    if not changed:
        if None in files and stray_problems(folder, manifest):
            return "The shards are those of the manifest: move what does not belong to them out of the folder."
        return (
            "The shards are those of the manifest, so that they were written like this: regenerating them will "
            "not help. Contact the author."
        )
    run = run_around(folder)
    shards = " ".join(f"--shard {name}" for name in changed[:SHOWN_SHARDS])
    more = f" and so on, {len(changed)} shards in all" if len(changed) > SHOWN_SHARDS else ""
    command = f"scenepalette shards regenerate {shlex.quote(str(folder))}"
    if run is not None:
        return f"To make damaged shards again: {command} {shards}{more}"
    return (
        "Copy the damaged shards again, or ask whoever made them; with the run that made them: "
        f"{command} --run RUN_DIR {shards}{more}"
    )


def _show_folder(folder: Path | str, manifest: dict[str, Any], names: tuple[str, ...]) -> None:
    import itertools

    from scenepalette.data.cards.dataset_card import label_origins_of
    from scenepalette.data.shards.manifest import licence_of
    from scenepalette.data.shards.reading import iterate_rows

    typer.echo(
        f"{manifest['rows']} {manifest['kind']} pairs, {len(manifest['shards'])} shard(s), {manifest['bytes']} B"
    )
    typer.echo(f"source: {manifest['source']['name']} ({licence_of(manifest)})")
    typer.echo(f"labels: {label_origins_of(manifest)}")
    typer.echo(f"classes: {', '.join(names)}")
    ids = [pair.id for pair in itertools.islice(iterate_rows(folder), SHOWN_IDS)]
    typer.echo(f"first ids: {', '.join(ids)}")


def _show_row(folder: Path | str, row: str, names: tuple[str, ...]) -> None:
    from scenepalette.data.shards.reading import read_row

    pair = read_row(folder, row)
    _check_shown(folder, pair, len(names))
    typer.echo(f"{pair.id}: {pair.image.shape[0]}x{pair.image.shape[1]}, kind {pair.kind}, seed {pair.seed}")
    if pair.source_id is not None:
        typer.echo(f"real sample: {pair.source_id}")
    if pair.edit_box is not None:
        typer.echo("generated again (top, left, height, width): {}, {}, {}, {}".format(*pair.edit_box))
    if pair.inserted_classes:
        typer.echo(f"inserted: {', '.join(pair.inserted_classes)}")
    shares = zip(names, pair.palette_target, pair.palette_achieved, strict=True)
    print_table(
        ["class", "asked for, %", "achieved, %"],
        [[name, f"{100 * asked:.1f}", f"{100 * achieved:.1f}"] for name, asked, achieved in shares],
    )


def _check_shown(folder: Path | str, pair: Row, num_classes: int) -> None:
    """Raise a DataError if a damaged row has not the lengths and sizes that it is shown by."""
    palettes = {"palette_target": pair.palette_target, "palette_achieved": pair.palette_achieved}
    problems = [
        f"{name} has {len(palette)} shares, the manifest {num_classes} classes"
        for name, palette in palettes.items()
        if len(palette) != num_classes
    ]
    if pair.edit_box is not None and len(pair.edit_box) != 4:
        problems.append(f"edit_box has {len(pair.edit_box)} numbers, not 4")
    if pair.image.shape[:2] != pair.label.shape:
        problems.append(f"the image is {list(pair.image.shape[:2])} and the label {list(pair.label.shape)}")
    if problems:
        raise DataError(
            f"Row {pair.id!r} in {folder} is damaged and cannot be shown. `scenepalette shards verify {folder}` names "
            "all such rows and says how to repair them.",
            problems,
        )
