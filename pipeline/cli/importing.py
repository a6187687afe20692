"""The command `scenepalette import`: annotations of other tools become a folder that `data.name=folder` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scenepalette.pipeline.cli.options import given_path


def import_command(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder or file of annotations; for huggingface also a name.")
    ],
    format_name: Annotated[
        str,
        typer.Option(
            "--from", metavar="FORMAT", help="coco, voc, labelme, cvat, cityscapes-json, colours or huggingface."
        ),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to write; a new folder.", parser=given_path)],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the images; names are then enough.", parser=given_path)
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Class file: which classes, in which order.", parser=given_path)
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Class of pixels that no shape covers, or ignore.",
            show_default="background; unlabeled for cityscapes-json; ignore for panoptic",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Class whose pixels are ignored. May be given many times.")
    ] = None,
    crowds: Annotated[
        str | None, typer.Option(metavar="HOW", help="coco: ignore, class or skip.", show_default="ignore")
    ] = None,
    line_width: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="labelme, cvat: width of lines.", show_default="10")
    ] = None,
    colour_tolerance: Annotated[
        int | None, typer.Option(metavar="N", help="Label maps: largest difference of a channel.", show_default="0")
    ] = None,
    label_encoding: Annotated[
        str | None, typer.Option(metavar="HOW", help="Label maps: as data.label_encoding.", show_default="auto")
    ] = None,
    label_offset: Annotated[
        int | None, typer.Option(metavar="N", help="Label maps: is added to each value.", show_default="ask")
    ] = None,
    ignore_ids: Annotated[
        str | None, typer.Option(metavar="[N, ...]", help="Label maps: values without a class.", show_default="none")
    ] = None,
    label_folder: Annotated[
        str | None, typer.Option(metavar="NAME", help="voc, colours: folder of label maps, where several may be it.")
    ] = None,
    label_suffix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="voc, colours: what label maps' names have after their images'.")
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="Images with EXIF tags: stored or upright.", show_default="by size"),
    ] = None,
    image_column: Annotated[str | None, typer.Option(metavar="NAME", help="huggingface: column of images.")] = None,
    label_column: Annotated[str | None, typer.Option(metavar="NAME", help="huggingface: column of label maps.")] = None,
    subset: Annotated[str | None, typer.Option(metavar="NAME", help="huggingface: which configuration.")] = None,
    val_share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Part for validation, if the source has none.", show_default="0.2"),
    ] = None,
    val_seed: Annotated[
        int | None, typer.Option(metavar="N", help="Decides which part, where images are drawn.", show_default="0")
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Link images instead of copying them.")] = False,
    skip_problems: Annotated[
        bool, typer.Option("--skip-problems", help="Leave images with problems out, and list them.")
    ] = False,
) -> None:
    """Turn annotations of other tools into a folder of images and index masks.

    Shapes are drawn in the annotators' order, a later one above. All problems are listed, a line per kind; then nothing
    is written. DIR never holds half an import: rerun the same command after an interruption. docs/data/importing.md
    says what each format needs. For example:

        scenepalette import /data/coco --from coco --to /data/mine

        scenepalette import labelled/ --from labelme --to mine --ignore unsure --val-share 0.25

        scenepalette doctor camvid-cpu --set data.name=folder --set data.root=mine
    """
    from scenepalette.data.imports.importing import import_annotations
    from scenepalette.data.imports.source import ImportOptions
    from scenepalette.pipeline.cli.terminal.progress import shown_progress

    options = ImportOptions(
        images=images,
        classes=classes,
        background=background,
        ignore=tuple(ignore or ()),
        crowds=crowds,  # type: ignore[arg-type]  # checked with the others
        line_width=line_width,
        val_share=val_share,
        val_seed=val_seed,
        image_column=image_column,
        label_column=label_column,
        subset=subset,
        colour_tolerance=colour_tolerance,
        label_encoding=label_encoding,  # type: ignore[arg-type]  # checked with the others
        label_offset=label_offset,
        ignore_ids=_numbers_of(ignore_ids),
        label_folder=label_folder,
        label_suffix=label_suffix,
        orientation=orientation,  # type: ignore[arg-type]  # checked with the others
        link=link,
        skip_problems=skip_problems,
    )
    with shown_progress() as progress:
        made = import_annotations(source, format_name, to, options, progress=progress)
    for line in made.notes:
        typer.echo(f"Note: {line}", err=True)
    for line in made.problems:
        typer.echo(f"Left out: {line}", err=True)
    if not made.is_new:
        typer.echo(f"{made.folder} holds this import already; nothing was written.", err=True)
    pairs = ", ".join(f"{count} {split}" for split, count in made.pairs.items())
    typer.echo(f"Done: {made.folder} ({pairs}; {len(made.classes)} classes). Read it with data.name=folder.")


def _numbers_of(text: str | None) -> tuple[int, ...]:
    """Return the numbers of a list such as "[0, 4]" or "0,4".

    Raises:
        BadParameter: It is none.
    """
    try:
        return tuple(int(part) for part in (text or "").strip("[] ").split(",") if part.strip())
    except ValueError:
        raise typer.BadParameter(f"got {text!r}; required are numbers, such as [0, 4]") from None
