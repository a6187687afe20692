from __future__ import annotations

import subprocess
import sys

import pytest

from scenepalette.training.allocator import keep_freed_memory

# Faults of pages while 64 MiB are asked for, written and freed again, after the first time.
PROGRAM = """
import resource, sys
import torch
from scenepalette.training.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(12):  # small pieces that the allocator keeps for itself lie between at first
    torch.zeros(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.zeros(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    faults = {
        way: int(subprocess.run([sys.executable, "-c", PROGRAM, way], check=True, capture_output=True).stdout)
        for way in ("keep", "give back")
    }
    assert faults["keep"] < 0.1 * faults["give back"]


def test_other_systems_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not keep_freed_memory()
