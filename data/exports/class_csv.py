"""A class table as a CSV file, as `data/decoding/class_files.py` reads it."""

from __future__ import annotations

import csv
import io

from scenepalette.data.classes import ClassTable

CLASS_CSV = "classes.csv"


def class_csv(table: ClassTable) -> bytes:
    """Return the columns id, name, red, green, blue and evaluated, a row per class in the order of the ids."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "name", "red", "green", "blue", "evaluated"])
    for number, entry in enumerate(table.classes):
        rows.writerow([number, entry.name, *entry.color, str(entry.evaluated).lower()])
    return text.getvalue().encode()
