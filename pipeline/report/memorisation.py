"""What a report says of whether generated images copy training images: numbers, sentences, the closest pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scenepalette.evaluation.images.memorisation import PERCENTILE, Memorisation
from scenepalette.pipeline.report.page import Block, Bullets, Heading, Text, figures_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SECTION = "memorisation"
"""Where figures of closest pairs belong."""
COLUMNS = 3  # pairs beside each other


@dataclass(frozen=True)
class ClosestPair:
    """A generated image and its nearest training image.

    Attributes:
        image: uint8 [H, W, 3].
        nearest: uint8 [H, W, 3], mirrored if its mirror image is nearer.
        row: Number of the row that holds the generated image.
        train_id: Id of the training image.
        distance: In units of the median validation image's.
        alike: Largest correlation of its thumbnail with one of a training image.
    """

    image: np.ndarray
    nearest: np.ndarray
    row: int
    train_id: str
    distance: float
    alike: float


@dataclass(frozen=True)
class CopyCheck:
    """What was measured of the images of one kind, and the pairs to show, the closest first."""

    measured: Memorisation
    closest: Sequence[ClosestPair]


def copy_document(check: CopyCheck) -> dict[str, Any]:
    """Return what report.json holds of a check."""
    measured = check.measured
    return {
        "network": measured.network,
        "images": len(measured.distances),
        "ratio": measured.ratio,
        "source_ratio": measured.source_ratio,
        "percentile": PERCENTILE,
        "nearer_share": measured.nearer_share,
        "precedence": measured.precedence,
        "near_copies": measured.near_copies,
        "validation_near_copies": measured.validation_near_copies,
        "copies": measured.copies,
        "closest": [
            {"row": pair.row, "train_id": pair.train_id, "distance": pair.distance, "alike": pair.alike}
            for pair in check.closest
        ],
    }


def copy_section(document: Mapping[str, Any]) -> list[Block]:
    """Return the part of the page on copies of training images; nothing if they were not looked for."""
    checks = document.get("memorisation") or {}
    if not checks:
        return []
    networks = {check["network"] for check in checks.values()}
    return [
        Heading("Does the generator copy?"),
        Bullets([sentence for kind, check in checks.items() for sentence in copy_sentences(kind, check)]),
        Text(
            "The distance of an image is that to the nearest training image, mirrored or not, by features of the "
            f"{' or the '.join(sorted(networks))}; validation images say how near real ones are that the generator has "
            "not seen. Validation images of other places or weather than the training images are further off, and the "
            "generator then seems nearer than it is: look at the pairs."
        ),
        *figures_of(document, SECTION),
    ]


def copy_sentences(kind: str, check: Mapping[str, Any]) -> list[str]:
    """Say in plain words whether the images of a kind copy training images."""
    far = "not comparable with" if check["ratio"] is None else f"{check['ratio']:.2g} times"
    numbers = (
        f"the median distance to the nearest training image is {far} that of validation images; "
        f"{100 * check['nearer_share']:.0f} % are nearer than all but {check['percentile']} % of validation images; "
        f"{100 * check['near_copies']:.0f} % are near-copies by their pixels, of validation images "
        f"{100 * check['validation_near_copies']:.0f} %."
    )
    if check["copies"]:
        sentences = [
            f"The generator copies: images of the kind {kind} repeat training images, so they add little that the "
            "training images lack, and must not be passed on where those must not be. Train the image generator for "
            f"fewer steps, or with images.augment=true and images.warp=0.05. Of {check['images']} images, {numbers}"
        ]
    else:
        sentences = [f"No sign of copies among {check['images']} images of the kind {kind}: {numbers}"]
    if check["source_ratio"] is not None:
        sentences.append(
            f"Images of the kind {kind} have the layouts of training images, which are therefore left out as their "
            f"nearest ones; their median distance to these is {check['source_ratio']:.2g} times that of validation "
            "images to their nearest training image."
        )
    return sentences


def draw_closest(pairs: Sequence[ClosestPair]) -> Figure:
    """Draw generated images, each with its nearest training image on the right."""
    from matplotlib.figure import Figure  # slow to import, and all that plans a run reads this module

    columns = min(COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    height, width = pairs[0].image.shape[:2]
    cell = 10.0 / columns
    figure = Figure(figsize=(10.0, rows * (cell / 2 * height / width + 0.35)), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in cells:
        axes.set_axis_off()
    for axes, pair in zip(cells, pairs, strict=False):
        axes.imshow(np.concatenate([pair.image, pair.nearest], axis=1), interpolation="nearest")
        axes.set_title(
            f"row {pair.row} | {pair.train_id[-24:]}\ndistance {pair.distance:.2f}, correlation {pair.alike:.2f}",
            fontsize=7,
            parse_math=False,
        )
    return figure
