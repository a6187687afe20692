"""Finding, pairing and checking the files of a data set: what every reader rests on."""
