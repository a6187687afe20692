"""Whether the generated images of a run copy its training images, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from scenepalette.data.arrays import PairSource, images_to_uint8
from scenepalette.data.shards.pairs import FirstPairs
from scenepalette.data.shards.reading import tables_of_folder
from scenepalette.data.shards.schema import as_text
from scenepalette.evaluation.images.encoder_features import load_encoder_features
from scenepalette.evaluation.images.features import SegmenterFeatures
from scenepalette.evaluation.images.memorisation import Described, describe, memorisation
from scenepalette.generators.images.base import FeatureNetwork
from scenepalette.pipeline.report.memorisation import ClosestPair, CopyCheck
from scenepalette.pipeline.stages.segment import EVALUATION_BATCH
from scenepalette.pipeline.units.workspace import Workspace

SHOWN = 9


def check_copies(
    run: Workspace, shards: Mapping[str, FirstPairs], count: int, segmenter: nn.Module
) -> dict[str, CopyCheck]:
    """Compare generated images with the training images they may repeat.

    Kinds whose rows have a box are left out: outside it they are to be like their source.

    Args:
        run: The run, all of whose pairs are made.
        shards: Its pairs by kind.
        count: Rows of each kind that are looked at.
        segmenter: Trained on the real pairs, whose encoder gives the features unless the configuration names another.
    """
    images, fabric, progress = run.config.images, run.fabric, run.progress
    train, validation = run.segmenter_data.train, run.segmenter_data.validation
    sources = {
        kind: _sources(run.run_dir / run.config.generate.unit_of_pairs(kind), count, train.ids) for kind in shards
    }
    chosen = {kind: found for kind, found in sources.items() if found is not None}
    if not chosen:
        return {}
    network: FeatureNetwork = SegmenterFeatures(segmenter)
    name = "encoder of the segmenter trained on real pairs"
    if images.perceptual_encoder_weights is not None:
        network = load_encoder_features(images.perceptual_encoder, images.perceptual_encoder_weights)
        name = network.description
    fabric.to_device(network).eval()

    def described(pairs: PairSource, what: str, mirrored: bool = False) -> Described:
        return describe(
            pairs, network, EVALUATION_BATCH, fabric, progress, mirrored=mirrored, description=f"Nearness of {what}"
        )

    known, turned = described(train, "training images"), described(train, "mirrored training images", True)
    fresh, checks = described(validation, "validation images"), {}
    for kind, found in chosen.items():
        pairs = FirstPairs(shards[kind], count)
        measured = memorisation(described(pairs, f"{kind} images"), known, turned, fresh, name, found)
        closest = []
        for row in measured.closest(SHOWN).tolist():
            index = int(measured.indices[row])
            nearest = np.asarray(train.images[index])
            closest.append(
                ClosestPair(
                    image=images_to_uint8(pairs.batch([row])[0])[0],
                    nearest=nearest[:, ::-1] if measured.mirrored[row] else nearest,
                    row=row,
                    train_id=train.ids[index],
                    distance=float(measured.distances[row] / np.median(measured.validation)),
                    alike=float(measured.alike[row]),
                )
            )
        checks[kind] = CopyCheck(measured, closest)
    return checks


def _sources(folder: Path, count: int, train_ids: Sequence[str]) -> np.ndarray | None:
    """Return the training image behind each of the first rows, -1 for none, without decoding an image.

    Returns:
        int64 [M], or None if a row has a box, outside which it repeats its source.
    """
    numbers = {as_text(name): index for index, name in enumerate(train_ids)}
    found: list[int] = []
    for table in tables_of_folder(folder, ["source_id", "edit_box"]):
        if table["edit_box"].null_count < table.num_rows:
            return None
        found += [numbers.get(name, -1) if name else -1 for name in table["source_id"].to_pylist()]
        if len(found) >= count:
            break
    return np.array(found[:count], dtype=np.int64)
