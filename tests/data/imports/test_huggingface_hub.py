"""A data set by its name on the hub: `scenepalette import` in a process of its own, against a hub on loopback."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from labelled_folders import random_image, random_label
from scenepalette.data.datasets import open_dataset

datasets = pytest.importorskip("datasets")
NAMES = {"0": "road", "1": "car", "2": "sky"}
REPOSITORY, COMMIT = "someone/street-scenes", "0123456789abcdef0123456789abcdef01234567"
COUNTS = {"train": 6, "validation": 3}


def png(pixels: np.ndarray, name: str) -> dict[str, object]:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": f"{name}.png"}


def write_parquet(path: Path, seeds: range) -> bytes:
    images = [png(random_image(seed), f"scene_{seed:03d}") for seed in seeds]
    labels = [png(random_label(seed, 3), f"scene_{seed:03d}") for seed in seeds]
    features = datasets.Features({"image": datasets.Image(), "annotation": datasets.Image()})
    datasets.Dataset.from_dict({"image": images, "annotation": labels}, features=features).to_parquet(str(path))
    return path.read_bytes()


class Hub:
    """The part of the hub's API that reading one data set repository needs.

    Attributes:
        files: Content of each file of the repository.
        asked: Path of every request.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            def do_HEAD(self) -> None:
                hub.answer(self)

            def do_POST(self) -> None:
                hub.answer(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, body: bytes = b"") -> None:
        address = urlsplit(request.path)
        path = unquote(address.path)
        self.asked.append(path)
        api = f"/api/datasets/{REPOSITORY}"
        if path == api or path.startswith(f"{api}/revision/"):
            self._send(request, 200, self._json({**self._about(), "siblings": [{"rfilename": n} for n in self.files]}))
        elif path.startswith(f"{api}/tree/"):
            folder = path.removeprefix(f"{api}/tree/").partition("/")[2]
            below = [name for name in self._names() if not folder or name.startswith(f"{folder}/")]
            if parse_qs(address.query.lower()).get("recursive") != ["true"]:
                below = [name for name in below if "/" not in name.removeprefix(f"{folder}/")]
            self._send(request, 200, self._json([self._entry(name) for name in below]))
        elif path.startswith(f"{api}/paths-info/"):
            asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
            self._send(request, 200, self._json([self._entry(name) for name in asked if name in self._names()]))
        elif path.startswith(f"/datasets/{REPOSITORY}/resolve/") and (name := path.split("/", 6)[-1]) in self.files:
            headers = {"ETag": f'"{self._hash(name)}"', "X-Repo-Commit": COMMIT}
            self._send(request, 200, self.files[name], headers)
        else:
            missing = "RepoNotFound" if not path.startswith((api, f"/datasets/{REPOSITORY}")) else "EntryNotFound"
            self._send(request, 404, self._json({"error": missing}), {"X-Error-Code": missing})

    def _about(self) -> dict[str, object]:
        stated = {"id": REPOSITORY, "sha": COMMIT, "private": False, "gated": False, "disabled": False}
        return {**stated, "tags": [], "downloads": 0, "likes": 0, "cardData": {"license": "cc-by-4.0"}}

    def _names(self) -> list[str]:
        return sorted({*self.files, *(name.rsplit("/", 1)[0] for name in self.files if "/" in name)})

    def _entry(self, name: str) -> dict[str, object]:
        if name not in self.files:
            return {"type": "directory", "path": name, "oid": COMMIT, "size": 0}
        return {"type": "file", "path": name, "oid": self._hash(name), "size": len(self.files[name])}

    def _hash(self, name: str) -> str:
        return hashlib.sha1(self.files[name]).hexdigest()

    @staticmethod
    def _json(content: object) -> bytes:
        return json.dumps(content).encode()

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        request.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            request.send_header(key, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    files = {"README.md": b"---\nlicense: cc-by-4.0\n---\nStreets.\n"}
    first = 0
    for split, count in COUNTS.items():
        content = write_parquet(tmp_path / f"{split}.parquet", range(first, first + count))
        files[f"data/{split}-00000-of-00001.parquet"] = content
        first += count
    hub = Hub(files)
    thread = threading.Thread(target=hub.server.serve_forever)
    thread.start()
    yield hub
    hub.server.shutdown()
    thread.join()
    hub.server.server_close()


def imported_by_name(name: str, hub: Hub, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "id2label.json").write_text(json.dumps(NAMES))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    options = ["--from", "huggingface", "--classes", "id2label.json", "--to", "out"]
    return subprocess.run(
        [sys.executable, "-m", "scenepalette.pipeline.cli.main", "import", name, *options],
        cwd=folder,
        env={**kept, "HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "home"), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_name_on_the_hub_is_downloaded_and_imported(hub: Hub, tmp_path: Path) -> None:
    done = imported_by_name(REPOSITORY, hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Done: out (6 train, 3 val; 3 classes)" in done.stdout
    assert [path for path in hub.asked if path.endswith("train-00000-of-00001.parquet")]
    first = 0
    for split, count in zip(("train", "val"), COUNTS.values(), strict=True):
        dataset = open_dataset("folder", split, tmp_path / "out")
        assert dataset.ids == tuple(f"scene_{seed:03d}" for seed in range(first, first + count))
        for place in range(count):
            assert np.array_equal(dataset[place].label, random_label(first + place, 3))
        first += count


@pytest.mark.slow
def test_a_name_that_the_hub_does_not_have_is_told(hub: Hub, tmp_path: Path) -> None:
    done = imported_by_name("someone/nothing", hub, tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "The package datasets cannot read someone/nothing" in done.stderr
    assert not (tmp_path / "out/import.json").exists()
