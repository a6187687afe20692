"""Class tables that are shipped as class files, and class files as spreadsheets and label tools write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenepalette.common.errors import DataError
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.decoding.class_files import classes_of_class_file, packaged_table, read_class_file
from scenepalette.data.decoding.label_images import code_of

ROWS = "sky,70,130,180,TRUE\nroad,128,64,128,true\ncar,0,0,142,1\n"
HEADER = "name,red,green,blue,evaluated\n"


def test_ade20k_has_the_published_order_and_colours() -> None:
    table = packaged_table("ade20k")
    assert (table.name, table.num_classes) == ("ade20k", 150)
    published = {1: "wall", 9: "windowpane", 13: "person", 75: "computer", 116: "bag", 131: "screen", 150: "flag"}
    assert {number: table.names[number - 1] for number in published} == published
    assert table.classes[2].color == (6, 230, 230)
    assert table.classes[149].color == (92, 0, 255)
    assert table.eval_ids == tuple(range(150))


def test_coco_stuff_has_the_published_order_and_evaluates_the_classes_that_occur() -> None:
    table = packaged_table("coco-stuff")
    assert (table.name, table.num_classes) == ("coco-stuff", 182)
    published = {1: "person", 12: "street sign", 91: "hair brush", 92: "banner", 133: "mirror-stuff", 182: "wood"}
    assert {number: table.names[number - 1] for number in published} == published
    without_annotations = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
    assert {class_id + 1 for class_id in range(182)} - {i + 1 for i in table.eval_ids} == without_annotations


@pytest.mark.parametrize("number", [1, 2, 3, 8, 91, 182])
def test_coco_stuff_has_the_colours_of_pascal_vocs_rule(number: int) -> None:
    # Everingham et al.: bit 3k of the number is bit 7-k of red, bit 3k+1 of green, bit 3k+2 of blue.
    bits = f"{number:024b}"[::-1]
    expected = tuple(int(bits[channel::3], 2) for channel in range(3))
    assert packaged_table("coco-stuff").classes[number - 1].color == expected


def test_colours_of_coco_stuff_differ() -> None:
    assert len({entry.color for entry in packaged_table("coco-stuff").classes}) == 182


def read(path: Path, content: str | bytes, encoding: str = "utf-8") -> tuple:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return classes_of_class_file(path, read_class_file(path))


SPELLINGS: dict[str, str | bytes] = {
    "as documented": HEADER + ROWS,
    "r, g, b": "Name,R,G,B\nsky,70,130,180\nroad,128,64,128\ncar,0,0,142\n",
    "class, Red": "class,Red,Green,Blue\nsky,70,130,180\nroad,128,64,128\ncar,0,0,142\n",
    "one column": "label,color\nsky,70 130 180\nroad,128 64 128\ncar,0 0 142\n",
    "one column, commas": 'category,RGB\nsky,"70,130,180"\nroad,"(128, 64, 128)"\ncar,"[0, 0, 142]"\n',
    "hexadecimal": "class_name,hex\nsky,#4682b4\nroad,804080\ncar,#00008E\n",
    "semicolons": (HEADER + ROWS).replace(",", ";"),
    "tabs": (HEADER + ROWS).replace(",", "\t"),
    "bars": (HEADER + ROWS).replace(",", " | "),
    "spaces": (HEADER + ROWS).replace(",", " , "),
    "byte order mark, DOS lines": "\ufeff" + (HEADER + ROWS).replace("\n", "\r\n"),
    "semicolons with a mark": ("\ufeff" + HEADER + ROWS).replace(",", ";"),
    "UTF-16": (HEADER + ROWS).replace(",", "\t").encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + (HEADER + ROWS).encode("utf-16-be"),
    "empty rows": "\n" + HEADER + ROWS + ",,,,\n\n ,,,,\n",
    "empty cells at the end": HEADER.strip() + ",,\n" + ROWS.replace("\n", ",,\n"),
    "no end of line": HEADER + ROWS.strip(),
    "quotes": HEADER + '"sky","70","130","180","true"\nroad,128,64,128,true\ncar,0,0,142,true\n',
    "numbers with points": HEADER + ROWS.replace("70,", "70.0,"),
    "ids in order": "id,name,red,green,blue\n0,sky,70,130,180\n1,road,128,64,128\n2,car,0,0,142\n",
    "ids in another order": "name,red,green,blue,ID\ncar,0,0,142,2\nsky,70,130,180,0\nroad,128,64,128,1\n",
    "lines of old Macs": (HEADER + ROWS).replace("\n", "\r"),
    "UTF-16 without a mark": (HEADER + ROWS).encode("utf-16-le"),
    "UTF-16 without a mark, big end first": (HEADER + ROWS).encode("utf-16-be"),
    "UTF-32": (HEADER + ROWS).encode("utf-32"),
    "Excel's line of the delimiter": "sep=;\r\n" + (HEADER + ROWS).replace(",", ";").replace("\n", "\r\n"),
    "a comment before the header": "# classes of the roads\n\n" + HEADER + ROWS,
    "comments between the rows": HEADER + "# sky and road\n" + ROWS.replace("car,", "#bus,1,2,3,true\n#,,,,\ncar,"),
    "comments where ids stand": "id,name,color\n# first\n0,sky,#4682b4\n#9,bus,#010203\n1,road,#804080\n"
    "2,car,#00008e\n",
    "hexadecimal colours first": "color,name\n#4682b4,sky\n#804080,road\n#00008e,car\n",
    "void with -1": "id,name,color\n-1,void,\n0,sky,#4682b4\n1,road,#804080\n2,car,#00008e\n",
    "decimal commas": "name;red;green;blue\nsky;70,0;130,00;180,0\nroad;128;64;128\ncar;0,0;0;142,0\n",
    "hexadecimal with 0x": "name,hex\nsky,0x4682b4\nroad,0X804080\ncar,0x00008E\n",
    "a serial number": "name,red,green,blue,no\nsky,70,130,180,1\nroad,128,64,128,2\ncar,0,0,142,3\n",
    "further columns": "name,r,g,b,class_11\nsky,70,130,180,1\nroad,128,64,128,1\ncar,0,0,142,1\n",
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_class_files_as_they_are_written(tmp_path: Path, name: str) -> None:
    table, values, colours = read(tmp_path / "classes.csv", SPELLINGS[name])
    assert table.names == ("sky", "road", "car")
    assert [entry.color for entry in table.classes] == [(70, 130, 180), (128, 64, 128), (0, 0, 142)]
    assert table.eval_ids == (0, 1, 2)
    assert values.ids == {0: 0, 1: 1, 2: 2} and values.all_ignored == {255}
    assert colours == {code_of(entry.color): [class_id] for class_id, entry in enumerate(table.classes)}


def test_what_is_left_out_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text("id,name\n# old,\n#3,bus\n-1,void\n0,Sky\n1,sky\n2,road\n3,road\n")
    assert read_class_file(path).notes == (
        "classes.csv: 2 lines that begin with # are not read (such as # old).",
        "classes.csv: no label holds the id -1: void stands for no class.",
        "classes.csv: 'Sky', 'sky' differ in capitals alone and are different classes.",
        "classes.csv: 'road' of several rows: their label values are one class.",
    )


def test_without_ids_it_is_noted_that_rows_behind_a_hash_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text("name,red,green,blue\nsky,1,2,3\n#bus,4,5,6\nroad,7,8,9\n")
    assert read_class_file(path).notes == (
        "classes.csv: 1 line that begins with # is not read (such as #bus). There is no column id, so label values "
        "count the other rows.",
    )


def test_the_colour_of_void_with_the_id_minus_1_is_ignored(tmp_path: Path) -> None:
    content = "id,name,color\n-1,void,0 0 0\n0,sky,1 2 3\n1,road,4 5 6\n"
    table, values, colours = read(tmp_path / "classes.csv", content)
    assert table.names == ("sky", "road") and values.ids == {0: 0, 1: 1} and values.all_ignored == {255}
    assert colours == {code_of((0, 0, 0)): [255], code_of((1, 2, 3)): [0], code_of((4, 5, 6)): [1]}


def test_void_with_the_id_minus_1_beside_a_class_255_is_left_out(tmp_path: Path) -> None:
    content = "id,name,color\n-1,void,0 0 0\n0,sky,1 2 3\n255,road,4 5 6\n"
    table, values, _ = read(tmp_path / "classes.csv", content)
    assert table.names == ("sky", "road") and values.ids == {0: 0, 255: 1}


YAML: dict[str, str] = {
    "a list": "- {name: sky, r: 70, g: 130, b: 180}\n- {class: road, color: [128, 64, 128]}\n"
    "- {label: car, colour: '#00008e'}\n",
    "a mapping": "classes:\n- {name: sky, color: 70 130 180}\n- {name: road, color: 128 64 128}\n"
    "- {name: car, color: 0 0 142}\n",
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_is_read_alike(tmp_path: Path, name: str) -> None:
    table, values, _ = read(tmp_path / "classes.yaml", YAML[name])
    assert [entry.color for entry in table.classes] == [(70, 130, 180), (128, 64, 128), (0, 0, 142)]
    assert values.ids == {0: 0, 1: 1, 2: 2}


ID_COLUMNS = ["idx", "Index", "class_id", "categoryId", "gray", "Grey value", "mask_value", "Pixel Value", "labelID"]


@pytest.mark.parametrize("column", ID_COLUMNS)
def test_spellings_of_the_column_of_label_values(tmp_path: Path, column: str) -> None:
    table, values, _ = read(tmp_path / "classes.csv", f"{column},name\n2,car\n0,sky\n1,road\n")
    assert table.names == ("sky", "road", "car") and values.ids == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize("column", ["train_id", "no", "number", "code", "#", "Klasse"])
@pytest.mark.parametrize("numbers", [(2, 0, 1), (7, 8, 11)])
def test_another_column_of_numbers_that_may_be_label_values_is_asked_about(
    tmp_path: Path, column: str, numbers: tuple[int, ...]
) -> None:
    rows = "".join(f"{number},{name}\n" for number, name in zip(numbers, ("car", "sky", "road"), strict=True))
    with pytest.raises(DataError, match=rf"column '{column}' has another number for each class .*Add one: with these"):
        read(tmp_path / "classes.csv", f"{column},name\n{rows}")
    table, values, _ = read(tmp_path / "classes.csv", f"id,{column},name\n" + rows.replace(",", ",9,"))
    assert values.lookup[list(numbers)].tolist() == [table.names.index(name) for name in ("car", "sky", "road")]


def test_the_column_called_as_its_key_is_read_in_place_of_its_spellings(tmp_path: Path) -> None:
    """Cityscapes' classes have a category as well, of which several have the same."""
    rows = "name,id,category,color,hex\ntruck,27,vehicle,1 2 3,#040506\ncar,26,vehicle,7 8 9,#040506\n"
    in_yaml = "- {id: 27, name: truck, category: vehicle}\n- {id: 26, name: car, category: vehicle}\n"
    for ending, text in ((".csv", rows), (".yaml", in_yaml)):
        table, values, _ = read(tmp_path / f"classes{ending}", text)
        assert table.names == ("car", "truck") and values.ids == {26: 0, 27: 1}
        (note,) = read_class_file(tmp_path / f"classes{ending}").notes
        assert "'category'" in note and note.endswith("are not read.")
    with pytest.raises(DataError, match="'id' and 'index' both say 'id' of a class"):
        read(tmp_path / "classes.yaml", "- {name: car, id: 26, index: 0}\n- {name: truck, id: 27, index: 1}\n")


@pytest.mark.parametrize("header", ["# name,id", "#name,id", "# by NumPy\n# class,id"])
def test_the_header_may_be_a_comment(tmp_path: Path, header: str) -> None:
    table, values, _ = read(tmp_path / "classes.csv", f"{header}\nsky,7\nroad,3\n")
    assert table.names == ("road", "sky") and values.ids == {3: 0, 7: 1}


def test_a_comment_above_the_header_is_none(tmp_path: Path) -> None:
    table, _, _ = read(tmp_path / "classes.csv", "# labels\nname,id\nsky,7\nroad,3\n")
    assert table.names == ("road", "sky")


MAPPINGS = [
    "{2: car, 0: sky, 1: road}",
    "{'2': car, '0': sky, '1': road}",
    "classes: {2: car, 0: sky, 1: road}",
    "{car: 2, sky: 0, road: 1}",
    "classes: {car: 2, sky: 0, road: 1}",
    "path: ../roads\ntrain: images/train\nnc: 3\nnames: [sky, road, car]\n",
    "names:\n  1: road\n  0: sky\n  2: car\n",
]


@pytest.mark.parametrize("content", MAPPINGS)
def test_yaml_mappings_of_ids_and_names(tmp_path: Path, content: str) -> None:
    table, values, _ = read(tmp_path / "classes.yaml", content)
    assert table.names == ("sky", "road", "car") and values.ids == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize("content", ["[sky, road]", "classes: {0: sky, 1: road}", "- {name: sky}\n- {name: road}\n"])
def test_classes_need_no_colours(tmp_path: Path, content: str) -> None:
    table, _, colours = read(tmp_path / "classes.yaml", content)
    assert table.names == ("sky", "road")
    assert len({entry.color for entry in table.classes}) == 2
    assert colours == {}


def test_roboflows_class_file(tmp_path: Path) -> None:
    table, values, _ = read(tmp_path / "_classes.csv", "Pixel Value, Class\n0, sky\n7, road\n")
    assert (table.names, values.ids) == (("sky", "road"), {0: 0, 7: 1})


def test_names_of_windows_1252_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_bytes((HEADER + ROWS).replace("road", "Stra\u00dfe").encode("cp1252"))
    declared = read_class_file(path)
    assert declared.classes[1].name == "Stra\u00dfe"
    assert declared.notes == ("classes.csv: it is no UTF-8 and was read as Windows-1252; look at its names.",)


def test_columns_that_are_not_read_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text("name,r,g,b,class_11\nsky,70,130,180,1\nroad,128,64,128,1\n")
    assert read_class_file(path).notes == ("classes.csv: the columns 'class_11' are not read.",)


def test_ids_may_be_sparse_shared_and_ignored(tmp_path: Path) -> None:
    text = "id,name,r,g,b,ignore\n204,tree,1,1,1,\n7 8,car,2,2,2,\n9,car,3,3,3,\n0,void,0,0,0,yes\n200,road,4,4,4,\n"
    table, values, colours = read(tmp_path / "classes.csv", text)
    assert table.names == ("car", "road", "tree")
    assert values.ids == {7: 0, 8: 0, 9: 0, 200: 1, 204: 2}
    assert values.all_ignored == {0, 255}
    assert colours[code_of((3, 3, 3))] == [0] and colours[0] == [IGNORE_ID]
    assert table.classes[0].color == (2, 2, 2)


@pytest.mark.parametrize("name", ["void", "Unlabelled", "ignore", "dont-care"])
def test_255_may_be_listed_as_no_class(tmp_path: Path, name: str) -> None:
    table, values, _ = read(tmp_path / "classes.csv", f"id,name\n0,sky\n1,road\n255,{name}\n")
    assert table.names == ("sky", "road") and values.all_ignored == {255}


def test_255_may_be_a_class(tmp_path: Path) -> None:
    _, values, _ = read(tmp_path / "classes.csv", "id,name\n0,sky\n255,road\n")
    assert values.lookup[[0, 255]].tolist() == [0, 1]
    assert str(values) == "the class ids 0, 255"


def test_ids_count_from_1_where_0_is_ignored(tmp_path: Path) -> None:
    _, values, _ = read(tmp_path / "classes.yaml", "ignore_ids: [0, 9]\nclasses: [sky, road]\n")
    assert values.ids == {1: 0, 2: 1} and values.all_ignored == {0, 9, 255}


REFUSED: dict[str, tuple[str, str]] = {
    "no header": ("sky,70,130,180\nroad,1,2,3\n", r"its first line \(sky, 70, 130, 180\) names no column 'name'"),
    "an id of two classes": ("id,name\n1,sky\n1,road\n", "the label value 1 is that of 'sky' and of 'road'"),
    "rows without a name": ("name,color\n,1 2 3\n,4 5 6\n", r"classes\.0\.name: Field required"),
    "a row without id": ("id,name\n1,sky\n,road\n", "'road' has no id, others have"),
    "ignored and a class": ("id,name,ignore\n1,sky,\n2,road,\n1,void,true\n", r"\[1\] both as class ids and"),
    "no colour": ("name,color\nsky,blue\nroad,1 2 3\n", "the colour 'blue' cannot be read"),
    "a colour missing": ("name,red,green,blue\nsky,1,2,3\nroad,,,\n", r"classes\.1\.red: Field required"),
    "an id above 255": ("id,name\n1,sky\n300,road\n", r"classes\.1\.id\.0.*300"),
    "shares of 1": ("name,r,g,b\nsky,0.2,0.5,0.7\nroad,0.5,0.25,0.5\n", r"classes\.0\.red"),
    "-1 of a class": ("id,name\n0,sky\n-1,road\n", r"classes\.1\.id\.0.*-1"),
    "a column twice": ("name,name,color\na,b,1 2 3\n", "'name' come twice"),
    "two columns of names": ("class,label\na,b\nc,d\n", "'class' and 'label' both say 'name'"),
    "two columns of ids": ("id,name,gray\n0,sky,0\n1,road,128\n", "'id' and 'gray' both say 'id' of a class"),
    "names that are numbers": ("label,color\n7,1 2 3\n26,4 5 6\n", "column 'name' has another number for each"),
    "train ids": ("name,trainId\nvoid,255\nroad,0\negg,-1\ncar,1\n", "column 'trainId' .* there is no column id"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_class_files_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    content, says = REFUSED[name]
    with pytest.raises(DataError, match=says):
        read(tmp_path / "classes.csv", content)
