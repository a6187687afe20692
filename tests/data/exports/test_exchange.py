from __future__ import annotations

from pathlib import Path

from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.decoding.class_files import read_class_file, table_of_class_file
from scenepalette.data.exports.exchange import class_csv


def test_the_reader_of_class_files_reads_what_is_written(tmp_path: Path) -> None:
    table = ClassTable(
        "folder",
        (
            SemanticClass("road, paved", (1, 2, 3)),
            SemanticClass('a "sign"', (200, 0, 9), evaluated=False),
            SemanticClass("void", (0, 0, 0)),
        ),
    )
    path = tmp_path / "classes.csv"
    path.write_bytes(class_csv(table))
    assert table_of_class_file(path, read_class_file(path)) == table
