"""Stages that train more than one comparison: systems, curves, rounds of the loop."""
