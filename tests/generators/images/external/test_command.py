from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.randomness import torch_generator
from scenepalette.data.arrays import images_to_uint8
from scenepalette.data.classes import ClassTable
from scenepalette.data.labels import one_hot
from scenepalette.generators.images.external.command import (
    COMMAND,
    CommandGenerator,
    CommandSettings,
    place_problems,
    settings_problems,
)
from scenepalette.training.settings import settings_of_result

SIZE = (12, 16)
PAINT = """
import csv, pathlib, sys
from PIL import Image
labels, out, seed, classes, seeds = sys.argv[1:]
rows = list(csv.DictReader(open(seeds)))
names = [row["name"] for row in csv.DictReader(open(classes))]
assert names == ["class 0", "class 1", "class 2"] and rows[0]["seed"] == seed
assert sorted(row["name"] for row in rows) == sorted(p.name for p in pathlib.Path(labels).iterdir())
for row in rows:
    label = Image.open(pathlib.Path(labels, row["name"]))
    assert label.mode == "L" and max(label.tobytes()) < 3
    colour = [int(row["seed"]) >> shift & 255 for shift in (0, 8, 16)]
    image = Image.new("RGB", label.size, tuple(colour))
    image.paste((255, 255, 255), mask=label.point(lambda value: 255 * (value == 2)))
    image.save(pathlib.Path(out, row["name"]))
"""
HEAD = "import pathlib, sys; from PIL import Image; labels, out = map(pathlib.Path, sys.argv[1:3]); "
GOOD = "[Image.new('RGB', (16, 12)).save(out / f.name) for f in labels.iterdir()]; "


def command(tmp_path: Path, code: str, words: str = "{labels} {out}") -> CommandSettings:
    script = tmp_path / "paint.py"
    script.write_text(code)
    return CommandSettings(command=f"{shlex.join([sys.executable, str(script)])} {words}", timeout=120)


def generator_of(settings: CommandSettings) -> CommandGenerator:
    return CommandGenerator(ClassTable.unnamed(3), SIZE, settings)


def labels_of(count: int) -> torch.Tensor:
    return torch.randint(0, 3, (count, *SIZE), generator=torch.Generator().manual_seed(0))


def test_one_process_paints_a_batch_and_a_seed_belongs_to_its_row_alone(tmp_path: Path) -> None:
    generator = generator_of(command(tmp_path, PAINT, "{labels} {out} {seed} {classes} {seeds}"))
    label = labels_of(3)
    noise = generator.sample_noise(None, label, [torch_generator(5, row) for row in range(3)])
    images = images_to_uint8(generator(one_hot(label, 3), noise))
    assert images.shape == (3, *SIZE, 3) and len(set(noise.tolist())) == 3
    for row in range(3):
        colour = [int(noise[row]) >> shift & 255 for shift in (0, 8, 16)]
        expected = np.where(label[row, :, :, None].numpy() == 2, 255, colour)
        np.testing.assert_array_equal(images[row], expected)
    alone = generator.sample_noise("image", label[1:2], [torch_generator(5, 1)])
    np.testing.assert_array_equal(images_to_uint8(generator(one_hot(label[1:2], 3), alone))[0], images[1])


@pytest.mark.parametrize(
    ("code", "problems"),
    [
        (GOOD + "(out / '00001.png').unlink()", ["00001.png: it is not there"]),
        (GOOD + "(out / 'extra.png').write_bytes(b'')", ["extra.png: it was not asked for"]),
        (GOOD + "(out / '00000').mkdir()", ["00000: it was not asked for"]),
        (GOOD + "(out / '00000.jpg').write_bytes(b'')", ["00000.png: 00000.jpg is there as well", "it is empty"]),
        (GOOD + "(out / '00001.png').write_bytes(b'garbage')", ["00001.png: it is damaged, cut off or not an image"]),
        (
            GOOD + "Image.new('RGB', (12, 16)).save(out / '00000.png')",
            ["00000.png: it has 16 x 12 pixels (height x width); 12 x 16 are required"],
        ),
        (GOOD + "Image.new('I;16', (16, 12)).save(out / '00000.png')", ["00000.png: it is PNG of mode I;16"]),
        ("pass", ["00000.png: it is not there", "00001.png: it is not there"]),
    ],
    ids=["left out", "extra", "folder", "twice", "garbage", "size", "16 bits", "nothing"],
)
@pytest.mark.damaged
def test_images_that_are_not_as_required_are_listed(tmp_path: Path, code: str, problems: list[str]) -> None:
    generator = generator_of(command(tmp_path, HEAD + code))
    with pytest.raises(ScenepaletteError, match=r"images of images\.command cannot be used") as caught:
        generator.paint(labels_of(2).byte().numpy(), [1, 2])
    assert len(caught.value.problems) == len(problems)
    assert all(words in problem for words, problem in zip(problems, caught.value.problems, strict=True))


def test_jpeg_and_grey_images_are_taken(tmp_path: Path) -> None:
    code = "Image.new('L', (16, 12), 90).save(out / '00000.png'); Image.new('RGB', (16, 12)).save(out / '00001.jpg')"
    images = generator_of(command(tmp_path, HEAD + code)).paint(labels_of(2).byte().numpy(), [1, 2])
    assert (images[0] == 90).all() and (images[1] == 0).all()


def test_a_command_that_fails_is_told_with_what_it_printed(tmp_path: Path) -> None:
    generator = generator_of(command(tmp_path, "raise SystemExit('no model here')"))
    with pytest.raises(ScenepaletteError, match="exit status 1") as caught:
        generator.paint(labels_of(1).byte().numpy(), [1])
    assert caught.value.problems == ("no model here",)


def test_what_is_wrong_with_the_settings_is_said() -> None:
    assert 'give, for example, images.command="python' in settings_problems(CommandSettings())[0]
    assert "lacks {labels}" in settings_problems(CommandSettings(command="paint {out}"))[0]
    assert "no program no-such" in place_problems(CommandSettings(command="no-such {labels} {out}"))[0]


def test_the_timeout_is_no_part_of_what_identifies_the_images() -> None:
    short, long = (settings_of_result(CommandSettings(command="a", timeout=seconds)) for seconds in (1.0, 2.0))
    assert short == long and short["command"] == "a"
    assert settings_of_result(COMMAND.settings(command="b")) != short
