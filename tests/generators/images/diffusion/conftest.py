from __future__ import annotations

import pytest

from tiny_diffusion import Weights, write_weights


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Weights that no test changes."""
    return write_weights(tmp_path_factory.mktemp("weights"))
