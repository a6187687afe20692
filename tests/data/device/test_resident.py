from __future__ import annotations

import numpy as np
import pytest
import torch

from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.device import resident
from scenepalette.data.device.resident import PlacedLabels, ResidentPairs, TrainingSamples, place
from scenepalette.data.device.transfer import to_device
from scenepalette.data.labels import count_by_rows, count_ids, labels_to_palette, one_hot
from scenepalette.data.shards.pairs import ChosenPairs

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def make_pairs(count: int = 70) -> Pairs:
    """Every grey level and every label occurs."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    images[0].reshape(-1)[:] = np.arange(144)
    labels = random.integers(0, 3, (count, 6, 8), dtype=np.uint8)
    labels[:, 0, 0] = IGNORE_ID
    return Pairs(images, labels, [str(i) for i in range(count)], ClassTable.unnamed(3), "noise", "CC0-1.0")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
def test_resident_batches_are_those_of_their_source(device: str) -> None:
    pairs = make_pairs()
    chosen = [3, 69, 0, 3]
    for source in (pairs, ChosenPairs(pairs, np.arange(70)[::-1])):
        placed = ResidentPairs(source, torch.device(device))
        assert (len(placed), placed.ids, placed.size) == (70, source.ids, (6, 8))
        (image, label), (wanted_image, wanted_label) = placed.batch(chosen), source.batch(chosen)
        assert image.device.type == label.device.type == device
        assert torch.equal(label.cpu(), wanted_label) and label.dtype == torch.int64
        # A GPU multiplies by the inverse where a CPU divides.
        torch.testing.assert_close(image.cpu(), wanted_image, rtol=0, atol=0 if device == "cpu" else 1e-6)


@pytest.mark.parametrize("resident", [False, True])
def test_training_samples_are_the_same_wherever_they_lie(resident: bool) -> None:
    pairs = make_pairs()
    filled = np.where(pairs.labels == IGNORE_ID, 1, pairs.labels)
    samples = TrainingSamples(pairs, filled, CPU, resident)
    chosen = np.array([5, 0, 69])
    image, label, layout = samples.batch(chosen)
    assert torch.equal(image, pairs.batch(chosen)[0]) and torch.equal(label, pairs.batch(chosen)[1])
    assert torch.equal(layout, torch.from_numpy(filled[chosen]).long())
    assert samples.checked == resident


def test_labels_are_looked_at_once_if_batches_are_not() -> None:
    labels = np.zeros((3, 2, 2), np.uint8)
    assert PlacedLabels(labels, 3, CPU, resident=True).checked
    assert not PlacedLabels(labels, 3, CPU).checked
    labels[2, 1, 1] = 3
    assert not PlacedLabels(labels, 3, CPU, resident=True).checked


def test_pairs_that_do_not_fit_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, asked = make_pairs(), []

    def fits(count: int, device: torch.device) -> bool:
        asked.append(count)
        return len(asked) > 1

    monkeypatch.setattr(resident, "fits", fits)
    assert place(pairs, CPU) is pairs
    assert isinstance(place(pairs, CPU), ResidentPairs)
    assert asked == [70 * 6 * 8 * 4] * 2


def test_a_tensor_that_is_where_it_is_needed_is_not_copied() -> None:
    tensor = torch.ones(3)
    assert to_device(tensor, CPU) is tensor


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_is_sent_what_is_needed_there() -> None:
    tensor = torch.arange(1000.0)[:, None].expand(-1, 3)
    sent = to_device(tensor, torch.device("cuda"))
    assert sent.device.type == "cuda" and torch.equal(sent.cpu(), tensor)


def test_checked_labels_give_what_others_do() -> None:
    label = torch.from_numpy(make_pairs().labels.astype(np.int64))
    assert torch.equal(one_hot(label, 3, checked=True), one_hot(label, 3))
    assert torch.equal(labels_to_palette(label, 3, checked=True), labels_to_palette(label, 3))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
def test_ids_are_counted(device: str) -> None:
    ids = torch.tensor([[0, 4, 4], [1, 4, 0]], device=device)
    assert count_ids(ids, 6).tolist() == [2, 1, 0, 0, 3, 0]


@pytest.mark.parametrize("number", [1, 6, 12288])
def test_ids_are_counted_by_rows_as_otherwise(number: int) -> None:
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 9, number))
    assert torch.equal(count_by_rows(ids, 10), torch.bincount(ids, minlength=10))
