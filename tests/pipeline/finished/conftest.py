"""Small folders of shards, and places at URLs."""

from buckets import azure, azurite, bucket, google, hub_place, memory, place, s3_server  # noqa: F401 (fixtures)
from shard_folders import write_shards  # noqa: F401 (a fixture)
