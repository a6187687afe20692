"""Segmentation networks that measure what generated pairs are worth: architectures, training, AdvEnt."""
