from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from scenepalette.common.errors import ScenepaletteError
from scenepalette.generators.pairs.batches import BatchSize, made_ahead

CPU = torch.device("cpu")


def test_a_batch_for_which_memory_was_lacking_is_halved_for_good(capsys: pytest.CaptureFixture[str]) -> None:
    size = BatchSize(CPU, grows=True)
    assert size.of(8) == 8
    size.lacked_memory(8)
    size.lacked_memory(4)
    size.fitted()
    assert size.of(8) == 2
    assert "too small for 4 pairs at once; from here on 2 are taken" in capsys.readouterr().err


def test_a_single_row_for_which_memory_was_lacking_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ScenepaletteError, match=r"too small for a single one of the pairs.*compute.accelerator=cpu"):
        BatchSize(CPU).lacked_memory(1)


def test_batches_grow_while_a_gpu_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        total_memory = 100

    taken = iter([10, 20, 41, 41])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: next(taken))
    begun: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: begun.append("emptied"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: begun.append("peak forgotten"))
    size = BatchSize(torch.device("cuda"), grows=True)
    assert begun == ["emptied", "peak forgotten"]  # of trainings before, in the same process
    sizes = []
    for _ in range(4):
        sizes.append(size.of(3))
        size.fitted()
    assert sizes == [3, 6, 12, 12]


def test_items_made_ahead_come_in_order_and_no_more_are_made_than_may_wait() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    ahead = made_ahead(numbers(), 3)
    assert next(ahead) == 0
    # One is in use, three wait, one may be at hand.
    assert [next(ahead) for _ in range(49)] == list(range(1, 50))
    assert len(made) <= 50 + 3 + 1
    ahead.close()
    before = len(made)
    assert before < 100 and made == list(range(before))


def test_an_error_of_the_maker_is_raised_where_its_items_are_used() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise KeyError("lost")

    ahead = made_ahead(numbers(), 3)
    assert next(ahead) == 1
    with pytest.raises(KeyError, match="lost"):
        next(ahead)


def test_the_maker_is_closed_when_nobody_wants_more() -> None:
    closed: list[bool] = []

    def numbers() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    ahead = made_ahead(numbers(), 2)
    next(ahead)
    ahead.close()
    assert closed == [True]
