"""Training of the segmenter in every data arm, with AdvEnt, MinEnt or neither (Le Moing et al., 2021, 5.2, App. C, F).

Arms: real pairs alone, synthetic pairs alone, or both (`real+syn`, `semi`, `real+partial`: they differ in the synthetic
pairs given). With both, each step draws one real and one synthetic batch. The two run through the network as one
concatenated batch, so batch normalisation sees both domains together: training and the running statistics used in
evaluation then normalise alike, which they would not with one pass per domain.

Adaptation makes the predictions on one domain, the adapted one, look like those on the other, the reference:

- Classic AdvEnt (`supervise_real=False`): the synthetic images are labelled, the real ones are not. The synthetic
  domain is the reference (AdvEnt's source), the real one is adapted (its target).
- Both domains labelled (Appendix C): the real domain is the reference, because its labels and images are the truth
  that the segmenter is evaluated by; the predictions on synthetic images are adapted to it. The authors' public code
  adapts the real domain here as well; `adapted_domain="real"` does that.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from scenepalette.common.errors import ConfigError, DamagedCheckpointError, DataError
from scenepalette.common.files import sha256_of_file, sha256_of_json
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.randomness import epoch_batch, seed_step, torch_generator
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.transforms import StandardAugmentation, flip_horizontally
from scenepalette.segmenters.advent import (
    ADAPTED_DOMAIN,
    REFERENCE_DOMAIN,
    SMALLEST_SIDE,
    build_advent_discriminator,
    domain_loss,
    minimum_entropy_loss,
    weighted_self_information,
)
from scenepalette.segmenters.loading import WEIGHTS_FILE, build_segmenter, model_identity
from scenepalette.segmenters.model import weights_file
from scenepalette.segmenters.registry import network_problem
from scenepalette.segmenters.settings import Domain, SegmenterSettings
from scenepalette.training.checkpoint import CheckpointFolder, load_weights, save_weights
from scenepalette.training.loop import Training
from scenepalette.training.settings import settings_of_result
from scenepalette.training.trainee import Trainee, channels_last, frozen, require_finite, take_step

if TYPE_CHECKING:
    from scenepalette.data.arrays import Pairs
    from scenepalette.data.folds import ChosenPairs
    from scenepalette.data.shards.pairs import FirstPairs, ShardPairs

Batch = tuple[Tensor, Tensor]

CHECKPOINT_FOLDER = "checkpoints"
STAGE = "segmenter"


def supervised_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Return the mean cross-entropy over labelled pixels.

    Args:
        logits: BKHW float32 class scores.
        label: BHW int64; pixels of `IGNORE_ID` are left out.

    Returns:
        Scalar; 0, with zero gradients, if no pixel of the batch is labelled.
    """
    labelled = (label != IGNORE_ID).sum().clamp(min=1)
    return F.cross_entropy(logits, label, ignore_index=IGNORE_ID, reduction="sum") / labelled


def train_segmenter(
    folder: Path,
    settings: SegmenterSettings,
    *,
    real: Pairs | ShardPairs | ChosenPairs | None,
    synthetic: Pairs | ShardPairs | FirstPairs | ChosenPairs | None,
    supervise_real: bool = True,
    table: ClassTable,
    seed: int,
    fabric: Fabric,
    progress: Progress = NO_PROGRESS,
    tensorboard: bool = False,
) -> nn.Module:
    """Train a segmenter, going on from what an earlier call left in `folder`.

    On the CPU a training that was interrupted and called again ends with the very bits of an uninterrupted one: the
    randomness of a step is a function of (seed, step). Arms of equal seed start from the same weights and draw the
    same real batches.

    Args:
        folder: Receives the last two checkpoints, `metrics.jsonl` and `weights.safetensors`; if the weights of this
            very training are there already and intact, they are returned. There is no best checkpoint: no validation
            image is looked at in training, and all arms are compared after the same number of steps.
        settings: Numbers of the training.
        real: Real pairs, or None.
        synthetic: Synthetic pairs, or None.
        supervise_real: False uses real images as the unlabelled domain of classic AdvEnt or MinEnt.
        table: Classes of all pairs.
        seed: The run's seed.
        fabric: One device and the precision.
        progress: Counts steps.
        tensorboard: Whether numbers are also written for TensorBoard.

    Returns:
        The trained network in evaluation mode, on the fabric's device.

    Raises:
        ConfigError: The arm makes no sense, such as AdvEnt with one domain, or the fabric has several devices.
        DataError: Pairs are empty, of another class table, of differing or unsuitable sizes.
        CheckpointError: The folder holds another training.
        TrainingError: A loss or a gradient is not finite; the step is not taken.
    """
    domains: dict[Domain, Pairs | ShardPairs | FirstPairs | ChosenPairs] = {}
    if real is not None:
        domains["real"] = real
    if synthetic is not None:
        domains["synthetic"] = synthetic
    _check_arm(settings, domains, supervise_real, table, fabric)
    supervised = [domain for domain in domains if domain == "synthetic" or supervise_real]
    adapted = settings.adapted_domain or ("synthetic" if supervise_real else "real")
    reference: Domain = "real" if adapted == "synthetic" else "synthetic"
    identity = _identity(settings, domains, supervise_real, table, seed)

    seed_step(seed, f"{STAGE} weights", 0)
    checkpoints = CheckpointFolder(folder / CHECKPOINT_FOLDER)
    if (folder / WEIGHTS_FILE).exists():
        network = build_segmenter(settings, table)
        try:
            load_weights(folder / WEIGHTS_FILE, network, identity)
        except DamagedCheckpointError as error:
            print(f"Training again, because the weights are damaged: {error}", file=sys.stderr, flush=True)
        else:
            checkpoints.clear()  # if the training was killed after its weights were written
            return channels_last(fabric.to_device(network)).eval()
        seed_step(seed, f"{STAGE} weights", 0)

    sgd = partial(
        torch.optim.SGD, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    network = build_segmenter(settings, table, settings.encoder_weights)
    segmenter, discriminator = Trainee("segmenter", network, sgd, fabric), None
    if settings.adaptation == "advent":
        seed_step(seed, f"{STAGE} discriminator weights", 0)
        adam = partial(torch.optim.Adam, lr=settings.discriminator_learning_rate, betas=settings.discriminator_betas)
        network = build_advent_discriminator(table.num_classes, settings.discriminator_width)
        discriminator = Trainee("discriminator", network, adam, fabric)
    training = Training(
        folder,
        STAGE,
        settings.steps,
        {"segmenter": segmenter, "discriminator": discriminator},
        {},
        seed=seed,
        checkpoints=checkpoints,
        identity=identity,
        progress=progress,
        tensorboard=tensorboard,
    )
    augment = flip_horizontally if settings.augmentation == "flip" else StandardAugmentation()

    segmenter.module.train()
    with contextlib.closing(_batches(domains, settings, seed, training.finished)) as batches:
        for step, batch in zip(training.steps("Training the segmenter"), batches, strict=True):
            decay = (1 - step / settings.steps) ** settings.poly_power
            images, labels = {}, {}
            for domain, pair in batch.items():
                image, label = fabric.to_device(pair)
                generator = torch_generator(seed, STAGE, "augmentation", domain, step)
                images[domain], labels[domain] = augment(image, label, generator)

            # Segmenter: predict the labels of every supervised domain ...
            joined = torch.cat(list(images.values())).contiguous(memory_format=torch.channels_last)
            outputs = segmenter.forward(joined).float().split(settings.batch_size)  # one B K H W per domain
            logits = dict(zip(images, outputs, strict=True))
            losses = {f"{domain}_loss": supervised_loss(logits[domain], labels[domain]) for domain in supervised}
            total = torch.stack(list(losses.values())).sum()

            # ... and on the adapted domain be certain, or as certain in the same places as on the reference domain.
            information: dict[str, Tensor] = {}
            if settings.adaptation == "minent":
                losses["entropy_loss"] = minimum_entropy_loss(logits[adapted].softmax(dim=1))
                total = total + settings.entropy_weight * losses["entropy_loss"]
            elif discriminator is not None:
                information = {domain: weighted_self_information(logits[domain].softmax(dim=1)) for domain in logits}
                with frozen(discriminator.module):
                    scores = discriminator.forward(information[adapted])
                losses["adversarial_loss"] = domain_loss(scores, REFERENCE_DOMAIN)
                total = total + settings.adversarial_weight * losses["adversarial_loss"]

            # Discriminator: tell the two domains apart by the same predictions.
            if discriminator is not None:
                losses["discriminator_loss"] = 0.5 * (
                    domain_loss(discriminator.forward(information[reference].detach()), REFERENCE_DOMAIN)
                    + domain_loss(discriminator.forward(information[adapted].detach()), ADAPTED_DOMAIN)
                )

            values = {name: loss.item() for name, loss in losses.items()}
            require_finite(step, **values)
            segmenter.set_learning_rate(settings.learning_rate * decay)
            take_step(step, total, segmenter)
            if discriminator is not None:
                discriminator.set_learning_rate(settings.discriminator_learning_rate * decay)
                take_step(step, losses["discriminator_loss"], discriminator)

            if training.due(settings.log_every, settings.steps):
                training.log({"learning_rate": settings.learning_rate * decay, **values})
            if training.due(settings.checkpoint_every) and training.finished < settings.steps:
                training.save()
            training.advance(values)
    save_weights(folder / WEIGHTS_FILE, segmenter.module, identity)
    checkpoints.clear()
    return segmenter.module.eval()


def _batches(
    domains: Mapping[Domain, Pairs | ShardPairs | FirstPairs | ChosenPairs],
    settings: SegmenterSettings,
    seed: int,
    first_step: int,
) -> Generator[dict[Domain, Batch], None, None]:
    """Yield one batch per domain for each step, reading the next step's in a thread while one is trained on.

    The thread only reads and decodes: what a fabric switches for the whole process, such as the default number
    format, must not reach anything random.
    """

    def read(step: int) -> dict[Domain, Batch]:
        batches = {}
        for domain, pairs in domains.items():
            indices = epoch_batch(len(pairs), settings.batch_size, step, seed, f"{STAGE} {domain}")
            batches[domain] = pairs.batch(np.sort(indices).tolist())  # in the order of the file, which reads fastest
        return batches

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="segmenter-batches") as reader:
        upcoming = reader.submit(read, first_step) if first_step < settings.steps else None
        for step in range(first_step, settings.steps):
            assert upcoming is not None
            batch = upcoming.result()
            upcoming = reader.submit(read, step + 1) if step + 1 < settings.steps else None
            yield batch


def _identity(
    settings: SegmenterSettings,
    domains: Mapping[Domain, Pairs | ShardPairs | FirstPairs | ChosenPairs],
    supervise_real: bool,
    table: ClassTable,
    seed: int,
) -> dict[str, Any]:
    """What decides the outcome of a training."""
    pairs = {domain: sha256_of_json(list(given.ids)) for domain, given in domains.items()}
    numbers = settings_of_result(settings)
    del numbers["architecture"]  # the model's identity has it
    if file := weights_file(settings.encoder_weights):
        numbers["encoder_weights"] = sha256_of_file(file) if file.is_file() else None
    return {
        **model_identity(settings, table),
        "training": sha256_of_json([numbers, pairs, supervise_real, seed]),
        "seed": seed,
        "steps": settings.steps,
    }


def size_problems(settings: SegmenterSettings, size: tuple[int, int]) -> list[str]:
    """Return why a segmenter cannot be trained on images of a height and width, one text each."""
    height, width = size
    problems = []
    if settings.architecture not in ("deeplabv3", "deeplabv3plus"):
        if problem := network_problem(settings, size):
            problems.append(f"{height}x{width}; {problem}")
    elif height % settings.output_stride or width % settings.output_stride:
        problems.append(
            f"{height}x{width}; both must be multiples of segmenters.output_stride, {settings.output_stride}"
        )
    if settings.adaptation == "advent" and min(size) < SMALLEST_SIDE:
        problems.append(f"{height}x{width}; AdvEnt needs at least {SMALLEST_SIDE} each way")
    return problems


def _check_arm(
    settings: SegmenterSettings,
    domains: Mapping[Domain, Pairs | ShardPairs | FirstPairs | ChosenPairs],
    supervise_real: bool,
    table: ClassTable,
    fabric: Fabric,
) -> None:
    """Refuse a training that cannot work, with all reasons at once."""
    arm = []
    if not domains:
        arm.append("Neither real nor synthetic pairs were given; give at least one.")
    if settings.adaptation != "none" and len(domains) < 2:
        arm.append(
            f"segmenters.adaptation is {settings.adaptation!r}, which aligns two domains; give real and synthetic "
            "pairs or use 'none'."
        )
    if not supervise_real and settings.adaptation == "none":
        arm.append("Unlabelled real images are of use to 'advent' or 'minent' only; set segmenters.adaptation.")
    if not supervise_real and settings.adapted_domain == "synthetic":
        arm.append("Without real labels only the real domain can be adapted; leave segmenters.adapted_domain empty.")
    if fabric.world_size > 1:
        arm.append(
            f"The fabric has {fabric.world_size} devices; a segmenter trains on one. Use one device per segmenter."
        )
    if arm:
        raise ConfigError("This segmenter cannot be trained.", arm)

    problems = []
    sizes = {domain: pairs.size for domain, pairs in domains.items()}
    for domain, pairs in domains.items():
        if len(pairs) == 0:
            problems.append(f"There are no {domain} pairs.")
        if pairs.table.fingerprint != table.fingerprint:
            problems.append(f"The {domain} pairs have the class table {pairs.table.name!r}, not {table.name!r}.")
        problems += [f"The {domain} pairs are {text}." for text in size_problems(settings, sizes[domain])]
    if len(set(sizes.values())) > 1:
        problems.append(f"Sizes differ: {', '.join(f'{d} {h}x{w}' for d, (h, w) in sizes.items())}; make them equal.")
    if problems:
        raise DataError("The pairs given do not suit this segmenter training.", problems)
