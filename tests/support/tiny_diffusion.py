"""A Stable Diffusion of random weights, small enough for tests, in the folders that diffusers writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch


class Weights(NamedTuple):
    """Folders of a base and of a ControlNet that fits it."""

    base: Path
    controlnet: Path


def write_weights(folder: Path) -> Weights:
    """Write both; skip the test where the extra is not installed."""
    for package in ("diffusers", "transformers"):
        pytest.importorskip(package, reason="needs the extra: pip install 'scenepalette[diffusers]'")
    return Weights(write_base(folder / "base"), write_controlnet(folder / "controlnet"))


def write_base(folder: Path, *, licence: str | None = "creativeml-openrail-m", **unet: Any) -> Path:
    """Write a base pipeline: UNet, autoencoder, text encoder, tokenizer and scheduler.

    Args:
        folder: Where.
        licence: What its README.md says; None for none.
        unet: Arguments of the UNet that differ.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    network = UNet2DConditionModel(**_unet_arguments() | unet)
    autoencoder = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_num_groups=4,
    )
    vocabulary = ["<|startoftext|>", "<|endoftext|>"]
    letters = [chr(code) for code in range(33, 127)]
    vocabulary += [*letters, *(f"{letter}</w>" for letter in letters), "ro", "road</w>", "ad</w>"]
    words = folder / "words"
    words.mkdir(parents=True)
    (words / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocabulary)}))
    (words / "merges.txt").write_text("#version: 0.2\nr o\na d</w>\nro ad</w>\n")
    tokenizer = CLIPTokenizer.from_pretrained(words, model_max_length=77)
    for path in (*words.iterdir(), words):
        path.unlink() if path.is_file() else path.rmdir()
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=network,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    _write_card(folder, licence)
    return folder


def write_controlnet(folder: Path, *, licence: str | None = "openrail", **changes: Any) -> Path:
    """Write a ControlNet that fits the base of `write_base`; the arguments are alike."""
    from diffusers import ControlNetModel

    torch.manual_seed(1)
    arguments = _unet_arguments()
    for name in ("up_block_types", "out_channels", "sample_size"):
        del arguments[name]
    network = ControlNetModel(**arguments, conditioning_embedding_out_channels=(4, 8), **changes)
    # Those of a trained one are not zero: the layout changes the images.
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder)
    _write_card(folder, licence)
    return folder


def _unet_arguments() -> dict[str, Any]:
    return {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 8,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }


def _write_card(folder: Path, licence: str | None) -> None:
    if licence is not None:
        (folder / "README.md").write_text(f"---\nlicense: {licence}\ntags:\n- tiny\n---\n# Random weights\n")
