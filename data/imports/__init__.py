"""Importing annotations of other tools: drawn as index masks into a folder that the reader `folder` takes."""
