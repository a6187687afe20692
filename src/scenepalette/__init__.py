"""Labelled training images for semantic segmentation, and a measurement of whether they help.

The names in `__all__` are the public Python API; docs/python.md has an example of each. A name is imported when it is
first used, so that `import scenepalette` alone brings in neither torch nor Prefect. Inside the package, import from the
module that defines a name, never from here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenepalette.common.errors import ScenepaletteError
    from scenepalette.data.datasets import open_dataset
    from scenepalette.data.shards.checking import verify_shards
    from scenepalette.data.shards.manifest import read_manifest
    from scenepalette.data.shards.pairs import ShardPairs
    from scenepalette.data.shards.reading import iterate_rows
    from scenepalette.data.shards.training.mixed import MixedPairs
    from scenepalette.data.shards.training.stream import ShardStream
    from scenepalette.pipeline.config import RunConfig, load_config
    from scenepalette.pipeline.run import Run
    from scenepalette.pipeline.systems import register, systems

__version__ = "0.2.0"
__all__ = [
    "MixedPairs",
    "Run",
    "RunConfig",
    "ScenepaletteError",
    "ShardPairs",
    "ShardStream",
    "__version__",
    "iterate_rows",
    "load_config",
    "open_dataset",
    "read_manifest",
    "register",
    "systems",
    "verify_shards",
]

_MODULES = {
    "MixedPairs": "data.shards.training.mixed",
    "Run": "pipeline.run",
    "RunConfig": "pipeline.config",
    "ScenepaletteError": "common.errors",
    "ShardPairs": "data.shards.pairs",
    "ShardStream": "data.shards.training.stream",
    "iterate_rows": "data.shards.reading",
    "load_config": "pipeline.config",
    "open_dataset": "data.datasets",
    "read_manifest": "data.shards.manifest",
    "register": "pipeline.systems",
    "systems": "pipeline.systems",
    "verify_shards": "data.shards.checking",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it, once."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
