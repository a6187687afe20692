"""What units need of a device: several at once on it, and what to do where its memory is too small."""
