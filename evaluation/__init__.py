"""Metrics of layouts, generated images and segmenters."""
