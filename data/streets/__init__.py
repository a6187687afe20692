"""The embedded data set: street scenes drawn by code, so that everything runs with nothing to download."""
