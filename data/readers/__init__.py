"""Readers of published data sets, each in its own folder layout."""
