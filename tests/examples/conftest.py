"""Small pairs."""

from small_pairs import make_pairs, table  # noqa: F401 (fixtures)
