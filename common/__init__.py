"""What every folder uses: errors, files, randomness, untrusted input, provenance, downloads, progress."""
