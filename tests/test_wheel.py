"""The wheel: what is in it, and that it works in a folder whose own modules have the names of our folders."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"})
SOURCES = [
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "src",
    "prefect.yaml",
    "prefect.toml",
    "automations.yaml",
    *FOLDERS,
]
# Nothing may lead back to the checkout: an installed package does without.
CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, env: dict[str, str] = CLEAN) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a distribution is made of: no earlier build lies in it, and its links are its own."""
    folder = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", "dist", ".", cwd=checkout)
    (path,) = (checkout / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; all other packages are those of the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin/python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # Folders that a .pth file names are searched, but their own .pth files (an editable install is one) are not read.
    (own,) = (folder / "lib").glob("python*/site-packages")
    (own / "packages-of-the-tests.pth").write_text("\n".join(path for path in sys.path if "-packages" in path))
    return folder / "bin"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The folder of another project, which has modules of the same names as ours."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("theirs = True\n")
    shutil.rmtree(tmp_path / "flows")
    (tmp_path / "flows.py").write_text("theirs = True\n")
    return tmp_path


def test_the_wheel_holds_the_package_alone_and_whole(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")]
    assert {re.sub(r"-.*\.dist-info", "", name.split("/")[0]) for name in names} == {"scenepalette"}
    packed = {name for name in names if name.startswith("scenepalette/")}
    expected = {
        f"scenepalette/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {".csv", ".jinja", ".py"} <= {Path(name).suffix for name in expected}
    own = {"__init__.py", "py.typed", "prefect.yaml", "prefect.toml", "automations.yaml"}
    assert packed == expected | {f"scenepalette/{name}" for name in own}


def test_a_wheel_of_the_source_distribution_is_the_same(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    code = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    run(sys.executable, "-c", code, tmp_path, cwd=checkout)
    (archive,) = tmp_path.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", "again", archive, cwd=tmp_path)
    (again,) = (tmp_path / "again").glob("*.whl")
    contents = [{name: file.read(name) for name in file.namelist()} for file in map(zipfile.ZipFile, (wheel, again))]
    assert contents[0] == contents[1]


def test_their_modules_and_ours_live_beside_each_other(environment: Path, elsewhere: Path) -> None:
    theirs = [f"{name}.theirs" for name in FOLDERS]
    code = f"""
import {", ".join(FOLDERS)}, sys
from importlib.metadata import entry_points, version

import scenepalette
import scenepalette.pipeline.run, scenepalette.flows.augment, scenepalette.flows.stages

assert all([{", ".join(theirs)}])
assert scenepalette.__version__ == version("scenepalette")
(plugin,) = [entry for entry in entry_points(group="prefect.plugins") if entry.name == "scenepalette"]
ours = [scenepalette, scenepalette.ShardPairs, scenepalette.flows.stages.report, plugin.load()]
files = {{getattr(thing, "__file__", None) or sys.modules[thing.__module__].__file__ for thing in ours}}
assert all(file.startswith(sys.prefix) for file in files) and len(files) == 4, files
print("done")
"""
    assert run(environment / "python", "-c", code, cwd=elsewhere) == "done\n"


def test_the_command_works_beside_their_modules(environment: Path, elsewhere: Path, finished_run: Path) -> None:
    shown = run(environment / "scenepalette", "recipes", cwd=elsewhere)
    assert "camvid-cpu" in shown and "demo" in shown
    shards = finished_run / "shards/full"
    run(environment / "scenepalette", "shards", "show", shards, "--picture", "sheet.png", cwd=elsewhere)
    assert (elsewhere / "sheet.png").read_bytes().startswith(b"\x89PNG")
    # With -m, the folder in which the command is given is the first that modules are searched in.
    module = [environment / "python", "-m"]
    assert "ok" in run(*module, "scenepalette.pipeline.cli.main", "shards", "verify", shards, "--json", cwd=elsewhere)
    assert "Usage: python -m scenepalette.flows.local" in run(
        *module, "scenepalette.flows.local", "--help", cwd=elsewhere
    )


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process; a worker whose server is gone does not end by itself."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture
def server(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server of Prefect on loopback, as the environment of those that use it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("prefect")
    env = CLEAN | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
    }
    command = [environment / "python", "-m", "prefect", "server", "start", "--no-ui", "--port", str(port)]
    with open(home / "server.log", "w") as log:
        process = subprocess.Popen([*map(str, command)], cwd=home, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + 240
            while True:
                try:
                    urllib.request.urlopen(f"{env['PREFECT_API_URL']}/health", timeout=5).close()
                    break
                except (urllib.error.URLError, OSError):
                    assert process.poll() is None and time.monotonic() < end, (home / "server.log").read_text()
                    time.sleep(0.5)
            yield env
        finally:
            end_process(process)


def test_flows_are_deployed_and_run_from_the_wheel_in_any_folder(
    environment: Path, elsewhere: Path, server: dict[str, str], tiny_recipe: Path
) -> None:
    folder = elsewhere / "deployed"
    run(environment / "scenepalette", "prefect", "init", folder, cwd=elsewhere)
    # Relative paths begin in the folder that was deployed from, wherever the worker was started.
    shutil.copy(tiny_recipe, folder / "tiny.yaml")
    prefect = [environment / "python", "-m", "prefect"]
    run(*prefect, "work-pool", "create", "scenepalette", "--type", "process", cwd=folder, env=server)
    run(*prefect, "--no-prompt", "deploy", "--all", cwd=folder, env=server)
    module = [environment / "python", "-m", "scenepalette.flows.automations", "automations.yaml"]
    assert "scenepalette-dead-runs: created" in run(*module, cwd=folder, env=server)
    command = [*prefect, "worker", "start", "--pool", "scenepalette"]
    with open(elsewhere / "worker.log", "w") as log:
        worker = subprocess.Popen([*map(str, command)], cwd=elsewhere, env=server, stdout=log, stderr=subprocess.STDOUT)
    try:
        # The name alone first, which prefect.toml in the folder lets Prefect take; the other finds everything made.
        given = ["--param", "recipe=tiny.yaml", "--param", "out=runs/a", "--param", 'overrides={"generate.pairs": 5}']
        for name in ("generate-dataset", "generate-dataset/generate-dataset"):
            run(*prefect, "deployment", "run", name, *given, "--watch", cwd=folder, env=server)
    finally:
        end_process(worker)
    made = {path.parent.name for path in (folder / "runs/a/shards").glob("*/manifest.json")}
    assert made == {"full", "partial", "semi"}, (elsewhere / "worker.log").read_text()
