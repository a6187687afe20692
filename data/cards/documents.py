"""Writing again what lies beside shards to be read by people and catalogues."""

from __future__ import annotations

from pathlib import Path

from scenepalette.data.cards.croissant import write_croissant
from scenepalette.data.cards.dataset_card import write_card
from scenepalette.data.shards.manifest import document_problems, read_manifest, seal_documents


def mend_documents(folder: Path | str) -> list[str]:
    """Write card and Croissant file again from the manifest, if one of them is not as it was written.

    A manifest whose documents were written by another version of this code takes in the hashes of the new ones. A link
    gives way to a file; what it led to stays.

    Args:
        folder: A folder with a manifest.

    Returns:
        What was wrong with the documents.

    Raises:
        DataError: The manifest is missing or damaged.
        ScenepaletteError: A file cannot be written.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    problems = document_problems(folder, manifest)
    if problems:
        write_card(folder, manifest)
        write_croissant(folder, manifest)
        if document_problems(folder, manifest):
            seal_documents(folder, manifest)
    return problems
