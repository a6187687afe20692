"""Tasks of flows: when one is tried again, what became of those that were lost, and which workers can take one."""
