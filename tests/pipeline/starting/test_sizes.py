from __future__ import annotations

import pytest

from scenepalette.common.errors import ConfigError
from scenepalette.generators.nn.grids import base_grid
from scenepalette.pipeline.starting import sizes as module
from scenepalette.pipeline.starting.sizes import MOST_STRETCHED, architecture_for, sizes_for, stretch
from scenepalette.segmenters.registry import network_problem
from scenepalette.segmenters.settings import SegmenterSettings

NATIVE = [(240, 320), (360, 480), (720, 1280), (1080, 1920), (1024, 2048), (512, 512), (1920, 1080), (375, 500)]


@pytest.mark.parametrize("native", NATIVE)
def test_sizes_are_reached_from_small_to_large_and_hardly_stretch(native: tuple[int, int]) -> None:
    sizes = sizes_for(native, native[1] / native[0])
    assert len(sizes) > 3 and len(set(sizes)) == len(sizes)
    pixels = [height * width for height, width in sizes]
    assert pixels == sorted(pixels)
    for size in sizes:
        base_grid(size)  # raises for a size that is not reached
        assert stretch(size, native[1] / native[0]) <= MOST_STRETCHED
        assert size[0] % 32 == size[1] % 32 == 0
        assert size[0] <= native[0] + 8 and size[1] <= native[1] + 8


def test_a_size_that_fits_takes_the_place_of_one_that_stretches() -> None:
    assert sizes_for((240, 320), 4 / 3) == [(64, 96), (96, 128), (160, 224), (192, 256)]


@pytest.mark.parametrize("native", [(48, 48), (32, 32), (20, 30), (5, 5), (100, 3000), (3000, 100)])
def test_there_is_a_size_for_whatever_images(native: tuple[int, int]) -> None:
    for size in sizes_for(native, native[1] / native[0]):
        base_grid(size)
        assert not network_problem(SegmenterSettings(architecture="fpn"), size)


def test_the_architecture_of_the_finest_usual_stride_is_taken_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    assert architecture_for(SegmenterSettings(), (96, 128)) == "fpn"
    # No multiple of 32 is needed.
    assert architecture_for(SegmenterSettings(), (48, 72)) == "fpn"

    def problem(settings: SegmenterSettings, size: tuple[int, int]) -> str:
        return f"{settings.architecture} cannot take it" if settings.architecture == "fpn" else ""

    # What cannot take a size is passed over.
    monkeypatch.setattr(module, "network_problem", problem)
    assert architecture_for(SegmenterSettings(), (48, 72)) == module.ARCHITECTURES[1]
    monkeypatch.setattr(module, "ARCHITECTURES", ("fpn",))
    with pytest.raises(ConfigError, match="no segmenter can work at 48x72: fpn cannot take it"):
        architecture_for(SegmenterSettings(), (48, 72))
