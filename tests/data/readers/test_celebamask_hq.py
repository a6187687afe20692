"""CelebAMask-HQ's layout: merging masks, and the split by CelebA's partition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scenepalette.common.errors import DataError
from scenepalette.data.readers.celebamask_hq import open_celebamask_hq

Write = Callable[[Path, np.ndarray], None]
MASKS = "CelebAMask-HQ-mask-anno"


def problems_of(root: Path, split: str = "train") -> tuple[str, ...]:
    """Open a split, which must fail, and return the listed problems."""
    with pytest.raises(DataError) as caught:
        open_celebamask_hq(root, split)
    return caught.value.problems


def test_later_parts_cover_earlier_ones_and_the_rest_is_background(celebamask_hq_root: Path, write: Write) -> None:
    root = celebamask_hq_root
    # Hair (13) covers columns 2 to 5 of the mask, skin (1) 0 to 3; glasses (3) and cloth (18) are added.
    glasses, cloth = np.zeros((2, 4, 6), dtype=np.uint8)
    glasses[1, 1:3] = 255
    cloth[3, 3:] = 255
    write(root / MASKS / "0/00000_eye_g.png", glasses)
    write(root / MASKS / "0/00000_cloth.png", cloth)
    for part in ("skin", "hair"):
        mask = np.zeros((4, 6), dtype=np.uint8)
        mask[1:, slice(0, 4) if part == "skin" else slice(2, 6)] = 255
        write(root / MASKS / f"0/00000_{part}.png", mask)
    merged = np.array([[0, 0, 0, 0, 0, 0], [1, 3, 13, 13, 13, 13], [1, 1, 13, 13, 13, 13], [1, 1, 13, 18, 18, 18]])
    sample = open_celebamask_hq(root, "train")[0]
    assert sample.id == "00000"
    assert sample.image.shape == (8, 12, 3)
    assert sample.label.dtype == np.uint8
    for row, column in np.ndindex(8, 12):
        assert sample.label[row, column] == merged[row // 2, column // 2]


def test_masks_as_published_in_three_channels_are_read(celebamask_hq_root: Path) -> None:
    label = open_celebamask_hq(celebamask_hq_root, "train")[0].label
    assert label.tolist() == [[1] * 4 + [13] * 8] * 8


def test_without_the_partition_file_celebas_numbers_decide(celebamask_hq_root: Path) -> None:
    assert open_celebamask_hq(celebamask_hq_root, "train").ids == ("00000", "00001")
    assert open_celebamask_hq(celebamask_hq_root, "val").ids == ("00002",)


def test_the_partition_file_decides_where_it_is(celebamask_hq_root: Path) -> None:
    codes = {119614: 1, 162770: 2, 162771: 0, 182638: 0, 5: 1}
    lines = [f"{original:06d}.jpg {code}" for original, code in codes.items()]
    (celebamask_hq_root / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    assert open_celebamask_hq(celebamask_hq_root, "train").ids == ("00002", "02001")
    assert open_celebamask_hq(celebamask_hq_root, "val").ids == ("00000",)


def test_gaps_and_broken_lines_of_both_lists_are_listed(celebamask_hq_root: Path) -> None:
    mapping = celebamask_hq_root / "CelebA-HQ-to-CelebA-mapping.txt"
    mapping.write_text(mapping.read_text().replace("2     162770", "two     162770"))
    (celebamask_hq_root / "list_eval_partition.txt").write_text("119614.jpg 0\n162770.jpg 3\n182638.jpg 2\n")
    assert problems_of(celebamask_hq_root) == (
        "CelebA-HQ-to-CelebA-mapping.txt, line 4: required are a number, a number and the name of a file",
        "list_eval_partition.txt, line 2: required are the name of a file and 0, 1 or 2",
        "CelebA-HQ-img/1.jpg: list_eval_partition.txt does not list its original 162770.jpg",
        "CelebA-HQ-img/2.jpg: CelebA-HQ-to-CelebA-mapping.txt does not list it",
    )


def test_a_missing_mapping_is_explained(celebamask_hq_root: Path) -> None:
    (celebamask_hq_root / "CelebA-HQ-to-CelebA-mapping.txt").unlink()
    with pytest.raises(DataError, match="has no CelebA-HQ-to-CelebA-mapping"):
        open_celebamask_hq(celebamask_hq_root, "train")


def test_misplaced_and_unmatched_files_are_listed(celebamask_hq_root: Path, write: Write) -> None:
    root = celebamask_hq_root
    write(root / MASKS / "1/00000_nose.png", np.zeros((4, 6), dtype=np.uint8))
    write(root / MASKS / "0/00000_beard.png", np.zeros((4, 6), dtype=np.uint8))
    write(root / MASKS / "0/00007_skin.png", np.zeros((4, 6), dtype=np.uint8))
    (root / MASKS / "0/00001_skin.png").unlink()
    (root / "CelebA-HQ-img/2.jpg").unlink()
    problems = problems_of(root)
    assert problems[0].startswith(
        f"{MASKS}/0/00000_beard.png: the name is not NUMBER_PART.png with one of the parts skin,"
    )
    assert problems[1:] == (
        f"{MASKS}/1/00000_nose.png: it belongs into the folder 0",
        f"CelebA-HQ-img/1.jpg: no mask for it, {MASKS}/0/00001_*.png is missing",
        f"{MASKS}/0/00002_*.png: no image for it, CelebA-HQ-img/2.jpg is missing",
        f"{MASKS}/0/00007_*.png: no image for it, CelebA-HQ-img/7.jpg is missing",
    )


def test_damaged_coloured_and_differently_large_masks_are_all_listed(celebamask_hq_root: Path, write: Write) -> None:
    root = celebamask_hq_root
    coloured = np.zeros((4, 6, 3), dtype=np.uint8)
    coloured[2, 2] = [204, 0, 0]
    write(root / MASKS / "0/00000_nose.png", coloured)
    write(root / MASKS / "0/00000_hat.png", np.zeros((8, 12), dtype=np.uint8))
    cut = root / MASKS / "0/00000_hair.png"
    cut.write_bytes(cut.read_bytes()[:-14])
    write(root / MASKS / "0/00001_skin.png", np.full((8, 12), 255, dtype=np.uint8))
    problems = problems_of(root)
    assert (
        problems[0]
        == f"{MASKS}/0/00000_nose.png: it is coloured; a mask must be black and white, white where its part is"
    )
    assert problems[1].startswith(f"{MASKS}/0/00000_hair.png: it is damaged")
    assert problems[2:] == (
        f"{MASKS}/0/00000_hat.png: 8 x 12 pixels (height x width), but another mask of the face has 4 x 6; all must be "
        "equal",
        f"{MASKS}/0/00001_*.png: 8 x 12 pixels (height x width), but its image CelebA-HQ-img/1.jpg has 8 x 12; the "
        "image must be 2 times as high and as wide",
    )


def test_a_mask_that_changes_after_the_check_is_an_error_when_read(celebamask_hq_root: Path, write: Write) -> None:
    dataset = open_celebamask_hq(celebamask_hq_root, "train")
    first, content = dataset.fingerprint, dataset.content
    hair = celebamask_hq_root / MASKS / "0/00000_hair.png"
    write(hair, np.zeros((3, 3), dtype=np.uint8))
    assert dataset.fingerprint != first
    assert dataset.content != content
    with pytest.raises(DataError, match="cannot be used"):
        dataset[0]
    hair.unlink()
    with pytest.raises(DataError, match="can no longer be read"):
        _ = dataset.fingerprint


def test_missing_folders_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_celebamask_hq(tmp_path, "val")
    assert caught.value.problems == ("CelebA-HQ-img/", f"{MASKS}/")
