"""Training of the segmenter in every data arm, with AdvEnt, MinEnt or neither (Le Moing et al., 2021, 5.2, App. C, F).

Arms: real pairs alone, synthetic pairs alone, or both (`real+syn`, `semi`, `real+partial`: they differ in the synthetic
pairs given). Every arm takes `batch_size` images a step; `segmenters/schedule.py` says how many are real. Both domains
run through the network as one batch, so batch normalisation sees them together.

Statistics of batch norms are recomputed from real training images at the end, without augmentation as in evaluation,
in every arm that learns from real labels, `real` itself included: so none owes a gain to that alone. Arms without real
labels keep the averages of their training: GAN-train must not see a real image, and adaptation to unlabelled ones is
left as it was published.

Adaptation makes the predictions on one domain, the adapted one, look like those on the other, the reference:

- Classic AdvEnt (`supervise_real=False`): the synthetic images are labelled, the real ones are not. The synthetic
  domain is the reference (AdvEnt's source), the real one is adapted (its target).
- Both domains labelled (Appendix C): the real domain is the reference, because its labels and images are the truth
  that the segmenter is evaluated by; the predictions on synthetic images are adapted to it. The authors' public code
  adapts the real domain here as well; `adapted_domain="real"` does that.
"""

from __future__ import annotations

import contextlib
import copy
import math
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.common.errors import ConfigError, DamagedCheckpointError, DataError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.randomness import epoch_indices, seed_step, torch_generator
from scenepalette.common.storage.files import sha256_of_file, sha256_of_json
from scenepalette.data.augmentation.mixing import class_mix, copy_paste
from scenepalette.data.augmentation.transforms import StandardAugmentation, flip_horizontally
from scenepalette.data.class_counts import (
    ClassCounts,
    class_counts,
    median_frequency_weights,
    prior_ratios,
    shares_when_pasted,
)
from scenepalette.data.classes import IGNORE_ID, ClassTable
from scenepalette.data.device.resident import place, resident_bytes
from scenepalette.data.device.transfer import to_device
from scenepalette.data.rare_classes import rare_classes
from scenepalette.segmenters.advent import (
    ADAPTED_DOMAIN,
    REFERENCE_DOMAIN,
    SMALLEST_SIDE,
    build_advent_discriminator,
    domain_loss,
    minimum_entropy_loss,
    weighted_self_information,
)
from scenepalette.segmenters.kernels.passes import accelerate
from scenepalette.segmenters.loading import WEIGHTS_FILE, build_segmenter, model_identity
from scenepalette.segmenters.model import weights_file
from scenepalette.segmenters.norm_statistics import measure_statistics
from scenepalette.segmenters.registry import BUILT_IN, network_problem
from scenepalette.segmenters.schedule import (
    combined_loss,
    division_problems,
    images_of_step,
    images_of_training,
    learning_rate_factor,
)
from scenepalette.segmenters.settings import Domain, SegmenterSettings
from scenepalette.training.checkpoint import CheckpointFolder, load_weights, save_weights
from scenepalette.training.device.speed import speed_of
from scenepalette.training.loop import Training
from scenepalette.training.settings import settings_of_result
from scenepalette.training.trainee import Trainee, channels_last, frozen, require_finite, take_step

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from scenepalette.data.arrays import PairSource

Batch = tuple[Tensor, Tensor]

CHECKPOINT_FOLDER = "checkpoints"
STAGE = "segmenter"
VALIDATION = "validation_miou"
MOST_KEPT_BYTES = 2**28
"""Most bytes of decoded pairs that a training on a CPU keeps."""
# Parts of the steps after which a segmenter is validated: the last fifth tells whether more would help.
VALIDATED = (0.6, 0.8, 1.0)


def supervised_loss(logits: Tensor, label: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy over labelled pixels.

    Args:
        logits: BKHW float32 class scores.
        label: BHW int64; pixels of `IGNORE_ID` are left out.
        weights: K weights of pixels by their class, or None; the mean is then the weighted one.

    Returns:
        Scalar; 0, with zero gradients, if no pixel of the batch is labelled.
    """
    if weights is None:
        total = (label != IGNORE_ID).sum()
    else:
        # One look-up for each pixel, whose last classes, the ignored one among them, weigh nothing.
        total = F.pad(weights, (0, IGNORE_ID + 1 - len(weights))).take(label).sum()
    entropy = F.cross_entropy(logits, label, weights, ignore_index=IGNORE_ID, reduction="sum")
    return entropy / total.clamp(min=1 if weights is None else torch.finfo(total.dtype).tiny)


def train_segmenter(
    folder: Path,
    settings: SegmenterSettings,
    *,
    real: PairSource | None,
    synthetic: PairSource | None,
    supervise_real: bool = True,
    table: ClassTable,
    seed: int,
    fabric: Fabric,
    validate: Callable[[nn.Module], float] | None = None,
    progress: Progress = NO_PROGRESS,
    tensorboard: bool = False,
) -> nn.Module:
    """Train a segmenter; called again, it resumes from what an earlier call left in `folder`.

    On the CPU a training that was interrupted and called again ends with the very bits of an uninterrupted one: the
    randomness of a step is a function of (seed, step). Arms of equal seed start from the same weights and draw the
    same real images in the same order, each as many as its batches take.

    Args:
        folder: Receives the last two checkpoints, `metrics.jsonl` and `weights.safetensors`; if the weights of this
            very training are there already and intact, they are returned. There is no best checkpoint: whatever
            `validate` returns, all arms are compared after their last step.
        settings: Numbers of the training.
        real: Real pairs, or None.
        synthetic: Synthetic pairs, or None.
        supervise_real: False uses real images as the unlabelled domain of classic AdvEnt or MinEnt.
        table: Classes of all pairs.
        seed: The run's seed.
        fabric: One device and the precision.
        validate: Returns the mIoU of a network, which it may move and change the mode of; called after 60, 80 and 100 %
            of the steps. The log keeps what it returns; nothing else depends on it.
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
    domains: dict[Domain, PairSource] = {}
    if real is not None:
        domains["real"] = real
    if synthetic is not None:
        domains["synthetic"] = synthetic
    _check_arm(settings, domains, supervise_real, table, fabric)
    supervised: list[Domain] = [domain for domain in domains if domain == "synthetic" or supervise_real]
    adapted = settings.adapted_domain or ("synthetic" if supervise_real else "real")
    reference: Domain = "real" if adapted == "synthetic" else "synthetic"
    identity = _identity(settings, domains, supervise_real, table, seed)

    checkpoints = CheckpointFolder(folder / CHECKPOINT_FOLDER)
    if (network := _trained_before(folder, settings, table, identity)) is not None:
        checkpoints.clear()  # if the training was killed after its weights were written
        accelerate(network)
        return channels_last(fabric.to_device(network)).eval()

    seed_step(seed, f"{STAGE} weights", 0)
    network = build_segmenter(settings, table, settings.encoder_weights)
    accelerate(network)
    segmenter, discriminator = Trainee("segmenter", network, _optimizer(settings), fabric), None
    if settings.adaptation == "advent":
        seed_step(seed, f"{STAGE} discriminator weights", 0)
        rate, betas = settings.discriminator_learning_rate, settings.discriminator_betas
        adam = partial(torch.optim.Adam, lr=rate, betas=betas)
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
    # Of the labels that an arm learns from: GAN-train's weights must not tell it anything of real ones.
    counts = _counts(settings, domains[supervised[0]])
    weights = _class_weights(settings, counts, {domain: domains[domain] for domain in supervised}, table, fabric.device)
    mix = _mixing(settings, counts, table)
    statistics = partial(_renew_statistics, settings, domains if supervise_real else {}, fabric)
    validated = {math.ceil(part * settings.steps) for part in VALIDATED} if validate is not None else set()

    resident, on_cpu = speed_of(fabric).resident, fabric.device.type == "cpu"
    placed: dict[Domain, PairSource] = {
        domain: place(pairs, fabric.device)
        if resident or (on_cpu and _is_worth_keeping(settings, domains, domain))
        else pairs
        for domain, pairs in domains.items()
    }
    segmenter.module.train()
    with contextlib.closing(_batches(placed, settings, seed, training.finished)) as batches:
        for step, batch in zip(training.steps("Training the segmenter"), batches, strict=True):
            decay = learning_rate_factor(settings, step)
            images: dict[Domain, Tensor] = {}
            labels: dict[Domain, Tensor] = {}
            for domain, pair in batch.items():
                image, label = (to_device(value, fabric.device) for value in pair)
                if domain == "real" and mix is not None:
                    # Before the augmentation, which then moves what belongs together alike.
                    image, label = mix(image, label, torch_generator(seed, STAGE, "mixing", step))
                generator = torch_generator(seed, STAGE, "augmentation", domain, step)
                images[domain], labels[domain] = augment(image, label, generator)

            # Segmenter: predict the labels of every supervised domain ...
            joined = torch.cat(list(images.values())).contiguous(memory_format=torch.channels_last)
            numbers: dict[Domain, int] = {domain: len(image) for domain, image in images.items()}
            outputs = segmenter.forward(joined).float().split(list(numbers.values()))  # n K H W per domain
            logits: dict[Domain, Tensor] = dict(zip(images, outputs, strict=True))
            learned: dict[Domain, Tensor] = {
                domain: supervised_loss(logits[domain], labels[domain], weights.get(domain))
                for domain in images
                if domain in supervised
            }
            losses = {f"{domain}_loss": loss for domain, loss in learned.items()}
            total = combined_loss(learned, numbers, settings.synthetic_weight)

            # ... and on the adapted domain be certain, or as certain in the same places as on the reference domain.
            information: dict[Domain, Tensor] = {}
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

            if segmenter.checks is None:
                require_finite(step, **losses)
            else:
                segmenter.checks.note_losses(step, **losses)
            segmenter.set_learning_rate(settings.learning_rate * decay)
            take_step(step, total, segmenter)
            if discriminator is not None:
                discriminator.set_learning_rate(settings.discriminator_learning_rate * decay)
                take_step(step, losses["discriminator_loss"], discriminator)

            line: dict[str, Any] = {"learning_rate": settings.learning_rate * decay, **losses}
            if len(domains) > 1:
                line["synthetic_images"] = numbers.get("synthetic", 0)
            if training.finished == settings.steps:
                statistics(segmenter.module)
                line |= _chosen_by_counts(settings, counts, weights, supervised, table)
            if validate is not None and training.finished in validated:
                trained = copy.deepcopy(segmenter.module)
                if training.finished < settings.steps:
                    statistics(trained)
                line[VALIDATION] = validate(trained)
            if VALIDATION in line or training.due(settings.log_every, settings.steps):
                training.log(line)
            if training.due(settings.checkpoint_every) and training.finished < settings.steps:
                training.save()
            training.advance(losses)
    save_weights(folder / WEIGHTS_FILE, segmenter.module, identity)
    checkpoints.clear()
    return segmenter.module.eval()


def _trained_before(
    folder: Path, settings: SegmenterSettings, table: ClassTable, identity: dict[str, Any]
) -> nn.Module | None:
    """Return the network of the folder's weights; None if there are none, or they are damaged."""
    if not (folder / WEIGHTS_FILE).exists():
        return None
    network = build_segmenter(settings, table)
    try:
        load_weights(folder / WEIGHTS_FILE, network, identity)
    except DamagedCheckpointError as error:
        print(f"Training again, because the weights are damaged: {error}", file=sys.stderr, flush=True)
        return None
    return network


def _chosen_by_counts(
    settings: SegmenterSettings,
    counts: ClassCounts | None,
    weights: Mapping[Domain, Tensor],
    supervised: Sequence[Domain],
    table: ClassTable,
) -> dict[str, Any]:
    """Return what the log says of classes: their weights, and which of them are rare."""
    chosen: dict[str, Any] = {}
    for domain in supervised if settings.prior_correction else supervised[:1]:
        if domain in weights:
            named = zip(table.names, weights[domain].tolist(), strict=True)
            field = "class_weights" if domain == supervised[0] else f"{domain}_class_weights"
            chosen[field] = {name: round(weight, 4) for name, weight in named}
    if settings.mixing == "copy-paste":
        chosen["rare_classes"] = [table.names[index] for index in _rare(settings, counts, table)]
    return chosen


def _optimizer(settings: SegmenterSettings) -> Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw":
        return partial(torch.optim.AdamW, lr=rate, weight_decay=decay)
    return partial(torch.optim.SGD, lr=rate, momentum=settings.momentum, weight_decay=decay)


def _counts(settings: SegmenterSettings, pairs: PairSource) -> ClassCounts | None:
    """Count the pixels of each class, which reads all labels, if a setting asks for it."""
    pasted = settings.mixing == "copy-paste" and not settings.rare_classes
    return class_counts(pairs) if settings.class_weights != "none" or settings.prior_correction or pasted else None


def _class_weights(
    settings: SegmenterSettings,
    counts: ClassCounts | None,
    domains: Mapping[Domain, PairSource],
    table: ClassTable,
    device: torch.device,
) -> dict[Domain, Tensor]:
    """Return weights [K] of classes in the loss of each supervised domain that has any.

    Args:
        settings: Numbers of the training.
        counts: Pixels of the first domain, if a setting asks for them.
        domains: Pairs of the supervised domains.
        table: Classes of all pairs.
        device: Receives the weights.
    """
    if counts is None or (settings.class_weights == "none" and not settings.prior_correction):
        return {}
    balance = np.ones(table.num_classes)
    if settings.class_weights != "none":
        balance = median_frequency_weights(counts)
        if settings.class_weights == "root-median-frequency":
            balance = np.sqrt(balance)
    weights = dict.fromkeys(domains, balance)
    if settings.prior_correction and "real" in domains:
        if settings.mixing == "copy-paste":
            classes, probability = _rare(settings, counts, table), settings.mixing_probability
            pasted = shares_when_pasted(counts.shares, classes, probability)
            weights["real"] = balance * prior_ratios(counts.shares, pasted)
        if "synthetic" in domains:
            weights["synthetic"] = balance * prior_ratios(counts.shares, class_counts(domains["synthetic"]).shares)
    return {domain: torch.from_numpy(values).float().to(device) for domain, values in weights.items()}


def _rare(settings: SegmenterSettings, counts: ClassCounts | None, table: ClassTable) -> list[int]:
    """Return the classes that copy-paste pastes: those named, or the rare ones, or the rarest."""
    if counts is None or settings.rare_classes:
        return [table.names.index(name) for name in settings.rare_classes]
    found = [index for index in table.eval_ids if counts.shares[index] > 0]
    return [*rare_classes(counts.shares, table.eval_ids)] or sorted(found, key=counts.shares.__getitem__)[:1]


def _mixing(
    settings: SegmenterSettings, counts: ClassCounts | None, table: ClassTable
) -> Callable[[Tensor, Tensor, torch.Generator], Batch] | None:
    """Return what mixes a batch of real images, or None."""
    probability = settings.mixing_probability
    if settings.mixing == "copy-paste":
        classes = _rare(settings, counts, table)
        return lambda image, label, generator: copy_paste(image, label, classes, probability, generator)
    if settings.mixing == "class-mix":
        return lambda image, label, generator: class_mix(image, label, probability, generator)
    return None


def _renew_statistics(
    settings: SegmenterSettings, domains: Mapping[Domain, PairSource], fabric: Fabric, network: nn.Module
) -> None:
    """Take the statistics of batch norms from real images, spread evenly over the training split, if there are any."""
    real = domains.get("real")
    if real is None or not settings.statistics_images:
        return
    # Two at least, as a batch norm of a single vector has no variance.
    count = max(2, min(settings.statistics_images, len(real)))
    precision = next(network.parameters()).dtype
    chosen = np.linspace(0, len(real) - 1, count).round().astype(np.int64)

    def images() -> Iterator[Tensor]:
        for indices in np.array_split(chosen, max(1, count // settings.batch_size)):
            image = fabric.to_device(real.batch(indices.tolist())[0])
            yield image.to(precision).contiguous(memory_format=torch.channels_last)

    def forward(image: Tensor) -> None:
        with fabric.autocast():
            network(image)

    measure_statistics(network, forward, images())


def _is_worth_keeping(settings: SegmenterSettings, domains: Mapping[Domain, PairSource], domain: Domain) -> bool:
    """Tell whether pairs, other than on a GPU, are better decoded once than each time that a step takes them.

    Generated pairs lie encoded in shards; real ones are decoded already.
    """
    if domain == "real" or resident_bytes(domains[domain]) > MOST_KEPT_BYTES:
        return False
    return images_of_training(settings, domains, domain) >= 2 * len(domains[domain])


def _batches(
    domains: Mapping[Domain, PairSource], settings: SegmenterSettings, seed: int, first_step: int
) -> Generator[dict[Domain, Batch], None, None]:
    """Yield the images of each step by domain, reading the next step's in a thread while one is trained on.

    The thread only reads and decodes: what a fabric switches for the whole process, such as the default number
    format, must not reach anything random.
    """
    drawn: dict[Domain, int] = dict.fromkeys(domains, 0)

    def numbers_of(step: int) -> dict[Domain, tuple[int, int]]:
        """Return where the step's images begin in their domain's stream, and how many they are."""
        numbers = {}
        for domain, count in images_of_step(settings, domains, step).items():
            numbers[domain] = (drawn[domain], count)
            drawn[domain] += count
        return numbers

    def read(numbers: dict[Domain, tuple[int, int]]) -> dict[Domain, Batch]:
        batches = {}
        for domain, (start, count) in numbers.items():
            indices = epoch_indices(len(domains[domain]), start, count, seed, f"{STAGE} {domain}")
            # In the order of the file, which reads fastest.
            batches[domain] = domains[domain].batch(np.sort(indices).tolist())
        return batches

    for step in range(first_step):
        numbers_of(step)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="segmenter-batches") as reader:
        upcoming = reader.submit(read, numbers_of(first_step)) if first_step < settings.steps else None
        for step in range(first_step, settings.steps):
            assert upcoming is not None
            batch = upcoming.result()
            upcoming = reader.submit(read, numbers_of(step + 1)) if step + 1 < settings.steps else None
            yield batch


def _identity(
    settings: SegmenterSettings,
    domains: Mapping[Domain, PairSource],
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


def size_problems(settings: SegmenterSettings, size: tuple[int, int], table: ClassTable | None = None) -> list[str]:
    """Return why a segmenter cannot be trained on images of a height and width, one text each.

    Without the class table, networks of other packages are not tried, as they may depend on its names.
    """
    height, width = size
    problems, name = [], settings.architecture
    if name in BUILT_IN:
        problem = "" if name in ("deeplabv3", "deeplabv3plus") else network_problem(settings, size)
    else:
        problem = "" if table is None else network_problem(settings, size, table)
    if problem:
        problems.append(f"{height}x{width}; {problem}")
    if settings.adaptation == "advent" and min(size) < SMALLEST_SIDE:
        problems.append(f"{height}x{width}; AdvEnt needs at least {SMALLEST_SIDE} each way")
    return problems


def _check_arm(
    settings: SegmenterSettings,
    domains: Mapping[Domain, PairSource],
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
    if len(domains) == 2:
        arm += [f"{text}." for text in division_problems(settings)]
    if settings.mixing != "none" and not (supervise_real and "real" in domains):
        arm.append(f"The mixing {settings.mixing!r} pastes labels of real pairs; give some, or use 'none'.")
    arm += [
        f"segmenters.rare_classes: unknown class {name!r}; classes are {', '.join(table.names)}."
        for name in settings.rare_classes
        if name not in table.names
    ]
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
        problems += [f"The {domain} pairs are {text}." for text in size_problems(settings, sizes[domain], table)]
    if len(set(sizes.values())) > 1:
        problems.append(f"Sizes differ: {', '.join(f'{d} {h}x{w}' for d, (h, w) in sizes.items())}; make them equal.")
    if problems:
        raise DataError("The pairs given do not suit this segmenter training.", problems)
