"""Class tables, readers of published data sets, embedded scenes, transforms, and shards in and out."""
