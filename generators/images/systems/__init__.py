"""The layout-to-image systems, a file each."""
