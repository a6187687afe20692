"""Small pairs and stand-ins for published weights."""

from small_pairs import (  # noqa: F401 (fixtures)
    alexnet_weights,
    fabric,
    inception_weights,
    make_pairs,
    make_settings,
    table,
)
