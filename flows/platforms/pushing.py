"""Results of a run at a URL, as a task of the flow that made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from prefect import task
from prefect.artifacts import create_markdown_artifact

from scenepalette.common.errors import ScenepaletteError
from scenepalette.flows.artifacts import LOG_SECONDS, PublishedProgress
from scenepalette.flows.platforms.destinations import resolve
from scenepalette.flows.tasks.retries import RETRIES
from scenepalette.pipeline.finished.pushing import check_terms, push
from scenepalette.pipeline.request import dated
from scenepalette.pipeline.run import Run

Part = Literal["shards", "selected", "report", "weights"]


@dataclass(frozen=True)
class PushRequest:
    """What is pushed at the end of a flow run, and where to.

    Attributes:
        to: A URL or a block, see `scenepalette.flows.platforms.destinations.resolve`.
        parts: Which parts of the run, as far as they are finished; none for shards and the report.
        kinds: Kinds of pairs; none for all that are finished.
        allowed: Whether the user may pass on what the terms of the data do not allow to everyone.
    """

    to: str
    parts: tuple[Part, ...] = ()
    kinds: tuple[str, ...] = ()
    allowed: bool = False

    @classmethod
    def of(
        cls, to: str, parts: Sequence[Part], allowed: bool, when: datetime | None, kinds: Sequence[str] = ()
    ) -> PushRequest:
        """Return a request that can be used; {date} and {time} in `to` are those of `when` in UTC, or of now.

        Raises:
            ConfigError: `to` names no place that can be written to, as far as that is known without asking it.
        """
        to = dated(to, when)
        resolve(to)
        return cls(to, tuple(parts), tuple(kinds), allowed)

    def check(self, run: Run, missing: Sequence[str]) -> None:
        """Refuse what may not be passed on as soon as its terms are known, before anything is trained.

        Args:
            run: The run, whose data need not be prepared yet.
            missing: Units that are still to be made.

        Raises:
            ConfigError: The terms do not allow it, and the user did not say that they may.
        """
        if not self.allowed:
            # Units that the data decides on are planned anew once it is there.
            units = [run.units[name] for name in missing if name in run.units]
            check_terms(run.run_dir, [unit.record() for unit in units])

    def run(self, run_dir: Path) -> list[str]:
        """Push, as a task of the current flow run; return where each part lies."""
        label = f"push {run_dir.name}"
        return push_results(label, str(run_dir), self.to, list(self.parts), list(self.kinds), self.allowed)


@task(name="push-results", task_run_name="{label}", log_prints=True, **RETRIES)
def push_results(
    label: str, run_dir: str, push_to: str, parts: list[Part], kinds: list[str], allowed: bool
) -> list[str]:
    """Copy finished parts of a run to a URL, as `scenepalette push` does, and list them in an artifact.

    Args:
        label: Name of the task run.
        run_dir: The run directory.
        push_to: A URL or a block; a block's credentials are read here and leave this task by no other way.
        parts: Which parts; none for shards and the report.
        kinds: Kinds of pairs; none for all that are finished.
        allowed: Whether the user may pass on what the terms of the data do not allow to everyone.

    Returns:
        The URL of each part.
    """
    destination = resolve(push_to)
    progress = PublishedProgress(LOG_SECONDS)
    try:
        pushed = push(
            Path(run_dir),
            destination.url,
            options=destination.options,
            whats=parts,
            kinds=kinds,
            allowed=allowed,
            progress=progress,
            note=print,
        )
    except ScenepaletteError as error:
        if not destination.options:
            raise
        raise destination.without_secrets(error) from None
    finally:
        progress.finish()
    places = [f"{destination.url.rstrip('/')}/{part.place}" for part in pushed]
    rows = [f"| {place} | {part.files} | {part.copied} |" for place, part in zip(places, pushed, strict=True)]
    table = "\n".join(["| Place | Files | Copied now |", "| --- | --- | --- |", *rows])
    create_markdown_artifact(table, key="pushed", description=f"Results of {run_dir}")
    return places
