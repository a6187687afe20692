"""Palette sampler, layout and image models, their losses, training loops and inference."""
