"""Fills the folder of one unit that has begun, in a process of its own.

Whoever started it holds the run directory, begins and finishes the unit and counts its time; see
`pipeline/device/beside.py`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil

from scenepalette.common.errors import ScenepaletteError
from scenepalette.pipeline.device.beside import MADE
from scenepalette.pipeline.device.memory import memory_explained
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.activity import told
from scenepalette.pipeline.units.records import work_folder

LOOK_SECONDS = 0.5
END_SECONDS = 20.0


def _end_with(starter: int) -> None:
    """End this process when the one that started it has ended, whatever ended that: another may hold the run now."""
    parent = os.getppid()  # another, if a wrapper of the interpreter is between
    while os.getppid() == parent and _lives(starter):
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_SECONDS)
    os._exit(143)  # a step does not end, or the exception was lost where none is passed on


def _lives(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main(run_dir: str, name: str, threads: str, starter: str) -> int:
    """Fill the folder for the process `starter`; return the exit status."""
    # As an exception, so that a command that it waits for is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not _lives(int(starter)):
        return 143
    threading.Thread(target=_end_with, args=(int(starter),), daemon=True).start()
    try:
        run = Run.open(Path(run_dir))
        compute = run.config.compute.model_copy(update={"threads": int(threads)})
        run.config = run.config.model_copy(update={"compute": compute})
        unit = run.units[name]
        with told(run.run_dir, name, run.progress, beside=True) as run.progress, memory_explained(unit):
            unit.make(run, work_folder(run.run_dir, unit))
    except ScenepaletteError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return MADE
