"""Class files as other tools write them: JSON, lists of names, label maps in text, palettes beside names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from label_situations import CLASSES, COLOURS, write_folder, wrong_pixels
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.decoding.class_files import classes_of_class_file, read_class_file
from scenepalette.data.decoding.label_images import code_of
from scenepalette.data.readers.folder import open_folder

NAMES = [name for name, _ in CLASSES]
PALETTE = [list(colour) for _, colour in CLASSES]
ROWS = [{"name": name, "color": list(colour)} for name, colour in CLASSES]

COLOURED = {
    "mapillary.json": json.dumps(
        {"labels": [{**row, "instances": True} for row in ROWS], "version": "1.1"}, indent="\t"
    ),
    "objects.json": json.dumps([{"id": number, **row} for number, row in enumerate(ROWS)]),
    "supervisely.json": json.dumps({"classes": [{"title": row["name"], "color": row["color"]} for row in ROWS]}),
    "meta.json": json.dumps(
        {
            "classes": [
                {"title": name, "shape": "bitmap", "color": f"#{r:02X}{g:02X}{b:02X}", "id": 12345 + k, "hotkey": ""}
                for k, (name, (r, g, b)) in enumerate(CLASSES)
            ],
            "tags": [],
            "projectType": "images",
        }
    ),
    "mmseg.json": json.dumps({"classes": NAMES, "palette": PALETTE}),
    "metainfo.yaml": json.dumps({"METAINFO": {"classes": NAMES, "palette": PALETTE}}),
    "labelmap.txt": "# label:color_rgb:parts:actions\n" + "".join(f"{n}:{r},{g},{b}::\n" for n, (r, g, b) in CLASSES),
    "label_colors.txt": "".join(f"{r} {g} {b}\t\t{n}\n" for n, (r, g, b) in CLASSES),
    "behind.txt": "".join(f"{n} {r} {g} {b}\n" for n, (r, g, b) in CLASSES),
    "numbered.txt": "".join(f"{k} {n} {r} {g} {b}\n" for k, (n, (r, g, b)) in reversed([*enumerate(CLASSES)])),
    "lut.txt": "#No. Name R G B A\n"
    + "".join(f"{k}  {n}  {r} {g} {b} 0\n" for k, (n, (r, g, b)) in enumerate(CLASSES)),
    "table.tsv": "name\tr\tg\tb\n" + "".join(f"{n}\t{r}\t{g}\t{b}\n" for n, (r, g, b) in CLASSES),
    "alpha.csv": "name,color\n" + "".join(f"{n},{r} {g} {b} 255\n" for n, (r, g, b) in CLASSES),
    "alpha_hex.csv": "name,color\n" + "".join(f"{n},#{r:02x}{g:02x}{b:02x}ff\n" for n, (r, g, b) in CLASSES),
    "colours.json": json.dumps(dict(zip(NAMES, PALETTE, strict=True))),
    "class_list.json": json.dumps({f"#{r:02x}{g:02x}{b:02x}": n for n, (r, g, b) in CLASSES}),
    "hexadecimal.yaml": json.dumps({name: f"#{r:02x}{g:02x}{b:02x}" for name, (r, g, b) in CLASSES}),
    "ontology.yaml": json.dumps({str(number): row for number, row in reversed([*enumerate(ROWS)])}),
    "described.json": json.dumps(
        {"classes": {name: {"index": k, "color": PALETTE[k]} for k, name in reversed([*enumerate(NAMES)])}}
    ),
    "itk-snap.txt": "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL\n"
    + "".join(
        f'    {k}   {r:3} {g:3} {b:3}  {k and 0.5:g}  1  1    "{n}"\n' for k, (n, (r, g, b)) in enumerate(CLASSES)
    ),
    "qgis.txt": "# QGIS Generated Color Map Export File\nINTERPOLATION:EXACT\n"
    + "".join(f"{k},{r},{g},{b},255,{n}\n" for k, (n, (r, g, b)) in reversed([*enumerate(CLASSES)])),
    "hexadecimal.txt": "".join(f"{n} #{r:02X}{g:02x}{b:02x}\n" for n, (r, g, b) in CLASSES),
    "hexadecimal_first.txt": "# car and tree\n" + "".join(f"#{r:02x}{g:02x}{b:02x} {n}\n" for n, (r, g, b) in CLASSES),
    "hexadecimal_numbered.txt": "".join(
        f"{k}: {n}, #{r:02x}{g:02x}{b:02x}\n" for k, (n, (r, g, b)) in enumerate(CLASSES)
    ),
    "bracketed.txt": "".join(f"{n} ({r}, {g}, {b})\n" for n, (r, g, b) in CLASSES),
    "bracketed_first.txt": "".join(f"[{r}, {g}, {b}] {n}\n" for n, (r, g, b) in CLASSES),
    "bracketed_colons.txt": "".join(f"{k}: {n} = [{r},{g},{b}]\n" for k, (n, (r, g, b)) in enumerate(CLASSES)),
    "semicolons.txt": "".join(f"{n};{r};{g};{b}\n" for n, (r, g, b) in CLASSES),
    "semicolons_numbered.txt": "".join(f"{k};{n};{r};{g};{b}\n" for k, (n, (r, g, b)) in enumerate(CLASSES)),
    "css.csv": "name,color\n" + "".join(f'{n},"rgb({r}, {g}, {b})"\n' for n, (r, g, b) in CLASSES),
}
NAMED = {
    "names.json": json.dumps(NAMES),
    "id2label.json": json.dumps({"id2label": dict(enumerate(NAMES))}),
    "label2id.json": json.dumps({"label2id": {name: number for number, name in enumerate(NAMES)}}),
    "numbered.json": json.dumps(dict(enumerate(NAMES))),
    "classes.txt": "\n".join(NAMES),
    "labelme.txt": "\n".join(["__ignore__", *NAMES]),
    "colons.txt": "3: tree\n0: sky\n1: road\n2: car\n",
    "spaces.txt": "0 sky\n1 road\n2 car\n3 tree\n",
    "dashes.txt": "3 - tree\n0 - sky\n1 - road\n2 - car\n",
    "behind_spaces.txt": "tree 3\nsky 0\nroad 1\ncar 2\n",
    "behind_colons.txt": "tree: 3\nsky: 0\nroad: 1\ncar: 2\n",
    "behind_brackets.txt": "tree (3)\nsky (0)\nroad (1)\ncar (2)\n",
    "brackets.txt": "[3] tree\n[0] sky\n[1] road\n[2] car\n",
    "behind_commas.txt": "tree,3\nsky,0\nroad,1\ncar,2\n",
    "hexadecimal.csv": "id,name\n0x00,sky\n0x01,road\n0x02,car\n0x03,tree\n",
}


def read(path: Path, content: str) -> tuple:
    path.write_text(content)
    return classes_of_class_file(path, read_class_file(path))


@pytest.mark.parametrize("name", [*COLOURED, *NAMED])
def test_class_files_of_other_tools(tmp_path: Path, name: str) -> None:
    table, values, colours = read(tmp_path / name, {**COLOURED, **NAMED}[name])
    assert list(table.names) == NAMES
    assert values.ids == {number: number for number in range(4)}
    assert colours == ({code_of(c): [k] for k, (_, c) in enumerate(CLASSES)} if name in COLOURED else {})


@pytest.mark.parametrize("names", [["zone 1", "zone 2"], ["Airbus 380", "Boeing 747"], ["sky 1", "road"]])
def test_numbers_that_are_part_of_names_are_no_label_values(tmp_path: Path, names: list[str]) -> None:
    table, values, _ = read(tmp_path / "classes.txt", "\n".join(names))
    assert list(table.names) == names
    assert values.ids == {0: 0, 1: 1}


@pytest.mark.parametrize("name", ["labelmap.txt", "label_colors.txt", "classes.json", "LabelMap.TXT"])
def test_they_are_found_and_named(tmp_path: Path, name: str) -> None:
    root = write_folder(tmp_path, lambda path, label, index: Image.fromarray(COLOURS[label]).save(path))
    (root / "classes.csv").unlink()
    (root / name).write_text(COLOURED.get(name.lower(), COLOURED["mmseg.json"]))
    datasets = [open_folder(root, split) for split in ("train", "val")]
    assert wrong_pixels(datasets) == 0
    assert f"classes are those of {name}; data.class_file names another" in datasets[0].notes


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("no.yaml", "- sky\n- no\n- car\n", "the name of class 1 is read as false"),
        ("files.txt", "train/a.png\ntrain/b.png\n", "it lists image files (such as train/a.png), not classes"),
        ("one.txt", "sky, road, car, tree\n", "it has one line (sky, road, car, tree); required is a line for each"),
        ("header.txt", "id name\n0 sky\n1 road\n", "its first line (id name) names columns that only spaces separate"),
        ("mixed.txt", "road:128,64,128::\ncar;1;2;3\n", "mixed.txt cannot be used: 'car;1;2;3' is no class as on"),
        ("colourless.txt", "128 64 128 road\nsky\n", "'sky' is no class as on other lines"),
        ("book.csv", "PK\x03\x04rest", "a spreadsheet or a ZIP archive"),
        (
            "short.json",
            json.dumps({"classes": NAMES, "palette": PALETTE[:2]}),
            "its palette has 2 colours, its classes 4",
        ),
        ("typed.yaml", "classes: [sky, road]\nignore_id: [0]\n", "ignore_id"),
        ("broken.json", '{"classes": ["sky",', "is not valid JSON"),
    ],
)
def test_what_is_no_class_file_is_said_on_one_line_each(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / name, content)
    assert said in str(caught.value)
    assert "\n" not in caught.value.summary
