"""Commands of users: checked before they run, run without a shell, stopped with all that they started."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

from scenepalette.common.errors import ScenepaletteError
from scenepalette.common.storage.untrusted import short
from scenepalette.common.urls import holds_credentials, masked

SHOWN_LINES = 15
"""Last lines of a failed command's stderr that its error shows."""
_TAIL_BYTES = 16 * 1024
_LINE = 300
_GRACE = 5.0
"""Seconds between asking a command to stop and killing it."""
# {{name}} stands for the text {name}.
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")


def command_problems(text: str, *, required: Collection[str], offered: Collection[str]) -> list[str]:
    """Return what is wrong with a command as a text, without looking at any file; empty if it can be run.

    Args:
        text: Words as a POSIX shell divides them, with placeholders such as {labels}; {{name}} stands for {name}.
        required: Placeholders that it must have.
        offered: All placeholders that there are.
    """
    if holds_credentials(text):
        return [
            "a URL in it holds credentials, which run directories, cards and reports would keep; let the command read "
            "them from an environment variable or a file"
        ]
    try:
        words = shlex.split(text)
    except ValueError as error:
        return [f"got {short(repr(text))}, which cannot be divided into words ({error}); close its quotation marks"]
    if not words:
        return ["it is empty; give a program and its arguments"]
    given = {found[2] for word in words for found in _PLACEHOLDER.finditer(word) if found[2]}
    names = ", ".join(f"{{{name}}}" for name in offered)
    problems = []
    if unknown := sorted(given - set(offered)):
        shown = ", ".join(f"{{{name}}}" for name in unknown)
        problems.append(f"it has {short(shown)}; placeholders are {names} (write {{{{name}}}} for the text {{name}})")
    if lacking := [name for name in required if name not in given]:
        shown = " and ".join(f"{{{name}}}" for name in lacking)
        problems.append(f"got {short(repr(text))}, which lacks {shown}; placeholders are {names}")
    return problems


def program_problem(text: str) -> str | None:
    """Return why the program of a command, which has no problems, cannot be run here; None if it can."""
    program = shlex.split(text)[0]
    if shutil.which(program) is not None:
        return None
    return (
        f"there is no program {short(program)} that can be run here; install it, give its whole path, or make the file "
        "executable (chmod +x)"
    )


def named_files(text: str) -> dict[str, Path]:
    """Return what may be files among a command's words, and behind their "=", by how the command names them.

    Whether they are there is not looked at. A text that cannot be divided names none.
    """
    try:
        words = shlex.split(text)
    except ValueError:
        return {}
    names = [part for word in words for part in (word, word.partition("=")[2])]
    return {
        name: Path(name)
        for name in names
        if name and "\0" not in name and not name.startswith("-") and not _PLACEHOLDER.search(name)
    }


def run_command(text: str, values: Mapping[str, str | Path], *, timeout: float, logs: Path, name: str) -> None:
    """Run a command in the working directory and wait for it; nothing of it outlives this call.

    Args:
        text: The command, without problems.
        values: What its placeholders stand for.
        timeout: Seconds after which it is stopped, with every process that it started.
        logs: An existing folder, which receives NAME.out and NAME.err, what the command prints.
        name: What messages and the two files call the command.

    Raises:
        ScenepaletteError: It cannot be started, runs too long, or ends with another exit status than 0; the error has
            the last lines that it printed to stderr.
    """
    words = [
        _PLACEHOLDER.sub(lambda found: f"{{{found[1]}}}" if found[1] else str(values[found[2]]), word)
        for word in shlex.split(text)
    ]
    shown = short(masked(text), 400)
    with (logs / f"{name}.out").open("wb") as out, (logs / f"{name}.err").open("wb") as err:
        try:
            # In a session of its own, so that whatever it starts can be stopped with it.
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        except (OSError, ValueError) as error:
            raise ScenepaletteError(
                f"The command {name} cannot be started ({masked(str(error))}): {shown}. Correct its program, and rerun "
                "the same command."
            ) from error
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            _stop(process)
            raise ScenepaletteError(
                f"The command {name} was stopped, as it ran longer than its timeout of {timeout:g} seconds: {shown}. "
                "Raise the timeout or make it faster, and rerun the same command; what is finished stays. The last "
                "lines of its stderr:",
                _last_lines(logs / f"{name}.err"),
            ) from error
        except BaseException:
            _stop(process)
            raise
    if status:
        ended = f"with exit status {status}" if status > 0 else f"by signal {-status}"
        raise ScenepaletteError(
            f"The command {name} ended {ended}, 0 is required: {shown}. Correct it, and rerun the same command; what "
            "is finished stays. The last lines of its stderr:",
            _last_lines(logs / f"{name}.err"),
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process and its children to end, and kill what is left of them."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.terminate()
        process.wait(_GRACE)
    except (OSError, subprocess.TimeoutExpired):
        pass
    finally:
        # Its children are in its group, which lives as long as one of them does.
        try:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        except OSError:
            pass
        process.wait()


def _last_lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    kept = [short(masked(line.rstrip()), _LINE) for line in lines if line.strip()][-SHOWN_LINES:]
    return kept or ["(it printed nothing)"]
