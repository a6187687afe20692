"""How steps and inference use a device well, beyond its precision."""
