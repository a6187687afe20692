"""The losses of GauGAN, SPADE+, pix2pixHD and SEAN: adversarial by patches, feature matching, perceptual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from typing_extensions import Doc

from scenepalette.data.labels import one_hot
from scenepalette.generators.images.base import (
    Count,
    Decay,
    FeatureNetwork,
    Forward,
    ImageBatch,
    ImageObjective,
    ImageSettings,
    Loss,
    Weight,
)
from scenepalette.generators.images.diffaugment import augment_image, augment_label
from scenepalette.generators.images.lecam import LecamAnchors
from scenepalette.generators.images.perceptual import feature_distances
from scenepalette.generators.images.systems.patch_discriminator import PatchDiscriminator, PatchOutput
from scenepalette.generators.images.systems.patch_losses import (
    DiscriminatorLoss,
    GeneratorLoss,
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    least_squares_discriminator_loss,
    perceptual_loss,
)
from scenepalette.training.settings import ADDED

# conv1_1 to conv5_1 with their ReLUs: positions in torchvision's `features` (pix2pixHD, SPADE).
PERCEPTUAL_LAYERS = (1, 6, 11, 20, 29)


@dataclass(frozen=True)
class PatchSettings(ImageSettings):
    """Numbers that all image systems with a PatchGAN discriminator have.

    Attributes:
        discriminator_width: Channels of the discriminator's first layer.
        discriminator_scales: Resolutions that the discriminator looks at, each half of the one before.
        feature_matching_weight: Weight of the distance of the discriminator's features.
        perceptual_weight: Weight of the distance of a fixed network's features.
    """

    batch_size: Count = 8  # Le Moing et al., 2021, appendix F
    betas: tuple[float, float] = (0.5, 0.999)  # there too
    average_decay: Decay = 0.0
    discriminator_width: Count = 64
    discriminator_scales: Count = 2
    feature_matching_weight: Weight = 10.0
    perceptual_weight: Weight = 10.0
    lecam_weight: Annotated[
        Weight, ADDED, Doc("Weight of LeCam regularisation of the discriminator; 0 leaves it out.")
    ] = 0.0


class PatchObjective(ImageObjective):
    """Adversarial loss of patches, feature matching and perceptual loss (Azadi et al., 2019, Eq. 2)."""

    discriminator: PatchDiscriminator

    def __init__(
        self,
        discriminator: PatchDiscriminator,
        features: FeatureNetwork | None,
        feature_matching_weight: float,
        perceptual_weight: float,
        adversarial: tuple[GeneratorLoss, DiscriminatorLoss] = (hinge_generator_loss, hinge_discriminator_loss),
        lecam_weight: float = 0.0,
    ) -> None:
        """Train against a discriminator.

        Args:
            discriminator: Conditional on the label map.
            features: Network of the perceptual loss; None only where the loss is not computed.
            feature_matching_weight: Weight of feature matching; 0 leaves it out.
            perceptual_weight: Weight of the perceptual loss; 0 leaves it out.
            adversarial: Losses of generator and discriminator for lists of scores.
            lecam_weight: Weight of LeCam regularisation; 0 leaves it out.
        """
        self.lecam_weight = lecam_weight
        self.memory = LecamAnchors(len(discriminator.networks)) if lecam_weight else None
        self.discriminator, self.features = discriminator, features
        self.feature_matching_weight, self.perceptual_weight = feature_matching_weight, perceptual_weight
        self.adversarial_generator, self.adversarial_discriminator = adversarial
        # Both losses are symmetric about this score, their best one for images of either origin.
        value = 0.5 if adversarial[1] is least_squares_discriminator_loss else 0.0
        score = torch.tensor(value, device="cpu")  # also where networks are only counted, without memory
        scores = [score] * len(discriminator.networks)
        self.chance_level = {"discriminator": float(self.adversarial_discriminator(scores, scores))}

    def generate(self, generator: Forward, batch: ImageBatch) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Return images for a batch, and further weighted losses under their names; systems may override it."""
        return generator(batch.label_map, batch.noise), {}

    def generator_loss(
        self, generator: Forward, discriminator: Forward | None, batch: ImageBatch
    ) -> tuple[Tensor, Loss]:
        """Patches are to be taken for real, and features to be like the real image's."""
        assert discriminator is not None
        fake, losses = self.generate(generator, batch)
        outputs = _outputs_of(discriminator, fake, batch)
        losses["generator"] = (1.0, self.adversarial_generator(_scores(outputs)))
        if self.feature_matching_weight:
            with torch.no_grad():
                real = _outputs_of(discriminator, batch.image, batch)
            matching = feature_matching_loss([r.features for r in real], [f.features for f in outputs])
            losses["feature_matching"] = (self.feature_matching_weight, matching)
        if self.perceptual_weight:
            assert self.features is not None
            with torch.no_grad():
                wanted = self.features(batch.image)
            distance = perceptual_loss(feature_distances(self.features(fake), wanted))
            losses["perceptual"] = (self.perceptual_weight, distance)
        total = torch.stack([weight * loss for weight, loss in losses.values()]).sum()
        return fake, Loss(total, {name: loss for name, (_, loss) in losses.items()})

    def discriminator_loss(self, discriminator: Forward, batch: ImageBatch, fake: Tensor) -> Loss:
        """Patches of real images score high, those of generated images low."""
        real_scores = _scores(_outputs_of(discriminator, batch.image, batch))
        fake_scores = _scores(_outputs_of(discriminator, fake, batch))
        total = self.adversarial_discriminator(real_scores, fake_scores)
        parts = {"discriminator": total}
        if self.memory is not None:
            parts["lecam"] = self.memory(real_scores, fake_scores, ranks=batch.ranks)
            total = total + self.lecam_weight * parts["lecam"]
        return Loss(total, parts)


def _outputs_of(discriminator: Forward, image: Tensor, batch: ImageBatch) -> list[PatchOutput]:
    """Show images beside their label maps to the discriminator, both augmented alike if the batch is."""
    if batch.augmentation is None:
        return discriminator(image, batch.label_map)
    label_map = one_hot(augment_label(batch.layout, batch.augmentation), batch.label_map.shape[1], checked=True)
    return discriminator(augment_image(image, batch.augmentation), label_map)


def _scores(outputs: Sequence[PatchOutput]) -> list[Tensor]:
    return [output.scores for output in outputs]
