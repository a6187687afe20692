"""Faster ways to compute the same numbers on CPUs."""
