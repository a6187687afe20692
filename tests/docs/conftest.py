"""Small folders of shards."""

from shard_folders import write_shards  # noqa: F401 (a fixture)
