"""Labelled pairs as Parquet shards: schema, writing, reading, checking."""
