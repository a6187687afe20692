"""Small data sets on disk in the published layouts, with known pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelled_folders import camvid_root, random_image, random_label, write_pixels  # noqa: F401 (a fixture)
from scenepalette.data.classes import ClassTable, SemanticClass
from scenepalette.data.shards.manifest import make_manifest, write_manifest
from scenepalette.data.shards.schema import Row, palette_of_label, row_id, shard_name
from scenepalette.data.shards.writing import write_shard


@pytest.fixture
def cityscapes_root(tmp_path: Path) -> Path:
    """Cityscapes' layout: two cities, with the further annotation files that the release has."""
    for city, frame in [("ulm", "000001_000019"), ("ulm", "000000_000019"), ("aachen", "000003_000019")]:
        stem = f"{city}_{frame}"
        label = random_label(len(city), 34)
        write_pixels(tmp_path / "leftImg8bit/train" / city / f"{stem}_leftImg8bit.png", random_image(3))
        write_pixels(tmp_path / "gtFine/train" / city / f"{stem}_gtFine_labelIds.png", label)
        write_pixels(tmp_path / "gtFine/train" / city / f"{stem}_gtFine_color.png", random_image(4))
        (tmp_path / "gtFine/train" / city / f"{stem}_gtFine_polygons.json").write_text("{}")
    return tmp_path


@pytest.fixture
def idd_root(tmp_path: Path) -> Path:
    """IDD's layout with prepared labels: a PNG frame and a JPEG frame of the same number in two sequences."""
    for sequence, ending in [("12", "png"), ("400", "jpg")]:
        write_pixels(tmp_path / f"leftImg8bit/train/{sequence}/0001_leftImg8bit.{ending}", random_image(1))
        write_pixels(tmp_path / f"gtFine/train/{sequence}/0001_gtFine_labelids.png", random_label(2, 40))
    return tmp_path


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    """The plain folder layout: JPEG and PNG, three sizes, three classes in classes.csv."""
    sizes = {"street.jpg": (6, 8), "alley.JPEG": (10, 4), "square.png": (5, 5)}
    for seed, (name, (height, width)) in enumerate(sizes.items()):
        stem = name.split(".")[0]
        label = random_label(seed, 3, height, width)
        label[0, 0] = 255
        write_pixels(tmp_path / "train/images" / name, random_image(seed, height, width))
        write_pixels(tmp_path / "train/labels" / f"{stem}.png", label)
    (tmp_path / "classes.csv").write_text("name,red,green,blue\nroad,128,64,128\ncar,0,0,142\nsky,70,130,180\n")
    return tmp_path


@pytest.fixture
def cityscapes_25k_root(cityscapes_root: Path) -> Path:
    """Cityscapes' layout with two additional scenes and their predicted labels, which hold 7, 26, 0 and 255."""
    for name in ["bad-honnef_000000_000000", "konigswinter_000000_000001"]:
        city = name.split("_")[0]
        label = np.full((6, 8), 7, dtype=np.uint8)
        label[0, :4] = [26, 0, 255, 33]
        write_pixels(cityscapes_root / f"leftImg8bit/train_extra/{city}/{name}_leftImg8bit.png", random_image(5))
        write_pixels(cityscapes_root / f"refinement_final/train_extra/{city}/{name}_leftImg8bit.png", label)
    return cityscapes_root


@pytest.fixture
def ade20k_root(tmp_path: Path) -> Path:
    """ADE20K's layout: four training and two validation images; label values 0 to 150."""
    for folder, part, numbers in [("training", "train", (4, 1, 3, 2)), ("validation", "val", (1, 2))]:
        for number in numbers:
            name = f"ADE_{part}_{number:08d}"
            write_pixels(tmp_path / f"images/{folder}/{name}.jpg", random_image(number, 8, 20))
            label = random_label(number, 151, 8, 20)
            label[0, :3] = [0, 1, 150]
            write_pixels(tmp_path / f"annotations/{folder}/{name}.png", label)
    return tmp_path


@pytest.fixture
def ade_indoor_root(ade20k_root: Path) -> Path:
    """ADE20K's layout with scene categories (2 and 4 are indoor) and the classes 150, 149, ... 56 as a list."""
    scenes = {1: "abbey", 2: "bathroom", 3: "bathroom_outdoor", 4: "office"}
    lines = [f"ADE_train_{number:08d} {scene}" for number, scene in scenes.items()]
    (ade20k_root / "sceneCategories.txt").write_text(
        "\n".join([*lines, "ADE_val_00000001 kitchen", "ADE_val_00000002 x"])
    )
    (ade20k_root / "ade_indoor_classes.txt").write_text("\n".join(str(number) for number in range(150, 55, -1)))
    return ade20k_root


@pytest.fixture
def coco_stuff_root(tmp_path: Path) -> Path:
    """COCO-Stuff's layout: two training images, one validation image; label values 0 to 181 and 255."""
    for split, numbers in {"train": (30, 9), "val": (139,)}.items():
        for number in numbers:
            label = random_label(number, 182)
            label[0, :3] = [0, 181, 255]
            write_pixels(tmp_path / f"images/{split}2017/{number:012d}.jpg", random_image(number))
            write_pixels(tmp_path / f"annotations/{split}2017/{number:012d}.png", label)
    return tmp_path


@pytest.fixture
def celebamask_hq_root(tmp_path: Path) -> Path:
    """CelebAMask-HQ's layout: faces 0, 1, 2 and 2001 of 8 x 12 pixels with masks of 4 x 6, stored as RGB.

    Face 0 has skin on the left four columns and hair on the right four; the others have skin everywhere.
    """
    rows = {0: 119614, 1: 162770, 2: 162771, 2001: 182638}
    for number in rows:
        write_pixels(tmp_path / f"CelebA-HQ-img/{number}.jpg", random_image(number, 8, 12))
        masks = {"skin": slice(0, 4), "hair": slice(2, 6)} if number == 0 else {"skin": slice(0, 6)}
        for part, columns in masks.items():
            mask = np.zeros((4, 6, 3), dtype=np.uint8)
            mask[:, columns] = 255
            write_pixels(tmp_path / f"CelebAMask-HQ-mask-anno/{number // 2000}/{number:05d}_{part}.png", mask)
    lines = [f"{number}     {original - 1}    {original:06d}.jpg" for number, original in rows.items()]
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(["idx     orig_idx    orig_file", *lines]))
    return tmp_path


@pytest.fixture
def gta5_root(tmp_path: Path) -> Path:
    """GTA-5's layout: nine images with palette labels, whose indices are below 35."""
    for number in range(1, 10):
        write_pixels(tmp_path / f"images/{number:05d}.png", random_image(number))
        label = Image.fromarray(random_label(number, 35)).convert("P")
        label.putpalette([255 - value // 3 for value in range(768)])
        (tmp_path / "labels").mkdir(exist_ok=True)
        label.save(tmp_path / f"labels/{number:05d}.png")
    return tmp_path


@pytest.fixture
def write() -> Callable[[Path, np.ndarray], None]:
    """Return the function that writes an array as an image."""
    return write_pixels


@pytest.fixture
def make_shards() -> Callable[..., list[Row]]:
    """Return what writes a complete folder of PNG pairs of 10 x 14 pixels, three classes and any kind.

    It takes the folder, the number of rows of each shard and, if wanted, the kind, the names of the shards and whether
    ids are those of version 0.1.0; it returns the rows.
    """

    def write_all(
        folder: Path, counts: tuple[int, ...], kind: str = "full", names: Sequence[str] | None = None, old: bool = False
    ) -> list[Row]:
        models = {} if kind == "semi" else {"layout_model": "1" * 64}
        models["image_model"] = "2" * 64
        rows = []
        for index in range(sum(counts)):
            label = np.where(np.arange(14) < 4, random_label(index, 3, 10, 14), index % 3).astype(np.uint8)
            label[:2, 10:] = 255
            palette = palette_of_label(label, 3)
            rows.append(
                Row(
                    id=f"{kind}-{index:08d}" if old else row_id(kind, "44444444", index),
                    image=random_image(index, 10, 14),
                    label=label,
                    kind=kind,
                    palette_target=palette,
                    palette_achieved=palette,
                    source_id=None if kind == "full" else f"real/{index}",
                    edit_box=(1, 2, 5, 6) if kind == "partial" else None,
                    seed=3,
                    index=index,
                    layout_model=models.get("layout_model"),
                    image_model="2" * 64,
                )
            )
        classes = (("road", (128, 64, 128)), ("car, parked", (0, 0, 142)), ("sky", (70, 130, 180)))
        table = ClassTable("three", tuple(SemanticClass(name, color, name != "sky") for name, color in classes))
        shards = []
        for number, count in enumerate(counts):
            first = sum(counts[:number])
            path = folder / (shard_name(number, len(counts)) if names is None else names[number])
            own = rows[first : first + count]
            shards.append(write_shard(path, own, image_format="png", table=None if old else table))
        manifest = make_manifest(
            shards,
            kind=kind,
            table=table,
            config_hash="3" * 64,
            models=models,
            source={"name": "corners", "licence": "CC BY-NC 4.0"},
            extra={"fingerprint": "4" * 64, "settings": {"seed": 3}},
        )
        write_manifest(folder, manifest)
        return rows

    return write_all
