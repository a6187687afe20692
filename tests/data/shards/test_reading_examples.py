"""Every example of docs/reading-shards.md runs, on shards as generation leaves them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.data.cards.dataset_card import collection_card
from scenepalette.data.shards.manifest import read_manifest

PAGE = Path(__file__).parents[3] / "docs" / "reading-shards.md"
SECTIONS = [
    (section.split("\n")[0], example)
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    for example in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
]


@pytest.fixture
def rows(tmp_path, write_shards, monkeypatch) -> list[Any]:
    """Put shards where the page has them, with the cache of `datasets` beside them; returns their rows."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    shards = tmp_path / "runs/demo/shards"
    write_shards(shards / "semi", (5,), "semi")
    written = write_shards(shards / "full", (9, 7, 6))
    manifests = {kind: read_manifest(shards / kind) for kind in ("full", "semi")}
    (shards / "README.md").write_text(collection_card(manifests))
    return written


def check(section: str, example: str, names: dict[str, Any], rows: list[Any]) -> None:
    """Compare what an example found with the rows."""
    found = {row.id: row for row in rows}
    if "image" in names:
        np.testing.assert_array_equal(np.array(names["image"]), rows[0].image)
    if "label" in names:
        np.testing.assert_array_equal(np.array(names["label"]), rows[0].label)
    if "palettes" in names and section.startswith("PyTorch, any row"):
        for name, label in zip(names["names"], names["labels"], strict=True):
            np.testing.assert_array_equal(label.numpy(), found[name].label)
    if "split_dataset_by_node" in names:
        assert sorted(names["names"]) == sorted(found)
    if "lost" in names:
        assert names["lost"] < set(found)
    if "classes" in names and "ignored" in names:
        assert (names["classes"], names["ignored"]) == (["road", "car", "tree", "sky"], 255)
    if "semi" in names:
        assert names["semi"]["id"][:] == [f"semi-{index:06d}" for index in range(5)]
    if "with_format" in example:
        assert (names["batch"]["image"].shape, names["batch"]["label"].shape) == ((4, 3, 8, 12), (4, 1, 8, 12))
        np.testing.assert_array_equal(names["batch"]["label"][0, 0].numpy(), rows[0].label)
    if section == "PyTorch, several kinds":
        assert len(names["pairs"].sampler(1)) == 22 + 2 and set(names["kinds"]) <= {"full", "semi"}
    if section == "pandas":
        assert names["rows"]["id"].to_list() == [row.id for row in rows]
    if section in ("polars", "DuckDB"):
        shares = sorted((row.palette_achieved[0] for row in rows), reverse=True)
        read = names["road"]["share"].to_list() if section == "polars" else [share for _, share in names["rows"]]
        np.testing.assert_allclose(read, shares[: len(read)], atol=1e-6)
    if section == "Ray Data":
        counts = {row["id"]: row["pixels"] for row in names["counts"]}
        assert counts == {name: (row.label == 1).sum() for name, row in found.items()}
    if "close" in names:
        assert names["close"].all()


def run(section: str, example: str, rows: list[Any]) -> None:
    """Run an example as if it were a script of its own."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(example, names)
    check(section, example, names, rows)


@pytest.mark.parametrize(
    ("section", "example"),
    [
        pytest.param(section, example, id=f"{section}-{number}")
        for number, (section, example) in enumerate(SECTIONS)
        if section != "Ray Data"
    ],
)
def test_example_runs(section, example, rows):
    run(section, example, rows)


@pytest.mark.slow
def test_example_of_ray_data_runs(rows, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    (example,) = [example for section, example in SECTIONS if section == "Ray Data"]
    try:
        ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
        run("Ray Data", example, rows)
    finally:
        ray.shutdown()


def test_every_reader_has_an_example():
    sections = {section for section, _ in SECTIONS}
    kinds = {"PyTorch, any row", "PyTorch, a stream", "PyTorch, several kinds", "Decode once"}
    assert {*kinds, "datasets", "pandas", "pyarrow", "polars", "DuckDB", "Ray Data", "Catalogues"} <= sections
