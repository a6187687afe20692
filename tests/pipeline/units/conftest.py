"""Places at URLs."""

from buckets import azure, azurite, bucket, google, hub_place, memory, place, s3_server  # noqa: F401 (fixtures)
