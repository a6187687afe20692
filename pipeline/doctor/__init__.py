"""What is wrong, or will be, with a data set, a configuration and a machine: said before anything is trained."""
