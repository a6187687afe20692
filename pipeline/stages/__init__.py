"""The stages of a run, in the order of the data's path: each turns a config and finished folders into a folder."""
