"""Files and folders on a disk: written whole or not at all, locked, fetched, read with care."""
