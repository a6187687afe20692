"""Small folders of shards, and places at URLs."""

from buckets import bucket, memory, s3_server  # noqa: F401 (fixtures)
from shard_folders import write_shards  # noqa: F401 (a fixture)
