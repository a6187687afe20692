"""Looking at runs from outside: how far one is, and how the reports of two differ."""
