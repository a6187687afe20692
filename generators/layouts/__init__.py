"""Palette-to-layout generators: networks, losses, systems, training."""
