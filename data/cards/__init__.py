"""What describes a folder of shards to people and catalogues: data set card and Croissant file."""
