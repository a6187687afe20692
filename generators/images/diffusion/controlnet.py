"""The image system `controlnet`: its fine-tuning, and its entry in the registry."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scenepalette.data.classes import ClassTable
from scenepalette.generators.images.base import FeatureNetwork, Forward, ImageBatch, ImageObjective, ImageSystem, Loss
from scenepalette.generators.images.diffusion.generator import EXPORTED, ControlnetGenerator
from scenepalette.generators.images.diffusion.pretrained import named_files, place_problems, pretrained_of
from scenepalette.generators.images.diffusion.settings import ControlnetSettings, settings_problems, table_problems


class ControlnetObjective(ImageObjective):
    """Predict the noise that was mixed into real images (Zhang et al., 2023, section 3.3); the base stays as it is."""

    def __init__(self, prompt_dropout: float) -> None:
        """Leave this share of the prompts empty."""
        self.prompt_dropout = prompt_dropout

    def generator_loss(
        self, generator: Forward, discriminator: Forward | None, batch: ImageBatch
    ) -> tuple[Tensor, Loss]:
        """Return the real images, as none are generated, with the mean squared error of the prediction."""
        count, part = len(batch.indices) * batch.ranks.count, batch.ranks.part
        time, dropped = torch.rand(count)[part], (torch.rand(count) < self.prompt_dropout)[part]
        predicted, target = generator(batch.label_map, batch.noise, image=batch.image, time=time, prompted=~dropped)
        loss = F.mse_loss(predicted.float(), target.float())
        return batch.image, Loss(loss, {"generator": loss})


def build_objective(
    table: ClassTable, size: tuple[int, int], settings: ControlnetSettings, features: FeatureNetwork | None
) -> ControlnetObjective:
    """Make the objective; it has no discriminator and compares no features."""
    return ControlnetObjective(settings.prompt_dropout)


CONTROLNET = ImageSystem(
    name="controlnet",
    paper="Adding Conditional Control to Text-to-Image Diffusion Models (Zhang et al., ICCV 2023)",
    settings=ControlnetSettings,
    build_generator=ControlnetGenerator,
    build_objective=build_objective,
    settings_problems=settings_problems,
    place_problems=place_problems,
    named_files=named_files,
    table_problems=table_problems,
    pretrained=pretrained_of,
    own=("steps", "batch_size"),
    end_to_end=False,
    exports=EXPORTED,
    cpu_warning="images.systems.controlnet.steps fine-tunes a ControlNet on a CPU, which takes minutes a step with the "
    "weights of Stable Diffusion; use a GPU, or steps=0",
)
