from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import ScenepaletteError
from scenepalette.data.classes import ClassTable
from scenepalette.generators.images.external import http
from scenepalette.generators.images.external.http import AUTHORIZATION, HttpGenerator, HttpSettings, settings_problems

SIZE = (12, 16)
Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


class Service(BaseHTTPRequestHandler):
    """Gives the answers of its server, one after the other, the last again and again."""

    def do_POST(self) -> None:
        server: Any = self.server
        server.headers.append(dict(self.headers))
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.requests.append(request)
        answer = server.answers[min(len(server.requests), len(server.answers)) - 1]
        if answer is None:
            self.connection.close()
            return
        status, body = answer(request)
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", body.decode())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(AUTHORIZATION, raising=False)
    monkeypatch.setattr(http, "WAIT", 0.01)
    servers: list[ThreadingHTTPServer] = []

    def start(*answers: Answer | None) -> Any:
        server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Service)
        server.answers, server.requests, server.headers = answers, [], []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def paint(request: dict[str, Any]) -> tuple[int, bytes]:
    images = []
    for entry in request["images"]:
        label = Image.open(io.BytesIO(base64.b64decode(entry["label"])))
        assert label.mode == "L" and label.size == (16, 12)
        file = io.BytesIO()
        Image.merge("RGB", [label, label, Image.new("L", label.size, entry["seed"])]).save(file, "PNG")
        images.append({"name": entry["name"], "image": base64.b64encode(file.getvalue()).decode()})
    return 200, json.dumps({"images": images}).encode()


def status(code: int, body: bytes = b"") -> Answer:
    return lambda request: (code, body)


def generator_for(server: Any, **settings: Any) -> HttpGenerator:
    url = f"http://127.0.0.1:{server.server_address[1]}/paint"
    return HttpGenerator(ClassTable.unnamed(3), SIZE, HttpSettings(url=url, timeout=60, **settings))


def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, (2, *SIZE)).astype(np.uint8)


def error_of(generator: HttpGenerator) -> ScenepaletteError:
    with pytest.raises(ScenepaletteError) as caught:
        generator.paint(labels(), [7, 200])
    return caught.value


def test_a_batch_is_one_request_with_classes_and_seeds(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AUTHORIZATION, "Bearer abc")
    server = serve(paint)
    images = generator_for(server, version="v2").paint(labels(), [7, 200])
    np.testing.assert_array_equal(images[..., 0], labels())
    assert (images[0, ..., 2] == 7).all() and (images[1, ..., 2] == 200).all()
    (request,) = server.requests
    assert [entry["name"] for entry in request["classes"]] == ["class 0", "class 1", "class 2"]
    assert request["version"] == "v2" and server.headers[0]["Authorization"] == "Bearer abc"


def test_a_busy_service_and_a_lost_connection_are_tried_again(serve: Callable[..., Any]) -> None:
    server = serve(status(503), None, paint)
    generator_for(server).paint(labels(), [7, 200])
    assert len(server.requests) == 3
    server = serve(status(503, b"no worker"))
    error = error_of(generator_for(server, retries=2))
    assert len(server.requests) == 3 and "still busy after 3 tries" in str(error)
    assert error.problems == ("no worker",)


def test_no_service_is_told(serve: Callable[..., Any]) -> None:
    server = serve(paint)
    generator = generator_for(server, retries=1)
    server.shutdown()
    server.server_close()
    assert "gave no answer in 2 tries" in str(error_of(generator))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(500, b"Traceback\nhttp://me:pass@inner"), ["answered 500", "Traceback", "http://***@inner"]),
        (status(401), ["answered 401", AUTHORIZATION]),
        (status(307, b"http://me:pass@other/x"), ["answered 307", "It leads to http://***@other/x"]),
        (status(200, b"<html>"), ["cannot be read", "required is JSON"]),
        (status(200, b'{"images": [{"name": "00000.png", "image": "?"}]}'), ["cannot be read"]),
        (status(200, b'{"images": []}'), ["00000.png: it is not there", "00001.png"]),
        (status(200, b" " * 10**6), ["too many for such images"]),
    ],
    ids=["500", "401", "redirect", "no JSON", "no base64", "none", "large"],
)
@pytest.mark.damaged
def test_other_answers_are_refused_at_once(serve: Callable[..., Any], answer: Answer, words: list[str]) -> None:
    server = serve(answer)
    error = str(error_of(generator_for(server)))
    assert all(word in error for word in words) and "pass@" not in error
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "url: it is missing"),
        ("https://me:pass@host/x", "https://***@host/x holds credentials"),
        ("https://host/x?api_key=pass", "api_key=*** holds credentials"),
        ("ftp://host/x", "no URL that can be posted to"),
        ("http://host:pass/", "no URL that can be posted to"),
        ("http:///x", "no URL that can be posted to"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_its_credentials(url: str, words: str) -> None:
    (problem,) = settings_problems(HttpSettings(url=url))
    assert words in problem and "pass" not in problem
