"""Stage images: train the generators of images for layouts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from scenepalette.common.errors import AbsentError, ConfigError
from scenepalette.common.storage.untrusted import short
from scenepalette.data.classes import ClassTable
from scenepalette.evaluation.images.encoder_features import EncoderFeatures, load_encoder_features
from scenepalette.evaluation.images.features import SegmenterFeatures
from scenepalette.generators.images.base import FeatureNetwork, ImageGenerator, ImageSettings
from scenepalette.generators.images.loading import (
    DISCRIMINATOR_WEIGHTS,
    WEIGHTS,
    load_image_discriminator,
    load_image_generator,
)
from scenepalette.generators.images.noise import NoiseScheme
from scenepalette.generators.images.perceptual import VGG_LAYERS, Vgg19Features, load_vgg19
from scenepalette.generators.images.registry import IMAGE_SYSTEMS, find_image_system
from scenepalette.generators.images.training import train_image_generator
from scenepalette.generators.kernels.passes import prepare_for_inference
from scenepalette.generators.pairs.base import Labeller
from scenepalette.pipeline.checks.preflight import network_problem
from scenepalette.pipeline.config import RunConfig
from scenepalette.pipeline.stages.segment import arm_settings, load_reference_segmenter, reference_segmenter_of
from scenepalette.pipeline.units.sources import Sources, is_there
from scenepalette.pipeline.units.workspace import PreparedData, Unit, Workspace
from scenepalette.segmenters.loading import build_segmenter
from scenepalette.training.device.abilities import inference_type
from scenepalette.training.device.compiling import compiled
from scenepalette.training.device.speed import CompileMode, speed_of
from scenepalette.training.loop import METRICS_FILE
from scenepalette.training.settings import settings_of_result

VERSION = 3
FILES = (WEIGHTS, DISCRIMINATOR_WEIGHTS, METRICS_FILE)


@dataclass(frozen=True)
class ImageModel:
    """An image generator of a run."""

    system: str
    settings: ImageSettings

    @property
    def unit(self) -> str:
        """Its folder in the run directory."""
        return f"images/{self.system}"

    def load(self, run: Workspace, weights: Path | None = None) -> ImageGenerator:
        """Return the finished generator on the run's device for inference, by default with its training's weights."""
        train, path = run.data.train, weights or run.run_dir / self.unit / WEIGHTS
        network = load_image_generator(path, self.system, train.table, train.size, self.settings)
        run.fabric.to_device(network)
        speed, device = speed_of(run.fabric), run.fabric.device
        # On a CPU what `prepare_for_inference` puts in place of modules is faster than what a compiler makes of them.
        # CUDA graphs belong to a thread, and pairs are made in others.
        compiles: CompileMode = "off" if device.type == "cpu" or speed.compile == "off" else "default"
        prepare_for_inference(
            network, inference_type(run.fabric), patches=speed.label_patches, faster=compiles == "off"
        )
        return compiled(network, compiles, device)

    def discriminator_weights(self, run_dir: Path) -> Path:
        """Return the weights of the discriminator that the generator was trained against."""
        return run_dir / self.unit / DISCRIMINATOR_WEIGHTS

    def load_discriminator(self, run: Workspace) -> nn.Module:
        """Return the discriminator that the generator was trained against, on the run's device."""
        train = run.data.train
        discriminator = load_image_discriminator(
            self.discriminator_weights(run.run_dir), self.system, train.table, train.size, self.settings
        )
        return run.fabric.to_device(discriminator)

    def labeller(self, run: Workspace) -> Labeller:
        """Return what predicts the label maps of images: the discriminator, as a segmenter.

        Raises:
            ConfigError: The discriminator does not label pixels.
        """
        predict = find_image_system(self.system).predict_labels
        if predict is None:
            raise ConfigError(f"The discriminator of {self.system} does not label pixels. Choose another system.")
        return partial(predict, self.load_discriminator(run))

    def settings_problems(self) -> list[str]:
        """Return what is wrong with the settings, and with what they need on this machine."""
        system = find_image_system(self.system)
        for look in (system.settings_problems, system.place_problems):
            if look is not None and (problems := look(self.settings)):
                return [f"images.{text}" for text in problems]
        return [
            f"images.systems.{self.system}.{field}: there is no file {path}; correct the path"
            for field, path in vars(self.settings).items()
            if isinstance(path, Path) and not path.exists()
        ]

    def problem(
        self, size: tuple[int, int], table: ClassTable | None = None, schemes: Sequence[NoiseScheme | None] = ()
    ) -> str | None:
        """Return what keeps the model from being built at the size of the data, or from taking noise.

        Args:
            size: Height and width.
            table: The classes of the data, with which systems of other packages are tried; see `network_problem`.
            schemes: Noise schemes that are asked of it beside that of its training.
        """
        system = IMAGE_SYSTEMS[self.system]

        def build(table: ClassTable) -> None:
            generator = system.build_generator(table, size, self.settings)
            if not isinstance(generator, ImageGenerator):
                raise ConfigError(
                    f"its generator is a {type(generator).__name__}; derive it from {ImageGenerator.__module__}."
                    f"{ImageGenerator.__name__} (docs/extending/adding-an-image-system.md)"
                )
            for scheme in (self.settings.noise_scheme, *schemes):
                generator.choose_scheme(scheme)

        if table is None and (problem := system.augmentation_problem(self.settings)) is not None:
            return f"images.{problem}"
        return network_problem(IMAGE_SYSTEMS, self.system, build, table)


def image_model(config: RunConfig, system: str | None = None) -> ImageModel:
    """Return the run's image generator, or another one of its configuration by the name of its system."""
    name = system or config.images.system
    return ImageModel(name, config.images.settings(name))


@dataclass(frozen=True, kw_only=True)
class ImagesUnit(Unit):
    """The training of an image generator."""

    shared: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    model: ImageModel

    @classmethod
    def of(cls, config: RunConfig, sources: Sources, model: ImageModel) -> ImagesUnit:
        """Return the unit of a model."""
        features = feature_settings(config, sources, model.system, model.unit)
        system = find_image_system(model.system)
        named = sources.files(system.named_files(model.settings) if system.named_files else {}, model.unit)
        settings = {**settings_of_result(model.settings), **features, **named, "seed": config.seed}
        inputs = ("data", *feature_inputs(config, model.system))
        return cls("images", model.system, VERSION, settings, inputs, (*FILES, *system.exports), model=model)

    @property
    def comes_trained(self) -> bool:
        """Whether there is nothing to train."""
        return find_image_system(self.model.system).comes_trained(self.model.settings)

    @property
    def batch_sizes(self) -> list[int]:
        """Of every step."""
        return [self.model.settings.batch_size]

    @classmethod
    def problems(cls, units: Sequence[ImagesUnit], config: RunConfig, *, fetch: bool) -> list[str]:
        """Say if weights of a perceptual loss are not there, or not of their encoder, or a painter elsewhere is not."""
        problems = [text for unit in units for text in unit.model.settings_problems()]
        return [*problems, *feature_problems(config, [unit.model.system for unit in units])]

    @classmethod
    def problems_of_data(cls, units: Sequence[ImagesUnit], config: RunConfig, data: PreparedData) -> list[str]:
        """Say which classes a system cannot take, and which systems of other packages cannot be built."""
        size, table = config.generator_size, data.train.table
        built = [unit.model.problem(size, table, [config.generate.noise_scheme]) for unit in units]
        looks = [(find_image_system(unit.model.system).table_problems, unit.model.settings) for unit in units]
        found = [look(settings, table) for look, settings in looks if look is not None]
        return [f"images.{text}" for texts in found for text in texts] + [f"images: {text}" for text in built if text]

    def record(self) -> Mapping[str, Any]:
        """Return whether the system came trained, and the terms of weights from elsewhere."""
        terms = find_image_system(self.model.system).terms(self.model.settings)
        return {**({"comes_trained": True} if self.comes_trained else {}), **terms}

    def make(self, run: Workspace, folder: Path) -> None:
        """Train the generator."""
        data = run.data
        train_image_generator(
            folder,
            self.model.system,
            self.model.settings,
            pairs=data.train,
            filled_labels=data.filled_labels,
            features=load_features(run, self.model.system),
            seed=run.config.seed,
            fabric=run.fabric,
            progress=run.progress,
            tensorboard=run.config.compute.writes_tensorboard,
            ranks=run.ranks,
        )


def compares_features(config: RunConfig, system: str) -> bool:
    """Return whether a system's losses, with the configuration's numbers, compare features of a network."""
    return find_image_system(system).compares_features(config.images.settings(system))


def feature_inputs(config: RunConfig, system: str) -> tuple[str, ...]:
    """Return the units that a system's perceptual loss may need: files have none, the substitute is a segmenter."""
    if config.images.perceptual_encoder_weights is not None or not compares_features(config, system):
        return ()
    return (reference_segmenter_of(config),)


def feature_settings(config: RunConfig, sources: Sources, system: str, unit: str) -> dict[str, Any]:
    """Return what identifies a unit by the weights that its perceptual loss is to use, if any are named."""
    images = config.images
    if not compares_features(config, system):
        return {}
    if images.perceptual_encoder_weights is not None:
        file = sources.file(images.perceptual_encoder_weights, unit, "perceptual_encoder_weights")
        return {"perceptual_encoder": images.perceptual_encoder, "perceptual_encoder_weights": file}
    if images.vgg_weights is not None:
        return {"vgg_weights": sources.file(images.vgg_weights, unit, "vgg_weights")}
    # Where it is left at VGG-19's, a unit is what it was before there was a choice.
    return {} if images.perceptual_features == "vgg19" else {"perceptual_features": images.perceptual_features}


def _segmenter_is_chosen(config: RunConfig) -> bool:
    """Return whether the run's own segmenter is to give the features, as no weights are named."""
    images = config.images
    named = (images.vgg_weights, images.perceptual_encoder_weights)
    return images.perceptual_features == "segmenter" and named == (None, None)


def feature_problems(config: RunConfig, systems: Sequence[str]) -> list[str]:
    """Say if weights are named for the perceptual losses of systems and are not there, or not of their encoder."""
    images = config.images
    if not any(compares_features(config, name) for name in systems):
        return []
    problems = [
        f"images.{name}: there is no file {short(str(path))}"
        for name, path in (
            ("vgg_weights", images.vgg_weights),
            ("perceptual_encoder_weights", images.perceptual_encoder_weights),
        )
        if path is not None and not is_there(path.is_file)
    ]
    if problems or images.perceptual_encoder_weights is None:
        return problems
    try:
        load_encoder_features(images.perceptual_encoder, images.perceptual_encoder_weights)
    except ConfigError as error:
        return [" ".join(str(error).split())]
    return []


def load_features(run: Workspace, system: str) -> FeatureNetwork | None:
    """Return what a system's perceptual loss compares; None if it has no such loss.

    Those of the network whose weights are named, or of the run's own segmenter if it is chosen; else VGG-19's where its
    weights can be had; else, said in one line, those of the segmenter.
    """
    images, chosen = run.config.images, find_image_system(system)
    if not compares_features(run.config, system):
        return None
    if images.perceptual_encoder_weights is not None:
        return load_encoder_features(images.perceptual_encoder, images.perceptual_encoder_weights)
    if _segmenter_is_chosen(run.config):
        return SegmenterFeatures(load_reference_segmenter(run), chosen=True)
    try:
        return load_vgg19(images.vgg_weights, chosen.perceptual_layers or VGG_LAYERS)
    except AbsentError as absent:
        print(
            f"{absent} The perceptual loss compares features of the segmenter trained on real pairs instead. Give "
            "images.vgg_weights for VGG-19.",
            file=sys.stderr,
            flush=True,
        )
    return SegmenterFeatures(load_reference_segmenter(run))


def untrained_features(config: RunConfig, system: str, table: ClassTable) -> FeatureNetwork | None:
    """Return a network of random weights that costs what that of `load_features` does, as a rule."""
    if not compares_features(config, system):
        return None
    if config.images.perceptual_encoder_weights is not None:
        return EncoderFeatures(config.images.perceptual_encoder, "random weights").eval()
    if _segmenter_is_chosen(config):
        return SegmenterFeatures(build_segmenter(arm_settings(config.segmenters, "real"), table), chosen=True).eval()
    return Vgg19Features(find_image_system(system).perceptual_layers or VGG_LAYERS)
