"""Layout-to-image generators: what all systems share, their registry and training."""
