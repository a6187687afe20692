"""The flow `augment`: the whole path from a data set to the report."""

from __future__ import annotations

from scenepalette.flows.stages import stage_flow

augment = stage_flow(
    "run",
    ["palettes", "layouts", "images", "finetune", "generate", "segmenters", "report"],
    name="augment",
    summary="Make everything: palettes, layouts, images, pairs, segmenters, and the report on what they gain.",
    example='{"data.root": "/data/camvid"}',
    makes_pairs=True,
    borrows=True,
    pushes=("shards", "report"),
    module=__name__,
)
