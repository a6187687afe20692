"""What the models of a finished run are used for afterwards: rows made again, edited scenes."""
