"""How images of any size become those that are worked at, and how labels are kept at their own size."""
