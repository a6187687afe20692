"""Stages, configuration, run directory, report and command line."""
