"""Units of work: what one is and may use, how far it is, what it reads from outside, and how it is set aside."""
