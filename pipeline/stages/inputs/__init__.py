"""What comes from outside the run directory: the data set, extra test sets, unlabelled images."""
