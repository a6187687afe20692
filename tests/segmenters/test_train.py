from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from scenepalette.common.errors import CheckpointError, ConfigError, DataError, TrainingError
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.evaluation.miou import confusion_per_image, mean_iou
from scenepalette.segmenters import train as train_module
from scenepalette.segmenters.loading import load_segmenter
from scenepalette.segmenters.schedule import learning_rate_factor
from scenepalette.segmenters.settings import SegmenterSettings
from scenepalette.segmenters.train import supervised_loss, train_segmenter
from scenepalette.training.device.speed import Speed
from scenepalette.training.fabric import make_fabric
from scenepalette.training.loop import read_metrics

MakePairs = Callable[..., Pairs]
MakeSettings = Callable[..., SegmenterSettings]
Train = Callable[..., torch.nn.Module]

# Losses of ten steps, recorded once: a change of the loop that is meant to change nothing leaves them as they are.
GOLDEN = json.loads((Path(__file__).parent / "golden_losses.json").read_text(encoding="utf-8"))
ARMS: dict[str, dict[str, Any]] = {
    "real-flip": {},
    "mixed-advent": {"batch_size": 4, "adaptation": "advent", "adversarial_weight": 0.1},
}


class StopAt:
    """Progress that ends the work by an exception once `steps` steps are finished."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.first = steps, 0, 0

    def start(self, description: str, total: int, done: int = 0) -> None:
        self.done = self.first = done

    def advance(self, count: int = 1, **values: float) -> None:
        self.done += count
        if self.done >= self.steps:
            raise KeyboardInterrupt

    def finish(self) -> None:
        pass


def lines(folder: Path) -> list[dict[str, Any]]:
    return read_metrics(folder / "metrics.jsonl")


def assert_equal_weights(a: torch.nn.Module, b: torch.nn.Module) -> None:
    torch.testing.assert_close(dict(a.state_dict()), dict(b.state_dict()), rtol=0, atol=0)


@pytest.fixture
def train(tmp_path: Path, make_pairs: MakePairs, table: ClassTable, fabric: Fabric) -> Train:
    """Train on real pairs, in a folder of the given name."""

    def run(settings: SegmenterSettings, name: str = "", **changes: Any) -> torch.nn.Module:
        data: dict[str, Any] = {"real": make_pairs(), "synthetic": None, "table": table, "seed": 0, "fabric": fabric}
        return train_segmenter(tmp_path / name, settings, **{**data, **changes})

    return run


@pytest.mark.parametrize("arm", ARMS)
def test_golden_losses(
    arm: str, train: Train, tmp_path: Path, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    settings = make_settings(steps=10, **ARMS[arm])
    synthetic = make_pairs(seed=1, brightness=40) if arm == "mixed-advent" else None
    # In double precision, because batches of two images magnify single precision's rounding, which differs by CPU.
    fabric = make_fabric(precision="64-true")
    train(settings, synthetic=synthetic, seed=5, fabric=fabric)
    measured = lines(tmp_path)
    assert [line["step"] for line in measured] == list(range(1, 11))
    for name, expected in GOLDEN[arm].items():
        assert [line[name] for line in measured] == pytest.approx(expected, rel=1e-3), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adaptation": "advent", "augmentation": "standard"},
        {"adaptation": "minent", "class_weights": "median-frequency"},
        {"synthetic_share": 0.6, "synthetic_fade": 0.8, "optimizer": "adamw", "warmup": 0.5},
        {"schedule": "pretrain", "synthetic_share": 0.4, "mixing": "class-mix", "statistics_images": 0},
        {"mixing": "copy-paste", "class_weights": "median-frequency", "batch_size": 3},
    ],
    ids=["flip", "advent-standard", "minent-weights", "fade-adamw-warmup", "pretrain-mix", "paste-weights"],
)
@pytest.mark.parametrize("stop", [2, 3], ids=["at-a-checkpoint", "after-a-checkpoint"])
def test_interrupted_training_ends_with_the_same_bits(
    stop: int,
    changes: dict[str, Any],
    train: Train,
    tmp_path: Path,
    make_pairs: MakePairs,
    make_settings: MakeSettings,
    table: ClassTable,
    fabric: Fabric,
) -> None:
    settings = make_settings(steps=5, checkpoint_every=2, **changes)
    synthetic = make_pairs(seed=1, brightness=40) if changes else None
    validation = make_pairs(seed=2)

    def validate(network: torch.nn.Module) -> float:
        return mean_iou(confusion_per_image(network, validation, 4, fabric), table.eval_ids)

    run = partial(train, settings, synthetic=synthetic, seed=3, validate=validate)
    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", progress=StopAt(stop))
    torch.manual_seed(99)
    going_on = StopAt(100)
    parts = run("parts", progress=going_on)
    assert (going_on.first, going_on.done) == (2, 5)
    assert_equal_weights(whole, parts)
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")
    assert [line["step"] for line in lines(tmp_path / "whole") if "validation_miou" in line] == [3, 4, 5]
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_the_discriminators_state_is_in_the_checkpoint(
    train: Train, tmp_path: Path, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    settings = make_settings(steps=4, checkpoint_every=2, adaptation="advent", discriminator_learning_rate=0.05)
    run = partial(train, settings, synthetic=make_pairs(seed=1), seed=3)
    run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", progress=StopAt(2))
    run("parts")
    losses = [[line["discriminator_loss"] for line in lines(tmp_path / name)] for name in ("whole", "parts")]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 4


def test_a_training_learns_its_images(
    train: Train, tmp_path: Path, make_pairs: MakePairs, make_settings: MakeSettings, fabric: Fabric
) -> None:
    settings = make_settings(steps=40, batch_size=3, output_stride=8, decoder_channels=32)
    pairs = make_pairs(count=3)
    model = train(settings, real=pairs)
    confusion = confusion_per_image(model, pairs, batch_size=3, fabric=fabric)
    assert mean_iou(confusion, range(3)) > 0.6
    losses = [line["real_loss"] for line in lines(tmp_path)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])


def test_finished_training_is_returned_and_loaded(
    train: Train, tmp_path: Path, make_settings: MakeSettings, table: ClassTable
) -> None:
    settings = make_settings(steps=2)
    model = train(settings)
    again = train(settings, progress=StopAt(1))
    loaded = load_segmenter(tmp_path, settings, table)
    assert_equal_weights(model, again)
    assert_equal_weights(model, loaded)
    assert not (model.training or again.training or loaded.training)
    assert not list((tmp_path / "checkpoints").glob("*.safetensors"))


@pytest.mark.parametrize("finished", [True, False])
def test_folder_of_another_training_is_refused(finished: bool, train: Train, make_settings: MakeSettings) -> None:
    settings = make_settings(steps=4, checkpoint_every=2)
    if finished:
        train(settings)
    else:
        with pytest.raises(KeyboardInterrupt):
            train(settings, progress=StopAt(2))
    with pytest.raises(CheckpointError, match=r"seed: .* 0, this run needs 1"):
        train(settings, seed=1)
    with pytest.raises(CheckpointError):
        train(replace(settings, weight_decay=0.1))
    train(replace(settings, log_every=3))


def drawn_images(
    settings: SegmenterSettings, domains: dict[Any, Pairs], seed: int = 4, first: int = 0
) -> list[dict[Any, list[int]]]:
    """What each step draws of each domain: the values of the images' first pixels, which tell them apart."""
    return [
        {domain: sorted(images[:, 0, 0, 0].mul(1000).round().int().tolist()) for domain, (images, _) in batch.items()}
        for batch in train_module._batches(domains, settings, seed, first)
    ]


def numbered(pairs: Pairs) -> Pairs:
    """The same pairs, whose images differ in their first pixel."""
    images = pairs.images.copy()
    images[:, 0, 0, 0] = np.arange(len(images)) * 9
    return replace(pairs, images=images)


def test_arms_of_one_seed_draw_the_same_real_images_in_the_same_order(
    make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    """Images of a step are in the order of the file; images of several steps are those of the stream so far."""
    real, settings = numbered(make_pairs(count=7)), make_settings(steps=6, batch_size=4, synthetic_fade=0.0)
    alone = [step["real"] for step in drawn_images(settings, {"real": real})]
    mixed = [step["real"] for step in drawn_images(settings, {"real": real, "synthetic": make_pairs(seed=1)})]
    assert [len(step) for step in mixed] == [2] * 6
    for steps in (1, 2, 3):
        assert sorted(itertools.chain(*alone[:steps])) == sorted(itertools.chain(*mixed[: 2 * steps]))
    later = drawn_images(settings, {"real": real, "synthetic": make_pairs(seed=1)}, first=3)
    assert [step["real"] for step in later] == mixed[3:]


@pytest.mark.parametrize("schedule", ["mixed", "pretrain"])
@pytest.mark.parametrize("arm", ["real", "synthetic", "both", "adapted"])
def test_every_arm_takes_equally_many_images(
    arm: str, schedule: Any, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    domains: dict[Any, Pairs] = {"real": make_pairs(), "synthetic": make_pairs(seed=1)}
    if arm in domains:
        domains = {arm: domains[arm]}
    adaptation: Any = "minent" if arm == "adapted" and schedule == "mixed" else "none"
    settings = make_settings(steps=9, batch_size=5, synthetic_share=0.3, schedule=schedule, adaptation=adaptation)
    counts = [
        {domain: len(images) for domain, (images, _) in batch.items()}
        for batch in train_module._batches(domains, settings, 0, 0)
    ]
    assert [sum(count.values()) for count in counts] == [5] * 9


def test_the_network_is_given_as_many_images_in_every_arm(
    train: Train, tmp_path: Path, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    settings = make_settings(steps=4, batch_size=4, statistics_images=0)
    for name, pairs in {
        "real": {"real": make_pairs(), "synthetic": None},
        "syn": {"real": None, "synthetic": make_pairs(seed=1)},
        "both": {"real": make_pairs(), "synthetic": make_pairs(seed=1)},
    }.items():
        with recorded_forwards() as seen:
            train(settings, name, **pairs)
        assert [len(output) for output in seen["segmenter outputs"]] == [4] * 4, name
    assert [line["synthetic_images"] for line in lines(tmp_path / "both")] == [2, 2, 2, 2]


def test_only_arms_with_real_labels_renew_their_statistics(
    train: Train, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    asked: list[int] = []

    class Watched(Pairs):
        def batch(self, indices: Any) -> tuple[Tensor, Tensor]:
            asked.append(len(indices))
            return super().batch(indices)

    pairs = make_pairs(count=6)
    real = Watched(pairs.images, pairs.labels, pairs.ids, pairs.table, pairs.name, pairs.licence)
    data = {"real": real, "synthetic": make_pairs(seed=1)}
    settings = make_settings(steps=2, batch_size=2, statistics_images=5, synthetic_fade=0.0)
    train(settings, "labelled", **data)
    assert asked == [1, 1, 3, 2]
    asked.clear()
    adapted = replace(settings, adaptation="minent")
    train(adapted, "unlabelled", supervise_real=False, **data)
    assert asked == [1, 1]


def test_statistics_of_the_trained_network_are_those_of_real_images(
    train: Train, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    """The first batch norm stands behind one convolution, whose outputs on all images are its values."""
    pairs = make_pairs(count=6)
    settings = make_settings(steps=2, batch_size=4, statistics_images=100)
    model: Any = train(settings, real=pairs, synthetic=make_pairs(seed=1, brightness=90))
    inputs: list[Tensor] = []
    handle = model.encoder.bn1.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    with torch.no_grad():
        model(pairs.batch(range(6))[0])
    handle.remove()
    torch.testing.assert_close(model.encoder.bn1.running_mean, inputs[0].mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    expected = inputs[0].var(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(model.encoder.bn1.running_var, expected, rtol=1e-4, atol=1e-5)


@contextlib.contextmanager
def recorded_forwards() -> Iterator[dict[str, list[Tensor]]]:
    """Record what the segmenter puts out and what the discriminator is given."""
    seen: dict[str, list[Tensor]] = {"segmenter outputs": [], "discriminator inputs": []}

    def record(module: torch.nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, smp.DeepLabV3):
            seen["segmenter outputs"].append(output.detach())
        elif isinstance(module, torch.nn.Sequential) and getattr(module[0], "kernel_size", None) == (4, 4):
            seen["discriminator inputs"].append(arguments[0].detach())

    hook = torch.nn.modules.module.register_module_forward_hook(record)
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("supervise_real", "adapted_domain", "expected"),
    [(True, None, "synthetic"), (True, "real", "real"), (False, None, "real")],
    ids=["both-labelled", "as-the-reference-code", "classic"],
)
def test_which_domain_fools_the_discriminator(
    supervise_real: bool,
    adapted_domain: Any,
    expected: str,
    train: Train,
    tmp_path: Path,
    make_pairs: MakePairs,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []
    original = train_module.domain_loss

    def ask(scores: Tensor, domain: float) -> Tensor:
        asked.append(domain)
        return original(scores, domain)

    monkeypatch.setattr(train_module, "domain_loss", ask)
    with recorded_forwards() as seen:
        train(
            make_settings(steps=1, adaptation="advent", adapted_domain=adapted_domain),
            synthetic=make_pairs(seed=1, brightness=90),
            supervise_real=supervise_real,
        )
    probabilities = seen["segmenter outputs"][0].softmax(dim=1)
    real, synthetic = (-probabilities * probabilities.log() / np.log(3)).split(1)
    adapted, reference = (synthetic, real) if expected == "synthetic" else (real, synthetic)
    # The segmenter asks for the reference's answer (0) on the adapted domain; then the discriminator learns 0 and 1.
    assert asked == [0.0, 0.0, 1.0]
    for given, independent in zip(seen["discriminator inputs"], [adapted, reference, adapted], strict=True):
        torch.testing.assert_close(given, independent)
    assert ("real_loss" in lines(tmp_path)[0]) is supervise_real


@pytest.mark.parametrize("adaptation", ["advent", "minent"])
def test_unlabelled_real_images_change_the_segmenter_but_their_labels_do_not(
    adaptation: Any, train: Train, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    settings = make_settings(steps=2, adaptation=adaptation, adversarial_weight=1.0, entropy_weight=1.0)
    real = make_pairs()
    relabelled = replace(real, labels=np.zeros_like(real.labels))
    models = [
        train(changed, str(index), real=pairs, synthetic=make_pairs(seed=1, brightness=40), supervise_real=False)
        for index, (changed, pairs) in enumerate(
            [
                (settings, real),
                (settings, relabelled),
                (replace(settings, adversarial_weight=0, entropy_weight=0), real),
            ]
        )
    ]
    assert_equal_weights(models[0], models[1])
    with pytest.raises(AssertionError):
        assert_equal_weights(models[0], models[2])


def test_first_loss_equals_an_independent_calculation(
    train: Train, tmp_path: Path, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    """With every image the same, no flip and no order of drawing can change the first loss."""
    pairs = make_pairs(count=1)
    mirrored = np.concatenate([pairs.images, pairs.images[:, :, ::-1]], axis=2)
    labels = np.concatenate([pairs.labels, pairs.labels[:, :, ::-1]], axis=2)
    pairs = replace(pairs, images=mirrored, labels=labels)
    settings = make_settings(steps=1)
    with recorded_forwards() as seen:
        train(settings, real=pairs)
    label = torch.from_numpy(labels.astype(np.int64)).repeat(2, 1, 1)
    log_probabilities = seen["segmenter outputs"][0].log_softmax(dim=1)
    chosen = [
        -log_probabilities[image, label[image, row, column], row, column].item()
        for image, row, column in (label != IGNORE_ID).nonzero().tolist()
    ]
    assert lines(tmp_path)[0]["real_loss"] == pytest.approx(np.mean(chosen), rel=1e-5)


def test_a_network_learns_nothing_from_what_validates_it(
    train: Train, tmp_path: Path, make_settings: MakeSettings
) -> None:
    def spoil(network: torch.nn.Module) -> float:
        for parameter in network.parameters():
            parameter.data.zero_()
        return 0.25

    settings = make_settings(steps=5, log_every=100)
    alone = train(settings, "alone")
    validated = train(settings, "validated", validate=spoil)
    assert_equal_weights(alone, validated)
    assert [(line["step"], line["validation_miou"]) for line in lines(tmp_path / "validated")] == [
        (3, 0.25),
        (4, 0.25),
        (5, 0.25),
    ]


def test_the_log_says_which_classes_were_weighted_and_pasted(
    train: Train, tmp_path: Path, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    """One image of 32 x 48 with 2 x 5 ignored pixels: 100, 400 and 1,026 pixels of the three classes."""
    labels = np.full(32 * 48, 2, dtype=np.uint8)
    labels[:100], labels[100:500], labels[500:510] = 0, 1, IGNORE_ID
    pairs = replace(make_pairs(count=1), labels=labels.reshape(1, 32, 48))
    settings = make_settings(steps=2, mixing="copy-paste", class_weights="median-frequency")
    train(settings, real=pairs)
    last = lines(tmp_path)[-1]
    assert last["class_weights"] == {"ground": 4.0, "wall": 1.0, "sky": pytest.approx(400 / 1026, abs=1e-4)}
    assert last["rare_classes"] == ["ground"]

    rooted = make_settings(steps=2, class_weights="root-median-frequency")
    train(rooted, "rooted", real=pairs)
    weights = lines(tmp_path / "rooted")[-1]["class_weights"]
    assert weights == {"ground": 2.0, "wall": 1.0, "sky": pytest.approx((400 / 1026) ** 0.5, abs=1e-4)}


def test_prior_correction_weighs_generated_and_pasted_classes(
    train: Train, tmp_path: Path, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    """The real image has 300, 612 and 624 pixels of the three classes, the generated one 600, 312 and 624."""

    def pairs_with(first: int, second: int) -> Pairs:
        labels = np.full(32 * 48, 2, dtype=np.uint8)
        labels[:first], labels[first : first + second] = 0, 1
        return replace(make_pairs(count=1), labels=labels.reshape(1, 32, 48))

    real, synthetic = pairs_with(300, 612), pairs_with(600, 312)
    settings = make_settings(steps=2, prior_correction=True)
    train(settings, "both", real=real, synthetic=synthetic)
    last = lines(tmp_path / "both")[-1]
    assert last["class_weights"] == {"ground": 1.0, "wall": 1.0, "sky": 1.0}
    assert last["synthetic_class_weights"] == {"ground": 0.5, "wall": pytest.approx(612 / 312, abs=1e-4), "sky": 1.0}

    balanced = replace(settings, class_weights="median-frequency")
    train(balanced, "balanced", real=real, synthetic=synthetic)
    last = lines(tmp_path / "balanced")[-1]
    assert last["class_weights"]["ground"] == pytest.approx(612 / 300, abs=1e-4)
    assert last["synthetic_class_weights"]["ground"] == pytest.approx(612 / 300 / 2, abs=1e-4)

    # With 300 of 1,536 pixels pasted into every image, 300 + 300 * 1236 / 1536 are to be expected.
    pasting = replace(settings, mixing="copy-paste", mixing_probability=1.0, rare_classes=("ground",))
    train(pasting, "pasted", real=real)
    weights = lines(tmp_path / "pasted")[-1]["class_weights"]
    assert weights["ground"] == pytest.approx(1 / (1 + 1236 / 1536), abs=1e-4)
    assert weights["wall"] == weights["sky"] == pytest.approx(1536 / 1236, abs=1e-4)

    # Without real labels there is nothing to correct towards.
    train(settings, "alone", real=None, synthetic=synthetic)
    assert "synthetic_class_weights" not in lines(tmp_path / "alone")[-1]


def test_learning_rate_falls_polynomially(train: Train, tmp_path: Path, make_settings: MakeSettings) -> None:
    train(make_settings(steps=4))
    rates = [line["learning_rate"] for line in lines(tmp_path)]
    assert rates == pytest.approx([0.01, 0.01 * 0.75**0.9, 0.01 * 0.5**0.9, 0.01 * 0.25**0.9])
    # The first two of four steps rise: by one half, and to the whole.
    warm = make_settings(steps=4, warmup=0.5)
    assert [learning_rate_factor(warm, step) for step in range(4)] == pytest.approx(
        [0.5, 0.75**0.9, 0.5**0.9, 0.25**0.9]
    )


def test_loss_that_is_not_finite_stops_before_the_step(
    train: Train, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, closure=None: steps.append(1))
    losses = iter([1.0, float("nan")])
    original = train_module.supervised_loss
    monkeypatch.setattr(train_module, "supervised_loss", lambda *arguments: original(*arguments) * next(losses))
    with pytest.raises(TrainingError, match=r"real_loss became nan at step 1"):
        train(make_settings())
    assert len(steps) == 1


def test_gradient_that_is_not_finite_stops_before_the_step(
    train: Train, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, closure=None: steps.append(1))
    original = train_module.supervised_loss

    def broken(*arguments: Any) -> Tensor:
        loss = original(*arguments)
        return loss + (0 * loss).sqrt() if steps else loss  # the root of 0 has no slope

    monkeypatch.setattr(train_module, "supervised_loss", broken)
    with pytest.raises(TrainingError, match=r"gradient of the segmenter is not finite at step 1"):
        train(make_settings())
    assert len(steps) == 1


def test_damaged_weights_of_an_unfinished_unit_are_trained_again(
    train: Train, tmp_path: Path, make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(steps=2)
    train(settings)
    path = tmp_path / "weights.safetensors"
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[-100] ^= 1
    path.write_bytes(damaged)
    train(settings)
    assert path.read_bytes() == whole
    assert "Training again, because the weights are damaged" in capsys.readouterr().err


def test_bf16(train: Train, tmp_path: Path, make_pairs: MakePairs, make_settings: MakeSettings) -> None:
    model = train(
        make_settings(steps=2, adaptation="advent"),
        synthetic=make_pairs(seed=1),
        fabric=make_fabric(precision="bf16-mixed"),
    )
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(np.isfinite(list(line.values())).all() for line in lines(tmp_path))


def test_supervised_loss() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    label = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    label[0, 0] = IGNORE_ID
    torch.testing.assert_close(supervised_loss(logits, label), F.cross_entropy(logits, label, ignore_index=IGNORE_ID))
    assert supervised_loss(logits, torch.full_like(label, IGNORE_ID)) == 0
    weights = torch.tensor([0.5, 2.0, 4.0])
    expected = F.cross_entropy(logits, label, weights, ignore_index=IGNORE_ID)
    torch.testing.assert_close(supervised_loss(logits, label, weights), expected)
    assert supervised_loss(logits, torch.full_like(label, IGNORE_ID), weights) == 0


def test_settings_report_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        SegmenterSettings(steps=0, batch_size=1, learning_rate=float("nan"), augmentation="crop")  # type: ignore[arg-type]
    assert len(caught.value.problems) == 4
    assert all(name in str(caught.value) for name in ("steps", "batch_size", "learning_rate", "augmentation"))


def test_arms_that_make_no_sense(
    train: Train, make_pairs: MakePairs, make_settings: MakeSettings, table: ClassTable
) -> None:
    def run(settings: SegmenterSettings, real: Pairs | None, synthetic: Pairs | None, **options: Any) -> None:
        train(settings, real=real, synthetic=synthetic, **options)

    with pytest.raises(ConfigError, match="at least one"):
        run(make_settings(), None, None)
    with pytest.raises(ConfigError, match="aligns two domains"):
        run(make_settings(adaptation="advent"), make_pairs(), None)
    with pytest.raises(ConfigError, match=r"set segmenters\.adaptation"):
        run(make_settings(), make_pairs(), make_pairs(seed=1), supervise_real=False)
    with pytest.raises(DataError, match="Sizes differ: real 32x40, synthetic 32x48"):
        run(make_settings(), make_pairs(size=(32, 40)), make_pairs(seed=1))
    with pytest.raises(DataError, match="at least 32"):
        run(make_settings(adaptation="advent"), make_pairs(size=(16, 16)), make_pairs(size=(16, 16)))
    with pytest.raises(DataError, match="no real pairs"):
        run(make_settings(), make_pairs(count=0), None)
    other = ClassTable("other", table.classes[:2])
    with pytest.raises(DataError, match="class table 'three', not 'other'"):
        train(make_settings(), table=other)
    with pytest.raises(ConfigError, match="compares two; use mixed"):
        run(make_settings(schedule="pretrain", adaptation="minent"), make_pairs(), make_pairs(seed=1))
    with pytest.raises(ConfigError, match=r"2 images cannot be divided so that 0\.1 of them are generated"):
        run(make_settings(synthetic_share=0.1), make_pairs(), make_pairs(seed=1))
    with pytest.raises(ConfigError, match="pastes labels of real pairs"):
        run(make_settings(mixing="class-mix"), None, make_pairs(seed=1))
    with pytest.raises(ConfigError, match="unknown class 'moon'; classes are ground, wall, sky"):
        run(make_settings(mixing="copy-paste", rare_classes=("moon",)), make_pairs(), None)


@pytest.mark.parametrize(
    "changes",
    [
        {"adaptation": "advent", "augmentation": "standard"},
        {"mixing": "class-mix", "batch_size": 3},
        {"mixing": "copy-paste", "class_weights": "median-frequency"},
    ],
    ids=["advent-standard", "class-mix", "copy-paste"],
)
def test_what_only_a_gpu_does_ends_with_the_same_bits(
    changes: dict[str, Any], train: Train, tmp_path: Path, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    settings = make_settings(steps=6, log_every=2, **changes)
    pairs = {"real": make_pairs(), "synthetic": make_pairs(seed=1, brightness=40)}
    for name, speed in (("plain", Speed()), ("fast", Speed(deferred=True, resident=True, tuned=True))):
        train(settings, name, seed=3, fabric=make_fabric(speed=speed), **pairs)
    for file in ("weights.safetensors", "metrics.jsonl"):
        assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "fast" / file).read_bytes()
