"""What a command line or a flow asks for: a recipe, changes to it, and a run directory."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scenepalette.common.errors import ConfigError
from scenepalette.common.urls import is_url, masked

PLACEHOLDERS = {"date": "%Y-%m-%d", "time": "%H%M"}
_PLACEHOLDER = r"\{(" + "|".join(PLACEHOLDERS) + r")\}"
OUT_PATTERN = rf"^\s*([^\s{{}}\x00]|{_PLACEHOLDER})([^{{}}\x00]|{_PLACEHOLDER})*$"
"""What `resolve_out` takes, for schemas: not blank, and no braces but those of placeholders."""


def _now() -> datetime:
    return datetime.now(UTC)


def resolve_out(out: str, when: datetime | None = None) -> Path:
    """Return a run directory; {date} and {time} in its name are those of `when` in UTC (2026-01-31, 0100), or of now.

    Raises:
        ConfigError: The name is blank, has other placeholders or braces, or bytes that are no text.
    """
    if not out.strip() or "\0" in out:
        raise ConfigError("The run directory (out) is empty; name a folder, or leave it out for runs/RECIPE.")
    if is_url(out):
        raise ConfigError(
            f"The run directory (out) is {out}, a URL. Run directories stay on a disk of this machine, where they can "
            "be locked and resumed: name a folder, and copy what is finished with `scenepalette push FOLDER URL`."
        )
    try:
        out.encode()
    except UnicodeEncodeError:  # weights could be written into such a folder, but not read
        raise ConfigError(f"The run directory (out) is {out!r}, which is not UTF-8; name another folder.") from None
    braces = re.findall(r"\{[^{}]*\}?|\}", out)
    unknown = [text for text in braces if not re.fullmatch(_PLACEHOLDER, text)]
    if unknown:
        known = " and ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise ConfigError(
            f"The run directory (out) is {out!r}, and {', '.join(dict.fromkeys(unknown))} is no placeholder. Write "
            f"{known}, which are those of the start in UTC, or a name without braces."
        )
    return Path(dated(out, when))


def dated(text: str, when: datetime | None = None) -> str:
    """Return a text in which {date} and {time} are those of `when` in UTC, or of now."""
    due = (when or _now()).astimezone(UTC)
    return re.sub(_PLACEHOLDER, lambda match: due.strftime(PLACEHOLDERS[match[1]]), text)


@dataclass(frozen=True)
class Request:
    """A recipe, changes to it, and where the run is kept.

    Attributes:
        recipe: Name of a recipe, or a YAML file.
        overrides: `section.key=value` changes.
        out: The run directory, see `resolve_out`; without one it is runs/ and the recipe's name.
        when: What {date} and {time} in `out` say: when the request was made, or when it was due.
        run_dir: The run directory itself.

    Raises:
        ConfigError: `out` cannot be resolved.
    """

    recipe: str
    overrides: tuple[str, ...] = ()
    out: Path | str | None = None
    when: datetime = field(default_factory=_now, repr=False, compare=False)
    run_dir: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Resolve the run directory, once for all who ask for it."""
        default = Path("runs") / Path(self.recipe).stem
        run_dir = default if self.out is None else resolve_out(str(self.out), self.when)
        object.__setattr__(self, "run_dir", run_dir)

    @property
    def is_dated(self) -> bool:
        """Whether the same request would have another run directory later."""
        return self.out is not None and Path(self.out) != self.run_dir

    def command(self, verb: str = "run") -> str:
        """Return the command line that does the same, for a report to name and an interrupted user to repeat."""
        changes = [part for change in self.overrides for part in ("--set", change)]
        return masked(shlex.join(["scenepalette", verb, self.recipe, *changes, "--out", str(self.run_dir)]))


def assignment(key: str, value: Any) -> str:
    """Return a change as `section.key=value`; the value is JSON-like and comes back equal when it is read."""
    return f"{key}={in_one_line(value)}"


def in_one_line(value: Any) -> str:
    """Return a JSON-like value as YAML in one line."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()


def waiting_text(run_dir: Path, minutes: float) -> str:
    """Return what a run says that begins to wait for another one."""
    limit = f"{minutes:g} minute{'' if minutes == 1 else 's'}"
    return f"Another run is working in {run_dir}; this one waits for it, up to {limit}."
