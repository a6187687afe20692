"""Where what can be found out again is remembered between commands: the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "SCENEPALETTE_CACHE"
"""Names another folder, or with an empty value none."""


def cache_folder() -> Path | None:
    """Return the folder, which need not exist; None if nothing is to be remembered.

    It is `$SCENEPALETTE_CACHE`, or `scenepalette` in `$XDG_CACHE_HOME` or `~/.cache`, beside the folder of torch.hub.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    above = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    # A home that is not known stays a "~" that nothing may be written under.
    return Path(above) / "scenepalette" if os.path.isabs(above) else None
