"""Which samples belong to which split, fold and part; neighbours of one recording stay together."""
