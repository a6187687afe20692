from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scenepalette.common.errors import ConfigError
from scenepalette.segmenters.model import build_network


def donor() -> dict[str, Tensor]:
    torch.manual_seed(1)
    encoder: Any = build_network("unet", 2, "mobilenet_v2").encoder
    return {key: value.clone() for key, value in encoder.state_dict().items()}


def build(path: Path, encoder: str = "mobilenet_v2") -> nn.Module:
    torch.manual_seed(2)
    return build_network("deeplabv3", 2, encoder, str(path), decoder_channels=8)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("prefix", ["", "encoder.", "module.", "backbone."])
def test_a_file_fills_the_encoder_whatever_else_it_holds(tmp_path: Path, suffix: str, prefix: str) -> None:
    expected = donor()
    state = {f"{prefix}{key}": value for key, value in expected.items()}
    state["classifier.1.weight"] = torch.zeros(5, 5)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if suffix == ".pt" else state, path)
    encoder: Any = build(path).encoder
    torch.testing.assert_close(dict(encoder.state_dict()), expected, rtol=0, atol=0)


def test_names_of_timm_with_dots_or_underscores_fit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    encoder: Any = build_network("unet", 2, "tu-convnext_atto").encoder
    state = {key.removeprefix("model."): value for key, value in encoder.state_dict().items()}
    dotted = {key.replace("stages_", "stages.").replace("stem_", "stem."): value for key, value in state.items()}
    assert dotted.keys() != state.keys()
    save_file({key: value.contiguous() for key, value in dotted.items()}, tmp_path / "weights.safetensors")
    filled: Any = build_network("unet", 2, "tu-convnext_atto", str(tmp_path / "weights.safetensors")).encoder
    torch.testing.assert_close(dict(filled.state_dict()), dict(encoder.state_dict()), rtol=0, atol=0)


def test_a_file_of_another_encoder_is_refused_with_what_it_has_and_what_is_required(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    state = donor()
    torch.save(state, path)
    with pytest.raises(ConfigError) as caught:
        build(path, "resnet18")
    text = str(caught.value)
    # ResNet-18 without its classifier: 20 convolutions, and 20 normalisations with four tensors each.
    assert f"{path} holds {len(state)} tensors (" in text
    assert "does not fit the encoder resnet18, which has 100" in text
    assert "set segmenters.encoder to the one" in text
    assert caught.value.problems[0].startswith("the file has no conv1.weight, ")


def test_weights_of_another_shape_are_all_named(tmp_path: Path) -> None:
    state = donor()
    first, second = [key for key, value in state.items() if value.ndim == 4][:2]
    state[first], state[second] = torch.zeros(1, 2), torch.zeros(3)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ConfigError) as caught:
        build(tmp_path / "weights.pth")
    assert [problem.split(":")[0] for problem in caught.value.problems] == [first, second]
    assert "(1, 2) in the file" in caught.value.problems[0]


@pytest.mark.parametrize("case", ["not finite", "integers", "numbered"])
def test_weights_that_no_training_can_use_are_refused(tmp_path: Path, case: str) -> None:
    state = donor()
    name = next(key for key, value in state.items() if value.ndim == 4)
    content: dict[Any, Tensor] = dict(state)
    if case == "numbered":
        content = dict(enumerate(state.values()))
    else:
        content[name] = state[name].fill_(float("nan")) if case == "not finite" else state[name].to(torch.int8)
    torch.save(content, tmp_path / "weights.pth")
    reason = {
        "not finite": f"{name}: values in the file are not finite",
        "integers": f"{name}: torch.int8 in the file, torch.float32 in the encoder",
        "numbered": "holds no named tensors",
    }
    with pytest.raises(ConfigError) as caught:
        build(tmp_path / "weights.pth")
    assert reason[case] in str(caught.value)


@pytest.mark.damaged
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_web_page_and_a_pointer_are_called_so(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    for content, words in ((b"<html>Sign in", "a web page"), (b"version https://git-lfs...", "git lfs pull")):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            build(path)


@pytest.mark.damaged
@pytest.mark.parametrize("content", ["pickle", "text", "empty", "number", "missing"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_what_is_no_file_of_weights_is_refused_and_nothing_is_run(tmp_path: Path, content: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if content == "pickle":
        torch.save(collections.Counter, path)  # would be imported by an ordinary unpickling
    elif content == "number":
        torch.save(3, path)
    elif content != "missing":
        path.write_bytes(b"no weights" if content == "text" else b"")
    with pytest.raises(ConfigError, match=r"^segmenters\.encoder_weights: .*weights\.") as caught:
        build(path)
    assert ("there is no file" in str(caught.value)) is (content == "missing")
