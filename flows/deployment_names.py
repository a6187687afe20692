"""A Prefect plugin: `prefect deployment run generate-dataset` means `generate-dataset/generate-dataset`.

Prefect looks deployments up as FLOW/DEPLOYMENT. All deployments of prefect.yaml have their flow's name, so that the
name alone is enough. Prefect has no public place for that: the method below is its own, and where it is not found the
plugin does nothing and the form with the slash is needed.

It also says in a line what Prefect says in a traceback, or not at all: that no server answers, that a deployment is not
registered, that `prefect deploy --all` was given in another folder. Parameters with credentials in a URL go no further:
Prefect would keep them with the flow run, or repeat them as it refuses them.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from prefect.exceptions import ObjectNotFound
from prefect.plugins import HookContext, register_hook

from scenepalette.common.storage.untrusted import short
from scenepalette.common.urls import holds_credentials
from scenepalette.flows.servers import unreachable

FILE = (Path(__file__).parents[1] / "prefect.yaml").resolve()


def full_name(name: str) -> str:
    """Return a deployment's name as FLOW/DEPLOYMENT."""
    return name if "/" in name else f"{name}/{name}"


def accept_short_names(client: Any) -> bool:
    """Let a client class's `read_deployment_by_name` take short names; tell whether it has such a method."""
    original = getattr(client, "read_deployment_by_name", None)
    if original is None:
        return False

    @functools.wraps(original)
    async def read_deployment_by_name(self: Any, name: str, *arguments: Any, **options: Any) -> Any:
        try:
            return await original(self, full_name(name), *arguments, **options)
        except ObjectNotFound:
            _say(
                f"The server has no deployment {full_name(name)}. `prefect deployment ls` lists those there are; "
                f"`prefect --no-prompt deploy --all --prefect-file {FILE}` registers scenepalette's."
            )
            raise

    client.read_deployment_by_name = read_deployment_by_name
    return True


@register_hook
def setup_environment(*, ctx: HookContext) -> None:
    """Called by Prefect when it starts; changes nothing except for `prefect deployment ...`.

    Raises:
        SystemExit: A parameter holds a URL with credentials, or the command needs a server and none answers.
    """
    commands = sys.argv[1:3]
    if "deploy" in commands and "--all" in sys.argv and not _has_file():
        _say(
            f"There is no prefect.yaml in {Path.cwd()}. Write one: scenepalette prefect init . Or add --prefect-file "
            f"{FILE}; flows then run in this folder."
        )
    if not {"deploy", "deployment"} & set(commands) or "--help" in sys.argv:
        return
    for argument in sys.argv:
        if "://" in argument and holds_credentials(argument):
            raise SystemExit(
                f"Error: {short(argument, 200)} holds credentials, which would be kept with the flow run. "
                "Leave them out, and put them into the environment of the worker or into a block (docs/prefect.md)."
            )
    problem = unreachable()
    if problem is not None:
        raise SystemExit(f"Error: {problem}")
    if "deployment" not in commands:
        return
    try:
        from prefect.client.orchestration import PrefectClient
    except ImportError:
        found = False
    else:
        found = accept_short_names(PrefectClient)
    if not found:
        ctx.logger_factory("scenepalette").debug("This Prefect takes deployments as FLOW/DEPLOYMENT only.")


def _has_file() -> bool:
    return Path("prefect.yaml").is_file() or any(part.startswith("--prefect-file") for part in sys.argv)


def _say(hint: str) -> None:
    print(f"scenepalette: {hint}", file=sys.stderr)
