"""Places at URLs."""

from buckets import bucket, memory, s3_server  # noqa: F401 (fixtures)
