"""What the doctor found: checks with a status each, and the verdict of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from scenepalette.common.wording import counted

Status = Literal["ok", "note", "warning", "problem"]
STATUSES: tuple[Status, ...] = get_args(Status)

SCHEMA = 1
SHOWN_DETAILS = 12
SHOWN_IN_PAGE = 1000


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: Name for programs, for example "leakage".
        status: ok: as it should be; note: good to know; warning: likely to spoil results; problem: has to be fixed.
        summary: What was found, one sentence or two.
        remedy: What to do; empty where nothing has to be done.
        details: Each single thing, most important first.
        examples: How many of them are shown where space is short; the HTML page shows up to 1000.
    """

    name: str
    status: Status
    summary: str
    remedy: str = ""
    details: tuple[str, ...] = ()
    examples: int = SHOWN_DETAILS


@dataclass(frozen=True)
class Diagnosis:
    """All checks of one configuration.

    Attributes:
        subject: What was examined, in a few words.
        command: The command line that examines it again.
        checks: In the order in which they were made.
        facts: Name and value of what was learned on the way, such as sizes and counts.
    """

    subject: str
    command: str
    checks: tuple[Check, ...]
    facts: dict[str, str] = field(default_factory=dict)

    def of(self, *statuses: Status) -> list[Check]:
        """Return the checks of some statuses."""
        return [check for check in self.checks if check.status in statuses]

    def failed(self, strict: bool = False) -> bool:
        """Tell whether something has to be fixed; with `strict`, warnings count as well."""
        return bool(self.of("problem", "warning") if strict else self.of("problem"))

    def verdict(self, strict: bool = False) -> str:
        """Return the outcome in one sentence."""
        counts = {status: len(self.of(status)) for status in reversed(STATUSES) if status != "ok"}
        found = ", ".join(counted(count, status) for status, count in counts.items() if count)
        if self.failed(strict):
            return f"To be fixed before a run: {found}."
        return f"Nothing has to be fixed: {found}." if found else "Nothing has to be fixed."

    def to_dict(self, strict: bool = False) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "schema": SCHEMA,
            "subject": self.subject,
            "command": self.command,
            "failed": self.failed(strict),
            "verdict": self.verdict(strict),
            "facts": self.facts,
            "checks": [
                {name: value for name, value in asdict(check).items() if name != "examples"}
                | {"details": list(check.details)}
                for check in self.checks
            ],
        }


def shown(details: Sequence[str], most: int = SHOWN_DETAILS) -> list[str]:
    """Return the details that a page shows, and how many it leaves out."""
    if len(details) <= most:
        return list(details)
    return [*details[:most], f"... and {len(details) - most} more"]
