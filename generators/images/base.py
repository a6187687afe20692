"""What every layout-to-image system has in common: its generator, its settings, its losses, its entry in the registry.

The common training loop (`generators/images/training.py`) and everything that makes images rest on these classes alone.
Shapes: B batch, K classes, Z noise, H x W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from typing_extensions import Doc

from scenepalette.common.errors import ConfigError
from scenepalette.data.arrays import Pairs
from scenepalette.data.classes import ClassTable
from scenepalette.data.licences import PRETRAINED
from scenepalette.generators.images.diffaugment import POLICIES, Augmentation, Policy
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.training.ranks import ALONE, Ranks

# With these the contract's file offers all that a system's settings are declared with.
from scenepalette.training.settings import ADDED
from scenepalette.training.settings import Count as Count
from scenepalette.training.settings import Decay as Decay
from scenepalette.training.settings import Rate as Rate
from scenepalette.training.settings import Weight as Weight


@dataclass(frozen=True)
class ImageSettings:
    """Numbers that every image system has; a system's own class adds its own and the paper's values."""

    width: Annotated[Count, Doc("Channels of the generator's last block (CRN: a 32nd of its table of widths).")] = 64
    steps: Annotated[Count, Doc("Optimizer steps.")] = 30000
    batch_size: Annotated[Count, Doc("Images per step.")] = 16
    generator_learning_rate: Annotated[Rate, Doc("Adam's learning rate for the generator.")] = 1e-4
    discriminator_learning_rate: Annotated[Rate, Doc("Adam's learning rate for the discriminator.")] = 4e-4
    betas: Annotated[tuple[float, float], Doc("Of all Adam optimizers.")] = (0.5, 0.999)
    average_decay: Annotated[
        Decay, Doc("Of the averaged generator used for sampling; 0 samples from the trained one itself.")
    ] = 0.999
    noise_scheme: Annotated[
        NoiseScheme | None, Doc("How noise is drawn in training; none for the system's usual way.")
    ] = None
    augment: Annotated[
        bool, Doc("Differentiable augmentation of the discriminator's input, label maps moved along.")
    ] = False
    augment_policies: Annotated[
        tuple[Policy, ...], ADDED, Doc("What augment changes: colour, translation, cutout or several of them.")
    ] = POLICIES
    warp: Annotated[
        float,
        ADDED,
        Ge(0),
        Le(0.2),
        Doc("Random warps of label map and image together: displacement as a share of the shorter side; 0 for none."),
    ] = 0.0
    checkpoint_every: Annotated[Count, Doc("Steps between checkpoints.")] = 500


class ImageGenerator(nn.Module, ABC):
    """A network from layout and noise to image.

    Attributes:
        num_classes: K.
        noise_schemes: Ways in which its noise can be drawn, the usual one first; empty if it takes no noise, so that
            a layout always gives the same image.
    """

    num_classes: int
    noise_schemes: tuple[NoiseScheme, ...]

    @abstractmethod
    def sample_noise(self, scheme: NoiseScheme | None, label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw noise for each layout.

        Args:
            scheme: One of `noise_schemes`, or None for the usual one.
            label: BHW class ids without ignored pixels.
            generators: One CPU generator per sample, so that a sample's noise does not depend on its batch.

        Returns:
            What `forward` takes, on the label's device; first dimension B.

        Raises:
            ConfigError: The network has no such scheme.
        """

    @abstractmethod
    def forward(self, label_map: Tensor, noise: Tensor) -> Tensor:
        """Generate images.

        Args:
            label_map: BKHW one-hot (or soft).
            noise: Result of `sample_noise`.

        Returns:
            B3HW in [-1, 1].
        """

    def replace_noise(self, noise: Tensor, other: Tensor, region: Tensor, label: Tensor) -> Tensor:
        """Take another draw of noise inside a region.

        Args:
            noise: Result of `sample_noise`, kept outside the region.
            other: Another result for the same layouts, used inside it.
            region: BHW bool.
            label: BHW class ids.

        Raises:
            ConfigError: The network's noise belongs to the whole image.
        """
        if noise.ndim != 4 or noise.shape[2:] != region.shape[1:]:
            raise ConfigError(
                f"New noise for a part of the image was asked of a {type(self).__name__}, whose noise belongs to the "
                "whole image. Choose the whole image, or an image system with noise per pixel, such as oasis."
            )
        return torch.where(region[:, None], other, noise)

    def noise_of_image(self, noise: Tensor, image: Tensor, label_map: Tensor) -> Tensor:
        """Return noise with which a part of a real image is painted: the drawn one, unless overridden.

        Args:
            noise: Result of `sample_noise`.
            image: B3HW in [-1, 1].
            label_map: BKHW, one-hot where the image stays as it is and 0 elsewhere.
        """
        return noise

    def export(self, folder: Path) -> None:
        """Write trained weights into a folder as other tools read them too; does nothing unless overridden."""

    def finish(self, source: BatchSource) -> None:
        """Take what drawing noise needs from the training set, after the last step; does nothing unless overridden."""

    def choose_scheme(self, scheme: NoiseScheme | None) -> NoiseScheme | None:
        """Return the noise scheme to use: the wanted one, or the usual one, which is None for networks without noise.

        Raises:
            ConfigError: The network has no such scheme.
        """
        if scheme is None:
            return self.noise_schemes[0] if self.noise_schemes else None
        if scheme not in self.noise_schemes:
            offered = f"it has {', '.join(self.noise_schemes)}" if self.noise_schemes else "it takes no noise at all"
            raise ConfigError(
                f"The noise scheme {scheme!r} was asked of a {type(self).__name__}, but {offered}. Leave the noise "
                "scheme out, or choose another image system (`scenepalette systems` lists them)."
            )
        return scheme


class ImageBatch(NamedTuple):
    """A batch of real pairs as losses need it.

    Attributes:
        indices: [B] positions in the training set.
        image: B3HW in [-1, 1].
        label: BHW class ids, 255 where the annotators left pixels out.
        layout: BHW class ids, those pixels filled: what the generator is conditioned on.
        label_map: One-hot `layout`, BKHW.
        noise: What the generator takes beside it.
        augmentation: How the discriminator's input is augmented, if it is.
        ranks: The processes that share a step's batch; this one has its own part alone.
    """

    indices: np.ndarray
    image: Tensor
    label: Tensor
    layout: Tensor
    label_map: Tensor
    noise: Tensor
    augmentation: Augmentation | None
    ranks: Ranks = ALONE


class Loss(NamedTuple):
    """A sum to differentiate and its parts under the names of the metrics log."""

    total: Tensor
    parts: dict[str, Tensor]


class BatchSource(Protocol):
    """Where an objective that chooses its own samples draws batches from."""

    seed: int
    pairs: Pairs
    filled_labels: np.ndarray

    def batch(self, indices: np.ndarray, step: int, stream: str, ranks: Ranks = ALONE) -> ImageBatch:
        """Return this process's part of the samples at `indices`.

        They are flipped and have noise as functions of (seed, stream, step) and their positions in `indices`.
        """
        ...


Forward = Callable[..., Any]


class ImageObjective(ABC):
    """What a system's generator is trained for.

    Attributes:
        discriminator: The network that is trained against the generator, or None.
        memory: Further state that belongs to a training, as a module of buffers, or None.
        chance_level: Part of the discriminator's loss -> its value if real and generated images cannot be told apart;
            zero is its value if they are told apart without fail.
    """

    discriminator: nn.Module | None = None
    memory: nn.Module | None = None
    chance_level: Mapping[str, float] = MappingProxyType({})

    def begin(self, source: BatchSource, device: torch.device) -> None:  # noqa: B027 (optional)
        """Look at the training set before the first step; does nothing unless a system needs it."""

    def batch(
        self, source: BatchSource, step: int, stream: str, indices: np.ndarray, generator: Forward, ranks: Ranks = ALONE
    ) -> ImageBatch:
        """Return the batch of a step; systems that choose samples or noise themselves override it.

        Args:
            source: Draws batches.
            step: Step from 0.
            stream: Name of the training's stream of randomness.
            indices: [B] positions that a plain training would use.
            generator: The generator under training, for systems that choose noise by its images.
            ranks: The processes that share the batch; the result is this one's part.
        """
        return source.batch(indices, step, stream, ranks)

    @abstractmethod
    def generator_loss(
        self, generator: Forward, discriminator: Forward | None, batch: ImageBatch
    ) -> tuple[Tensor, Loss]:
        """Generate images and return them, B3HW, with the generator's loss.

        Where no images are generated for the loss, and there is no discriminator to show them, real ones are returned.
        """

    def discriminator_loss(self, discriminator: Forward, batch: ImageBatch, fake: Tensor) -> Loss:
        """Return the discriminator's loss for detached generated images B3HW; called only if there is one."""
        raise NotImplementedError(f"{type(self).__name__} has no discriminator")


class FeatureNetwork(nn.Module, ABC):
    """A fixed network whose features a perceptual loss compares.

    Attributes:
        description: What it is, as reports name it.
    """

    description: str

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Map B3HW in [-1, 1] to feature maps BCHW, from fine to coarse."""


class Pretrained(NamedTuple):
    """Weights from elsewhere that a system's images owe to.

    Attributes:
        name: What they are called.
        licence: Their terms.
    """

    name: str
    licence: str


@dataclass(frozen=True)
class ImageSystem:
    """An entry of the registry.

    Attributes:
        name: Name in configurations, run directories and tables.
        paper: Where it comes from.
        settings: Class of its settings, whose defaults are the paper's.
        build_generator: Makes the generator, untrained unless it comes trained, from class table, (H, W) and settings.
        build_objective: Makes losses and discriminator from class table, (H, W), settings and the features of the
            perceptual loss. None for a system that comes trained: its generator only takes what it needs from the
            training set (`ImageGenerator.finish`), and its state becomes the weights.
        perceptual: Whether its losses need a feature network.
        perceptual_if: Tells from its settings whether they do, where `perceptual` is not set; None if they never do.
        settings_problems: Tells from its settings what is wrong with them beyond types and ranges, a text each that
            begins with the setting's name; None if nothing can be.
        place_problems: The same of what such settings need on this machine; looked at before anything is made.
        named_files: Returns the files that its settings may name, by how they do; the content of those that are there
            belongs to what identifies a model. None if settings name none.
        perceptual_layers: Positions of the layers of VGG-19 that are compared; None for conv1_2 to conv5_2.
        augmentable: Whether its discriminator looks at images that may be augmented.
        predict_labels: For a discriminator that labels pixels: maps it and images B3HW in [-1, 1] to class ids BHW;
            else None.
        table_problems: Tells from its settings and the class table of a data set what keeps them from each other, as
            `settings_problems`; None if nothing can.
        pretrained: Returns from its settings the weights from elsewhere, whose terms cards state and a push heeds; None
            if there are none.
        own: Fields of its settings that other systems share as keys of the section `images`, and that it takes from
            `images.systems.NAME` alone.
        end_to_end: Whether it can be fine-tuned together with a layout generator.
        exports: Files that its generator's `export` writes.
        cpu_warning: What is to be said before it is trained on a CPU; empty if nothing is.
    """

    name: str
    paper: str
    settings: type[ImageSettings]
    build_generator: Callable[[ClassTable, tuple[int, int], Any], ImageGenerator]
    build_objective: Callable[[ClassTable, tuple[int, int], Any, FeatureNetwork | None], ImageObjective] | None
    perceptual: bool = False
    perceptual_layers: tuple[int, ...] | None = None
    augmentable: bool = False
    predict_labels: Callable[[nn.Module, Tensor], Tensor] | None = None
    perceptual_if: Callable[[Any], bool] | None = None
    settings_problems: Callable[[Any], Sequence[str]] | None = None
    place_problems: Callable[[Any], Sequence[str]] | None = None
    named_files: Callable[[Any], Mapping[str, Path]] | None = None
    table_problems: Callable[[Any, ClassTable], Sequence[str]] | None = None
    pretrained: Callable[[Any], Sequence[Pretrained]] | None = None
    own: tuple[str, ...] = ()
    end_to_end: bool = True
    exports: tuple[str, ...] = ()
    cpu_warning: str = ""

    def comes_trained(self, settings: ImageSettings) -> bool:
        """Return whether there is nothing to train with these settings."""
        return self.build_objective is None or settings.steps == 0

    def terms(self, settings: ImageSettings) -> dict[str, dict[str, str]]:
        """Return what records say of weights from elsewhere: their terms by name, under PRETRAINED; nothing of none."""
        found = self.pretrained(settings) if self.pretrained is not None else ()
        return {PRETRAINED: {entry.name: entry.licence for entry in found}} if found else {}

    def compares_features(self, settings: ImageSettings) -> bool:
        """Return whether its losses need a feature network with these settings."""
        return self.perceptual or (self.perceptual_if is not None and self.perceptual_if(settings))

    def augmentation_problem(self, settings: ImageSettings) -> str | None:
        """Return what is wrong with the augmentation that its settings ask for, beginning with the setting's name."""
        if settings.augment and not self.augmentable:
            return f"augment: {self.name} compares images pixel by pixel; leave it out"
        if not settings.augment_policies:
            return f"augment_policies: none is named; use some of {', '.join(POLICIES)}, or augment=false"
        return None
