"""Fills the folder of one unit that has begun: `python -m scenepalette.pipeline.beside_worker RUN_DIR UNIT THREADS`.

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

from scenepalette.common.errors import ScenepaletteError
from scenepalette.pipeline.device.memory import memory_explained
from scenepalette.pipeline.run import Run
from scenepalette.pipeline.run_directory.activity import told
from scenepalette.pipeline.units.records import work_folder


def _end_with_parent(parent: int) -> None:
    """End this process when the one that started it has ended, whatever ended that."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


def main(run_dir: str, name: str, threads: str) -> int:
    """Fill the folder; return the exit status."""
    # As an exception, so that a command that it waits for is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
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
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
