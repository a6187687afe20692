"""Experiment trackers: what trainings write is passed on to them from outside, so that none can stop a training."""
