"""The run directory: whose it is, what its units hold, what it reads from outside."""
