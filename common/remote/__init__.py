"""Storage at URLs: opened by fsspec, copied from into the cache folder, and written to."""
