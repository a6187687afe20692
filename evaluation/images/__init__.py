"""Metrics of generated images and layouts."""
