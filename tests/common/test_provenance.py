"""Which code made a file."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

from scenepalette.common.provenance import code_version, commit_of


def git(folder: Path, *arguments: str) -> str:
    """Run git with a fixed author and return what it prints."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_version_is_that_of_the_package():
    assert code_version()["name"] == "scenepalette"
    assert code_version()["version"] == version("scenepalette")


def test_commit_of_a_checkout_and_whether_it_was_changed(tmp_path):
    assert commit_of(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    (tmp_path / "inner").mkdir()
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "tag", "release")
    assert commit_of(tmp_path) == commit
    (tmp_path / "file").write_text("b")
    assert commit_of(tmp_path) == f"{commit}-dirty"
    # A folder inside another project's checkout has no commit of its own.
    assert commit_of(tmp_path / "inner") is None
