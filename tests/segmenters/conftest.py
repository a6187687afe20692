"""Small pairs and stand-ins for published weights."""

from small_pairs import alexnet_weights, fabric, inception_weights, make_pairs, make_settings, table  # noqa: F401 (fixtures)
