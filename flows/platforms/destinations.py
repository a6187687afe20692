"""Where flows push results to: a URL, or a block of Prefect that knows the bucket and its credentials.

Credentials of a block are read when they are used, and stay in this process: parameters, logs and artifacts have the
block's name alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect.blocks.core import Block

from scenepalette.common.errors import ConfigError, ScenepaletteError
from scenepalette.common.remote.store import store_problem
from scenepalette.common.urls import MASK, is_url, masked

PUSH_PATTERN = (
    # Neither a query nor a password before an @, which would be stored with the flow run. Digits before letters, as
    # Prefect's command line shows a refused value with its pattern and takes "[a" for markup.
    r"^([A-Za-z][A-Za-z0-9+.\-]+://([^{}\s?@:/\x00]+@)?|[0-9a-z][0-9a-z\-]*/)"
    r"([^{}\s?@\x00]|\{(date|time)\})+$"
)
"""What a flow's `push_to` takes, for schemas: a URL without credentials, or BLOCK-TYPE/NAME."""
_SECRET_KEY = re.compile(r"key|secret|token|passw|credential|connection|sas|auth", re.IGNORECASE)


@dataclass(frozen=True)
class Destination:
    """A place that results are pushed to.

    Attributes:
        url: Its URL, without credentials.
        options: Of the file system of fsspec, credentials among them.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def without_secrets(self, error: ScenepaletteError) -> ScenepaletteError:
        """Return an error whose text has none of the credentials, and no cause whose text might have them."""

        def clean(text: str) -> str:
            for secret in _secrets(self.options):
                text = text.replace(secret, MASK)
            return masked(text)

        return type(error)(clean(error.summary), [clean(problem) for problem in error.problems])


def resolve(push_to: str) -> Destination:
    """Return the place that a parameter `push_to` names; nothing is asked of it yet.

    Args:
        push_to: A URL, or a block as TYPE/NAME or TYPE/NAME/FOLDER, such as remote-file-system/results/streets.

    Raises:
        ConfigError: The URL cannot be used, there is no such block, or it is of a type that names no place.
    """
    destination = Destination(push_to.strip()) if is_url(push_to) else _of_block(push_to.strip())
    if problem := store_problem(destination.url):
        raise ConfigError(f"push_to: {problem}.")
    return destination


def _of_block(reference: str) -> Destination:
    slug, _, rest = reference.partition("/")
    name, _, folder = rest.partition("/")
    read = BLOCKS.get(slug)
    if read is None or not name:
        raise ConfigError(
            f"push_to is {reference!r}, which is neither a URL nor a block that names a place. Write a URL such as "
            f"s3://BUCKET/FOLDER, or one of {', '.join(f'{known}/NAME' for known in BLOCKS)}; for other stores, such "
            "as gs:// and az://, a block remote-file-system has their URL and settings."
        )
    try:
        block = Block.load(f"{slug}/{name}")
    except ValueError as error:
        package = PACKAGES.get(slug)
        needs = f", and its package is installed here (pip install {package})" if package else ""
        raise ConfigError(
            f"push_to: the block {slug}/{name} cannot be read ({type(error).__name__}). See that `prefect block ls` "
            f"lists it on the server of this run{needs}."
        ) from None
    destination = read(block)
    if folder:
        return Destination(f"{destination.url.rstrip('/')}/{folder}", destination.options)
    return destination


def _of_local_file_system(block: Any) -> Destination:
    if not block.basepath:
        raise ConfigError("push_to: the block local-file-system has no basepath; give it one, or write file:///FOLDER.")
    return Destination(f"file://{block.basepath}")


def _of_s3_bucket(block: Any) -> Destination:
    """Read a block of prefect-aws, with credentials of AWS or of MinIO."""
    given = block.credentials
    if getattr(given, "assume_role_arn", None):
        raise ConfigError(
            "push_to: the block's credentials assume a role, which is not done here. Give the worker the role, and use "
            "the bucket's URL."
        )
    minio = hasattr(given, "minio_root_user")
    client = given.aws_client_parameters
    secret = given.minio_root_password if minio else given.aws_secret_access_key
    options = {
        "key": given.minio_root_user if minio else given.aws_access_key_id,
        "secret": secret.get_secret_value() if secret is not None else None,
        "token": None if minio else given.aws_session_token,
        "profile": None if minio else given.profile_name,
        "endpoint_url": client.endpoint_url,
        "client_kwargs": {
            **({"region_name": given.region_name} if given.region_name else {}),
            **({} if client.verify is True else {"verify": client.verify}),
        },
    }
    folder = f"/{block.bucket_folder.strip('/')}" if block.bucket_folder.strip("/") else ""
    return Destination(f"s3://{block.bucket_name}{folder}", {name: value for name, value in options.items() if value})


BLOCKS: dict[str, Callable[[Any], Destination]] = {
    "remote-file-system": lambda block: Destination(block.basepath, block.settings),
    "s3-bucket": _of_s3_bucket,
    "local-file-system": _of_local_file_system,
}
"""How a block is read, by the name of its type."""
PACKAGES = {"s3-bucket": "prefect-aws"}


def _secrets(options: Any, secret: bool = False) -> list[str]:
    """Return the values of options whose names are those of secrets, longest first."""
    if isinstance(options, Mapping):
        found = [
            text
            for name, value in options.items()
            for text in _secrets(value, secret or _SECRET_KEY.search(str(name)) is not None)
        ]
        return sorted(found, key=len, reverse=True)
    if isinstance(options, list | tuple):
        return sorted((text for value in options for text in _secrets(value, secret)), key=len, reverse=True)
    return [options] if secret and isinstance(options, str) and options else []
