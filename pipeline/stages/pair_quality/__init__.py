"""How far generated pairs can be trusted: teachers trained on folds, their scores of rows, and the rows chosen."""
