from __future__ import annotations

import pytest
import torch

from scenepalette.common.errors import ScenepaletteError
from scenepalette.training.device.fitting import in_fitting_batches


def test_batches_that_fit_are_taken_as_they_are() -> None:
    assert [(list(rows), total) for rows, total in in_fitting_batches(5, 2, sum)] == [
        ([0, 1], 1),
        ([2, 3], 5),
        ([4], 4),
    ]
    assert list(in_fitting_batches(0, 2, sum)) == []


@pytest.mark.parametrize("most", [1, 3, 4])
def test_every_row_is_taken_once_and_in_order_where_memory_is_lacking(
    most: int, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[int] = []

    def work(rows: range) -> list[int]:
        tried.append(len(rows))
        if len(rows) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(rows)

    done = [row for _, rows in in_fitting_batches(11, 8, work) for row in rows]
    assert done == list(range(11))
    fitting = max(size for size in (8, 4, 2, 1) if size <= most)
    assert tried[: tried.index(fitting)] == [size for size in (8, 4, 2, 1) if size > fitting]
    assert all(size <= fitting for size in tried[tried.index(fitting) :])  # the larger ones are not tried again
    assert f"from here on {fitting} are taken" in capsys.readouterr().err


def test_a_row_that_does_not_fit_alone_says_what_to_do() -> None:
    def work(rows: range) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ScenepaletteError, match=r"a single one of the layouts.*nvidia-smi.*compute\.accelerator=cpu"):
        list(in_fitting_batches(3, 2, work, "layouts"))


def test_other_errors_pass() -> None:
    def work(rows: range) -> None:
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        list(in_fitting_batches(3, 2, work))
