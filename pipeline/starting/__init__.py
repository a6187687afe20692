"""The first recipe for a user's own data: what `scenepalette init` writes."""
