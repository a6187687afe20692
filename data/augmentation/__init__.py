"""How training pairs of segmenters are changed: by geometry and colour, and by pasting parts of others."""
