from __future__ import annotations

import json
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from scenepalette.common.errors import AbsentError, DataError
from scenepalette.common.randomness import torch_generator
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.evaluation.evidence import Evidence
from scenepalette.evaluation.generated import evaluate_images
from scenepalette.evaluation.images.appearance import appearance_histograms, color_distance, texture_distance
from scenepalette.evaluation.images.diversity import (
    class_variance,
    load_lpips,
    mean_pairwise_lpips,
    mean_pairwise_ms_ssim,
)
from scenepalette.evaluation.images.features import inception_features, load_inception, segmenter_features
from scenepalette.evaluation.images.frechet import frechet_distance
from scenepalette.evaluation.images.precision_recall import precision_recall
from scenepalette.evaluation.miou import confusion_per_image, mean_iou
from scenepalette.segmenters.model import build_network

ABSENT = Path("no-such-weights.pth")


def painted(labels: Tensor, draw: int) -> Tensor:
    """Layouts in grey levels by class, with brightness by draw and layout and noise by draw."""
    assert torch.is_inference_mode_enabled()
    noise = torch.rand(3, *labels.shape[1:], generator=torch_generator("painted", draw)) - 0.5
    brightness = labels.double().mean(dim=(1, 2)).float().mul(7 + draw).sin() / 4
    shade = labels.clamp(max=2).float() / 4 - 0.25 + brightness[:, None, None]
    return (shade[:, None] + noise / 3).clamp(-1, 1)


@pytest.fixture
def layouts(make_pairs: Callable[..., Pairs]) -> np.ndarray:
    return make_pairs(count=3, seed=7).labels


@pytest.fixture
def generated(make_pairs: Callable[..., Pairs]) -> Pairs:
    """Every other image is as the real ones are, the others are far too bright."""
    pairs = make_pairs(count=6, seed=1)
    pairs.images[::2] = make_pairs(count=6, seed=1, brightness=200).images[::2]
    return pairs


@pytest.fixture
def segmenter() -> nn.Module:
    torch.manual_seed(0)
    return build_network("deeplabv3", 3, decoder_channels=8)


@pytest.fixture
def evaluate(
    layouts: np.ndarray, make_pairs: Callable[..., Pairs], generated: Pairs, segmenter: nn.Module, fabric: Fabric
) -> Callable[..., dict[str, Any]]:
    def call(**changes: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "images_of_layouts": painted,
            "layouts": layouts,
            "real": make_pairs(count=6),
            "generated": generated,
            "segmenter": segmenter,
            "batch_size": 2,
            "fabric": fabric,
            "draws": 3,
            "inception_weights": ABSENT,
            "alexnet_weights": ABSENT,
        }
        return evaluate_images(**(arguments | changes))

    return call


def test_all_metrics_are_those_of_the_single_functions(
    evaluate: Callable[..., dict[str, Any]],
    layouts: np.ndarray,
    make_pairs: Callable[..., Pairs],
    generated: Pairs,
    segmenter: nn.Module,
    fabric: Fabric,
    alexnet_weights: Path,
    table: ClassTable,
) -> None:
    real = make_pairs(count=6)
    metrics = evaluate(alexnet_weights=alexnet_weights)
    of_real, of_generated = (segmenter_features(segmenter, pairs, 2, fabric) for pairs in (real, generated))
    assert metrics["segmenter_frechet"] == frechet_distance(of_real, of_generated)
    shares = precision_recall(of_real, of_generated)
    assert (metrics["segmenter_precision"], metrics["segmenter_recall"]) == shares
    assert shares.precision != shares.recall
    confusion = confusion_per_image(segmenter, generated, 2, fabric)
    assert metrics["gan_test_miou"] == mean_iou(confusion, (0, 1))  # "sky" is not evaluated
    assert metrics["gan_test_miou_all"] == mean_iou(confusion, (0, 1, 2))
    counts = [appearance_histograms([(pairs.images, pairs.labels)], 3) for pairs in (real, generated)]
    for name, function in (("color_distance", color_distance), ("texture_distance", texture_distance)):
        values = function(*counts)
        assert metrics[name] == pytest.approx(values.mean())
        assert [metrics[f"{name}/{class_name}"] for class_name in table.names] == pytest.approx(values.tolist())
    network = load_lpips(alexnet_weights)
    variances, similarities, distances = [], [], []
    for label in layouts:
        with torch.inference_mode():
            drawn = torch.cat([painted(torch.from_numpy(label.astype(np.int64))[None], draw) for draw in range(3)])
        images = ((drawn + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        similarities.append(mean_pairwise_ms_ssim(images))
        distances.append(mean_pairwise_lpips(images, network))
        variances.append(class_variance(images, label, 3))
    assert metrics["ms_ssim"] == pytest.approx(np.mean(similarities))
    assert 0 < metrics["ms_ssim"] < 1
    assert metrics["lpips"] == pytest.approx(np.mean(distances))
    assert metrics["lpips"] > 0
    assert metrics["class_variance"] == pytest.approx(np.mean(np.nanmean(variances, axis=0)))
    assert metrics["class_variance/wall"] == pytest.approx(np.nanmean(variances, axis=0)[1])
    assert metrics["ms_ssim_scales"] == 2
    sizes = [metrics[name] for name in ("real_images", "generated_images", "layouts", "draws_per_layout")]
    assert sizes == [6, 6, 3, 3]
    assert "lpips_absent_because" not in metrics


def test_what_needs_missing_weights_is_absent_with_its_reason(evaluate: Callable[..., dict[str, Any]]) -> None:
    metrics = evaluate()
    weights = {"fid": "Inception", "precision": "Inception", "recall": "Inception", "lpips": "AlexNet"}
    for name, network in weights.items():
        assert metrics[name] is None
        reason = metrics[f"{name}_absent_because"]
        assert reason.lower().startswith(f"{name} is absent: {network.lower()} weights no-such-weights.pth")
        assert "\n" not in reason
    assert sum(value is None for value in metrics.values()) == len(weights)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_no_image_is_read_for_weights_that_are_absent(
    make_pairs: Callable[..., Pairs],
    segmenter: nn.Module,
    fabric: Fabric,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    asked = []

    def unreachable(url: str, *_: object, **__: object) -> None:
        asked.append(url)
        raise urllib.error.URLError("no network")

    def untouched(*_: object) -> None:
        raise AssertionError("no image may be read when FID is absent")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(Pairs, "batch", untouched)
    pairs = make_pairs(count=6)
    evidence = Evidence(pairs, pairs, segmenter, batch_size=2, fabric=fabric, draws=lambda: iter(()))
    for _ in range(2):
        with pytest.raises(AbsentError, match=r"^Inception weights could not be downloaded .*no network"):
            evidence["inception_shares"]
    assert len(asked) == 1, "the download is tried once"


@pytest.mark.slow
def test_inception_metrics(
    evaluate: Callable[..., dict[str, Any]], make_pairs: Callable[..., Pairs], generated: Pairs, inception_weights: Path
) -> None:
    metrics = evaluate(inception_weights=inception_weights)
    real = make_pairs(count=6)
    network = load_inception(inception_weights)
    of_real, of_generated = (inception_features(network, [pairs.images]) for pairs in (real, generated))
    fid = frechet_distance(of_real, of_generated)
    assert fid > 1
    assert metrics["fid"] == pytest.approx(fid, rel=1e-3)
    shares = precision_recall(of_real, of_generated)
    assert (metrics["precision"], metrics["recall"]) == shares
    assert shares.precision != shares.recall
    assert not any(f"{name}_absent_because" in metrics for name in ("fid", "precision", "recall"))
    same = evaluate(inception_weights=inception_weights, generated=real)
    assert same["fid"] == pytest.approx(0, abs=1e-3 * metrics["fid"])
    assert (same["precision"], same["recall"]) == (1, 1)


def test_the_batch_size_does_not_matter(evaluate: Callable[..., dict[str, Any]], alexnet_weights: Path) -> None:
    small, large = (evaluate(batch_size=size, alexnet_weights=alexnet_weights) for size in (1, 8))
    assert small.keys() == large.keys()
    for name, value in small.items():
        assert large[name] == (pytest.approx(value, rel=1e-3) if isinstance(value, float) else value)


def test_real_images_as_generated_ones_are_perfect(
    evaluate: Callable[..., dict[str, Any]], make_pairs: Callable[..., Pairs]
) -> None:
    metrics = evaluate(generated=make_pairs(count=6))
    assert metrics["color_distance"] == metrics["texture_distance"] == 0
    assert metrics["segmenter_precision"] == metrics["segmenter_recall"] == 1
    assert metrics["segmenter_frechet"] < 1e-6


def test_a_generator_without_noise_has_no_diversity(
    evaluate: Callable[..., dict[str, Any]], alexnet_weights: Path
) -> None:
    metrics = evaluate(images_of_layouts=lambda labels, draw: painted(labels, 0), alexnet_weights=alexnet_weights)
    assert metrics["ms_ssim"] == pytest.approx(1, abs=1e-5)
    assert metrics["lpips"] == 0
    assert metrics["class_variance"] == pytest.approx(0, abs=1e-12)


def test_variance_over_all_draws(evaluate: Callable[..., dict[str, Any]]) -> None:
    def three_modes(labels: Tensor, draw: int) -> Tensor:
        level = [-1.0, -1.0, -1.0, -1.0, 0.2, 1.0][draw]
        return torch.full((len(labels), 3, *labels.shape[1:]), level)

    metrics = evaluate(images_of_layouts=three_modes, draws=6)
    assert metrics["class_variance"] == pytest.approx(np.var([0, 0, 0, 0, 153 / 255, 1]))


def test_a_metric_without_a_class_is_absent(
    evaluate: Callable[..., dict[str, Any]], make_pairs: Callable[..., Pairs], layouts: np.ndarray
) -> None:
    real = make_pairs(count=6)
    nothing = Pairs(real.images, np.full_like(real.labels, IGNORE_ID), real.ids, real.table, "nothing", "CC0-1.0")
    metrics = evaluate(generated=nothing, layouts=np.full_like(layouts, IGNORE_ID))
    for name in ("color_distance", "texture_distance", "class_variance", "gan_test_miou"):
        assert metrics[name] is None
        assert metrics[f"{name}_absent_because"].startswith(f"{name} is absent: ")
    json.dumps(metrics, allow_nan=False)


def test_all_problems_are_reported_at_once(
    evaluate: Callable[..., dict[str, Any]], make_pairs: Callable[..., Pairs]
) -> None:
    with pytest.raises(DataError) as caught:
        evaluate(
            layouts=np.zeros((2, 30, 40), dtype=np.uint8),
            real=make_pairs(count=3),
            generated=make_pairs(count=2),
            draws=1,
        )
    assert len(caught.value.problems) == 4
    for text in ("layouts are 30x40", "3 real pairs", "2 generated pairs", "1 draws"):
        assert text in str(caught.value)
    with pytest.raises(DataError, match=r"layouts are int64 \[2, 32, 48\]"):
        evaluate(layouts=np.zeros((2, 32, 48), dtype=np.int64))


def test_pairs_of_different_class_tables_are_refused(
    evaluate: Callable[..., dict[str, Any]], make_pairs: Callable[..., Pairs], table: ClassTable
) -> None:
    real = make_pairs(count=6)
    other = ClassTable("other", table.classes[::-1])
    with pytest.raises(DataError, match="'three', the generated ones 'other'"):
        evaluate(generated=Pairs(real.images, real.labels, real.ids, other, "other", "CC0-1.0"))


def test_a_generator_of_other_sizes_is_refused(evaluate: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(DataError, match=r"\[2, 3, 16, 24\] for 2 layouts; required are \[2, 3, 32, 48\]"):
        evaluate(images_of_layouts=lambda labels, draw: painted(labels, draw)[..., ::2, ::2])


def test_progress_counts_everything(evaluate: Callable[..., dict[str, Any]]) -> None:
    class Counting:
        def __init__(self) -> None:
            self.work: list[list[Any]] = []

        def start(self, description: str, total: int, done: int = 0) -> None:
            self.work.append([description, total, 0, False])

        def advance(self, count: int = 1, **values: float) -> None:
            self.work[-1][2] += count

        def finish(self) -> None:
            self.work[-1][3] = True

    progress = Counting()
    evaluate(progress=progress)
    assert ["Diversity of images of one layout", 9, 9, True] in progress.work
    assert len(progress.work) == 6
    assert all(done == total and finished for _, total, done, finished in progress.work)
