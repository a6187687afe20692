"""A small data set to examine."""

from labelled_folders import camvid_root  # noqa: F401 (a fixture)
