"""Any bytes in place of a shard's or a manifest's are read, or refused in words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import FUZZ, JSON_VALUES, Changes, changes, damaged
from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.storage.files import sealed, sha256_of_file
from scenepalette.data.shards.checking import find_problems
from scenepalette.data.shards.pairs import ShardPairs
from scenepalette.data.shards.schema import Row

ROOT = Path(__file__).parents[4]
SHARD = "train-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def folder(whole: Path, write_shards: Callable[..., list[Row]], tmp_path: Path) -> Path:
    """A folder of one shard of four rows."""
    if not (whole / "manifest.json").exists():
        write_shards(whole, (4,))
    return Path(shutil.copytree(whole, tmp_path / "shards"))


def checked(folder: Path) -> int:
    """Check and read a folder; return how many problems were found."""
    problems = [str(problem) for problem in find_problems(folder)]
    assert all(len(problem.encode(errors="replace")) < 20_000 for problem in problems)
    try:
        pairs = ShardPairs(folder)
        for index in range(len(pairs)):
            pairs[index]
    except ScenepaletteError as error:
        str(error).encode(errors="replace")
        assert problems
    return len(problems)


@FUZZ
@given(made=changes(2**20), kept=st.none() | st.integers(0, 2**16), hashes=st.booleans())
def test_any_damage_to_a_shard(folder: Path, whole: Path, made: Changes, kept: int | None, hashes: bool) -> None:
    """With its hashes mended or not: what they would have told has to be told by what they are of."""
    (folder / SHARD).write_bytes(damaged((whole / SHARD).read_bytes(), made, kept))
    manifest = json.loads((whole / "manifest.json").read_text())
    if hashes:
        entry = manifest["shards"][0]
        entry["bytes"], entry["sha256"] = (folder / SHARD).stat().st_size, sha256_of_file(folder / SHARD)
        manifest["bytes"] = entry["bytes"]
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))
    found = checked(folder)
    if not hashes and (folder / SHARD).read_bytes() != (whole / SHARD).read_bytes():
        assert found


@FUZZ
@given(values=st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=2), data=st.data())
def test_any_value_in_a_manifest(folder: Path, whole: Path, values: dict[str, Any], data: st.DataObject) -> None:
    manifest = json.loads((whole / "manifest.json").read_text())
    manifest |= values
    key = data.draw(st.sampled_from(sorted(manifest)))
    manifest[key] = data.draw(JSON_VALUES)
    try:
        content = json.dumps(sealed(manifest))
    except ValueError:  # no number, as of a division by zero
        content = json.dumps(manifest)
    (folder / "manifest.json").write_text(content)
    checked(folder)


@FUZZ
@given(content=st.binary(max_size=200))
def test_any_bytes_as_a_manifest(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    assert checked(folder)


READ_FLIPPED = """
import sys
from pathlib import Path
from scenepalette.common.errors import DataError
from scenepalette.data.shards.reading import open_shard, read_group

path, read = Path(sys.argv[1]), 0
whole = path.read_bytes()
footer = int.from_bytes(whole[-8:-4], "little") + 8
for position in range(len(whole) - footer, len(whole)):
    content = bytearray(whole)
    content[position] ^= 1 << 4
    path.write_bytes(content)
    try:
        with open_shard(path) as file:
            for group in range(file.num_row_groups):
                read_group(file, path, group).to_pylist()
        read += 1
    except DataError:
        pass
print(footer, read)
"""


def test_no_damage_to_a_footer_ends_the_process(folder: Path) -> None:
    """In a process of its own: what pyarrow does not catch would end that of the tests."""
    command = [sys.executable, "-c", READ_FLIPPED, str(folder / SHARD)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    footer, read = map(int, done.stdout.split())
    assert 0 < read < footer
