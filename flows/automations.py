"""Create or update the automations of automations.yaml on a server: `python -m scenepalette.flows.automations`.

`prefect automation create` would make another one of the same name each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import httpx
import typer
import yaml
from pydantic import ValidationError

from scenepalette.common.errors import ConfigError
from scenepalette.flows.servers import unreachable
from scenepalette.pipeline.cli.main import report_errors
from scenepalette.pipeline.cli.streams import run_program

DEFAULT_FILE = (Path(__file__).parents[1] / "automations.yaml").resolve()
"""scenepalette's own, whatever folder the command is given in."""
Change = Literal["created", "updated", "unchanged"]


def apply_automations(path: Path) -> dict[str, Change]:
    """Bring the automations of the configured server to what a file says; others are left alone.

    Args:
        path: YAML file with a list `automations`, as `prefect automation create --from-file` takes it.

    Returns:
        What was done, by name.

    Raises:
        ConfigError: The file cannot be read as automations, or the server cannot be reached.
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
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        wanted = [AutomationCore.model_validate(entry) for entry in content["automations"]]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValidationError) as error:
        raise ConfigError(f"{path} cannot be read as a list of automations: {error}") from error
    problem = unreachable()
    if problem is not None:
        raise ConfigError(problem)
    changes: dict[str, Change] = {}
    try:
        with get_client(sync_client=True) as client:
            for automation in wanted:
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
