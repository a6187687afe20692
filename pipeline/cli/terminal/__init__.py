"""What the command line shows: tables and results, progress, and the streams that it writes to."""
