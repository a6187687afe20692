"""A Prefect plugin: `prefect deployment run generate-dataset` means `generate-dataset/generate-dataset`.

Prefect looks deployments up as FLOW/DEPLOYMENT. All deployments of prefect.yaml have their flow's name, so that the
name alone is enough. Prefect has no public place for that: the method below is its own, and where it is not found the
plugin does nothing and the form with the slash is needed.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from prefect.plugins import HookContext, register_hook


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
        return await original(self, full_name(name), *arguments, **options)

    client.read_deployment_by_name = read_deployment_by_name
    return True


@register_hook
def setup_environment(*, ctx: HookContext) -> None:
    """Called by Prefect when it starts; changes nothing except for `prefect deployment ...`."""
    if "deployment" not in sys.argv[1:3]:
        return
    try:
        from prefect.client.orchestration import PrefectClient
    except ImportError:
        found = False
    else:
        found = accept_short_names(PrefectClient)
    if not found:
        ctx.logger_factory("scenepalette").debug("This Prefect takes deployments as FLOW/DEPLOYMENT only.")
