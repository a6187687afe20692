"""What a URL of storage is, and what of it may be shown: credentials never are."""

from __future__ import annotations

import re

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# One slash is what paths make of two.
_IN_TEXT = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]+://?)(?P<rest>[^\s'\"<>]+)")
# user:password@, where a password may hold slashes; a port is none.
_PASSWORD = re.compile(r"^[^/@:?]*:(?!\d+(?:[/?]|$)).*@")
_ANY_PASSWORD = re.compile(r"^[^/@:?]*:.*@")
_WITHOUT_PORTS = frozenset({"s3:", "s3a:", "gs:", "gcs:", "hf:", "az:"})
_USER = re.compile(r"^[^/@:?]+@")
_SECRET = re.compile(
    r"\b((?:[\w-]*(?:token|secret|passw(?:or)?d|signature|credential|authorization|(?:api|access)[_-]?key)|sig)=)"
    r"(?!\*{3})[^&;\s'\"]+",
    re.IGNORECASE,
)
_VALUE = re.compile(r"(?<==)[^&#]+")
# Of Azure, what stands before @ is a container and no secret.
_CONTAINERS = ("az://", "abfs://", "abfss://")
MASK = "***"


def is_url(text: object) -> bool:
    """Tell whether a text is a URL, such as s3://bucket/folder, and not the path of a file."""
    return isinstance(text, str) and _URL.match(text.strip()) is not None


def scheme_of(url: str) -> str:
    """Return what a URL begins with, in small letters: "s3"."""
    return url.strip().partition("://")[0].lower()


def masked(text: str) -> str:
    """Return a text without credentials: users, passwords and values of queries in URLs, `--password=` and its like."""
    return _SECRET.sub(rf"\g<1>{MASK}", _IN_TEXT.sub(_mask, text) if ":/" in text else text)


def holds_credentials(text: str) -> bool:
    """Tell whether a text holds a URL with a user or password, or a parameter that is named like a secret.

    Parameters of URLs that have other names are masked as well, but a service may need them.
    """
    users = [_user_in(match) for match in _IN_TEXT.finditer(text)]
    return _SECRET.search(text) is not None or any(user and user[0] != f"{MASK}@" for user in users)


def _user_in(match: re.Match[str]) -> re.Match[str] | None:
    """Return what stands before the host of a URL, with its @."""
    scheme, rest = match["scheme"], match["rest"]
    # Where there are no ports, a secret may begin with digits and a slash.
    if found := (_ANY_PASSWORD if scheme.lower().rstrip("/") in _WITHOUT_PORTS else _PASSWORD).match(rest):
        return found
    return _USER.match(rest) if scheme.endswith("//") and scheme.lower() not in _CONTAINERS else None


def _mask(match: re.Match[str]) -> str:
    scheme, rest = match["scheme"], match["rest"]
    if found := _user_in(match):
        rest = f"{MASK}@{rest[found.end() :]}"
    if not scheme.endswith("//"):
        return f"{scheme}{rest}"
    before, mark, query = rest.partition("?")
    return f"{scheme}{before}{mark}{_VALUE.sub(MASK, query) if '=' in query or not query else MASK}"


def url_problem(url: str) -> str | None:
    """Say what keeps a URL from being used, with what to do; None if nothing does as far as its text tells."""
    if masked(url) != url:
        return (
            f"{masked(url)} holds credentials, which would end up in logs and records. Leave them out, and put them "
            "where the package of the protocol reads them, such as environment variables (docs/storage.md)"
        )
    if any(character in url for character in "\0\n\r"):
        return "the URL holds a line break or a NUL byte; write it in one line"
    if not url.partition("://")[2].strip("/"):
        return f"{url} names no bucket or folder; write it as {scheme_of(url)}://BUCKET/FOLDER"
    return None


def without_file_scheme(url: str) -> str:
    """Return the path in a URL file:///PATH; any other text as it is."""
    return url.strip()[len("file://") :] if scheme_of(url) == "file" and is_url(url) else url
