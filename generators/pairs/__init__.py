"""Kinds of layout-image pairs, one a file, and their mass production."""
