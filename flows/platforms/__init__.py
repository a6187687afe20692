"""What platforms ask of flows: a tag for GPUs, an event for finished reports, results on a bucket."""
