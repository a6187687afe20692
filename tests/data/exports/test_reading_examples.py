"""The examples of docs/shards.md that read exported tars run, and find what the rows hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenepalette.data.exports.exporting import export_shards
from scenepalette.data.shards.schema import Row

PAGE = Path(__file__).parents[3] / "docs" / "shards.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("library", ["tarfile", "webdataset"])
def test_an_example_reads_class_ids_from_an_exported_tar(
    library: str, make_shards: Callable[..., list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(library)
    (example,) = [text for text in EXAMPLES if re.search(rf"^import .*\b{library}\b", text, flags=re.MULTILINE)]
    row = make_shards(tmp_path / "shards", (3,))[0]
    export_shards(tmp_path / "shards", "webdataset", tmp_path / "exports/webdataset")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(example, names)
    assert names["label"].dtype == np.uint8 and (row.label == 255).any()
    np.testing.assert_array_equal(names["label"], row.label)
    np.testing.assert_array_equal(names["image"], row.image)
    assert names["facts"]["id"] == row.id
