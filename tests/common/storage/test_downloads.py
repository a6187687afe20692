from __future__ import annotations

import socket
import urllib.error
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn

from scenepalette.common.errors import AbsentError
from scenepalette.common.storage import downloads
from scenepalette.common.storage.downloads import load_published

URL = "https://example.org/models/line-0123abcd.pth"


def build(path: Path) -> nn.Module:
    network = nn.Linear(2, 1)
    network.load_state_dict(torch.load(path, weights_only=True))
    return network


def write(path: Path, value: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": torch.full((1, 2), value), "bias": torch.zeros(1)}, path)
    return path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder as torch.hub's, and no network."""

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    return tmp_path / "hub"


def test_a_local_file_is_loaded_in_place_of_the_published_one(hub: Path, tmp_path: Path) -> None:
    write(hub / "checkpoints" / "line-0123abcd.pth", 1.0)
    network = load_published("Line", URL, build, write(tmp_path / "mine.pth", 2.0))
    assert isinstance(network, nn.Linear) and network.weight.tolist() == [[2.0, 2.0]]


def test_a_file_in_the_folder_of_torch_hub_is_not_downloaded_again(hub: Path) -> None:
    write(hub / "checkpoints" / "line-0123abcd.pth", 3.0)
    network = load_published("Line", URL, build)
    assert isinstance(network, nn.Linear) and network.weight.tolist() == [[3.0, 3.0]]


def test_a_missing_file_is_downloaded_within_a_time_limit(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(url: str, path: str, progress: bool) -> None:
        asked.append((url, socket.getdefaulttimeout()))
        write(Path(path), 4.0)

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    network = load_published("Line", URL, build)
    assert isinstance(network, nn.Linear) and network.weight.tolist() == [[4.0, 4.0]]
    assert asked == [(URL, downloads.TIMEOUT)]
    assert socket.getdefaulttimeout() is None


def test_without_a_network_the_reason_is_one_line(hub: Path) -> None:
    with pytest.raises(AbsentError) as absent:
        load_published("Line", URL, build)
    assert str(absent.value) == (
        "Line weights could not be downloaded (no network); give the path of line-0123abcd.pth."
    )


def test_a_name_that_is_not_found_is_told_without_error_numbers(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, path: str, progress: bool) -> None:
        raise URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    with pytest.raises(AbsentError, match=r"could not be downloaded \(Name or service not known\); give"):
        load_published("Line", URL, build)


@pytest.mark.damaged
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "a Git LFS pointer.* git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html><title>Sign in</title>", "a web page, not the file itself: download it again"),
        (b"", "it is empty, 0 bytes"),
        (b"neither", "it is no file of torch.save, or holds more than tensors"),
        (None, "it is damaged or cut off"),
    ],
)
def test_what_lies_in_the_place_of_a_download_is_named_and_how_to_be_rid_of_it(
    content: bytes | None, reason: str, hub: Path
) -> None:
    path = write(hub / "checkpoints" / "line-0123abcd.pth", 3.0)
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(AbsentError, match=reason) as absent:
        load_published("Line", URL, build)
    assert str(absent.value).startswith(f"Line weights {path} could not be loaded (")
    assert "remove it to have it downloaded again, or give the path of line-0123abcd.pth" in str(absent.value)


class Malicious:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (exec, ("raise SystemExit('code in the weights was executed')",))


@pytest.mark.parametrize("content", ["missing", "empty", "no network", "other layers", "code"])
def test_a_local_file_that_cannot_be_used(content: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    if content == "empty":
        path.touch()
    elif content == "no network":
        path.write_bytes(b"not a network\nat all")
    elif content == "other layers":
        torch.save({"other": torch.zeros(2)}, path)
    elif content == "code":
        torch.save({"weight": Malicious()}, path)
    with pytest.raises(AbsentError) as absent:
        load_published("Line", URL, build, path)
    reason = str(absent.value)
    assert reason.startswith(f"Line weights {path} could not be loaded (") and "\n" not in reason


def test_a_file_with_code_does_not_reach_the_library(tmp_path: Path) -> None:
    torch.save({"weight": Malicious()}, tmp_path / "mine.pth")
    reached: list[Path] = []
    with pytest.raises(AbsentError):
        load_published("Line", URL, reached.append, tmp_path / "mine.pth")
    assert not reached
