"""Programs whose standard streams are closed, full, or without a reader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
FINE = "print('result'); print('progress', file=sys.stderr)"
WRONG = "print('trouble', file=sys.stderr); raise SystemExit(3)"
BUG = "1 / 0"
BEGIN = (
    "import sys; from scenepalette.pipeline.cli.terminal.streams import run_program\n"
    "def program():\n    {}\nrun_program(program)"
)

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a POSIX shell and /dev/full")


def shell(program: str, redirection: str, **environment: str) -> tuple[int, str, str]:
    """Run Python code in a shell with a redirection; return status, standard output and standard error."""
    command = [sys.executable, "-c", BEGIN.format(program)]
    result = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", *command],
        env=ENVIRONMENT | environment,
        capture_output=True,
        check=False,
        timeout=120,
    )
    return result.returncode, result.stdout.decode(), result.stderr.decode()


@pytest.mark.parametrize(
    "redirection",
    ["", ">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full", ">&- 2>/dev/full", "2> >(true)"],
)
def test_a_healthy_program_succeeds_where_it_can(redirection: str) -> None:
    status, output, errors = shell(FINE, redirection)
    assert status == 0
    assert output == ("" if ">&-" in redirection.replace("2>&-", "") else "result\n")
    assert errors == ("" if "2>" in redirection else "progress\n")


@pytest.mark.parametrize("errors_to", ["", "2>&-", "2>/dev/full"])
def test_output_that_cannot_be_kept_is_no_success(errors_to: str) -> None:
    status, output, errors = shell(FINE, f">/dev/full {errors_to}")
    assert (status, output) == (1, "")
    assert ("No space left on device" in errors) is (errors_to == "")


@pytest.mark.parametrize("program", [WRONG, BUG], ids=["wrong", "bug"])
@pytest.mark.parametrize("redirection", ["", ">&-", ">/dev/full", "2>&-", "2>/dev/full", "2>&- <&-", ">&- 2>&-"])
def test_an_error_is_told_on_whichever_stream_is_left(program: str, redirection: str) -> None:
    status, output, errors = shell(program, redirection)
    assert status == (3 if program == WRONG else 1)
    expected = "trouble" if program == WRONG else "ZeroDivisionError"
    if redirection == ">&- 2>&-":
        assert output == errors == ""
    elif "2>" in redirection:
        assert expected in output and errors == ""
    else:
        assert expected in errors and output == ""


@pytest.mark.parametrize("both", ["", "2>&1"])
def test_a_reader_that_left_ends_a_program_quietly(both: str) -> None:
    wait = "import time; time.sleep(1); " + FINE
    status, output, errors = shell(wait, f"{both} | true; exit ${{PIPESTATUS[0]}}")
    assert (status, output) == (141, "") and errors == ("" if both else "progress\n")


def test_a_file_that_is_opened_does_not_become_a_standard_stream(tmp_path: Path) -> None:
    path = tmp_path / "file"
    code = f"import os; file = open({str(path)!r}, 'w'); os.write(2, b'of a library'); os.write(1, b'of another')"
    assert shell(code, "<&- >&- 2>&-")[0] == 0
    assert path.read_text() == ""


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}]
)
@pytest.mark.parametrize("printer", ["print", "import typer; typer.echo"])
def test_what_an_encoding_lacks_is_escaped(environment: dict[str, str], printer: str) -> None:
    names = r"'a\udcff \u2192'"
    status, output, errors = shell(f"{printer}({names})", "", **environment)
    assert (status, errors) == (0, "")
    utf_8 = "LC_ALL" in environment and sys.flags.utf8_mode is not None and "\u2192" in output
    assert output == ("a\\udcff \u2192\n" if utf_8 else "a\\udcff \\u2192\n")


@pytest.mark.parametrize(
    ("arguments", "redirection", "expected", "said"),
    [
        ("--help", "", 0, "Usage"),
        ("--help", ">&-", 0, ""),
        ("--help", "2>&-", 0, "Usage"),
        ("run --nonsense", "2>&-", 2, "No such option"),
        ("run nowhere.yaml", "2>&-", 1, "named 'nowhere.yaml'"),
    ],
)
def test_the_command_line_speaks_on_what_is_left(arguments: str, redirection: str, expected: int, said: str) -> None:
    command = f"{sys.executable} -m scenepalette.pipeline.cli.main {arguments} {redirection}"
    result = subprocess.run(["bash", "-c", command], env=ENVIRONMENT, cwd=ROOT, capture_output=True, check=False)
    assert result.returncode == expected and said in result.stdout.decode() and result.stderr == b""
