"""The plain folder layout and its class files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.readers.folder import open_folder

YAML_LIST = """
- {name: road, red: 128, green: 64, blue: 128}
- {name: car, red: 0, green: 0, blue: 142, evaluated: false}
- {name: sky, red: 70, green: 130, blue: 180}
"""


def test_sizes_and_file_types_may_be_mixed(folder_root: Path) -> None:
    dataset = open_folder(folder_root, "train")
    assert dataset.ids == ("alley", "square", "street")
    assert [dataset[i].label.shape for i in range(3)] == [(10, 4), (5, 5), (6, 8)]
    for i, sample in enumerate(dataset[i] for i in range(3)):
        stored = np.asarray(Image.open(folder_root / "train/labels" / f"{dataset.ids[i]}.png"))
        assert np.array_equal(sample.label, stored)
        assert sample.image.shape == (*stored.shape, 3)
    assert dataset.table.names == ("road", "car", "sky")
    assert dataset.table.classes[0].color == (128, 64, 128)
    assert dataset.table.eval_ids == (0, 1, 2)


def test_csv_may_have_a_byte_order_mark_spaces_and_the_evaluated_column(folder_root: Path) -> None:
    text = "\ufeffname, red, green, blue, evaluated\nroad, 1, 2, 3, false\ncar, 4, 5, 6,\nsky, 7, 8, 9, True\n"
    (folder_root / "classes.csv").write_text(text, encoding="utf-8")
    table = open_folder(folder_root, "train").table
    assert table.names == ("road", "car", "sky")
    assert table.eval_ids == (1, 2)


def test_yaml_list_equals_csv(folder_root: Path) -> None:
    from_csv = open_folder(folder_root, "train").table
    (folder_root / "classes.csv").unlink()
    (folder_root / "classes.yaml").write_text(YAML_LIST)
    from_yaml = open_folder(folder_root, "train").table
    assert from_yaml.names == from_csv.names
    assert np.array_equal(from_yaml.colors, from_csv.colors)
    assert from_yaml.eval_ids == (0, 2)


def test_yaml_mapping_names_ignored_values_and_the_licence(
    folder_root: Path, tmp_path: Path, write: Callable[[Path, np.ndarray], None]
) -> None:
    label = np.array([[0, 1, 2, 77, 200]] * 5, dtype=np.uint8)
    write(folder_root / "train/labels/square.png", label)
    with pytest.raises(DataError, match=r"square.png: label values 77, 200 in 10 pixels; .* as ignored, 255"):
        open_folder(folder_root, "train")
    lines = "".join(f"  {line}\n" for line in YAML_LIST.strip().splitlines())
    class_file = tmp_path / "elsewhere.yml"
    class_file.write_text(f"name: mine\nlicence: CC BY 4.0\nignore_ids: [77, 200]\nclasses:\n{lines}")
    dataset = open_folder(folder_root, "train", class_file=class_file)
    assert dataset[1].label.tolist() == [[0, 1, 2, 255, 255]] * 5
    assert dataset.licence == "CC BY 4.0"
    assert dataset.table.name == "mine"


def test_every_problem_of_a_class_file_is_listed(folder_root: Path) -> None:
    (folder_root / "classes.csv").write_text("name,red,green,blu\nroad,1,2,3\ncar,300,x,3\n")
    with pytest.raises(DataError) as caught:
        open_folder(folder_root, "train")
    text = str(caught.value)
    for place in ["classes.0.blue", "classes.0.blu:", "classes.1.red", "classes.1.green", "received '300'"]:
        assert place in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- {name: a, red: 0, green: 0, blue: 0}", "1 class; 2 to 255"),
        ("[unclosed", "not valid YAML"),
        ("just text", "cannot be used"),
        ("ignore_ids: [2]\nclasses:" + YAML_LIST, r"\[2\] both as class ids and as ignored"),
        ("- {name: a, red: 0, green: 0, blue: 0}\n- {name: a, red: 0, green: 0, blue: 0}", "both named 'a'"),
    ],
)
def test_unusable_yaml_is_explained(folder_root: Path, content: str, message: str) -> None:
    (folder_root / "classes.csv").unlink()
    (folder_root / "classes.yaml").write_text(content)
    with pytest.raises(DataError, match=message):
        open_folder(folder_root, "train")


def test_exactly_one_class_file_is_required(folder_root: Path) -> None:
    (folder_root / "classes.yaml").write_text(YAML_LIST)
    with pytest.raises(DataError, match=r"there are classes\.csv, classes\.yaml"):
        open_folder(folder_root, "train")
    (folder_root / "classes.yaml").unlink()
    (folder_root / "classes.csv").unlink()
    with pytest.raises(DataError, match="there is none"):
        open_folder(folder_root, "train")
    with pytest.raises(DataError, match="cannot be read"):
        open_folder(folder_root, "train", class_file=folder_root / "absent.csv")
    with pytest.raises(DataError, match=r"required is \.csv"):
        open_folder(folder_root, "train", class_file=folder_root / "classes.docx")


def test_two_images_of_one_name_and_a_missing_label_are_both_listed(
    folder_root: Path, write: Callable[[Path, np.ndarray], None]
) -> None:
    write(folder_root / "train/images/square.jpg", np.zeros((5, 5, 3), np.uint8))
    (folder_root / "train/labels/street.png").unlink()
    with pytest.raises(DataError) as caught:
        open_folder(folder_root, "train")
    assert caught.value.problems == (
        "train/images/square.png: a second image named square beside train/images/square.jpg; keep the right one",
        "train/images/street.jpg: no label for it, train/labels/street.png is missing",
    )


def test_hidden_and_foreign_files_are_passed_over(folder_root: Path) -> None:
    (folder_root / "train/images/Thumbs.db").write_bytes(b"x")
    (folder_root / "train/labels/.hidden.png").write_bytes(b"x")
    assert len(open_folder(folder_root, "train")) == 3


def test_a_missing_split_and_an_empty_split_are_refused(folder_root: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_folder(folder_root, "val")
    assert caught.value.problems == ("val/images/", "val/labels/")
    (folder_root / "val/images").mkdir(parents=True)
    (folder_root / "val/labels").mkdir()
    with pytest.raises(DataError, match="the split 'val' is empty"):
        open_folder(folder_root, "val")


def test_a_class_file_that_leads_out_of_the_data_set_is_refused(folder_root: Path, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-classes.csv"
    (folder_root / "classes.csv").rename(outside)
    (folder_root / "classes.csv").symlink_to(outside)
    with pytest.raises(DataError, match="link out of"):
        open_folder(folder_root, "train")
    # Named by the user it is the user's own.
    assert len(open_folder(folder_root, "train", class_file=folder_root / "classes.csv")) == 3
