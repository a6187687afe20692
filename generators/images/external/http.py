"""The image system `http`: a service behind a URL paints label maps."""

from __future__ import annotations

import base64
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
from annotated_types import Ge, Gt, Le
from typing_extensions import Doc

from scenepalette.common.errors import DataError, ScenepaletteError
from scenepalette.common.png import png_of
from scenepalette.common.storage.untrusted import short
from scenepalette.common.urls import holds_credentials, masked
from scenepalette.data.classes import ClassTable
from scenepalette.data.exports.exchange import names_of
from scenepalette.generators.images.base import ImageSettings, ImageSystem
from scenepalette.generators.images.external.exchange import PaintedElsewhere, decoded_images
from scenepalette.training.settings import IDLE

AUTHORIZATION = "SCENEPALETTE_HTTP_AUTHORIZATION"
"""Environment variable with the value of the header Authorization, for example "Bearer ..."."""
LONGEST_WAIT = 60.0
WAIT = 1.0
"""Seconds before the second try; twice as many before each further one."""
_AGAIN = (429, 502, 503, 504)
"""Status codes of services that are busy or starting."""
_SHOWN_BYTES = 2000
_IMAGE_BYTES = 64 * 1024
"""Of an answer per image, beside eight bytes per pixel: no lossless image takes more."""


@dataclass(frozen=True)
class HttpSettings(ImageSettings):
    """Where images are painted, and how long one waits for them."""

    url: Annotated[str, Doc("Of the system http: the URL that batches of labels are posted to.")] = ""
    version: Annotated[
        str, Doc("Any text that names the model behind the URL; change it when the service paints otherwise.")
    ] = ""
    timeout: Annotated[float, IDLE, Gt(0), Doc("Seconds that an answer may take.")] = 600.0
    retries: Annotated[
        int, IDLE, Ge(0), Le(20), Doc("Retries when there is no connection, or the service is busy.")
    ] = 4


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects would turn a POST into a GET, and carry the header Authorization to another server."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


class HttpGenerator(PaintedElsewhere):
    """Posts each batch, and takes the images from the answer."""

    def __init__(self, table: ClassTable, size: tuple[int, int], settings: HttpSettings) -> None:
        """Paint behind a URL at a height and width."""
        super().__init__(table, size)
        self.url, self.version = settings.url, settings.version
        self.timeout, self.retries = settings.timeout, settings.retries

    def paint(self, labels: np.ndarray, seeds: list[int]) -> np.ndarray:
        """Post the labels."""
        names = names_of(len(labels))
        classes = [
            {"id": number, "name": entry.name, "color": list(entry.color), "evaluated": entry.evaluated}
            for number, entry in enumerate(self.table.classes)
        ]
        images = [
            {"name": f"{name}.png", "seed": seed, "label": base64.b64encode(png_of(label)).decode()}
            for name, seed, label in zip(names, seeds, labels, strict=True)
        ]
        body = json.dumps({"classes": classes, "version": self.version, "images": images}).encode()
        limit = 2 * len(labels) * (8 * self.size[0] * self.size[1] + _IMAGE_BYTES)
        return decoded_images(self._images(self._post(body, limit)), names, self.size, f"images.url {self._shown}")

    @property
    def _shown(self) -> str:
        return short(masked(self.url), 200)

    def _post(self, body: bytes, limit: int) -> bytes:
        for attempt in range(self.retries + 1):
            try:
                return self._post_once(body, limit)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in _AGAIN or attempt == self.retries:
                        raise self._refused(error, attempt + 1) from error
            except (OSError, http.client.HTTPException) as error:
                if attempt == self.retries:
                    reason = masked(str(getattr(error, "reason", error)) or type(error).__name__)
                    raise ScenepaletteError(
                        f"images.url {self._shown} gave no answer in {attempt + 1} tries ({short(reason)}). Start the "
                        "service or correct the URL, or raise images.systems.http.timeout, and rerun the same command; "
                        "what is finished stays."
                    ) from error
            time.sleep(min(LONGEST_WAIT, WAIT * 2**attempt))
        raise AssertionError("the last try returns or raises")

    def _post_once(self, body: bytes, limit: int) -> bytes:
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"}, method="POST")
        if authorization := os.environ.get(AUTHORIZATION):
            request.add_header("Authorization", authorization)
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(request, timeout=self.timeout) as answer:
            content = answer.read(limit + 1)
        if len(content) > limit:
            raise DataError(
                f"The answer of images.url {self._shown} has more than {limit} bytes, too many for such images. "
                "Correct the service, and rerun the same command."
            )
        return content

    def _refused(self, error: urllib.error.HTTPError, tries: int) -> ScenepaletteError:
        remedy = "Look at the service's log, correct it or the URL"
        if error.code in (401, 403):
            remedy = f"Set the environment variable {AUTHORIZATION} to what the header Authorization is to hold"
        elif 300 <= error.code < 400:
            where = short(masked(error.headers.get("Location", "another place")), 200)
            remedy = f"It leads to {where}; give that URL if you trust it"
        elif error.code in _AGAIN:
            remedy = f"It was still busy after {tries} tries; wait, or lower generate.batch_size"
        try:
            said = error.read(_SHOWN_BYTES).decode("utf-8", errors="replace")
        except (OSError, http.client.HTTPException):  # which says less than the status
            said = ""
        lines = [short(masked(line.strip()), 300) for line in said.splitlines() if line.strip()]
        return ScenepaletteError(
            f"images.url {self._shown} answered {error.code} ({short(str(error.reason), 80)}), 200 is required. "
            f"{remedy}, and rerun the same command; what is finished stays.",
            lines,
        )

    def _images(self, answer: bytes) -> dict[str, bytes]:
        """Return the files of an answer.

        Raises:
            DataError: It is not as it has to be.
        """
        try:
            document = json.loads(answer)
            entries = [(entry["name"], entry["image"]) for entry in document["images"]]
            if not all(isinstance(value, str) for entry in entries for value in entry):
                raise TypeError("name and image must be texts")
            if len({name for name, _ in entries}) < len(entries):
                raise ValueError("a name comes twice")
            return {name: base64.b64decode(image, validate=True) for name, image in entries}
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise DataError(
                f"The answer of images.url {self._shown} cannot be read ({short(repr(error))}); required is JSON, "
                '{"images": [{"name": "00000.png", "image": "BASE64"}, ...]}. Correct the service, and rerun the '
                "same command; what is finished stays."
            ) from error


def settings_problems(settings: HttpSettings) -> list[str]:
    """Return what is wrong with the URL."""
    url = settings.url
    if not url.strip():
        return ["url: it is missing; give, for example, images.url=http://127.0.0.1:8000/paint"]
    if holds_credentials(url):
        return [
            f"url: {short(masked(url), 200)} holds credentials, which run directories, cards and reports would keep; "
            f"leave them out, and set the environment variable {AUTHORIZATION} to what the header Authorization is to "
            "hold"
        ]
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
        (parts.hostname or "").encode("idna")  # raises for labels that are empty or too long
    except ValueError:
        wrong = True
    if wrong or not url.isprintable() or not url.isascii() or " " in url:
        # Not shown: what is no URL cannot be masked.
        return ["url: it is no URL that can be posted to; give http://HOST:PORT/PATH or https://..."]
    return []


HTTP = ImageSystem(
    name="http",
    paper="a service of your own, given as images.url",
    settings=HttpSettings,
    build_generator=HttpGenerator,
    build_objective=None,
    settings_problems=settings_problems,
)
