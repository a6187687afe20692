"""What makes segmenters faster on CPUs; networks know nothing of it."""
