"""The report: what generated pairs change for a segmenter, with its uncertainty."""
