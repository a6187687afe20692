from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

import pytest

from scenepalette.common.commands import command_problems, named_files, program_problem, run_command
from scenepalette.common.errors import ScenepaletteError


def python(code: str, *words: str) -> str:
    return shlex.join([sys.executable, "-I", "-c", code]) + "".join(f" {word}" for word in words)


def test_placeholders_become_whole_words_and_no_shell_looks_at_them(tmp_path: Path) -> None:
    folder = tmp_path / "a folder; $(touch no)"
    folder.mkdir()
    text = python("import sys; open(sys.argv[1] + '/out', 'w').write(repr(sys.argv[2:]))", "{out} --n={n} '{{n}}'")
    assert command_problems(text, required=["out"], offered=["out", "n"]) == []
    run_command(text, {"out": folder, "n": "7"}, timeout=60, logs=tmp_path, name="x")
    assert (folder / "out").read_text() == "['--n=7', '{n}']"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("paint 'a {out}", "close its quotation marks"),
        (" ", "it is empty"),
        ("paint {out} {labls}", "it has {labls}; placeholders are {out}, {labels}"),
        ("paint {labels}", "which lacks {out}"),
        ("paint {out} http://me:pass@host", "holds credentials"),
    ],
)
def test_what_is_wrong_with_a_text_is_said_without_running_it(text: str, words: str) -> None:
    (problem,) = command_problems(text, required=["out"], offered=["out", "labels"])
    assert words in problem and "pass@" not in problem


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert program_problem(f"{sys.executable} x") is None
    assert "no program no-such-program" in (program_problem("no-such-program {out}") or "")
    (tmp_path / "plain").write_text("")
    assert "chmod +x" in (program_problem(str(tmp_path / "plain")) or "")


def test_files_are_words_and_what_stands_behind_an_equals_sign() -> None:
    found = named_files("python paint.py --weights=a/w.bin -v {labels} {out}/x")
    assert set(found) == {"python", "paint.py", "a/w.bin"}
    assert named_files("paint 'a") == {}


def test_the_last_lines_of_stderr_are_shown_with_credentials_masked(tmp_path: Path) -> None:
    code = "import sys; [print('line', n, file=sys.stderr) for n in range(40)]; sys.exit('no http://me:pass@host')"
    with pytest.raises(ScenepaletteError, match="ended with exit status 1, 0 is required") as caught:
        run_command(python(code), {}, timeout=60, logs=tmp_path, name="x")
    assert caught.value.problems[-2:] == ("line 39", "no http://***@host")
    assert len(caught.value.problems) == 15 and "pass" not in str(caught.value)


def test_a_command_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    code = (
        "import os, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "child = subprocess.Popen([sys.executable, '-I', '-c', 'import time; time.sleep(600)']); "
        "open(sys.argv[1], 'w').write(str(child.pid)); time.sleep(600)"
    )
    file = tmp_path / "pid"
    with pytest.raises(ScenepaletteError, match="longer than its timeout of 15 seconds") as caught:
        run_command(python(code, "{out}"), {"out": file}, timeout=15, logs=tmp_path, name="x")
    assert caught.value.problems == ("(it printed nothing)",)
    pid = int(file.read_text())
    for _ in range(100):
        if not _lives(pid):
            break
        time.sleep(0.1)
    assert not _lives(pid)


def _lives(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for yet does not."""
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_what_cannot_be_started_is_an_error_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "no-program"
    file.write_bytes(b"\0")
    file.chmod(0o755)
    with pytest.raises(ScenepaletteError, match="cannot be started"):
        run_command(str(file), {}, timeout=60, logs=tmp_path, name="x")
