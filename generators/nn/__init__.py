"""Network blocks that several generators share."""
