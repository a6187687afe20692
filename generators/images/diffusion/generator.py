"""Stable Diffusion with a ControlNet as an image generator: sampling, and the prediction that it is fine-tuned by.

Rombach et al., 2022 (latent diffusion) and Zhang et al., 2023 (ControlNet), by diffusers.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenepalette.common.errors import ConfigError
from scenepalette.common.storage.files import writing_explained
from scenepalette.data.classes import ClassTable
from scenepalette.generators.images.base import ImageGenerator
from scenepalette.generators.images.diffusion.conditions import class_shares, colour_image, prompt_of
from scenepalette.generators.images.diffusion.pretrained import (
    CARD,
    LAYOUT_CHANNELS,
    folder_at,
    folder_of,
    folder_problems,
    packages_problem,
    place_problems,
    pretrained_of,
)
from scenepalette.generators.images.diffusion.settings import (
    PREFIX,
    SCHEDULERS,
    ControlnetSettings,
    class_colours,
    hub_name,
    settings_problems,
    table_problems,
    working_size,
)
from scenepalette.generators.images.noise import NoiseScheme

EXPORT = "controlnet"
EXPORTED = tuple(f"{EXPORT}/{name}" for name in ("config.json", "diffusion_pytorch_model.safetensors", CARD))
"""Files of a ControlNet that was fine-tuned, in the form of diffusers, beside the weights."""


@dataclass(frozen=True)
class Frozen:
    """Parts that are not trained; copies of a generator share them.

    Attributes:
        unet, vae, text_encoder: Networks.
        controlnet: The ControlNet, unless it is fine-tuned.
        tokenizer: Divides prompts.
        scheduler: Configuration of the base's scheduler.
        wording: Held while the tokenizer is used: how it pads and cuts is a state of its own, and threads that make
            shards share it.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    controlnet: Any
    tokenizer: Any
    scheduler: dict[str, Any]
    wording: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def networks(self) -> Iterator[nn.Module]:
        """Iterate over the networks."""
        return (part for part in (self.unet, self.vae, self.text_encoder, self.controlnet) if part is not None)

    def __deepcopy__(self, memo: object) -> Self:
        return self


class ControlnetGenerator(ImageGenerator):
    """Draws each image from its own noise and prompt, one at a time, so that it does not depend on its batch.

    Its state is the ControlNet if that is fine-tuned, and else nothing: the weights stay where they come from.
    """

    noise_schemes: tuple[NoiseScheme, ...] = ("image",)
    colours: Tensor

    def __init__(self, table: ClassTable, size: tuple[int, int], settings: ControlnetSettings) -> None:
        """Load the weights; on the meta device nothing is loaded.

        Args:
            table: Classes of the layouts.
            size: Height and width of the images.
            settings: Which weights, and how images are drawn.

        Raises:
            ConfigError: The extra is not installed, or weights are missing, do not fit or do not know the classes.
        """
        super().__init__()
        self.table, self.size, self.num_classes, self.settings = table, size, len(table), settings
        self.working_size = working_size(settings, size)
        self.frozen: Frozen | None = None
        if torch.get_default_device().type == "meta":
            if settings.steps and (network := _sized_controlnet(settings)) is not None:
                self.controlnet: Any = network
            return
        _require([*settings_problems(settings), *table_problems(settings, table)])
        _require(place_problems(settings))
        colours = class_colours(settings, table)
        self.register_buffer(
            "colours", torch.tensor([colours[name] for name in table.names]).float() / 255, persistent=False
        )
        self.frozen, controlnet = _load(settings)
        if controlnet is not None:
            self.controlnet = controlnet
            controlnet.requires_grad_(True).train()

    @property
    def parts(self) -> Frozen:
        """What is not trained."""
        if self.frozen is None:
            raise RuntimeError("on the meta device there are no weights")
        return self.frozen

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for network in self.frozen.networks() if self.frozen is not None else ():
            network._apply(fn)
        return super()._apply(fn, recurse)

    def sample_noise(self, scheme: NoiseScheme | None, label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw normal latents, B x channels x height x width of the latents."""
        self.choose_scheme(scheme)
        factor = 2 ** (len(self.parts.vae.config.block_out_channels) - 1)
        shape = (self.parts.unet.config.in_channels, *(side // factor for side in self.working_size))
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(label.device)

    def replace_noise(self, noise: Tensor, other: Tensor, region: Tensor, label: Tensor) -> Tensor:
        """Refuse, also where latents have the size of the layout: they decide on more than their own pixels."""
        return super().replace_noise(noise.flatten(1), other, region, label)

    @torch.compiler.disable
    def forward(
        self,
        label_map: Tensor,
        noise: Tensor,
        image: Tensor | None = None,
        time: Tensor | None = None,
        prompted: Tensor | None = None,
    ) -> Any:
        """Generate images; or, given real ones, predict the noise that was mixed into them.

        Args:
            label_map: BKHW one-hot; of soft ones the largest class counts.
            noise: Result of `sample_noise`.
            image: Real images B3HW in [-1, 1], for fine-tuning.
            time: Where on the way to noise each of them is, [B] in [0, 1).
            prompted: bool [B], which of them have their prompt; others have an empty one.

        Returns:
            B3HW in [-1, 1]; or the prediction and what it should be, as latents.
        """
        label, device = label_map.argmax(dim=1), noise.device
        dtype = self.parts.unet.dtype
        mixed = torch.autocast(device.type, dtype) if dtype != torch.float32 else nullcontext()
        with mixed:
            if image is not None and time is not None and prompted is not None:
                return self._predict(label, noise, image, time, prompted)
            pipeline = self._pipeline(device)
            images = [self._draw(pipeline, label[i : i + 1], noise[i : i + 1]) for i in range(len(label))]
        return torch.cat(images)

    def _pipeline(self, device: torch.device) -> Any:
        """Return the parts as a pipeline of diffusers; without a safety checker, whose black images are no pairs."""
        import diffusers  # pyright: ignore[reportMissingImports]

        parts, settings = self.parts, self.settings
        scheduler = getattr(diffusers, SCHEDULERS[settings.scheduler])
        pipeline = diffusers.StableDiffusionControlNetPipeline(
            vae=parts.vae,
            text_encoder=parts.text_encoder,
            tokenizer=parts.tokenizer,
            unet=parts.unet,
            controlnet=parts.controlnet if parts.controlnet is not None else self.controlnet,
            scheduler=scheduler.from_config(parts.scheduler),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _prompt(self, label: Tensor) -> str:
        """Return the prompt of a layout [H, W]."""
        tokenizer = self.parts.tokenizer

        def fits(text: str) -> bool:
            return len(tokenizer(text, verbose=False).input_ids) <= tokenizer.model_max_length

        return prompt_of(self.settings.prompt, class_shares(label, self.table), fits)

    def _draw(self, pipeline: Any, label: Tensor, noise: Tensor) -> Tensor:
        """Return the image of one layout [1, H, W]."""
        settings = self.settings
        with self.parts.wording:
            words, unwanted = pipeline.encode_prompt(
                self._prompt(label[0]), noise.device, 1, settings.guidance > 1, settings.negative_prompt
            )
        drawn = pipeline(
            prompt_embeds=words,
            negative_prompt_embeds=unwanted,
            image=colour_image(label, self.colours, self.working_size),
            latents=noise,
            num_inference_steps=settings.inference_steps,
            guidance_scale=settings.guidance,
            controlnet_conditioning_scale=settings.conditioning_scale,
            output_type="pt",
        ).images
        return _resized(2 * drawn.float() - 1, self.size).clamp(-1, 1)

    def _predict(
        self, label: Tensor, noise: Tensor, image: Tensor, time: Tensor, prompted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return predicted and mixed-in noise (or velocity, as the base was trained), each like the latents."""
        from diffusers import DDPMScheduler  # pyright: ignore[reportMissingImports]

        parts = self.parts
        scheduler = DDPMScheduler.from_config(parts.scheduler)
        steps = (time * scheduler.config.num_train_timesteps).long().to(noise.device)
        with torch.no_grad():
            whole = _resized(image, self.working_size)
            # The mean: the autoencoder's own spread is far below the noise that is mixed in.
            clean = parts.vae.encode(whole.to(parts.vae.dtype)).latent_dist.mode() * parts.vae.config.scaling_factor
            clean = clean.to(noise.dtype)
            wanted = prompted.tolist()
            with parts.wording:
                prompts = [self._prompt(one) if wanted[i] else "" for i, one in enumerate(label)]
                words = self._pipeline(noise.device).encode_prompt(prompts, noise.device, 1, False)[0]
            mixed = scheduler.add_noise(clean, noise, steps)
            velocity = scheduler.config.prediction_type == "v_prediction"
            target = scheduler.get_velocity(clean, noise, steps) if velocity else noise
        down, middle = self.controlnet(
            mixed,
            steps,
            encoder_hidden_states=words.to(self.controlnet.dtype),
            controlnet_cond=colour_image(label, self.colours, self.working_size),
            return_dict=False,
        )
        dtype = parts.unet.dtype
        predicted = parts.unet(
            mixed.to(dtype),
            steps,
            encoder_hidden_states=words.to(dtype),
            down_block_additional_residuals=[one.to(dtype) for one in down],
            mid_block_additional_residual=middle.to(dtype),
            return_dict=False,
        )[0]
        return predicted, target

    def export(self, folder: Path) -> None:
        """Write the fine-tuned ControlNet as diffusers does, with a model card that states the terms."""
        origins = pretrained_of(self.settings)
        with writing_explained(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as written:
            made = Path(written) / EXPORT
            self.controlnet.save_pretrained(made, max_shard_size="1TB")
            config = json.loads((made / "config.json").read_text(encoding="utf-8"))
            config.pop("_name_or_path", None)  # a folder of this machine
            (made / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            lines = [f"- {origin.name}: {origin.licence}" for origin in origins]
            (made / CARD).write_text(
                "---\nlicense: other\nlicense_name: see-below\ntags:\n- controlnet\n---\n# ControlNet, fine-tuned\n\n"
                "It sees layouts in the colours of their classes. It derives from weights under terms of their own, "
                "and from the training data, under its terms:\n\n" + "\n".join(lines) + "\n",
                encoding="utf-8",
            )
            # Files of diffusers are private to the user; others in the folder are as the umask allows.
            for path in made.iterdir():
                shutil.copymode(made / CARD, path)
            shutil.rmtree(folder / EXPORT, ignore_errors=True)
            os.replace(made, folder / EXPORT)


def _require(problems: Sequence[str]) -> None:
    if problems:
        texts = [f"images.{text}" for text in problems]
        raise ConfigError("The image system 'controlnet' cannot be used like this.", texts)


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images B3HW at another size, smoothed where they become smaller."""
    if image.shape[2:] == size:
        return image
    return F.interpolate(image.float(), size, mode="bilinear", antialias=True, align_corners=False)


def _quiet() -> None:
    """Keep the packages' own progress bars out of the terminal."""
    import diffusers  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    for package in (diffusers, transformers):
        package.utils.logging.disable_progress_bar()


def _load(settings: ControlnetSettings) -> tuple[Frozen, Any]:
    """Return the parts that are not trained, and the ControlNet if it is.

    Raises:
        ConfigError: They cannot be loaded.
    """
    import diffusers  # pyright: ignore[reportMissingImports]
    from transformers import CLIPTextModel, CLIPTokenizer  # pyright: ignore[reportMissingImports]

    _quiet()
    base = folder_of(settings.base, "base")
    control = folder_of(settings.controlnet, "controlnet") if settings.controlnet.strip() else None
    # Of what came from the hub, nothing was known before.
    _require(folder_problems(base, control))
    dtype, found = getattr(torch, settings.dtype), {"local_files_only": True, "use_safetensors": True}
    fast = {**found, "low_cpu_mem_usage": False}  # else it wants the package accelerate
    try:
        unet = diffusers.UNet2DConditionModel.from_pretrained(base / "unet", torch_dtype=dtype, **fast)
        vae = diffusers.AutoencoderKL.from_pretrained(base / "vae", torch_dtype=dtype, **fast)
        if control is None:
            # As many scales as the autoencoder has, so that layouts meet the latents at their size.
            channels = LAYOUT_CHANNELS[: len(vae.config.block_out_channels)]
            controlnet = diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=channels).float()
        else:
            kept = torch.float32 if settings.steps else dtype
            controlnet = diffusers.ControlNetModel.from_pretrained(control, torch_dtype=kept, **fast)
        frozen = Frozen(
            unet=unet,
            vae=vae,
            text_encoder=CLIPTextModel.from_pretrained(base / "text_encoder", dtype=dtype, **found),
            controlnet=None if settings.steps else controlnet,
            tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer", local_files_only=True),
            scheduler=dict(diffusers.DDIMScheduler.load_config(base / "scheduler")),
        )
    except Exception as error:  # of a damaged file, or of weights that do not fit: each package has its own kinds
        raise ConfigError(
            f"The weights of images.{PREFIX} cannot be loaded ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:400]}). Copy or download {settings.base} and {settings.controlnet} again."
        ) from error
    for network in frozen.networks():
        network.eval().requires_grad_(False)
    return frozen, controlnet if settings.steps else None


def _sized_controlnet(settings: ControlnetSettings) -> Any:
    """Return a ControlNet without numbers, for its size; None where that is not known."""
    if packages_problem() is not None or not settings.controlnet.strip() or hub_name(settings.controlnet):
        return None
    from diffusers import ControlNetModel  # pyright: ignore[reportMissingImports]

    folder = folder_at(settings.controlnet)
    if folder_problems(None, folder):
        return None
    return ControlNetModel.from_config(ControlNetModel.load_config(folder, local_files_only=True))
