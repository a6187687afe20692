from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KILLS = 6


@pytest.mark.slow
def test_kills_lose_double_and_change_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.run_directory.kills", "--kills", str(KILLS), "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| total | {KILLS} | 0 | 0 | 0 |" in done.stdout
    # The comparison saw every stage's results.
    for stage in ("data", "palettes", "layouts", "images", "finetuned", "shards", "segmenters", "report"):
        assert list((tmp_path / "killed-1" / stage).rglob("manifest.json")), stage


def test_the_comparison_finds_what_is_lost_doubled_and_different(tmp_path: Path) -> None:
    # In a process of its own: the benchmark sets threads for all of its process before torch is there.
    script = """
import json, sys
from pathlib import Path
from benchmarks.run_directory.kills import compare
whole, parts = Path(sys.argv[1]), Path(sys.argv[2])
for folder, steps in ((whole, (1, 2, 3)), (parts, (1, 1, 3))):
    (folder / "images").mkdir(parents=True)
    (folder / "images/metrics.jsonl").write_text("".join(json.dumps({"step": s}) + "\\n" for s in steps))
    (folder / "images/manifest.json").write_text(json.dumps({"seconds": len(folder.name), "same": 1}))
(parts / "images/.weights.tmp").write_text("half")
lost, doubled, differing = compare(whole, parts)
print(json.dumps([lost, doubled, differing]))
"""
    arguments = [sys.executable, "-c", script, str(tmp_path / "whole"), str(tmp_path / "parts")]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == '[{"images": 1}, {"images": 1}, ["images/.weights.tmp", "images/metrics.jsonl"]]\n'
