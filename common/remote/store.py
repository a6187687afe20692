"""A folder at a URL, by whatever file system fsspec knows for its protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.storage.files import sha256_of_file
from scenepalette.common.urls import is_url, scheme_of, url_problem

EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "azure"),
    "hf": "hf",
}
"""The extra of this package that brings what a protocol needs."""
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_ENDPOINT_URL for another server",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "azure": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "hf": "HF_TOKEN",
}
_REFUSED = re.compile(
    r"NoCredentials|AccessDenied|Forbidden|Unauthorized|GatedRepo|\b40[13] Client Error"
    r"|, 40[13]$|RefreshError|DefaultCredentials"  # Google
    r"|ErrorCode:(Auth|NoAuth|InvalidAuth|PublicAccess)|ClientAuthentication|either a connection_string"  # Azure
)
# They log each request that they give up, at length or with its traceback, beside raising the error.
for _name in ("gcsfs", "azure.identity"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)
_CHUNK = 2**22
MD5 = re.compile(r"[0-9a-f]{32}")


class StoreError(ScenepaletteError):
    """A URL that cannot be read or written."""


class TransferError(StoreError):
    """A transfer that failed for a reason that may pass, such as a connection that was cut off."""


@dataclass(frozen=True)
class Entry:
    """A file at a URL.

    Attributes:
        size: Bytes.
        stamp: What changes when its content does, such as an etag or the time of its last change.
    """

    size: int
    stamp: str


@dataclass(frozen=True)
class Store:
    """A folder at a URL, which need not be there yet.

    Attributes:
        url: The URL, which holds no credentials.
        fs: The file system.
        root: The folder's path in it.
    """

    url: str
    fs: Any = field(repr=False)
    root: str

    @classmethod
    def open(cls, url: str, options: Mapping[str, Any] | None = None) -> Store:
        """Open a folder at a URL; nothing is asked of the other side yet.

        Args:
            url: The URL.
            options: What the protocol's file system is told, such as credentials; else it reads the environment.

        Raises:
            ConfigError: The URL holds credentials, its protocol is not known, or the protocol's package is missing.
        """
        url = url.strip()
        if problem := store_problem(url):
            raise ConfigError(f"{problem}.")
        url = url.rstrip("/")
        with explained(url):
            fs, root = url_to_fs(_full(url), **(options or {}))
            if fs.async_impl:
                fs.loop.set_exception_handler(_tell_no_lost_connection)
            if scheme_of(url) == "hf":
                from huggingface_hub.utils import disable_progress_bars

                disable_progress_bars()  # one for each file, beside that of the command
        return cls(url, fs, root.rstrip("/"))

    def path(self, name: str) -> str:
        """Return the path of a file in the file system."""
        return f"{self.root}/{name}"

    def files(self, within: str = "") -> dict[str, Entry]:
        """Return all files below the folder, by their names relative to it; none where it is not there.

        Args:
            within: A folder in it, which names are then relative to.

        Raises:
            StoreError: It cannot be listed, or a name would lead out of a folder.
        """
        root = self.path(within) if within else self.root
        with explained(self.url):
            self.fs.invalidate_cache()
            try:
                found = self.fs.find(root, detail=True)
            except FileNotFoundError:
                return {}
        entries = {}
        for path, info in sorted(found.items()):
            name = path[len(root) :].lstrip("/")
            if info.get("type") != "file" or not name or path.endswith("/"):
                continue
            if {"..", ".", ""} & set(name.split("/")) or "\\" in name or "\0" in name:
                raise StoreError(f"{self.url} holds a file {name!r}, whose name would lead elsewhere. Rename it there.")
            entries[name] = Entry(int(info.get("size") or 0), _stamp(info))
        return entries

    def read(self, name: str, most: int = 64 * 2**20) -> bytes | None:
        """Return the bytes of a small file, or None if there is none.

        Raises:
            StoreError: It cannot be read, or has more bytes than `most`.
        """
        with explained(self.url):
            self.fs.invalidate_cache()
            try:
                size = self.fs.info(self.path(name))["size"]
                content = self.fs.cat_file(self.path(name)) if size <= most else None
            except FileNotFoundError:
                return None
        if content is None:
            raise StoreError(f"{self.url}/{name} has {size} bytes; at most {most} are expected. Look at what it is.")
        return content

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file into an existing folder of this machine; half a file may stay behind if that fails.

        Raises:
            StoreError: It cannot be read.
        """
        with explained(f"{self.url}/{name}"):
            self.fs.get_file(self.path(name), str(path))

    def put(self, path: Path, name: str) -> None:
        """Copy a file of this machine to a name.

        Raises:
            StoreError: It cannot be written.
        """
        with explained(f"{self.url}/{name}", "written"):
            if scheme_of(self.url) in ("file", "local"):
                self.fs.makedirs(self.path(name).rpartition("/")[0], exist_ok=True)
            self.fs.put_file(str(path), self.path(name))

    def write(self, name: str, content: bytes) -> None:
        """Write a small file.

        Raises:
            StoreError: It cannot be written.
        """
        with explained(f"{self.url}/{name}", "written"):
            self.fs.pipe_file(self.path(name), content)

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no problem.

        Raises:
            StoreError: It cannot be removed.
        """
        with explained(f"{self.url}/{name}", "removed"), contextlib.suppress(FileNotFoundError):
            self.fs.invalidate_cache()
            self.fs.info(self.path(name))  # the Hub tells of what is not there by an error of another type
            self.fs.rm_file(self.path(name))

    def holds(self, name: str, path: Path, sha256: str | None = None) -> bool:
        """Tell whether a name has the content of a file of this machine.

        Sizes are compared, then a hash that the store states of itself; without one the content is read back.

        Args:
            name: Name at the URL.
            path: The file.
            sha256: Its SHA-256, where that is known.

        Raises:
            StoreError: The store cannot be read.
        """
        with explained(f"{self.url}/{name}"):
            self.fs.invalidate_cache()
            try:
                info = self.fs.info(self.path(name))
            except FileNotFoundError:
                return False
            if info["size"] != path.stat().st_size:
                return False
            if (md5 := _stated_md5(info)) is not None and md5 == _md5_of_file(path):
                return True
            wanted = sha256 or sha256_of_file(path)
            lfs = info.get("lfs")
            if lfs is not None and lfs["sha256"] == wanted:
                return True
            # Of an object in parts, or one that is encrypted with a key of the account, the etag is no hash.
            digest = hashlib.sha256()
            with self.fs.open(self.path(name), "rb") as file:
                while block := file.read(_CHUNK):
                    digest.update(block)
        return digest.hexdigest() == wanted


def store_problem(url: str) -> str | None:
    """Say what keeps a URL from being opened, as far as is known without asking the other side; None if nothing."""
    if not is_url(url):
        return f"{url!r} is no URL; write one such as s3://BUCKET/FOLDER"
    if problem := url_problem(url):
        return problem
    scheme = scheme_of(url)
    if scheme in ("http", "https"):
        return f"{url}: web servers say neither which files they have nor how large they are; use s3, gs, az or hf"
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        return f"{url}: the protocol {scheme} is not known. Use s3, gs, az, hf, or another one that fsspec knows"
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        need = f"pip install 'scenepalette[{extra}]'" if extra else f"install the package it names: {error}"
        return f"{url}: the package for {scheme}:// is not installed: {need}"
    return None


@contextlib.contextmanager
def explained(url: str, done: str = "read") -> Iterator[None]:
    """Turn whatever the package of a protocol raises into a `StoreError` with its remedy."""
    try:
        yield
    except ScenepaletteError:
        raise
    except Exception as error:  # each of these packages has errors of its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        extra = EXTRAS.get(scheme_of(url), "")
        refused = isinstance(error, PermissionError) or _REFUSED.search(f"{type(error).__name__} {error}") is not None
        if refused and not isinstance(error, FileNotFoundError):
            where = _CREDENTIALS.get(extra, "as the package of the protocol describes")
            remedy = f"Check the bucket's permissions, and give credentials outside the URL: {where}"
            raise StoreError(f"{url} may not be {done}: {reason.rstrip('.')}. {remedy} (docs/storage.md).") from error
        if isinstance(error, FileNotFoundError):
            raise StoreError(
                f"{url} could not be {done}: {reason.rstrip('.')}. Check the URL; buckets and repositories are not "
                "made here, make one first."
            ) from error
        raise TransferError(
            f"{url} could not be {done}: {reason.rstrip('.')}. Rerun the same command once it can be reached; what "
            "was copied whole is kept."
        ) from error


def _tell_no_lost_connection(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Leave lost connections to the transfers that they break: asyncio would print the traceback of each try."""
    if not isinstance(context.get("exception"), ConnectionError):
        loop.default_exception_handler(context)


def _full(url: str) -> str:
    """Return what fsspec takes: on the Hub, ORG/NAME is a data set here."""
    rest = url.partition("://")[2]
    return f"hf://datasets/{rest}" if scheme_of(url) == "hf" and not rest.startswith(("datasets/", "spaces/")) else url


def _stamp(info: Mapping[str, Any]) -> str:
    """Return what changes when a file's content does: the first that a store gives of what stores call it."""
    named = ("ETag", "etag", "md5Hash", "xet_hash", "blob_id", "generation", "LastModified", "mtime", "created")
    return next((f"{name}={info[name]}" for name in named if info.get(name) is not None), "")


def _stated_md5(info: Mapping[str, Any]) -> str | None:
    etag = str(info.get("ETag") or "").strip('"')
    if MD5.fullmatch(etag):
        return etag
    stated = info.get("md5Hash")
    return base64.b64decode(stated).hex() if isinstance(stated, str) else None


def _md5_of_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
