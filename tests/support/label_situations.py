"""Small folders of images with labels in the forms that people have, whose true class ids are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scenepalette.data.sample import SegmentationDataset

CLASSES = (("sky", (70, 130, 180)), ("road", (128, 64, 128)), ("car", (0, 0, 142)), ("tree", (107, 142, 35)))
COLOURS = np.array([colour for _, colour in CLASSES], np.uint8)
GREYS = (("background", (0, 0, 0)), ("object", (255, 255, 255)))
SIZE = (24, 32)
COUNTS = {"train": 8, "val": 4}
Save = Callable[[Path, np.ndarray, int], None]


def scene(index: int) -> np.ndarray:
    """Return class ids uint8 [24, 32]: 0 sky above, 1 road below, a 2 car on it, a 3 tree at the horizon."""
    label = np.zeros(SIZE, np.uint8)
    label[13:] = 1
    label[15 : 18 + index % 3, 2 + index : 8 + index] = 2
    label[9:13, 20 : 24 + index % 4] = 3
    return label


def two(index: int) -> np.ndarray:
    """Return two classes: 1 where a car or a tree is."""
    return (scene(index) > 1).astype(np.uint8)


def three(index: int) -> np.ndarray:
    """Return three classes: sky, road, car."""
    return np.minimum(scene(index), 2)


def write_folder(
    root: Path,
    save: Save,
    *,
    truth: Callable[[int], np.ndarray] = scene,
    classes: Iterable[tuple[str, Sequence[int]]] | str = CLASSES,
) -> Path:
    """Write a data set in the layout of "folder".

    Args:
        root: Its folder.
        save: Writes a label file from its path, its class ids and its number.
        truth: The class ids of a number.
        classes: Names and colours, or the text of the class file.
    """
    text = classes
    if not isinstance(classes, str):
        text = "name,red,green,blue\n" + "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in classes)
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.csv").write_text(str(text))
    for index, (split, name) in enumerate(sample_names()):
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(index).normal(0, 9, (*SIZE, 3))
        image = np.clip(COLOURS[scene(index)] + noise, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / split / "images" / f"{name}.png")
        save(root / split / "labels" / f"{name}.png", truth(index), index)
    return root


def sample_names() -> list[tuple[str, str]]:
    """Return split and name of every sample, in the order of their numbers."""
    return [(split, f"s{k:02d}") for split, count in COUNTS.items() for k in range(count)]


def wrong_pixels(
    datasets: Sequence[SegmentationDataset], truth: Callable[[int], np.ndarray] = scene, *, unclear: float = 0.0
) -> int:
    """Return how many pixels were read otherwise than they were drawn; a share of `unclear` may be ignored."""
    drawn = {(split, name): truth(index) for index, (split, name) in enumerate(sample_names())}
    wrong = 0
    for dataset in datasets:
        for place in range(len(dataset)):
            sample = dataset[place]
            expected = drawn[dataset.split, sample.id]
            ignored = (sample.label == 255) & (expected != 255)
            assert ignored.mean() <= unclear
            wrong += int((sample.label != expected)[~ignored].sum())
    return wrong


def save_values(values: Sequence[int]) -> Save:
    """Return a writer of grey labels that hold these values for the classes 0, 1, ..."""
    lookup = np.zeros(256, np.uint8)
    lookup[: len(values)] = values
    lookup[255] = 255
    return lambda path, label, index: Image.fromarray(lookup[label]).save(path)


def save_colours(colours: np.ndarray = COLOURS, **options: Any) -> Save:
    """Return a writer of labels in these colours of the classes."""
    return lambda path, label, index: Image.fromarray(colours[label]).save(path, **options)


def save_palette(palette: Callable[[int], Sequence[Sequence[int]]], order: Callable[[int], Sequence[int]]) -> Save:
    """Return a writer of palette labels.

    Args:
        palette: The colours of a file's palette, by its number.
        order: The index of each class 0, 1, ... in that palette, by the file's number.
    """

    def save(path: Path, label: np.ndarray, index: int) -> None:
        lookup = np.arange(256, dtype=np.uint8)
        indices = order(index)
        lookup[: len(indices)] = indices
        image = Image.frombytes("P", (label.shape[1], label.shape[0]), lookup[label].tobytes())
        image.putpalette([part for colour in palette(index) for part in colour])
        image.save(path)

    return save


def rotated(index: int, count: int = 4) -> list[int]:
    """Return the indices of classes in a palette whose order differs from file to file."""
    return [(class_id + index) % count for class_id in range(count)]


def rotated_palette(index: int) -> list[list[int]]:
    """Return the palette that `rotated` points into: every class keeps its colour."""
    palette = [[0, 0, 0]] * 4
    for class_id, place in enumerate(rotated(index)):
        palette[place] = COLOURS[class_id].tolist()
    return palette
