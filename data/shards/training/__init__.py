"""Training from shards: the order of an epoch, batches from large sets, and several kinds of pairs mixed."""
