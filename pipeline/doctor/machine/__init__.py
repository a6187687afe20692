"""What a run needs of this machine, and how long it takes here."""
