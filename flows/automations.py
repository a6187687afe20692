"""Create or update the automations of automations.yaml on a server: `python -m scenepalette.flows.automations`.

`prefect automation create` would make another one of the same name each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import httpx
import typer
import yaml
from pydantic import ValidationError

from scenepalette.common.errors import ConfigError
from scenepalette.flows.servers import unreachable
from scenepalette.pipeline.cli.main import report_errors
from scenepalette.pipeline.cli.terminal.streams import run_program

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

DEFAULT_FILE = (Path(__file__).parents[1] / "automations.yaml").resolve()
"""scenepalette's own, whatever folder the command is given in."""
Change = Literal["created", "updated", "unchanged"]


def apply_automations(path: Path) -> dict[str, Change]:
    """Bring the automations of the configured server to what a file says; others are left alone.

    Args:
        path: YAML file with a list `automations`, as `prefect automation create --from-file` takes it. Actions may
            name a deployment, as `deployment: FLOW/DEPLOYMENT`, in place of its ID on this server.

    Returns:
        What was done, by name.

    Raises:
        ConfigError: The file cannot be read as automations, the server cannot be reached, or has no such deployment;
            nothing was changed.
    """
    # Imported here: a command line must be able to explain itself without.
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.automations import AutomationCore

    if not path.is_file():
        raise ConfigError(
            f"There is no file {path}. Name a YAML file of automations, or none for scenepalette's own: "
            "python -m scenepalette.flows.automations [FILE]"
        )
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["automations"]
        actions = [action for entry in entries for action in entry["actions"]]
        names = sorted({action["deployment"] for action in actions if "deployment" in action})
        if malformed := [name for name in names if name.count("/") != 1]:
            raise ConfigError(
                f"{path} names deployments otherwise than as FLOW/DEPLOYMENT, such as push/push.", malformed
            )
        _with_ids(entries, dict.fromkeys(names, UUID(int=0)))  # the file is checked before the server is asked
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise ConfigError(f"{path} cannot be read as a list of automations: {error}") from error
    problem = unreachable()
    if problem is not None:
        raise ConfigError(problem)
    changes: dict[str, Change] = {}
    try:
        with get_client(sync_client=True) as client:
            for automation in _with_ids(entries, _ids(client, names)):
                found = client.read_automations_by_name(automation.name)
                if not found:
                    client.create_automation(automation)
                    changes[automation.name] = "created"
                elif found[0].model_dump(include=set(AutomationCore.model_fields)) == automation.model_dump():
                    changes[automation.name] = "unchanged"
                else:
                    client.update_automation(found[0].id, automation)
                    changes[automation.name] = "updated"
    except httpx.HTTPError as error:
        raise ConfigError(
            f"Prefect's server does not answer as it should: {error}. Set PREFECT_API_URL to a server of Prefect 3."
        ) from error
    return changes


def _with_ids(entries: list[dict[str, Any]], ids: dict[str, UUID]) -> list[AutomationCore]:
    """Return automations whose actions have the IDs of the deployments that they name."""
    from prefect.events.schemas.automations import AutomationCore

    def with_id(action: dict[str, Any]) -> dict[str, Any]:
        if "deployment" not in action:
            return action
        others = {key: value for key, value in action.items() if key != "deployment"}
        return {**others, "source": "selected", "deployment_id": ids[action["deployment"]]}

    return [
        AutomationCore.model_validate({**entry, "actions": [with_id(action) for action in entry["actions"]]})
        for entry in entries
    ]


def _ids(client: SyncPrefectClient, names: list[str]) -> dict[str, UUID]:
    """Return the IDs of deployments by name.

    Raises:
        ConfigError: The server has not all of them.
    """
    from prefect.exceptions import ObjectNotFound

    ids, missing = dict[str, UUID](), list[str]()
    for name in names:
        try:
            ids[name] = client.read_deployment_by_name(name).id
        except ObjectNotFound:
            missing.append(name)
    if missing:
        raise ConfigError(
            "The server lacks deployments that automations run, and nothing was changed. Register them first: "
            "prefect --no-prompt deploy --all",
            missing,
        )
    return ids


def run(
    path: Annotated[
        Path, typer.Argument(help="YAML file of automations.", show_default="scenepalette's own")
    ] = DEFAULT_FILE,
) -> None:
    """Create or update a server's automations; a rerun changes nothing."""
    with report_errors():
        for name, change in apply_automations(path).items():
            typer.echo(f"{name}: {change}")


if __name__ == "__main__":
    run_program(lambda: typer.run(run))
